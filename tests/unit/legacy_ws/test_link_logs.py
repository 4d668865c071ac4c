from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legacy_ws.errors import MalformedMessage
from legacy_ws.linked_logs import LinkedLogs, LogLink
from legacy_ws.protocol import link
from legacy_ws.protocol.link_logs import (
    LOG_WINDOW,
    MAX_LOG_CHARACTERS,
    EndLog,
    FollowLog,
    LogFailed,
    LogLines,
    LogTaken,
    OfferLogs,
    pack_lines,
)
from monitoring.logs import LogCursor, LogLine, LogsUnavailable, Mark

LINES = (
    LogLine(1_795_720_400_123_456_789, "a\n\u2028b", "abc", 2),
    LogLine(5, "started again", "abc", mark=Mark.RESTARTED),
)


@pytest.mark.parametrize(
    "message",
    [
        OfferLogs("web-1"),
        FollowLog(7, "web-1", "web", 100),
        FollowLog(7, "web-1", "web", 100, LogCursor("abc", 5, ((5, 1), (6, 2)))),
        EndLog(7),
        LogLines(7, LINES),
        LogLines(7, LINES, more=True),
        LogLines(7, ()),
        LogTaken(7),
        LogFailed(7, "no such container"),
    ],
)
def test_every_message_comes_back_as_it_was(message) -> None:
    assert link.decode(link.encode(message)) == message


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "offer_logs"}',
        '{"type": "follow_log", "request": "7", "device": "d", "container": "c", "lines": 1}',
        '{"type": "follow_log", "request": 7, "device": "d", "container": "c", "lines": 1, "after": []}',
        '{"type": "follow_log", "request": 7, "device": "d", "container": "c", "lines": 1, "after": {"container": "c"}}',
        '{"type": "log_lines", "request": 7, "lines": [["abc", 1, 0, "x", "exploded"]]}',
        '{"type": "log_lines", "request": 7, "lines": ["x"]}',
        '{"type": "log_failed", "request": 7}',
    ],
)
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage):
        link.decode(text)


@given(st.lists(st.integers(0, 30_000), max_size=20))
def test_a_batch_is_split_and_nothing_of_it_is_lost(sizes: list[int]) -> None:
    lines = [LogLine(number, "x" * size) for number, size in enumerate(sizes)]
    parts = list(pack_lines(7, lines))
    assert [line for part in parts for line in part.lines] == lines
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    for part in parts:
        assert sum(len(line.text) for line in part.lines) <= MAX_LOG_CHARACTERS
        assert len(link.encode(part)) < link.MAX_FRAME_BYTES


async def test_a_batch_of_several_frames_is_one() -> None:
    logs, one = LinkedLogs(), LogLink()
    logs.offered("web-1", one)
    reading = logs.follow("web-1", "web", 10)
    first = asyncio.ensure_future(anext(reading))
    ask = await one.asks.get()
    assert ask == FollowLog(1, "web-1", "web", 10)
    one.answered(LogLines(1, LINES[:1], more=True))
    one.answered(LogLines(1, LINES[1:]))
    assert tuple(await first) == LINES
    assert [one.asks.get_nowait() for _ in range(2)] == [LogTaken(1), LogTaken(1)]
    await reading.aclose()
    assert one.asks.get_nowait() == EndLog(1)


async def test_a_reading_goes_on_over_another_link_after_its_last_line() -> None:
    logs, one, other = LinkedLogs(), LogLink(), LogLink()
    logs.offered("web-1", one)
    reading = logs.follow("web-1", "web", 10)
    one.answered(LogLines(1, LINES))  # not asked for yet: nobody's
    first = asyncio.ensure_future(anext(reading))
    await one.asks.get()
    one.answered(LogLines(1, LINES))
    await first
    following = asyncio.ensure_future(anext(reading))
    logs.gone(one)
    logs.offered("web-1", other)
    stamp = LINES[0].stamp
    assert await other.asks.get() == FollowLog(2, "web-1", "web", 10, LogCursor("abc", stamp, ((stamp, 3),)))
    other.answered(LogFailed(2, "it was removed"))
    with pytest.raises(LogsUnavailable, match="it was removed"):
        await following


async def test_a_reading_does_not_wait_for_ever() -> None:
    logs, one = LinkedLogs(patience_seconds=0.01), LogLink()
    with pytest.raises(
        LogsUnavailable, match="no collector that has the container logs of web-1 is connected"
    ):
        await anext(logs.follow("web-1", "web", 10))
    logs.offered("web-1", one)
    reading = logs.follow("web-1", "web", 10)
    first = asyncio.ensure_future(anext(reading))
    await one.asks.get()
    one.answered(LogLines(1, ()))
    assert await first == []
    logs.gone(one)
    with pytest.raises(LogsUnavailable, match=r"the collector of web-1 has been away for 0\.01 s"):
        await anext(reading)


async def test_a_link_that_sends_more_than_the_window_is_asked_again() -> None:
    logs, one = LinkedLogs(), LogLink()
    logs.offered("web-1", one)
    reading = logs.follow("web-1", "web", 10)
    first = asyncio.ensure_future(anext(reading))
    await one.asks.get()
    for _ in range(LOG_WINDOW + 3):
        one.answered(LogLines(1, LINES, more=True))
    assert await one.asks.get() == EndLog(1)
    while not isinstance(again := await one.asks.get(), FollowLog):
        assert again == LogTaken(1)
    assert again.request == 2
    one.answered(LogLines(2, LINES))
    assert tuple(await first) == LINES
    await reading.aclose()
