"""The router moves a connected client without losing or doubling an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from monitoring.cursor import Cursor
from monitoring.errors import Refused
from monitoring.events import Event, Position, StreamId
from monitoring.handover import Limits
from monitoring.router import Router
from monitoring.service import Backend, Gap, Item, MoveAbandoned, Moved
from monitoring.subscription import Subscription
from monitoring.topics import GLOBAL
from tests.fakes.event_factory import event, run
from tests.fakes.memory_service import MemoryService

S = StreamId("web-1/system")
QUICK = Limits(failover_after=0.05, return_after=0.1, give_up_after=0.3, lag=2.0)


class Wishes:
    """Flags that a test sets directly."""

    def __init__(self) -> None:
        self.backend = Backend.LEGACY

    def wish(self, _client_id: str) -> Backend:
        return self.backend


@pytest.fixture
async def world() -> AsyncIterator[SimpleNamespace]:
    legacy, supabase, wishes = MemoryService(Backend.LEGACY), MemoryService(Backend.SUPABASE), Wishes()
    services = {Backend.LEGACY: legacy, Backend.SUPABASE: supabase}
    router = Router(services, wishes, "client-1", now=lambda: datetime.now(UTC), limits=QUICK)

    async def publish(*events: Event) -> None:
        await legacy.publish(*events)
        await supabase.publish(*events)

    yield SimpleNamespace(legacy=legacy, supabase=supabase, wishes=wishes, router=router, publish=publish)
    await router.close()


async def take(subscription: Subscription[Item], count: int) -> list[Item]:
    async with asyncio.timeout(5):
        return [await anext(subscription) for _ in range(count)]


def seqs(items: list[Item]) -> list[int]:
    return [item.seq for item in items if isinstance(item, Event)]


async def test_a_client_gets_what_comes_after_its_subscription(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 5))
    subscription = world.router.subscribe({GLOBAL})
    await subscription.wait_live()
    await world.publish(event(seq=6), event(seq=7))
    assert seqs(await take(subscription, 2)) == [6, 7]


async def test_a_flag_moves_a_connected_client_there_and_back_without_loss(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 3))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 1)}))
    items: list[Item] = await take(subscription, 2)
    seq = 3
    for wish in (Backend.SUPABASE, Backend.LEGACY, Backend.SUPABASE):
        world.wishes.backend = wish
        while not (moves := [i for i in items if isinstance(i, Moved)]) or moves[-1].to_backend is not wish:
            seq += 1
            await world.publish(event(seq=seq))
            items += await take(subscription, 1)
    assert seqs(items) == list(range(2, max(seqs(items)) + 1))
    assert world.router.backend is Backend.SUPABASE
    assert not [item for item in items if isinstance(item, Gap | MoveAbandoned)]


async def test_a_dead_backend_is_left_and_returned_to(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 3))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 3)}))
    await subscription.wait_live()
    await world.legacy.set_up(False)
    (moved,) = await take(subscription, 1)
    assert isinstance(moved, Moved)
    assert (moved.to_backend, moved.reason) == (Backend.SUPABASE, "legacy is down")
    await world.publish(event(seq=4))
    assert seqs(await take(subscription, 1)) == [4]
    await world.legacy.set_up(True)
    (moved,) = await take(subscription, 1)
    assert isinstance(moved, Moved)
    assert (moved.to_backend, moved.reason) == (Backend.LEGACY, "legacy is back")


async def test_a_planned_move_that_would_make_a_gap_is_given_up_and_said(world: SimpleNamespace) -> None:
    await world.legacy.publish(*run(S, 9))
    await world.supabase.publish(*run(S, 9))
    world.supabase.stalled = True
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 3)}))
    assert seqs(await take(subscription, 6)) == [4, 5, 6, 7, 8, 9]
    await world.supabase.publish(event(seq=12))
    await world.supabase.forget()
    world.supabase.stalled = False
    world.wishes.backend = Backend.SUPABASE
    (item,) = await take(subscription, 1)
    assert isinstance(item, MoveAbandoned)
    assert "no history" in item.reason
    await world.legacy.publish(event(seq=10))
    assert seqs(await take(subscription, 1)) == [10]
    assert world.router.backend is Backend.LEGACY


async def test_a_planned_move_that_takes_too_long_is_given_up_and_said(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 2))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 2)}))
    await subscription.wait_live()
    await world.supabase.set_up(False)
    world.wishes.backend = Backend.SUPABASE
    (item,) = await take(subscription, 1)
    assert isinstance(item, MoveAbandoned)
    assert "was not ready" in item.reason


async def test_a_flag_that_flips_back_half_way_changes_nothing(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 2))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 2)}))
    await subscription.wait_live()
    world.supabase.stalled = True
    await world.supabase.set_up(False)
    world.wishes.backend = Backend.SUPABASE
    await world.legacy.publish(event(seq=3))
    items = await take(subscription, 1)
    world.wishes.backend = Backend.LEGACY
    await world.legacy.publish(event(seq=4))
    assert seqs(items + await take(subscription, 1)) == [3, 4]


async def test_a_gap_of_the_only_backend_is_told(world: SimpleNamespace) -> None:
    await world.supabase.set_up(False)
    await world.legacy.publish(*run(S, 9))
    await world.legacy.forget()
    await world.legacy.publish(event(seq=10))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 4)}))
    assert await take(subscription, 2) == [Gap(S, 1, 5, 9), event(seq=10)]


async def test_a_refused_backend_is_left_for_the_other(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 2))
    world.legacy.refusal = "wrong key"
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 1)}))
    items = await take(subscription, 2)
    assert seqs(items) == [2]
    assert any(isinstance(item, Moved) and item.to_backend is Backend.SUPABASE for item in items)


async def test_a_mistake_of_ours_does_not_look_like_an_outage(
    world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(world.legacy, "_feed", broken)
    subscription = world.router.subscribe({GLOBAL}, Cursor())
    with pytest.raises(ValueError, match="a bug"):
        await take(subscription, 1)


async def test_ended_subscriptions_are_forgotten(world: SimpleNamespace) -> None:
    subscription = world.router.subscribe({GLOBAL}, Cursor())
    await subscription.wait_live()
    await subscription.close()
    await asyncio.sleep(0)
    assert not world.router._subscriptions


async def test_a_backend_that_refuses_at_the_start_is_left_for_the_other(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 2))
    world.legacy.refusal = "wrong key"
    original = world.legacy.snapshot

    async def refusing(topics: object) -> object:
        raise Refused("legacy", "wrong key")

    world.legacy.snapshot = refusing
    subscription = world.router.subscribe({GLOBAL})
    (moved,) = await take(subscription, 1)
    assert isinstance(moved, Moved)
    world.legacy.snapshot = original


async def test_refused_everywhere_is_an_error(world: SimpleNamespace) -> None:
    world.legacy.refusal = world.supabase.refusal = "wrong key"
    subscription = world.router.subscribe({GLOBAL}, Cursor())
    with pytest.raises(Refused, match="wrong key"):
        await take(subscription, 1)
