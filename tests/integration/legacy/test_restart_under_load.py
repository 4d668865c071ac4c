"""A server killed again and again while everything happens: what each dialect's clients have afterwards.

The server is a process of its own, fed by a real spool over a real link; the clients know only JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from monitoring.events import Draft, StreamId
from tests.integration.legacy.conftest import BEARER, STREAM_TOKEN, Owner, dashboard, linked, until
from tests.unit.legacy_ws.test_container_states import entry

SYSTEM, CONTAINERS, SESSIONS = map(StreamId, ("web-1/system", "web-1/containers", "app-7/sessions"))
STREAMS = (SYSTEM, CONTAINERS, SESSIONS)
KILLS = 3
AWAY = (OSError, ConnectionClosed, InvalidHandshake, TimeoutError)


class Resuming:
    """A client that keeps a cursor, comes back whenever it is cut off, and checks every place in every stream."""

    def __init__(self, url, headers=None):
        self.url = url
        self.headers = headers or {}
        self.cursor = {}
        self.gaps = []
        self.got = defaultdict(list)
        self.subscribed = 0

    async def run(self):
        while True:
            with suppress(*AWAY):
                async with dashboard(self.url, additional_headers=self.headers) as client:
                    await client.send(**self.request())
                    answered = False  # what comes before the answer is a plain client's, and comes again
                    while True:
                        message = await client.next(seconds=20)
                        answered |= "gaps" in message
                        if answered:
                            self.take(message)
            await asyncio.sleep(0.02)

    def take(self, message):
        gaps = message.get("gaps")
        if gaps is not None:
            self.subscribed += 1
            for gap in gaps:
                assert gap["to_seq"] is not None
                self.gaps.append(gap)
                self.follow(gap["stream"], gap["epoch"], gap["from_seq"])
                self.cursor[gap["stream"]] = [gap["epoch"], gap["to_seq"]]
        if (place := self.place(message)) is not None:
            stream, epoch, seq = place
            self.follow(stream, epoch, seq)
            self.got[stream].append(seq)
            self.cursor[stream] = [epoch, seq]

    def follow(self, stream, epoch, seq):
        assert [epoch, seq - 1] == self.cursor.get(stream, [1, 0]), f"{stream}: {seq} after {self.cursor}"


class Dashboard(Resuming):
    def request(self):
        return {"type": "subscribe", "topics": ["global"], "cursor": self.cursor}

    def place(self, message):
        if message["type"] != "event":
            return None
        event = message["metadata"]["event"]
        return event["stream"], event["epoch"], event["seq"]


class Topics(Resuming):
    def request(self):
        return {
            "type": "subscription",
            "action": "subscribe",
            "topics": ["global"],
            "cursor": self.cursor,
        }

    def place(self, message):
        return (message["stream"], message["epoch"], message["seq"]) if "seq" in message else None


class Showing:
    """A client of a dialect that shows a state: what it showed last is what counts."""

    def __init__(self, url, shows, **first):
        self.url, self.shows, self.first = url, shows, first
        self.connections = 0
        self.shown = None

    async def run(self):
        while True:
            with suppress(*AWAY):
                async with dashboard(self.url) as client:
                    self.connections += 1
                    if self.first:
                        await client.send(**self.first)
                    while True:
                        self.shown = self.shows(await client.next(seconds=20), self.shown)
            await asyncio.sleep(0.02)


def controller(message, shown):
    if message["type"] == "initial_state":
        return {one["name"]: one["status"] for one in message["containers"]}
    changes = {one["name"]: one["currentStatus"] for one in message.get("changes", ())}
    return {name: status for name, status in ((shown or {}) | changes).items() if status != "removed"}


def relay(message, shown):
    return {one["name"]: one["status"] for one in message["containers"]} if "containers" in message else shown


def consolidated(message, shown):
    return message["data"]["sessions"]["active_count"] if message["type"] == "realtime_update" else shown


def old_form(message, shown):
    return message["data"]["sessions"]["active"] if message["type"] == "metrics_update" else shown


def listed_sessions(message, shown):
    match message["type"]:
        case "session_list":
            return {one["id"] for one in message["sessions"]}
        case "session_event":
            return (shown or set()) | {message["session"]["id"]}
    return shown


class Load:
    """Something happens all the time, in three streams, until it is stopped."""

    def __init__(self, owner):
        self.owner = owner
        self.count = 0
        self.containers = {}

    def happen(self):
        self.count += 1
        at = datetime.now(UTC)
        self.containers = {f"c{n}": "running" if (self.count + n) % 2 else "exited" for n in range(5)}
        entries = [entry(name, status) for name, status in self.containers.items()]
        self.owner.spool.append(
            [
                Draft(SYSTEM, "metric_collected", at, {"n": self.count}),
                Draft(CONTAINERS, "containers_collected", at, {"available": True, "containers": entries}),
                Draft(SESSIONS, "session_created", at, {"session_id": f"s{self.count}"}),
            ]
        )

    @asynccontextmanager
    async def __call__(self):
        async def run():
            while True:
                self.happen()
                await asyncio.sleep(0.005)

        async with running(run()):
            yield


@asynccontextmanager
async def running(*coroutines):
    """Run them for as long as the block lasts; what fails in one fails the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def begin(owner):
    owner.spool.set_enabled("supabase", enabled=False)
    for stream in STREAMS:
        owner.open(stream)
    return Load(owner)


