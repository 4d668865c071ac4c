from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.docker_log_lines import MAX_LINE_BYTES, LogLines, NotALog, stamp_of

STAMP = b"2026-11-26T19:13:20.123456789Z "
AT = 1_795_720_400_123_456_789
LATER = b"2026-11-26T19:13:20.2Z "
PODMAN = Path(__file__).parents[2] / "fixtures" / "podman-4.3"


def frame(message: bytes, stream: int = 1) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(message).to_bytes(4, "big") + message


def test_frames_are_read() -> None:
    lines = LogLines(terminal=False)
    assert lines.feed(frame(STAMP + b"a\n") + frame(LATER + b"b \xc3\xa9\n", 2)) == [
        (AT, "a"),
        (AT - 123_456_789 + 200_000_000, "b é"),
    ]
    assert lines.messages == 2


@pytest.mark.parametrize("terminal", [False, True])
@given(cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_chunking_reads_the_same(cuts: list[int], *, terminal: bool) -> None:
    messages = [STAMP + b"one\r\n", LATER + b"two\n", STAMP + b"\n"]
    data = b"".join(messages) if terminal else b"".join(frame(message) for message in messages)
    told: list[tuple[int, str]] = []
    lines = LogLines(terminal=terminal)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(places):
        told += lines.feed(data[start:end])
    assert [text for _, text in told] == ["one", "two", ""]
    assert lines.rest() == []


@pytest.mark.parametrize("stream", [1, 2])
def test_the_parts_of_a_long_line_are_joined_though_the_other_stream_comes_between(stream: int) -> None:
    lines = LogLines(terminal=False)
    told = lines.feed(frame(STAMP + b"x" * 16384, stream))
    told += lines.feed(frame(LATER + b"between\n", 3 - stream))
    told += lines.feed(frame(STAMP + b"y\n", stream))
    assert [text for _, text in told] == ["between", "x" * 16384 + "y"]
    assert told[1][0] == AT


def test_a_part_whose_line_never_ended_is_a_line() -> None:
    lines = LogLines(terminal=False)
    assert lines.feed(frame(STAMP + b"killed here")) == []
    assert [text for _, text in lines.feed(frame(LATER + b"next\n"))] == ["killed here", "next"]


def test_what_the_end_of_the_log_ends() -> None:
    lines = LogLines(terminal=False)
    lines.feed(frame(STAMP + b"no end"))
    assert lines.rest() == [(AT, "no end")]
    lines = LogLines(terminal=True)
    lines.feed(STAMP + b"$ ")
    assert lines.rest() == [(AT, "$ ")]


def test_a_line_that_is_too_long_is_cut_and_says_so() -> None:
    lines = LogLines(terminal=False)
    for _ in range(5):
        lines.feed(frame(STAMP + b"x" * 16384))
    ((_, text),) = lines.feed(frame(STAMP + b"\n"))
    assert text == "x" * MAX_LINE_BYTES + " ... (16384 bytes more)"


def test_a_terminal_s_long_line_loses_the_stamps_of_its_parts() -> None:
    lines = LogLines(terminal=True)
    assert lines.feed(STAMP + b"x" * 10 + STAMP + b"y\r\n") == [(AT, "x" * 10 + "y")]


def test_a_terminal_that_never_ends_a_line_is_bounded() -> None:
    lines = LogLines(terminal=True)
    for _ in range(30):
        lines.feed(b"z" * 16384)
    assert len(lines._buffer) <= 2 * MAX_LINE_BYTES
    ((_, text),) = lines.feed(b"\n")
    assert text.startswith("z" * MAX_LINE_BYTES + " ... (")


def test_a_message_without_a_stamp_stands_where_the_one_before_it_does() -> None:
    lines = LogLines(terminal=False)
    assert lines.feed(frame(STAMP + b"a\nb\n")) == [(AT, "a"), (AT, "b")]


@given(st.binary(max_size=200))
def test_garbage_is_no_log_or_waits_for_more(data: bytes) -> None:
    lines = LogLines(terminal=False)
    try:
        lines.feed(data)
    except NotALog:
        return
    assert len(lines._buffer) <= 200


def test_a_carriage_return_ends_no_line() -> None:
    assert LogLines(terminal=False).feed(frame(STAMP + b"10%\r20%\r\n")) == [(AT, "10%\r20%")]


def test_podman_s_log_is_read() -> None:
    """Its stamps are whole seconds: many lines share one."""
    lines = LogLines(terminal=False).feed((PODMAN / "logs.bin").read_bytes())
    assert len(lines) == 6
    assert len({stamp for stamp, _ in lines}) < 4
    assert all(stamp % 1_000_000_000 == 0 for stamp, _ in lines)
    assert {text.split()[0] for _, text in lines} == {"line", "err"}


def test_times_are_read_in_every_form_of_docker_s() -> None:
    assert stamp_of("2026-11-26T19:13:20.123456789Z") == AT
    assert stamp_of("2026-11-26T20:13:20.123456789+01:00") == AT
    assert stamp_of("2026-11-26T19:13:20Z") == AT - 123_456_789
    assert stamp_of("0001-01-01T00:00:00Z") == 0
    assert stamp_of("None") == 0
