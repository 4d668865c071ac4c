"""When a server is tried again: one probe at a time while it is down, and never later than promised."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from adapters.resilience import Breaker, BreakerState, Circuit


class Down(Exception):  # noqa: N818
    pass


async def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Down):
            async with breaker.attempt():
                raise Down


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_it_opens_after_failures_in_a_row_and_says_so_in_numbers():
    breaker = Breaker(threshold=3, cap=5, random=lambda: 1.0)
    assert breaker.admits
    await fail(breaker, 2)
    async with breaker.attempt() as attempt:
        breaker.succeeded(attempt)
        breaker.succeeded(attempt)
    await fail(breaker, 2)
    assert breaker.state == BreakerState(Circuit.CLOSED, 2, 0, 5)
    await fail(breaker)
    assert breaker.state == BreakerState(Circuit.OPEN, 3, 1, 6)
    assert not breaker.admits
    assert breaker.state.gauges == {
        "breaker_state": 2, "breaker_failures_in_row": 3, "breaker_opened": 1, "connection_attempts": 6,
    }  # fmt: skip


async def test_the_end_of_a_connection_that_worked_is_no_failure():
    breaker = Breaker(threshold=1)

    async def work_and_end():
        async with breaker.attempt() as attempt:
            breaker.succeeded(attempt)
            raise Down

    with pytest.raises(Down):
        await work_and_end()
    assert breaker.state.circuit is Circuit.CLOSED


async def test_while_open_one_probes_and_the_others_wait_for_its_result():
    breaker = Breaker(threshold=1, cap=0.05, random=lambda: 0.5)
    await fail(breaker)
    inside, release = [], asyncio.Event()

    async def connect(number):
        async with breaker.attempt() as attempt:
            inside.append(number)
            await release.wait()
            breaker.succeeded(attempt)

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(connect(number))
        await until(lambda: inside)
        assert breaker.state.circuit is Circuit.HALF_OPEN
        await asyncio.sleep(0.2)  # several times the cap: nobody else goes in meanwhile
        assert len(inside) == 1
        assert not breaker.admits
        release.set()
    assert sorted(inside) == list(range(10))
    assert breaker.state == BreakerState(Circuit.CLOSED, 0, 1, 11)


async def test_a_probe_that_fails_opens_it_again_and_the_next_comes_within_the_cap():
    breaker = Breaker(threshold=1, cap=0.1)
    loop = asyncio.get_running_loop()
    await fail(breaker)
    for _ in range(20):
        before = loop.time()
        await fail(breaker)
        assert loop.time() - before < 0.1 + 0.1  # the cap, and room for a slow machine
    assert breaker.state.opened == 1
    async with breaker.attempt() as attempt:
        breaker.succeeded(attempt)
    assert breaker.state.circuit is Circuit.CLOSED


async def test_a_probe_that_is_cancelled_is_made_by_the_next_in_line():
    breaker = Breaker(threshold=1, cap=0.01)
    await fail(breaker)
    stuck = asyncio.Event()

    async def probe():
        async with breaker.attempt():
            stuck.set()
            await asyncio.Event().wait()

    first = asyncio.create_task(probe())
    await asyncio.wait_for(stuck.wait(), 5)
    following = breaker.attempt()
    second = asyncio.create_task(following.__aenter__())
    await asyncio.sleep(0)
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 5)
    assert breaker.state.circuit is Circuit.HALF_OPEN
    assert breaker.state.failures_in_row == 1  # a cancellation says nothing of the server
    await following.__aexit__(None, None, None)
    assert breaker.state.circuit is Circuit.OPEN  # it ended without an answer


async def test_attempts_that_began_before_it_opened_do_not_put_the_probe_off():
    breaker = Breaker(threshold=1, cap=0.2, random=lambda: 1.0)
    loop = asyncio.get_running_loop()
    release = [asyncio.Event() for _ in range(5)]

    async def late(each):
        with suppress(Down):
            async with breaker.attempt():
                await each.wait()
                raise Down

    tasks = [asyncio.create_task(late(each)) for each in release]
    await until(lambda: breaker.state.attempts == 5)
    opened_at = loop.time()
    release[0].set()
    await tasks[0]
    following = breaker.attempt()
    waiting = asyncio.create_task(following.__aenter__())
    for each in release[1:]:
        await asyncio.sleep(0.02)
        each.set()
    await asyncio.wait_for(waiting, 5)
    assert loop.time() - opened_at < 0.3
    await asyncio.gather(*tasks)
    await following.__aexit__(None, None, None)