@pytest.fixture
async def restarts(server_process, tmp_path):
    """Return what kills the server and starts it again, with the stream's token and more options."""
    (tmp_path / "stream.token").write_text(STREAM_TOKEN)

    async def restart(*options, number=signal.SIGKILL):
        await server_process.signal(number)
        await server_process.start("--stream-token-file", str(tmp_path / "stream.token"), *options)

    return restart


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_every_dialect_has_everything_after_restarts_under_load(
    owner, server_process, restarts, number
):
    load = begin(owner)
    await restarts()
    base = server_process.url.removesuffix("/ws")
    resuming = [Dashboard(f"{base}/ws"), Topics(f"{base}/ws/stream", BEARER)]
    showing = [
        Showing(f"{base}/ws/containers", controller),
        Showing(f"{base}/ws/frontend", relay),
        Showing(f"{base}/ws/metrics", consolidated),
        Showing(f"{base}/ws/metrics_update", old_form),
        Showing(f"{base}/ws/metrics", listed_sessions, type="subscribe", page="sessions"),
    ]
    async with (
        linked(owner.spool, server_process.link_url),
        running(*(client.run() for client in (*resuming, *showing))),
    ):
        async with load():
            for kill in range(1, KILLS + 1):
                await until(lambda kill=kill: all(client.subscribed >= kill for client in resuming))
                await until(lambda kill=kill: all(client.connections >= kill for client in showing))
                seen = [len(client.got[SYSTEM]) for client in resuming]
                await until(
                    lambda seen=seen: all(
                        len(c.got[SYSTEM]) > n + 50 for c, n in zip(resuming, seen, strict=True)
                    )
                )
                await restarts(number=number)
            again = load.count
            await until(lambda: load.count > again + 100)
        heads = {name: list(at) for name, at in owner.spool.heads().items()}
        await until(lambda: all(client.cursor == heads for client in resuming), 30)
        wanted = [
            load.containers,
            load.containers,
            load.count,
            load.count,
            {f"s{n}" for n in range(max(1, load.count - 999), load.count + 1)},
        ]
        for client, last in zip(showing[:4], wanted, strict=False):
            await until(lambda client=client, last=last: client.shown == last, 20)
        await until(lambda: showing[4].shown is not None and showing[4].shown >= wanted[4], 20)
    owner.spool.close()
    for client in resuming:
        assert client.gaps == []
        assert client.subscribed > KILLS
        for stream in STREAMS:
            assert client.got[stream] == list(range(1, load.count + 2))


@pytest.mark.parametrize("beyond", ["the ring", "the spool"])
@pytest.mark.parametrize("dialect", [Dashboard, Topics])
async def test_what_neither_ring_nor_spool_has_any_more_is_an_explicit_gap(
    dialect, beyond, tmp_path, server_process, restarts
):
    options = ("--max-events", "300") if beyond == "the ring" else ()
    owner = Owner(tmp_path, **({} if beyond == "the ring" else {"retain_events": 300}))
    load = begin(owner)
    await restarts(*options)
    base = server_process.url.removesuffix("/ws")
    client = Dashboard(f"{base}/ws") if dialect is Dashboard else Topics(f"{base}/ws/stream", BEARER)
    try:
        async with linked(owner.spool, server_process.link_url):
            async with load(), running(client.run()):
                await until(lambda: len(client.got[SYSTEM]) > 50)
            # The client is away; much more happens than is kept, and the server is killed meanwhile.
            for _ in range(1_000):
                load.happen()
            await until(lambda: owner.spool.acknowledged("legacy") == owner.spool.position)
            load.happen()  # by the next write the spool has let go of what everybody has
            await restarts(*options)
            async with load(), running(client.run()):
                heard = len(client.got[SYSTEM])
                await until(lambda: len(client.got[SYSTEM]) > heard + 50, 30)
            heads = {name: list(at) for name, at in owner.spool.heads().items()}
            async with running(client.run()):
                await until(lambda: client.cursor == heads, 20)
    finally:
        owner.spool.close()
    assert {gap["stream"] for gap in client.gaps} == set(STREAMS)
    for stream in STREAMS:
        gaps = [gap for gap in client.gaps if gap["stream"] == stream]
        gone = itertools.chain.from_iterable(range(gap["from_seq"], gap["to_seq"] + 1) for gap in gaps)
        assert sorted([*client.got[stream], *gone]) == list(range(1, heads[stream][1] + 1))
        assert sum(gap["to_seq"] - gap["from_seq"] + 1 for gap in gaps) > 500
