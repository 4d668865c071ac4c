"""The router moves a connected client without losing or doubling an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from monitoring.cursor import Cursor
from monitoring.errors import Refused
from monitoring.events import UNIDENTIFIED_EPOCH, Event, Position, StreamId
from monitoring.handover import Limits
from monitoring.pacing import Pacer
from monitoring.route import Route
from monitoring.router import Router
from monitoring.service import Backend, Capabilities, Gap, Item, MoveAbandoned, Moved
from monitoring.subscription import Subscription
from monitoring.topics import GLOBAL, Topic
from tests.fakes.event_factory import event, run
from tests.fakes.memory_service import MemoryService

S = StreamId("web-1/system")
QUICK = Limits(failover_after=0.05, next_after=0.1, return_after=0.1, give_up_after=0.3, lag=2.0)


class Wishes:
    """Flags that a test sets directly."""

    def __init__(self) -> None:
        self.wished = Route(Backend.LEGACY)
        self.wakes: set[Callable[[], None]] = set()

    def route(self, _client_id: str) -> Route:
        return self.wished

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        self.wakes.add(wake)
        return lambda: self.wakes.discard(wake)

    def set(self, backend: Backend, *polled: str) -> None:
        self.wished = Route(backend, frozenset(polled))
        for wake in tuple(self.wakes):
            wake()


@pytest.fixture
async def world() -> AsyncIterator[SimpleNamespace]:
    services = {backend: MemoryService(backend) for backend in Backend}
    wishes, records = Wishes(), []
    router = Router(
        services,
        wishes,
        "client-1",
        now=lambda: datetime.now(UTC),
        limits=QUICK,
        record=lambda client, item: records.append((client, item)),
    )

    async def publish(*events: Event) -> None:
        for service in services.values():
            await service.publish(*events)

    yield SimpleNamespace(
        legacy=services[Backend.LEGACY],
        supabase=services[Backend.SUPABASE],
        polling=services[Backend.POLLING],
        wishes=wishes,
        router=router,
        publish=publish,
        records=records,
    )
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
        world.wishes.set(wish)
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
    world.wishes.set(Backend.SUPABASE)
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
    world.wishes.set(Backend.SUPABASE)
    (item,) = await take(subscription, 1)
    assert isinstance(item, MoveAbandoned)
    assert "was not ready" in item.reason


async def test_a_flag_that_flips_back_half_way_changes_nothing(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 2))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 2)}))
    await subscription.wait_live()
    world.supabase.stalled = True
    await world.supabase.set_up(False)
    world.wishes.set(Backend.SUPABASE)
    await world.legacy.publish(event(seq=3))
    items = await take(subscription, 1)
    world.wishes.set(Backend.LEGACY)
    await world.legacy.publish(event(seq=4))
    assert seqs(items + await take(subscription, 1)) == [3, 4]


async def test_a_gap_of_the_only_backend_is_told(world: SimpleNamespace) -> None:
    await world.supabase.set_up(False)
    await world.polling.set_up(False)
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
    world.legacy.refusal = world.supabase.refusal = world.polling.refusal = "wrong key"
    subscription = world.router.subscribe({GLOBAL}, Cursor())
    with pytest.raises(Refused, match="wrong key"):
        await take(subscription, 1)


async def until_moved(subscription: Subscription[Item], to: Backend) -> list[Item]:
    """Return what comes up to the move, and it."""
    items: list[Item] = []
    async with asyncio.timeout(5):
        while not (items and isinstance(items[-1], Moved) and items[-1].to_backend is to):
            items.append(await anext(subscription))
    return items


async def test_when_both_pushes_fail_the_client_is_polled_and_goes_back_to_the_first_that_returns(
    world: SimpleNamespace,
) -> None:
    await world.publish(*run(S, 3))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 3)}))
    await subscription.wait_live()
    await world.supabase.set_up(False)
    await world.legacy.set_up(False)
    await until_moved(subscription, Backend.POLLING)
    await world.polling.publish(event(seq=4))
    assert seqs(await take(subscription, 1)) == [4]
    await world.supabase.publish(event(seq=4))
    await world.supabase.set_up(True)
    assert (await until_moved(subscription, Backend.SUPABASE))[-1].reason == "supabase is back"
    await world.legacy.publish(event(seq=4))
    await world.legacy.set_up(True)
    assert (await until_moved(subscription, Backend.LEGACY))[-1].reason == "legacy is back"
    await world.publish(event(seq=5))
    assert seqs(await take(subscription, 1)) == [5]


async def test_nobody_fails_over_to_a_backend_the_stage_does_not_allow(world: SimpleNamespace) -> None:
    world.wishes.wished = Route(Backend.LEGACY, fallbacks=(Backend.POLLING,))
    subscription = world.router.subscribe({GLOBAL}, Cursor())
    await subscription.wait_live()
    await world.legacy.set_up(False)
    assert [item.to_backend for item in await take(subscription, 1)] == [Backend.POLLING]


async def test_a_category_that_is_switched_off_is_polled_and_the_others_are_pushed(
    world: SimpleNamespace,
) -> None:
    containers = StreamId("web-1/containers")
    await world.publish(*run(S, 2), *run(containers, 2))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 2), containers: Position(1, 2)}))
    await subscription.wait_live()
    world.wishes.set(Backend.LEGACY, "containers")
    (moved,) = await take(subscription, 1)
    assert (moved.from_backend, moved.to_backend, moved.polled) == (
        Backend.LEGACY,
        Backend.LEGACY,
        frozenset({"containers"}),
    )
    await world.legacy.publish(event(containers, 3), event(seq=3))
    assert seqs(await take(subscription, 1)) == [3], "what is pushed of a switched-off category is not taken"
    await world.polling.publish(event(containers, 3))
    assert [item.stream for item in await take(subscription, 1)] == [containers]
    world.wishes.set(Backend.LEGACY)
    await until_moved(subscription, Backend.LEGACY)
    await world.legacy.publish(event(containers, 4))
    assert seqs(await take(subscription, 1)) == [4]


async def test_a_client_that_reads_slowly_is_moved_too_and_gets_everything_once(
    world: SimpleNamespace,
) -> None:
    await world.publish(*run(S, 9000))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 0)}))
    await subscription.wait_live()
    items = subscription.take(10)
    world.wishes.set(Backend.SUPABASE)
    async with asyncio.timeout(10):
        while len(seqs(items)) < 9000:
            items += [await anext(subscription), *subscription.take(20)]
            await asyncio.sleep(0)
    assert seqs(items) == list(range(1, 9001))
    assert world.router.backend is Backend.SUPABASE


async def test_a_candidate_with_a_gap_does_not_cost_the_client_what_the_active_leg_brings(
    world: SimpleNamespace,
) -> None:
    await world.publish(*run(S, 3))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 3)}))
    await subscription.wait_live()
    await world.supabase.publish(*[event(seq=seq) for seq in range(4, 8)])
    await world.supabase.forget()
    await world.supabase.publish(event(seq=8))
    world.wishes.set(Backend.SUPABASE)
    (abandoned,) = await take(subscription, 1)
    assert isinstance(abandoned, MoveAbandoned)
    await world.legacy.publish(*[event(seq=seq) for seq in range(4, 10)])
    assert seqs(await take(subscription, 6)) == [4, 5, 6, 7, 8, 9]


async def test_a_gap_is_taken_when_the_active_leg_is_down_and_nobody_has_more(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 3))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 3)}))
    await subscription.wait_live()
    for service in (world.supabase, world.polling):
        await service.publish(*[event(seq=seq) for seq in range(4, 8)])
        await service.forget()
        await service.publish(event(seq=8))
    await world.legacy.set_up(False)
    items = await take(subscription, 3)
    assert items[:2] == [Gap(S, 1, 4, 7), event(seq=8)]
    assert isinstance(items[2], Moved)


async def test_what_the_active_leg_has_lost_is_fetched_from_another_backend(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 9))
    await world.legacy.forget()
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 3)}))
    await world.publish(event(seq=10))
    items = await take(subscription, 7)
    assert seqs(items) == [4, 5, 6, 7, 8, 9, 10]
    await world.publish(event(seq=11))
    assert seqs(await take(subscription, 1)) == [11]
    assert world.router.backend is Backend.LEGACY


async def test_a_gap_is_told_when_no_backend_has_what_is_missing(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 9))
    for service in (world.legacy, world.supabase, world.polling):
        await service.forget()
    await world.publish(event(seq=10))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 3)}))
    assert await take(subscription, 2) == [Gap(S, 1, 4, 9), event(seq=10)]


async def test_every_move_is_recorded_with_what_it_took(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 3))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 3)}))
    await subscription.wait_live()
    world.wishes.set(Backend.SUPABASE)
    (moved,) = await take(subscription, 1)
    assert world.records == [("client-1", moved)]
    assert (moved.from_backend, moved.to_backend, moved.reason) == (
        Backend.LEGACY,
        Backend.SUPABASE,
        "the flags say supabase",
    )
    assert 0 <= moved.overlap_seconds <= moved.seconds < 2


async def test_a_reason_to_give_up_is_told_once_and_recorded_each_time(world: SimpleNamespace) -> None:
    await world.publish(*run(S, 2))
    subscription = world.router.subscribe({GLOBAL}, Cursor({S: Position(1, 2)}))
    await subscription.wait_live()
    await world.supabase.set_up(False)
    world.wishes.set(Backend.SUPABASE)
    async with asyncio.timeout(5):
        while len(world.records) < 2:
            await asyncio.sleep(0.01)
    assert len(subscription.take(10)) == 1


async def test_routers_that_share_a_pacer_move_a_few_at_a_time() -> None:
    shared = {backend: MemoryService(backend) for backend in (Backend.LEGACY, Backend.SUPABASE)}
    opened: list[int] = []

    class Counting(MemoryService):
        def __init__(self, of: MemoryService) -> None:
            super().__init__(of.backend)
            self._of = of

        def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
            if self.backend is Backend.SUPABASE:
                opened.append(len(opened))
            return self._of.subscribe(topics, since)

        async def close(self) -> None:
            pass

    pacer, wishes = Pacer(at_once=2), Wishes()
    shared[Backend.SUPABASE].up = False
    routers = [
        Router(
            {backend: Counting(service) for backend, service in shared.items()},
            wishes,
            f"client-{number}",
            now=lambda: datetime.now(UTC),
            pacer=pacer,
        )
        for number in range(10)
    ]
    subscriptions = [router.subscribe({GLOBAL}, Cursor()) for router in routers]
    for subscription in subscriptions:
        await subscription.wait_live()
    wishes.set(Backend.SUPABASE)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(opened) == 2, "those whose candidate is not live yet hold up the others"
    await shared[Backend.SUPABASE].set_up(True)
    for subscription in subscriptions:
        assert isinstance((await take(subscription, 1))[0], Moved)
    for router in routers:
        await router.close()
    for service in shared.values():
        await service.close()


class Nameless(MemoryService):
    """A server without ids: what it brings has no identity, and it begins now, whatever the cursor."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(identity=False, resume=False)

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        inner = super().subscribe(topics, None)

        async def strip(out: Subscription[Item]) -> None:
            async with inner:
                inner.listen(lambda: None, lambda: setattr(out, "live", inner.live))
                out.live = inner.live
                async for item in inner:
                    assert isinstance(item, Event)
                    await out.put(replace(item, epoch=UNIDENTIFIED_EPOCH))

        subscription: Subscription[Item] = Subscription(strip)
        self._subscriptions.add(subscription)
        return subscription


