"""The promises of `MonitoringService`, held by every implementation of it."""

from __future__ import annotations

import asyncio

import pytest

from monitoring.cursor import Cursor
from monitoring.events import Position
from monitoring.service import Gap, Item, MonitoringService, MoveAbandoned, Moved, Status
from monitoring.subscription import Subscription
from monitoring.topics import Topic, parse_topics
from tests.contract.conftest import World
from tests.fakes.event_factory import event, opened, run


async def take(subscription: Subscription[Item], count: int) -> list[Item]:
    """Return the next items that are the stream's; what the router says about itself is not."""
    out: list[Item] = []
    async with asyncio.timeout(20):
        while len(out) < count:
            item = await anext(subscription)
            if not isinstance(item, Moved | MoveAbandoned):
                out.append(item)
    return out


def needs(service: MonitoringService, promise: str) -> None:
    """Skip what the service says it does not promise."""
    if not getattr(service.capabilities, promise):
        pytest.skip(f"without {promise}: {service.capabilities}")


def topics(world: World) -> frozenset[Topic]:
    return parse_topics([f"devices.{world.device}"])


async def test_what_comes_after_the_subscription_is_delivered_in_order(
    world: World, service: MonitoringService
) -> None:
    stream = f"{world.device}/system"
    await world.publish(*run(stream, 3))
    async with service.subscribe(topics(world)) as subscription:
        await subscription.wait_live()
        await world.publish(event(stream, 4), event(stream, 5))
        await world.publish(event(stream, 6))
        got = world.shown(await take(subscription, 3))
        assert got == world.shown([event(stream, 4), event(stream, 5), event(stream, 6)])


async def test_everything_after_a_cursor_is_delivered_once(world: World, service: MonitoringService) -> None:
    needs(service, "resume")
    stream = f"{world.device}/system"
    await world.publish(*run(stream, 8))
    async with service.subscribe(topics(world), Cursor({stream: Position(1, 3)})) as subscription:
        await world.publish(event(stream, 9))
        assert [e.seq for e in await take(subscription, 6)] == [4, 5, 6, 7, 8, 9]


async def test_a_stream_that_is_not_in_the_cursor_is_new(world: World, service: MonitoringService) -> None:
    needs(service, "resume")
    system, containers = f"{world.device}/system", f"{world.device}/containers"
    await world.publish(*run(system, 2))
    async with service.subscribe(topics(world), Cursor({system: Position(1, 2)})) as subscription:
        await subscription.wait_live()
        await world.publish(*run(containers, 3))
        assert await take(subscription, 3) == run(containers, 3)


async def test_only_the_topics_asked_for_are_delivered(world: World, service: MonitoringService) -> None:
    mine, other = f"{world.device}/system", f"{world.device}-other/system"
    async with service.subscribe(topics(world), Cursor()) as subscription:
        await subscription.wait_live()
        await world.publish(*run(other, 2), *run(mine, 2))
        assert world.shown(await take(subscription, 2)) == world.shown(run(mine, 2))


async def test_an_epoch_follows_the_one_before(world: World, service: MonitoringService) -> None:
    needs(service, "identity")
    stream = f"{world.device}/system"
    await world.publish(*run(stream, 2))
    async with service.subscribe(topics(world), Cursor({stream: Position(1, 1)})) as subscription:
        await subscription.wait_live()
        await world.publish(opened(stream, 2, (1, 2)), event(stream, 2, epoch=2))
        assert await take(subscription, 3) == [
            event(stream, 2),
            opened(stream, 2, (1, 2)),
            event(stream, 2, epoch=2),
        ]


async def test_a_cut_costs_nothing(world: World, service: MonitoringService) -> None:
    needs(service, "resume")
    stream = f"{world.device}/system"
    await world.publish(*run(stream, 2))
    async with service.subscribe(topics(world), Cursor({stream: Position(1, 2)})) as subscription:
        await subscription.wait_live()
        await world.publish(event(stream, 3))
        before = await take(subscription, 1)
        await world.interrupt()
        await world.publish(*[event(stream, seq) for seq in range(4, 10)])
        after = await take(subscription, 6)
        assert [item.seq for item in before + after] == [3, 4, 5, 6, 7, 8, 9]


async def test_a_cut_is_made_good_or_told(world: World, service: MonitoringService) -> None:
    """What every backend promises, whatever else it cannot: nothing is lost without a word."""
    stream = f"{world.device}/system"
    async with service.subscribe(topics(world), Cursor()) as subscription:
        await subscription.wait_live()
        await world.publish(*run(stream, 2))
        items = await take(subscription, 2)
        await world.interrupt()
        await world.publish(event(stream, 3))
        items += await take(subscription, 1)
        if isinstance(items[-1], Gap):
            assert items[-1].stream == stream
            return
    assert world.shown(items) == world.shown(run(stream, 3))


async def test_history_that_is_gone_is_told(world: World, service: MonitoringService) -> None:
    needs(service, "resume")
    stream = f"{world.device}/system"
    await world.publish(*[event(stream, seq) for seq in range(5, 8)])
    async with service.subscribe(topics(world), Cursor({stream: Position(1, 2)})) as subscription:
        items = await take(subscription, 4)
    gap, *rest = items
    assert isinstance(gap, Gap)
    assert (gap.stream, gap.epoch, gap.from_seq, gap.to_seq) == (stream, 1, 3, 4)
    assert rest == [event(stream, seq) for seq in (5, 6, 7)]


async def test_a_snapshot_is_the_newest_event_of_each_kind_and_a_cursor(
    world: World, service: MonitoringService
) -> None:
    stream = f"{world.device}/system"
    await world.publish(*run(stream, 4))
    snapshot = await service.snapshot(topics(world))
    assert world.shown(sorted(snapshot.state, key=lambda e: e.occurred_at)) == world.shown(
        [opened(stream), event(stream, 4)]
    )
    if not service.capabilities.identity:
        assert snapshot.cursor == Cursor()
        return
    assert snapshot.cursor == Cursor({stream: Position(1, 4)})
    async with service.subscribe(topics(world), snapshot.cursor) as subscription:
        await world.publish(event(stream, 5))
        assert await take(subscription, 1) == [event(stream, 5)]


async def test_health_says_live_while_it_is(world: World, service: MonitoringService) -> None:
    async with service.subscribe(topics(world), Cursor()) as subscription:
        await subscription.wait_live()
        assert (await service.health()).status is Status.LIVE


async def test_a_backend_that_knows_less_than_the_client_is_not_live_until_it_has_caught_up(
    world: World, service: MonitoringService
) -> None:
    """A client that comes from a backend that is ahead would otherwise be moved into a pause."""
    needs(service, "resume")
    stream = f"{world.device}/system"
    await world.publish(*run(stream, 3))
    async with service.subscribe(topics(world), Cursor({stream: Position(1, 5)})) as subscription:
        await world.publish(event(stream, 4))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await subscription.wait_live()
        await world.publish(event(stream, 5), event(stream, 6))
        assert await take(subscription, 1) == [event(stream, 6)]
        async with asyncio.timeout(10):
            await subscription.wait_live()


async def test_closing_ends_every_subscription(world: World, service: MonitoringService) -> None:
    subscription = service.subscribe(topics(world), Cursor())
    await subscription.wait_live()
    await service.close()
    await service.close()
    async with asyncio.timeout(5):
        assert [item async for item in subscription] == []
