"""The real server's habits, one by one: off unless asked for, and as measured when on."""

import asyncio
import contextlib
import itertools
import json
import time

import httpx
import pytest
import websockets

from embedded.gateway import main
from embedded.habits import HABITS, NONE, Habits, UnknownHabit, habits
from embedded.phoenix.limits import Limits
from tests.conformance.test_conformance import TRANSCRIPTS, compared

BINDING = {"event": "*", "schema": "public", "table": "todos"}


def on(*names):
    return pytest.mark.parametrize("served", [{"habits": habits(names)}], indirect=True)


def test_no_habit_is_on_by_itself():
    assert habits([]) == NONE == Habits()
    assert Limits() == NONE.limits


def test_each_name_switches_something_on_and_they_add_up():
    for name in HABITS:
        assert habits([name]) != NONE
    both = habits(["poll-500ms", "join-penalty"])
    assert (both.poll_seconds, both.join_penalty_seconds) == (0.5, 5.0)


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(UnknownHabit, match=r"no habit 'slow'.*poll-500ms"):
        habits(["slow"])


def test_the_command_line_refuses_an_unknown_name(tmp_path, capsys):
    arguments = ["--keys", str(tmp_path), "--pg-socket-dir", str(tmp_path), "--habit", "slow"]
    assert main(arguments) == 2
    assert "There is no habit 'slow'" in capsys.readouterr().err


@contextlib.asynccontextmanager
async def client(served):
    address = f"ws://127.0.0.1:{served.port}/socket/websocket?vsn=2.0.0&apikey={served.token()}"
    async with websockets.connect(address, compression=None) as socket:
        yield socket


async def join(socket, topic, changes, *, payload=None):
    config = {"config": {"postgres_changes": changes}} if payload is None else payload
    await socket.send(json.dumps(["1", "1", topic, "phx_join", config]))


async def frame(socket, seconds=10.0):
    async with asyncio.timeout(seconds):
        return json.loads(await socket.recv())


async def insert(served, *keys):
    for key in keys:
        await served.database.execute("insert into public.todos (id) values ($1)", key)


@on("poll-500ms")
async def test_polling_delays_a_change_and_keeps_the_order(served):
    async with client(served) as socket:
        await join(socket, "realtime:a", [BINDING])
        await frame(socket)
        assert (await frame(socket))[4]["message"] == "Subscribed to PostgreSQL"
        await insert(served, 1)
        assert (await frame(socket))[4]["data"]["record"]["id"] == 1
        at = time.monotonic()
        await asyncio.sleep(0.05)  # the pace is what is tested: a poll right behind the last finds nothing
        await insert(served, 2, 3)
        assert (await frame(socket))[4]["data"]["record"]["id"] == 2
        assert 0.4 < time.monotonic() - at < 2
        assert (await frame(socket))[4]["data"]["record"]["id"] == 3


async def test_without_the_habit_a_change_is_sent_at_once(served):
    async with client(served) as socket:
        await join(socket, "realtime:a", [BINDING])
        await frame(socket)
        await frame(socket)
        delays = []
        for key in range(1, 6):
            at = time.monotonic()
            await insert(served, key)
            await frame(socket)
            delays.append(time.monotonic() - at)
        assert min(delays) < 0.05, delays


@on("early-subscribed")
async def test_what_is_committed_between_the_reply_and_the_feed_is_lost(served):
    async with client(served) as socket:
        await join(socket, "realtime:a", [BINDING])
        assert (await frame(socket))[3] == "phx_reply"
        await insert(served, 1)
        assert (await frame(socket))[4]["message"] == "Subscribed to PostgreSQL"
        await insert(served, 2)
        assert (await frame(socket))[4]["data"]["record"]["id"] == 2


async def test_without_the_habit_nothing_after_the_reply_is_lost(served):
    async with client(served) as socket:
        await join(socket, "realtime:a", [BINDING])
        assert (await frame(socket))[3] == "phx_reply"
        await insert(served, 1)
        assert (await frame(socket))[4]["message"] == "Subscribed to PostgreSQL"
        assert (await frame(socket))[4]["data"]["record"]["id"] == 1


