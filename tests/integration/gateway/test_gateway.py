"""Old clients through the gateway, moved between the real backends by the flags."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from legacy_ws.gateway import Gateway
from legacy_ws.mounts import Mount
from monitoring.service import Backend
from tests.fakes.event_factory import event, opened
from tests.fakes.memory_service import MemoryService
from tests.integration.gateway.conftest import STREAM_TOKEN, Played, talk, until

MOVES = 6


def stream(played: Played, category: str = "system") -> str:
    return f"{played.device}/{category}"


async def test_a_plain_client_moved_six_times_sees_every_event_once(played: Played) -> None:
    name = stream(played)
    await played.publish(opened(name), event(name, 2))
    last, end = 2, 0
    stopped = asyncio.Event()

    async def publish() -> None:
        nonlocal last
        while not stopped.is_set():
            last += 1
            await played.publish(event(name, last))

    seen: list[int] = []

    async def read() -> None:
        while not end or seen[-1:] != [end]:
            told = (await client.next("event"))["metadata"]["event"]
            seen.extend([told["seq"]] if told["stream"] == name else [])

    async with talk(f"{played.url()}?client=old-page") as client:
        first = await client.next("initial_stats")
        shown = [one["metadata"]["event"] for one in first["recent_events"]]
        assert {one["seq"] for one in shown if one["stream"] == name} == {1, 2}
        await played.standing_on(Backend.LEGACY)
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(publish())
            group.create_task(read())
            for move in range(1, MOVES + 1):
                played.route(100 * (move % 2))
                await until(lambda count=move: played.gateway.health()["moves"] == count)
                await played.standing_on(Backend.SUPABASE if move % 2 else Backend.LEGACY)
            stopped.set()
            await publishing
            end = last + 1
            await played.publish(event(name, end))
    assert end > 2 + MOVES
    assert seen == list(range(3, end + 1))
    assert played.moved == ["old-page"] * MOVES
    assert played.gateway.health()["gaps"] == 0


async def test_a_cursor_is_resumed_on_the_other_backend(played: Played) -> None:
    name = stream(played)
    await played.publish(opened(name), *(event(name, seq) for seq in range(2, 6)))
    played.route(100)
    await until(lambda: played.flags.revision >= 2)
    topics = [f"devices.{played.device}"]
    async with talk(played.url()) as client:
        await client.say(type="subscribe", topics=topics, cursor={name: [1, 2]})
        assert (await client.next("waiting"))["reason"]
        granted = await client.next("subscribed")
        assert granted["heads"] == {name: [1, 5]}
        assert granted["gaps"] == []
        await played.publish(event(name, 6))
        got = [(await client.next("event"))["metadata"]["event"]["seq"] for _ in range(4)]
        assert got == [3, 4, 5, 6]
        await client.say(type="snapshot", topics=topics)
        assert (await client.next("snapshot"))["cursor"] == {name: [1, 6]}
        await client.say(type="export", topics=topics)
        done = await client.next("export_complete")
        assert done["events"] == 6
        page = await asyncio.to_thread(fetch, played.gateway.ports[0], done["path"])
        assert [json.loads(line)["seq"] for line in page.splitlines()] == [1, 2, 3, 4, 5, 6]


async def test_from_now_on_tells_where_the_streams_stand_and_nothing_of_before(played: Played) -> None:
    name = stream(played)
    await played.publish(opened(name), event(name, 2))
    async with talk(played.url()) as client:
        await client.say(type="subscribe", topics=[f"devices.{played.device}"])
        assert (await client.next("subscribed"))["heads"] == {name: [1, 2]}
        await played.publish(event(name, 3))
        assert (await client.next("event"))["metadata"]["event"]["seq"] == 3


async def test_the_topic_dialect_takes_more_topics_after_a_cursor(played: Played) -> None:
    one, other = stream(played), stream(played, "drives")
    await played.publish(opened(one), event(one, 2), opened(other), event(other, 2))
    headers = {"Authorization": f"Bearer {STREAM_TOKEN}"}
    async with talk(played.url("stream"), additional_headers=headers) as client:
        ask = {"type": "subscription", "action": "subscribe"}
        await client.say(**ask, topics=[f"devices.{played.device}"], cursor={one: [1, 1], other: [1, 2]})
        assert (await client.next("data"))["seq"] == 2
        await client.say(**ask, topics=["categories.drives"])
        await client.next("subscription")
        await played.publish(event(other, 3))
        assert (await client.next("data"))["stream"] == other


async def test_every_dialect_greets_and_answers_nonsense_in_its_own_form(played: Played) -> None:
    name = stream(played)
    await played.publish(opened(name))
    first = {
        "dashboard": "initial_stats", "containers": "initial_state", "frontend": "container_update",
        "metrics": "connected", "metrics_update": "metrics_update",
    }  # fmt: skip
    for dialect, greeting in first.items():
        async with talk(played.url(dialect)) as client:
            await client.next(greeting)
            await client.socket.send("{nonsense")
            assert (await client.next("error"))["type"] == "error"
    with pytest.raises(InvalidStatus, match="401"):
        async with connect(played.url("stream"), proxy=None):
            pass


async def test_clients_are_routed_one_by_one(played: Played) -> None:
    name = stream(played)
    await played.publish(opened(name))
    played.route(0, allow="page-1")
    await until(lambda: played.flags.revision >= 2)
    async with (
        talk(f"{played.url()}?client=page-1") as one,
        talk(played.url(), additional_headers={"X-Client-Id": "page-2"}) as other,
    ):
        for client in (one, other):
            await client.next("initial_stats")
        assert played.gateway.health()["clients_by_backend"] == {Backend.SUPABASE: 1, Backend.LEGACY: 1}
        await played.publish(event(name, 2))
        for client in (one, other):
            assert (await client.next("event"))["metadata"]["event"]["seq"] == 2


async def test_metrics_are_of_all_connections_and_of_the_backends(played: Played) -> None:
    name = stream(played)
    await played.publish(opened(name), event(name, 2))
    async with talk(played.url()) as one, talk(played.url("containers")) as other:
        await other.next("initial_state")
        told = (await one.next("initial_stats"))["websocket_health"]["gateway"]
        assert told["clients"] >= 1
        await until(lambda: played.gateway.health()["messages_sent"] == 2)
        text = await asyncio.to_thread(fetch, played.gateway.ports[0], "/metrics")
    read = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
    assert read["crossfade_gateway_clients_by_dialect", "containers"] == 1
    assert read["crossfade_gateway_clients_by_backend", "legacy"] == 2
    assert read["crossfade_gateway_messages_sent_total",] == 2
    assert read["crossfade_gateway_backend", "legacy", "breaker_state"] == 0
    await until(lambda: played.gateway.clients == 0)
    assert played.gateway.health()["connections"] == 2


async def test_a_client_that_does_not_read_is_closed_and_disturbs_nobody(played: Played) -> None:
    name = stream(played)
    await played.publish(opened(name))
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", played.gateway.ports[0]))
    async with (
        talk(played.url()) as reader,
        # uncompressed: what repeats itself would fit into little
        connect(
            played.url(),
            sock=raw,
            proxy=None,
            max_queue=1,
            ping_interval=None,
            close_timeout=0,
            compression=None,
        ),
    ):
        await reader.next("initial_stats")
        await until(lambda: played.gateway.clients == 2)
        seen = 1
        while played.gateway.clients == 2:
            events = [event(name, seen + step, note="x" * 20_000) for step in range(1, 41)]
            await played.legacy.publish(*events)
            for one in events:
                seen += 1
                assert (await reader.next("event"))["metadata"]["event"]["seq"] == one.seq
            assert seen < 20_000
            await asyncio.sleep(0.05)  # a pace: its feed is given a second to catch up before each batch


async def test_a_client_that_no_backend_will_serve_is_told_to_come_back() -> None:
    refusing = MemoryService(Backend.SUPABASE)
    refusing.refusal = "the key is wrong"

    @contextlib.asynccontextmanager
    async def lend(_client: str) -> AsyncIterator[MemoryService]:
        yield refusing

    async with Gateway(lend, [Mount(0, "/ws", "dashboard")]) as gateway:
        async with talk(f"ws://127.0.0.1:{gateway.ports[0]}/ws") as client:
            await client.next("initial_stats")
            with pytest.raises(ConnectionClosed, match="1013"):
                await client.next("event")
        await until(lambda: gateway.clients == 0)


def fetch(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()
