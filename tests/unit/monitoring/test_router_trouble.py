"""The router when more than one thing goes wrong at once, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime

from monitoring.cursor import Cursor
from monitoring.events import Event, Position, StreamId
from monitoring.handover import Limits
from monitoring.pacing import Pacer
from monitoring.route import Route
from monitoring.router import Router
from monitoring.sequencer import Sequencer
from monitoring.service import PUSHING, Backend, Gap, Item, MoveAbandoned, Moved
from monitoring.subscription import Subscription
from monitoring.topics import GLOBAL, Topic, selects
from tests.fakes.event_factory import event, run
from tests.fakes.memory_service import MemoryService
from tests.fakes.virtual_time import runner

S = StreamId("web-1/system")
CONTAINERS = StreamId("web-1/containers")


class Counted(MemoryService):
    """A backend that counts who comes, and when; its feeds are live once the client has taken what it missed."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.opened: list[float] = []

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        self.opened.append(asyncio.get_running_loop().time())
        return super().subscribe(topics, since)

    def _knows(self, sequencer: Sequencer | None, topics: frozenset[Topic]) -> bool:
        return super()._knows(sequencer, topics) and (
            sequencer is None
            or sequencer.cursor.covers({s: p for s, p in self._heads.items() if selects(topics, s)})
        )

    @property
    def open(self) -> int:
        """How many subscriptions have not ended."""
        return sum(not each.ended for each in self._subscriptions)


class World:
    """Three backends, flags that a test sets, and routers over them."""

    def __init__(self, pacer: Pacer | None = None) -> None:
        self.services = {backend: Counted(backend) for backend in Backend}
        self.legacy, self.supabase, self.polling = (self.services[backend] for backend in Backend)
        self.wished = Route(Backend.LEGACY)
        self.wakes: set[Callable[[], None]] = set()
        self.pacer = pacer
        self.records: list[Moved | MoveAbandoned] = []

    def route(self, _client_id: str) -> Route:
        return self.wished

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        self.wakes.add(wake)
        return lambda: self.wakes.discard(wake)

    def wish(self, backend: Backend, *polled: str) -> None:
        self.wished = Route(backend, frozenset(polled))
        for wake in tuple(self.wakes):
            wake()

    def router(self) -> Router:
        return Router(
            self.services,
            self,
            "client",
            now=lambda: datetime.now(UTC),
            limits=Limits(),
            pacer=self.pacer,
            record=lambda _, item: self.records.append(item),
        )

    async def publish(self, *events: object) -> None:
        for service in self.services.values():
            await service.publish(*events)  # type: ignore[arg-type]