@on("join-penalty")
async def test_a_refused_join_keeps_the_whole_connection_waiting(served):
    async with client(served) as socket, client(served) as other:
        at = time.monotonic()
        await join(socket, "realtime:a", [], payload=[])
        await socket.send(json.dumps([None, "2", "phoenix", "heartbeat", {}]))
        await other.send(json.dumps([None, "2", "phoenix", "heartbeat", {}]))
        assert (await frame(other))[3] == "phx_reply"
        assert time.monotonic() - at < 4
        assert (await frame(socket))[4]["status"] == "error"
        assert time.monotonic() - at > 4.9
        assert (await frame(socket))[2] == "phoenix"


@on("connect-penalty")
async def test_a_refused_handshake_is_answered_late(served):
    at = time.monotonic()
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"ws://127.0.0.1:{served.port}/socket/websocket?apikey=x")
    assert refused.value.response.status_code == 401
    assert time.monotonic() - at > 1.9


async def _lose_the_feed(served):
    """End the replication connection, as a database that restarts does, and wait until it is back."""
    name = await served.database.fetchval("select current_database()")
    of_ours = "from pg_replication_slots where database = $1 and active"
    was = await served.database.fetchval(f"select active_pid {of_ours}", name)
    await served.database.fetchval("select pg_terminate_backend($1)", was)
    async with asyncio.timeout(10):
        while await served.database.fetchval(f"select active_pid {of_ours}", name) in (None, was):
            await asyncio.sleep(0.02)


@on("silent-fault")
async def test_after_a_fault_old_subscriptions_stay_silent_and_new_ones_do_not(served):
    async with client(served) as socket:
        await join(socket, "realtime:old", [BINDING])
        await frame(socket)
        await frame(socket)
        await _lose_the_feed(served)
        await join(socket, "realtime:new", [BINDING])
        await frame(socket)
        await frame(socket)
        await insert(served, 7)
        topic = (await frame(socket))[2]
        assert topic == "realtime:new"
        await socket.send(json.dumps([None, "9", "phoenix", "heartbeat", {}]))
        assert (await frame(socket))[1] == "9"


@on("lossy-fault")
async def test_after_a_fault_what_was_committed_meanwhile_is_lost_and_the_rest_is_not(served):
    async with client(served) as socket:
        await join(socket, "realtime:old", [BINDING])
        await frame(socket)
        await frame(socket)
        # In one transaction, so that the row is committed before the feed can be back.
        await served.database.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database();"
            "insert into public.todos (id) values (7)"
        )
        first = asyncio.ensure_future(frame(socket))
        for key in itertools.count(8):
            await insert(served, key)
            if (await asyncio.wait({first}, timeout=0.05))[0]:
                break
        assert first.result()[4]["data"]["record"]["id"] > 7


async def test_without_the_habit_a_fault_loses_nothing(served):
    async with client(served) as socket:
        await join(socket, "realtime:old", [BINDING])
        await frame(socket)
        await frame(socket)
        await _lose_the_feed(served)
        await insert(served, 7)
        assert (await frame(socket))[4]["data"]["record"]["id"] == 7


@on("hosted-limits")
async def test_the_hundred_and_first_channel_is_refused(served):
    async with client(served) as socket:
        for number in range(101):
            await join(socket, f"realtime:{number}", [])
        replies = [(await frame(socket))[4] for _ in range(101)]
        assert [reply["status"] for reply in replies] == ["ok"] * 100 + ["error"]
        assert replies[-1]["response"]["reason"] == "ChannelRateLimitReached: Too many channels"


