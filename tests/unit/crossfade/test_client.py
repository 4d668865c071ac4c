"""The client library over a router in memory: async, and for scripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.move_log import MoveLog, read
from crossfade import BlockingClient, Client, Cursor, Event, Gap, connect
from crossfade.errors import UsageError
from monitoring.errors import InvalidTopic
from monitoring.events import Position, StreamId
from monitoring.route import Route
from monitoring.router import Router
from monitoring.service import Backend, MoveAbandoned, Moved
from tests.fakes.event_factory import event, run
from tests.fakes.memory_service import MemoryService

S = StreamId("web-1/system")


class World:
    """Two backends in memory, and flags to set."""

    def __init__(self, tmp_path: Path) -> None:
        self.log = tmp_path / "moves.jsonl"
        self.wished = Route(Backend.LEGACY)
        self.wakes: set[Callable[[], None]] = set()
        self.services: dict[Backend, MemoryService] = {}

    def route(self, _: str) -> Route:
        return self.wished

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        self.wakes.add(wake)
        return lambda: self.wakes.discard(wake)

    def wish(self, backend: Backend) -> None:
        self.wished = Route(backend)
        for wake in tuple(self.wakes):
            wake()

    async def publish(self, *events: Event) -> None:
        for service in self.services.values():
            await service.publish(*events)

    @asynccontextmanager
    async def connect_router(self) -> AsyncIterator[Router]:
        self.services = {backend: MemoryService(backend) for backend in (Backend.LEGACY, Backend.SUPABASE)}
        await self.publish(*run(S, 3))
        router = Router(
            self.services, self, "c-1", now=lambda: datetime.now(UTC), record=MoveLog(self.log).record
        )
        yield router
        await router.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_events_come_by_plain_iteration(world: World) -> None:
    async with asyncio.timeout(5), Client(world.connect_router) as service:
        events = service.subscribe("devices.*", since=Cursor({S: Position(1, 1)}))
        seqs = []
        async for each in events:
            seqs.append(each.seq if isinstance(each, Event) else each)
            if len(seqs) == 2:
                break
        assert seqs == [2, 3]
        assert events.cursor == Cursor({S: Position(1, 3)})
        await world.publish(event(seq=4))
        assert await anext(events) == event(seq=4)


async def test_a_cursor_that_was_kept_goes_on_where_it_stood(world: World) -> None:
    async with asyncio.timeout(5), Client(world.connect_router) as service:
        async with service.subscribe() as events:
            await events.wait_live()
            await world.publish(event(seq=4), event(seq=5))
            await anext(events)
            kept = json.dumps(events.cursor.to_json())
        events = service.subscribe(since=Cursor.from_json(json.loads(kept)))
        assert await anext(events) == event(seq=5)


async def test_a_cursor_knows_where_the_quiet_streams_stood(world: World) -> None:
    quiet = StreamId("db-1/system")
    async with asyncio.timeout(5), Client(world.connect_router) as service:
        await world.publish(*run(quiet, 3))
        async with service.subscribe() as events:
            await events.wait_live()
            assert events.cursor == events.start == Cursor({S: Position(1, 3), quiet: Position(1, 3)})
            await world.publish(event(seq=4))
            await anext(events)
            kept = events.cursor
        await world.publish(event(quiet, 4))
        assert await anext(service.subscribe(since=kept)) == event(quiet, 4), "not its whole history"


async def test_moves_are_told_apart_from_events_and_recorded(world: World) -> None:
    moves: list[Moved | MoveAbandoned] = []
    async with asyncio.timeout(5), Client(world.connect_router, moves.append) as service:
        events = service.subscribe()
        await events.wait_live()
        world.wish(Backend.SUPABASE)
        while service.backend is not Backend.SUPABASE:
            await asyncio.sleep(0)
        await world.publish(event(seq=4))
        assert await anext(events) == event(seq=4)
    assert [move.to_backend for move in moves] == [Backend.SUPABASE]
    (record,) = read(world.log)
    assert (record["client"], record["from"], record["to"], record["outcome"], record["reason"]) == (
        "c-1",
        "legacy",
        "supabase",
        "moved",
        "the flags say supabase",
    )
    assert record["overlap_seconds"] <= record["seconds"]


async def test_a_gap_comes_in_its_place_and_the_cursor_goes_past_it(world: World) -> None:
    async with asyncio.timeout(5), Client(world.connect_router) as service:
        for backend in world.services.values():
            await backend.forget()
        await world.publish(event(seq=4))
        events = service.subscribe(since=Cursor({S: Position(1, 1)}))
        assert await anext(events) == Gap(S, 1, 2, 3)
        assert events.cursor == Cursor({S: Position(1, 3)})
        assert await anext(events) == event(seq=4)


async def test_a_topic_nobody_could_mean_is_refused_at_once(world: World) -> None:
    async with Client(world.connect_router) as service:
        with pytest.raises(InvalidTopic, match="is not a kind of topic"):
            service.subscribe("device.web-1")


async def test_before_connecting_it_says_how(world: World) -> None:
    with pytest.raises(UsageError, match="async with connect"):
        Client(world.connect_router).subscribe()


def test_an_address_needs_a_token_and_a_token_an_address() -> None:
    with pytest.raises(UsageError, match="needs a token"):
        connect("http://127.0.0.1:8000")
    with pytest.raises(UsageError, match="is for the address"):
        connect(token="x")


def test_scripts_iterate_without_a_loop(world: World) -> None:
    with BlockingClient(Client(world.connect_router)) as service:
        events = service.subscribe("devices.web-1", since=Cursor())
        assert [next(events).seq for _ in range(2)] == [1, 2]
        assert events.cursor == Cursor({S: Position(1, 2)}), "what was not handed out yet does not count"
        assert next(events) == run(S, 3)[2]
        assert service.snapshot().cursor == Cursor({S: Position(1, 3)})
        assert service.backend is Backend.LEGACY
        events.close()
        assert list(events) == []


def test_a_script_that_does_not_enter_the_client_is_told_so_and_does_not_hang(world: World) -> None:
    service = BlockingClient(Client(world.connect_router))
    with pytest.raises(UsageError, match="inside `with connect_blocking"):
        service.subscribe()
    with service:
        events = service.subscribe()
        events.wait_live()
        assert events.cursor == Cursor({S: Position(1, 3)})
    with pytest.raises(UsageError, match="not connected"):
        next(events)


def test_the_record_of_moves_is_bounded_and_passes_over_what_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "moves.jsonl"
    log = MoveLog(path, max_bytes=1000)
    for number in range(50):
        log.record(f"c-{number}", MoveAbandoned(Backend.LEGACY, Backend.SUPABASE, "a gap", datetime.now(UTC)))
    with path.open("a") as file:
        file.write('{"cut sho')
    clients = [record["client"] for record in read(path)]
    assert clients[-1] == "c-49"
    assert 5 < len(clients) < 20


def test_a_place_that_cannot_be_written_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = MoveLog(tmp_path / "missing" / "moves.jsonl")
    for _ in range(3):
        log.record("c", MoveAbandoned(Backend.LEGACY, Backend.SUPABASE, "a gap", datetime.now(UTC)))
    assert len(caplog.records) == 1
