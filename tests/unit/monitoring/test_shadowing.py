"""A backend that is opened besides and discarded: it shows whether it would have served, and disturbs nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from monitoring import shadowing
from monitoring.events import StreamId
from monitoring.route import Route
from monitoring.router import Router
from monitoring.service import Backend, Event, Item
from monitoring.subscription import Subscription
from monitoring.topics import GLOBAL
from monitoring.witness import Witness
from tests.fakes.event_factory import event, run
from tests.fakes.memory_service import MemoryService

S = StreamId("web-1/system")
APART = Route(Backend.LEGACY)
BESIDES = Route(Backend.LEGACY, shadow=Backend.SUPABASE)


class World:
    """One client over two backends in memory, with a witness whose clock the test turns."""

    def __init__(self) -> None:
        self.now = 0.0
        self.legacy, self.supabase = MemoryService(Backend.LEGACY), MemoryService(Backend.SUPABASE)
        self.witness = Witness("client-1", lambda: self.now)
        self.wished = APART
        self.wakes: set[Callable[[], None]] = set()
        self.router = Router(
            {Backend.LEGACY: self.legacy, Backend.SUPABASE: self.supabase},
            self,
            "client-1",
            now=lambda: datetime.now(UTC),
            witness=self.witness,
        )
        self.subscription: Subscription[Item]

    def route(self, _client_id: str) -> Route:
        return self.wished

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        self.wakes.add(wake)
        return lambda: self.wakes.discard(wake)

    def wish(self, route: Route) -> None:
        self.wished = route
        for wake in tuple(self.wakes):
            wake()

    async def publish(self, *events: Event, to: str = "both") -> None:
        for service in (self.legacy, self.supabase):
            if to in {"both", service.backend}:
                await service.publish(*events)

    async def delivered(self, count: int) -> list[int]:
        async with asyncio.timeout(5):
            items = [await anext(self.subscription) for _ in range(count)]
        return [item.seq for item in items if isinstance(item, Event)]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)

    def block(self, seconds: float = 10.0) -> None:
        self.now += seconds
        self.witness.close_block()

    def open_on(self, service: MemoryService) -> int:
        return sum(not subscription.ended for subscription in service._subscriptions)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.publish(*run(S, 3))
    made.subscription = made.router.subscribe({GLOBAL})
    await made.subscription.wait_live()
    yield made
    await made.router.close()


async def shadowed(world: World) -> None:
    """The first step's clients are told to open Supabase besides."""
    world.wish(BESIDES)
    await world.until(lambda: world.witness.shadow is Backend.SUPABASE and world.open_on(world.supabase) == 1)


async def test_nothing_is_opened_besides_unless_the_route_says_so(world: World) -> None:
    await world.publish(event(seq=4))
    assert await world.delivered(1) == [4]
    assert world.open_on(world.supabase) == 0
    assert world.witness.shadow is None


async def test_what_a_shadow_brings_is_counted_and_discarded(world: World) -> None:
    await shadowed(world)
    await world.publish(event(seq=4), event(seq=5))
    assert await world.delivered(2) == [4, 5]
    await world.until(lambda: world.witness._shadow_block.events == 2)
    world.block()
    world.block()
    assert (world.witness.shadowed.blocks, world.witness.shadowed.events) == (1, 2)
    assert world.witness.shadowed.disturbed == 0
    assert world.witness.live.blocks == 0
    assert world.subscription.waiting == 0, "each event once"


async def test_a_shadow_begins_where_the_client_stands(world: World) -> None:
    """A stream that says nothing any more is no reason to call it behind, and what it lacks from the start is seen."""
    await world.publish(event(seq=4), to="legacy")
    assert await world.delivered(1) == [4]
    await shadowed(world)
    await world.publish(event(seq=4), to="supabase")  # as late as that: the client has it already
    await world.publish(event(seq=5))
    assert await world.delivered(1) == [5]
    await world.until(lambda: world.witness._shadow_positions.get(S, (0, 0)) == (1, 5))
    for _ in range(3):
        world.block()
    assert (world.witness.shadowed.events, world.witness.shadowed.disturbed) == (1, 0)


async def test_a_shadow_that_loses_something_is_seen_and_the_client_has_it_all(world: World) -> None:
    await shadowed(world)
    await world.publish(event(seq=4))
    await world.publish(event(seq=5), to="legacy")
    assert await world.delivered(2) == [4, 5]
    await world.until(lambda: world.witness._shadow_block.events == 1)
    world.block()
    world.block()
    assert world.witness.shadowed.disturbed == 1
    assert world.witness.note == "shadow: web-1/system is behind"


async def test_a_shadow_is_closed_when_the_route_says_so(world: World) -> None:
    await shadowed(world)
    world.wish(APART)
    await world.until(lambda: world.witness.shadow is None and world.open_on(world.supabase) == 0)


async def test_what_serves_the_client_is_not_shadowed_too(world: World) -> None:
    await shadowed(world)
    world.wish(replace(BESIDES, backend=Backend.SUPABASE))
    await world.until(lambda: world.router.backend is Backend.SUPABASE)
    await world.until(lambda: world.witness.shadow is None)
    await world.until(lambda: world.open_on(world.supabase) == 1)
    await world.publish(event(seq=4))
    assert [seq for seq in await world.delivered(2) if seq] == [4]
    world.block()
    assert (world.witness.live.events, world.witness.shadowed.events) == (1, 0)
    world.wish(BESIDES)
    await world.until(lambda: world.router.backend is Backend.LEGACY)
    await world.until(lambda: world.witness.shadow is Backend.SUPABASE)


async def test_a_shadow_that_is_refused_is_told_and_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadowing, "_AGAIN_SECONDS", 0.02)
    await world.supabase.refuse("no such key")
    world.wish(BESIDES)
    await world.until(lambda: world.witness.note == "shadow: no such key")
    await world.publish(event(seq=4), to="legacy")
    assert await world.delivered(1) == [4], "the client is served meanwhile"
    world.block()
    assert world.witness.shadowed.errors >= 1
    world.supabase.refusal = None
    await world.until(lambda: world.open_on(world.supabase) == 1)


async def test_a_shadow_that_hangs_holds_up_nothing_and_ends_with_its_client(world: World) -> None:
    world.supabase.stalled = True
    await shadowed(world)
    await world.publish(*(event(seq=seq) for seq in range(4, 1000)))
    assert len(await world.delivered(996)) == 996
    await world.subscription.close()
    assert world.open_on(world.supabase) == 0
    assert world.open_on(world.legacy) == 0
    assert world.witness.shadow is None
