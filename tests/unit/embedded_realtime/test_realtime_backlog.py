"""The queue between the stream and the feed."""

import asyncio
from datetime import UTC, datetime

from embedded.realtime_backlog import Backlog
from embedded.wal import Transaction

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def part(number, size):
    return Transaction(number, NOW, (), size=size)


async def test_order_is_kept_and_a_batch_is_bounded():
    backlog = Backlog()
    for number in range(100):
        await backlog.put(part(number, 10))
    assert (await backlog.first()).commit_lsn == 0
    assert [each.commit_lsn for each in backlog.take()] == list(range(64))
    assert [each.commit_lsn for each in backlog.take()] == list(range(64, 100))
    assert backlog.take() == []


async def test_bytes_hold_back_whoever_puts():
    backlog = Backlog()
    await backlog.put(part(0, 100 << 20))  # nothing is too large to pass
    second = asyncio.create_task(backlog.put(part(1, 1)))
    await asyncio.sleep(0)
    assert not second.done()
    assert [each.commit_lsn for each in backlog.take()] == [0]
    await second
    assert (await backlog.first()).commit_lsn == 1


async def test_large_parts_come_few_at_once():
    backlog = Backlog()
    for number in range(3):
        await backlog.put(part(number, 2 << 20))
    assert [each.commit_lsn for each in backlog.take()] == [0, 1]


async def test_whoever_waits_is_woken():
    backlog = Backlog()
    waiting = asyncio.create_task(backlog.first())
    await asyncio.sleep(0)
    await backlog.put(part(7, 1))
    assert (await waiting).commit_lsn == 7
