"""One log over several sources, which go away and tell less of a line than another."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from adapters.either_logs import EitherLogs
from monitoring.logs import LogLine, LogsUnavailable, Mark, format_stamp, parse_stamp

T = 1_764_111_150_123_456_789


def line(number, text=None, mark=None, *, coarse=False):
    stamp = T + number * 1_000_000_000
    one = LogLine(stamp, text or f"line {number}", "b2a7", 0, mark)
    return LogLine(stamp // 1_000_000 * 1_000_000, one.shown) if coarse else one


class Scripted:
    """Answers each reading with what the next script says: batches, then why it ends."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.asked = []

    async def follow(self, device, container, lines, after=None):
        self.asked.append(lines)
        if not self.scripts:
            raise LogsUnavailable("it is gone")
        *batches, end = self.scripts.pop(0)
        for batch in batches:
            await asyncio.sleep(0)
            yield batch
        if end is None:
            await asyncio.Event().wait()
        raise LogsUnavailable(end)


async def read(source, count, lines=100):
    texts = []
    async with asyncio.timeout(10), aclosing(source.follow("web-1", "a", lines)) as batches:
        async for batch in batches:
            texts += [each.shown for each in batch]
            if len(texts) >= count:
                return texts
    return texts


async def test_a_log_goes_on_over_another_source_where_the_first_one_ended():
    first = Scripted([[line(1, coarse=True), line(2, coarse=True)], [line(3, coarse=True)], "cut"])
    second = Scripted([[line(1), line(2), line(3), line(4)], [line(5)], None])
    assert await read(EitherLogs([first, second]), 5) == [f"line {n}" for n in range(1, 6)]
    assert (first.asked, second.asked) == ([100], [1_000])


async def test_lines_that_say_the_same_are_told_as_often_as_they_were_written():
    def same(count, coarse):
        return [line(1, "again", coarse=coarse) for _ in range(count)]

    first = Scripted([[line(0, coarse=True), *same(2, True)], "cut"])
    second = Scripted([[line(0), *same(3, False)], None])
    assert await read(EitherLogs([first, second]), 4) == ["line 0", "again", "again", "again"]


async def test_a_mark_is_the_same_from_a_source_that_tells_it_as_a_line():
    first = Scripted([[line(1, "exit code 0", Mark.STOPPED, coarse=True)], "cut"])
    second = Scripted([[line(1, "exit code 0", Mark.STOPPED), line(2)], None])
    assert await read(EitherLogs([first, second]), 2) == ["--- container stopped: exit code 0 ---", "line 2"]


async def test_what_was_written_beyond_memory_goes_on_with_what_is_later():
    first = Scripted([[line(1)], "cut"])
    second = Scripted([[line(8), line(9)], None])
    assert await read(EitherLogs([first, second]), 3) == ["line 1", "line 8", "line 9"]


async def test_an_empty_log_is_told_as_such():
    source = EitherLogs([Scripted([[], [line(1)], None])])
    async with aclosing(source.follow("web-1", "a", 100)) as batches:
        assert await anext(batches) == []
        assert await anext(batches) == [line(1)]


async def test_one_that_no_source_has_says_why_and_one_that_stays_away_ends():
    with pytest.raises(LogsUnavailable, match="nobody knows it; it is gone"):
        await read(EitherLogs([Scripted(["nobody knows it"]), Scripted()]), 1)
    source = Scripted([[line(1)], "cut"])
    with pytest.raises(LogsUnavailable, match="it is gone"):
        await read(EitherLogs([source], patience_seconds=0.3), 2)
    assert source.asked == [100, 1_000]


@pytest.mark.parametrize("stamp", [0, 1, T, T // 1_000_000_000 * 1_000_000_000])
def test_a_stamp_is_read_as_it_was_written(stamp):
    assert parse_stamp(format_stamp(stamp)) == stamp