@on("hosted-limits")
async def test_payloads_of_more_than_256_kb_are_refused(served):
    """As the real server refuses what is more than 3,000 kB: by what was recorded of it."""
    small, large = {"p": "x" * 256_000}, {"p": "x" * 256_600}
    async with client(served) as socket, client(served) as deaf:
        for peer, ack in ((socket, True), (deaf, False)):
            config = {"config": {"broadcast": {"ack": ack, "self": True}, "presence": {"enabled": True}}}
            await join(peer, "realtime:a", [], payload=config)
            assert [(await frame(peer))[3] for _ in range(2)] == ["phx_reply", "presence_state"]
        await deaf.send(
            json.dumps(
                ["1", "8", "realtime:a", "broadcast", {"type": "broadcast", "event": "e", "payload": large}]
            )
        )
        await deaf.send(json.dumps([None, "9", "phoenix", "heartbeat", {}]))
        assert (await frame(deaf))[1] == "9"  # without ack it is dropped and nobody is told
        answers = []
        for ref, payload in (("2", large), ("3", small)):
            content = {"type": "broadcast", "event": "e", "payload": payload}
            await socket.send(json.dumps(["1", ref, "realtime:a", "broadcast", content]))
        while len(answers) < 2:
            _, ref, _, event, payload = await frame(socket)
            if event == "phx_reply":
                answers.append((ref, payload))
        assert answers == [
            ("2", {"status": "error", "response": "payload_size_exceeded"}),
            ("3", {"status": "ok", "response": {}}),
        ]
        assert (await frame(deaf))[4]["payload"] == small
        tracked = {"type": "presence", "event": "track", "payload": large}
        await socket.send(json.dumps(["1", "4", "realtime:a", "presence", tracked]))
        while (told := await frame(socket))[3] == "broadcast":
            pass
        assert (told[3], told[4]["message"]) == ("system", "Track message size exceeded")
        assert (await frame(socket))[3] == "phx_close"


@on("hosted-limits")
async def test_payloads_over_http_are_limited_too(served):
    headers = {"Authorization": f"Bearer {served.token()}"}
    large = {"p": "x" * 256_600}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", headers=headers) as http:
        batch = await http.post(
            "/api/broadcast", json={"messages": [{"topic": "a", "event": "e", "payload": large}]}
        )
        assert batch.status_code == 422
        assert batch.json() == {"errors": {"messages": [{"payload": ["Payload size exceeds tenant limit"]}]}}
        single = await http.post("/api/broadcast/a/events/e", json=large)
        assert single.status_code == 422
        told = {name: value for name, value in single.headers.items() if name.startswith("x-rate")}
        assert told == {"x-rate-limit": "100", "x-rate-rolling": "0", "x-rate-limit-remaining": "100"}


@on("hosted-limits")
async def test_changes_over_the_limit_are_passed_over_and_nobody_is_told(served):
    """More than 6000 in a minute are too many; the real server averages every five seconds, so the first come through."""
    async with client(served) as socket:
        await join(socket, "realtime:a", [BINDING])
        await frame(socket)
        await frame(socket)
        await served.database.execute("insert into public.todos (id) select generate_series(1, 6100)")
        got = [(await frame(socket))[4]["data"]["record"]["id"] for _ in range(6100)]
        assert got == list(range(1, 6101))
        inserted = 6100
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}") as http, asyncio.timeout(20):
            while (passed_over := (await http.get("/health")).json()["feed"]["changes_passed_over"]) < 2:
                inserted += 1
                await insert(served, inserted)
                await asyncio.sleep(0.05)
        await socket.send(json.dumps([None, "9", "phoenix", "heartbeat", {}]))
        last = 6100
        while (told := await frame(socket))[1] != "9":
            assert told[3] == "postgres_changes"
            last += 1
            assert told[4]["data"]["record"]["id"] == last
        assert last == inserted - passed_over


@pytest.mark.parametrize("served", [{"habits": habits(["join-penalty", "early-subscribed"])}], indirect=True)
async def test_with_the_habits_the_recording_is_met_to_the_letter(served, tmp_path):
    """The differences that are due to penalties and early replies are gone when these are on."""
    (path,) = [path for path in TRANSCRIPTS if path.stem == "malformed"]
    assert await compared(path, served, tmp_path) == []
