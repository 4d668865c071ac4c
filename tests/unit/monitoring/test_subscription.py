"""A subscription is bounded, loses nothing to cancellation, and ends as its feed ends."""

from __future__ import annotations

import asyncio

import pytest

from monitoring.errors import Refused
from monitoring.subscription import Subscription


async def count_up(out: Subscription[int]) -> None:
    out.live = True
    for number in range(1000):
        await out.put(number)


async def test_items_come_in_order_and_then_it_ends() -> None:
    async with Subscription(count_up, buffer=3) as subscription:
        assert [item async for item in subscription] == list(range(1000))
        assert not subscription.live


async def test_a_cancelled_reader_loses_nothing() -> None:
    async with Subscription(count_up, buffer=3) as subscription:
        taken = []
        while len(taken) < 1000:
            try:
                async with asyncio.timeout(0):
                    taken.append(await anext(subscription))
            except TimeoutError:
                await asyncio.sleep(0)
        assert taken == list(range(1000))


async def test_the_feed_waits_for_a_slow_reader() -> None:
    put = 0

    async def feed(out: Subscription[int]) -> None:
        nonlocal put
        while True:
            await out.put(put)
            put += 1

    async with Subscription(feed, buffer=5) as subscription:
        await anext(subscription)
        for _ in range(50):
            await asyncio.sleep(0)
        assert put == 6


async def test_what_ends_the_feed_is_raised_after_what_it_brought() -> None:
    async def feed(out: Subscription[int]) -> None:
        await out.put(1)
        raise Refused("x", "no")

    subscription = Subscription(feed)
    assert await anext(subscription) == 1
    with pytest.raises(Refused):
        await anext(subscription)
    with pytest.raises(Refused):
        await subscription.wait_live()


async def test_closing_ends_the_iteration() -> None:
    async def feed(out: Subscription[int]) -> None:
        out.live = True
        await asyncio.Event().wait()

    subscription = Subscription(feed)
    await subscription.wait_live()
    await subscription.close()
    await subscription.close()
    assert not subscription.live
    assert [item async for item in subscription] == []
