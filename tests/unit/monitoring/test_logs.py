from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from monitoring.logs import LogCursor, LogLine, LogPlace, Mark, Tail, format_stamp

MS = 1_000_000
NOW = 1_795_720_400 * 1000 * MS

# A log as Docker writes it: stamps repeat, and stand out of order by less than 50 ms.
steps = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 49)), min_size=1, max_size=60)


def written(moves: list[tuple[int, int]]) -> list[tuple[int, str]]:
    at, log = NOW, []
    for number, (step, back) in enumerate(moves):
        at += step * MS
        log.append((at - (back * MS if step == 0 else 0), f"line {number}"))
    return log


def read(place: LogPlace, log: list[tuple[int, str]]) -> list[str]:
    """Read as an engine answers: what is stamped before ``since`` is left out."""
    reading = place.reread()
    lines = (reading.take(stamp, text) for stamp, text in log if stamp >= reading.since)
    return [line.text for line in lines if line is not None]


@given(steps, st.data())
def test_a_log_that_is_read_in_pieces_is_read_whole_and_once(moves, data) -> None:
    log = written(moves)
    place = LogPlace("abc")
    told: list[str] = []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=5)))
    for cut in [*cuts, len(log)]:
        told += read(place, log[:cut])
        place = LogPlace.at(place.cursor)  # as another process would go on
    assert told == [text for _, text in log]


@given(steps, st.integers(1, 60))
def test_a_place_can_be_kept_by_whoever_only_sees_the_lines(moves, cut) -> None:
    log = written(moves)
    place, far = LogPlace("abc"), LogPlace("")
    reading = place.reread()
    for stamp, text in log[:cut]:
        line = reading.take(stamp, text)
        assert line is not None
        far.passed(line)
    assert read(LogPlace.at(far.cursor), log) == [text for _, text in log[cut:]]


def test_a_cursor_is_of_the_log_s_end_however_little_was_read() -> None:
    """Whoever goes on with it must not be told what was before the last lines."""
    place = LogPlace("abc")
    place.passed(LogLine(NOW, "old", "abc"))
    place.passed(LogLine(NOW + 60 * MS, "newest", "abc"))
    assert place.cursor == LogCursor("abc", NOW + 10 * MS, ((NOW + 60 * MS, 1),))
    place.begin(NOW + 55 * MS)
    assert place.cursor.since == NOW + 55 * MS


def test_a_flood_within_the_overlap_is_remembered_in_bounds() -> None:
    place = LogPlace("abc")
    reading = place.reread()
    log = [(NOW + number, str(number)) for number in range(10_000)]
    for stamp, text in log:
        assert reading.take(stamp, text) is not None
    assert len(place.cursor.seen) <= 2000
    assert read(LogPlace.at(place.cursor), [*log, (NOW + 10_000, "news")]) == ["news"]


def test_what_is_before_the_last_lines_stays_out() -> None:
    log = [(NOW, "old"), (NOW + 1, "first"), (NOW + 2, "second")]
    place = LogPlace("abc")
    place.begin(NOW + 1)
    assert read(place, log) == ["first", "second"]
    assert read(place, log) == []


def test_another_container_begins_anew_and_marks_stand_nowhere() -> None:
    place = LogPlace("abc")
    place.passed(LogLine(NOW, "a", "abc"))
    place.passed(LogLine(NOW + 5, "stopped", "abc", mark=Mark.STOPPED))
    assert place.cursor == LogCursor("abc", NOW - 50 * MS, ((NOW, 1),))
    place.passed(LogLine(NOW - 5, "b", "def"))
    assert (place.cursor.container, place.cursor.since, place.cursor.seen) == (
        "def",
        NOW - 5 - 50 * MS,
        ((NOW - 5, 1),),
    )


def test_a_tail_is_bounded_in_lines_and_in_characters() -> None:
    tail = Tail(3, 10)
    tail.extend(LogLine(NOW, text) for text in "abcd")
    assert [line.text for line in tail.last(5)] == ["b", "c", "d"]
    assert [line.text for line in tail.last(1)] == ["d"]
    assert tail.last(0) == []
    tail.extend([LogLine(NOW, "x" * 9)])
    assert [len(line.text) for line in tail.last(5)] == [1, 9]
    tail.extend([LogLine(NOW, "y" * 99)])
    assert [len(line.text) for line in tail.last(5)] == [99]


def test_stamps_are_written_so_that_texts_sort_as_times() -> None:
    line = LogLine(NOW + 123_456_789, "x")
    assert format_stamp(line.stamp) == "2026-11-26T19:13:20.123456789Z"
    assert line.at == datetime(2026, 11, 26, 19, 13, 20, 123456, tzinfo=UTC)