async def test_a_client_of_a_server_without_ids_is_moved_by_likeness_and_gets_everything_once() -> None:
    legacy, supabase, wishes = Nameless(Backend.LEGACY), MemoryService(Backend.SUPABASE), Wishes()
    router = Router(
        {Backend.LEGACY: legacy, Backend.SUPABASE: supabase},
        wishes,
        "c",
        now=lambda: datetime.now(UTC),
        limits=Limits(lag=0.05),
    )
    await legacy.publish(*run(S, 2))
    await supabase.publish(*run(S, 2))
    subscription = router.subscribe({GLOBAL}, Cursor({S: Position(1, 2)}))
    await subscription.wait_live()
    items: list[Item] = []
    seq = 2
    async with asyncio.timeout(10):
        for wish in (Backend.SUPABASE, Backend.LEGACY):
            wishes.set(wish)
            while router.backend is not wish:
                seq += 1
                for service in (legacy, supabase):
                    await service.publish(event(seq=seq))
                await asyncio.sleep(0.005)
            for _ in range(20):
                seq += 1
                for service in (supabase, legacy):
                    await service.publish(event(seq=seq))
                await asyncio.sleep(0.005)
    async with asyncio.timeout(5):
        while len(seqs(items)) < seq - 2:
            items.append(await anext(subscription))
    assert [item.payload["n"] for item in items if isinstance(item, Event)] == list(range(3, seq + 1))
    assert not [item for item in items if isinstance(item, Gap | MoveAbandoned)]
    await router.close()