def virtually(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a test on virtual time."""

    def timed() -> None:
        with runner() as loop:
            loop.run(test())  # type: ignore[arg-type]

    timed.__name__ = test.__name__
    timed.__doc__ = test.__doc__
    return timed


def moves(subscription: Subscription[Item]) -> list[Backend]:
    return [item.to_backend for item in subscription.take(100_000) if isinstance(item, Moved)]


@virtually
async def test_a_backend_that_refuses_is_asked_again_at_a_pace() -> None:
    world = World()
    await world.publish(*run(S, 2))
    world.legacy.refusal = "the token has expired"
    router = world.router()
    subscription = router.subscribe({GLOBAL}, Cursor({S: Position(1, 2)}))
    await asyncio.sleep(60)
    assert moves(subscription) == [Backend.SUPABASE]
    assert len(world.legacy.opened) < 20, "a backend that refuses is not besieged"
    world.legacy.refusal = None
    await asyncio.sleep(60)
    assert moves(subscription) == [Backend.LEGACY]
    await router.close()


@virtually
async def test_a_refusal_of_a_while_ago_does_not_count_when_the_backend_that_worked_refuses() -> None:
    world = World()
    world.wished = Route(Backend.SUPABASE, fallbacks=PUSHING)
    await world.publish(*run(S, 2))
    router = world.router()
    subscription = router.subscribe({GLOBAL}, Cursor({S: Position(1, 2)}))
    await subscription.wait_live()
    world.legacy.refusal = "too many clients"
    world.wished = Route(Backend.LEGACY, fallbacks=PUSHING)
    for wake in tuple(world.wakes):
        wake()
    await asyncio.sleep(5)
    world.legacy.refusal = None
    await world.publish(event(seq=3))
    await asyncio.sleep(5)
    await world.supabase.refuse("the token has expired")
    await world.legacy.publish(event(seq=4))
    await asyncio.sleep(10)
    items = subscription.take(100)
    assert [item.seq for item in items if isinstance(item, Event)] == [3, 4]
    assert [item.to_backend for item in items if isinstance(item, Moved)] == [Backend.LEGACY]
    await router.close()


@virtually
async def test_a_dead_push_is_left_although_what_is_polled_goes_on() -> None:
    world = World()
    world.wish(Backend.SUPABASE, "containers")
    await world.publish(*run(S, 2), *run(CONTAINERS, 2))
    router = world.router()
    subscription = router.subscribe({GLOBAL}, Cursor({S: Position(1, 2), CONTAINERS: Position(1, 2)}))
    await subscription.wait_live()
    await world.supabase.set_up(False)
    for seq in range(3, 33):
        for backend in (world.legacy, world.polling):
            await backend.publish(event(seq=seq), event(CONTAINERS, seq))
        await asyncio.sleep(1)
    assert moves(subscription) == [Backend.LEGACY]
    await router.close()


@virtually
async def test_a_dead_poll_does_not_send_the_client_round_the_backends() -> None:
    world = World()
    world.wish(Backend.SUPABASE, "containers")
    await world.publish(*run(S, 2), *run(CONTAINERS, 2))
    router = world.router()
    subscription = router.subscribe({GLOBAL}, Cursor({S: Position(1, 2), CONTAINERS: Position(1, 2)}))
    await subscription.wait_live()
    await world.polling.set_up(False)
    await asyncio.sleep(60)
    assert (moves(subscription), world.legacy.opened) == ([], [])
    assert not subscription.live
    await router.close()


@virtually
async def test_a_client_that_is_catching_up_and_reads_in_batches_stays_where_it_is() -> None:
    world = World()
    await world.publish(*run(S, 9000))
    router = world.router()
    subscription = router.subscribe({GLOBAL}, Cursor({S: Position(1, 0)}))
    read: list[Item] = []
    while len(read) < 9000:
        await asyncio.sleep(10)
        read += subscription.take(2000)
    assert [item.seq for item in read if not isinstance(item, Moved | MoveAbandoned | Gap)] == list(
        range(1, 9001)
    )
    assert (world.supabase.opened, world.polling.opened) == ([], []), (
        "its feed waited for it, and was not down"
    )
    await router.close()


@virtually
async def test_with_few_slots_every_fallback_gets_its_turn() -> None:
    world = World(Pacer(at_once=1))
    await world.publish(*run(S, 2))
    routers = [world.router() for _ in range(4)]
    subscriptions = [router.subscribe({GLOBAL}, Cursor({S: Position(1, 2)})) for router in routers]
    for subscription in subscriptions:
        await subscription.wait_live()
    for service in world.services.values():
        await service.set_up(False)
    await asyncio.sleep(300)
    await world.polling.set_up(True)
    await asyncio.sleep(120)
    assert [moves(subscription) for subscription in subscriptions] == [[Backend.POLLING]] * 4
    for router in routers:
        await router.close()


def ends_slowly(subscription: Subscription[Item]) -> asyncio.Event:
    """Let closing take a second; returns what is set when it begins."""
    begun, close = asyncio.Event(), subscription.close

    async def slowly() -> None:
        begun.set()
        await asyncio.sleep(1)
        await close()

    subscription.close = slowly  # type: ignore[method-assign]
    return begun


@virtually
async def test_a_subscription_that_is_closed_in_the_middle_of_a_switch_leaves_nothing_open() -> None:
    world = World()
    await world.publish(*run(S, 2))
    router = world.router()
    subscription = router.subscribe({GLOBAL}, Cursor({S: Position(1, 2)}))
    await subscription.wait_live()
    (old,) = world.legacy._subscriptions
    ending = ends_slowly(old)
    world.wish(Backend.SUPABASE)
    await ending.wait()
    await subscription.close()
    assert [world.services[backend].open for backend in Backend] == [0, 0, 0]
    await router.close()


@virtually
async def test_a_subscription_that_is_closed_by_two_at_once_leaves_nothing_open() -> None:
    world = World()
    await world.supabase.set_up(False)
    router = world.router()
    subscription = router.subscribe({GLOBAL}, Cursor({S: Position(1, 2)}))
    world.wish(Backend.SUPABASE)
    await asyncio.sleep(1)
    ending = [ends_slowly(each) for each in (*world.legacy._subscriptions, *world.supabase._subscriptions)]
    first = asyncio.ensure_future(subscription.close())
    await asyncio.wait([asyncio.ensure_future(each.wait()) for each in ending], return_when="FIRST_COMPLETED")
    await subscription.close()
    await first
    assert [world.services[backend].open for backend in Backend] == [0, 0, 0]
    await router.close()


@virtually
async def test_a_gap_that_both_know_of_does_not_hold_up_a_move() -> None:
    world = World()
    await world.publish(*run(S, 4))
    world.legacy.stalled = True
    router = world.router()
    subscription = router.subscribe({GLOBAL}, Cursor({S: Position(1, 4)}))
    await subscription.wait_live()
    world.supabase.up = False
    world.wish(Backend.SUPABASE)
    await asyncio.sleep(1)  # the candidate is open, at seq 4
    await world.publish(*(event(seq=seq) for seq in range(5, 9)))
    await world.supabase.forget()
    world.legacy.stalled = False
    await world.legacy.set_up(True)
    await asyncio.sleep(1)
    await world.supabase.set_up(True)
    await asyncio.sleep(10)
    items = subscription.take(100)
    assert [item.to_backend for item in items if isinstance(item, Moved)] == [Backend.SUPABASE]
    assert not [item for item in items if isinstance(item, Gap)]
    await router.close()


@virtually
async def test_what_waits_behind_a_loss_is_not_lost_for_being_much() -> None:
    world = World()
    events = run(S, 60_000)
    for service in world.services.values():
        service._retain = 100_000
    await world.supabase.publish(*events)
    await world.legacy.publish(*events)
    del world.legacy._events[:1000]
    world.supabase.up = False
    router = world.router()
    subscription = router.subscribe({GLOBAL}, Cursor({S: Position(1, 10)}))
    await asyncio.sleep(1)
    await world.supabase.set_up(True)
    items: list[Item] = []
    for _ in range(300):
        items += subscription.take(10_000)
        await asyncio.sleep(0.1)
    assert not [item for item in items if isinstance(item, Gap)]
    assert [item.seq for item in items if isinstance(item, Event)] == list(range(11, 60_001))
    await router.close()


@virtually
async def test_a_fallback_with_a_gap_and_much_after_it_costs_no_more_than_the_gap() -> None:
    world = World()
    world.wished = Route(Backend.LEGACY, fallbacks=(Backend.SUPABASE,))
    for service in world.services.values():
        service._retain = 100_000
    await world.publish(*run(S, 60_000))
    del world.supabase._events[:1000]
    world.legacy.up = False
    router = world.router()
    subscription = router.subscribe({GLOBAL}, Cursor({S: Position(1, 10)}))
    items: list[Item] = []
    for _ in range(300):
        items += subscription.take(10_000)
        await asyncio.sleep(0.1)
    assert [item for item in items if isinstance(item, Gap)] == [Gap(S, 1, 11, 1000)]
    assert [item.seq for item in items if isinstance(item, Event)] == list(range(1001, 60_001))
    assert world.supabase.open == 1
    await router.close()


@virtually
async def test_what_is_refused_beside_the_push_costs_the_push_nothing_and_is_asked_for_again() -> None:
    world = World()
    await world.publish(*run(S, 2), *run(CONTAINERS, 2))
    world.wish(Backend.LEGACY, "containers")
    world.polling.refusal = "the token may not poll"
    router = world.router()
    subscription = router.subscribe({GLOBAL}, Cursor({S: Position(1, 2), CONTAINERS: Position(1, 2)}))
    await asyncio.sleep(100)
    await world.publish(event(seq=3), event(CONTAINERS, 3))
    await asyncio.sleep(0.1)
    assert subscription.take(10) == [event(seq=3)]
    assert not subscription.live
    assert len(world.polling.opened) == 4
    world.polling.refusal = None
    await asyncio.sleep(31)
    assert subscription.take(10) == [event(CONTAINERS, 3)]
    assert subscription.live
    await router.close()
