"""Several spools read as one record: nothing twice, nothing left out, each stream in order, from any place."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapters.spool import Spool
from adapters.spool_file import SpoolError
from adapters.spool_reader import SpoolReaders
from monitoring.cursor import Cursor
from monitoring.events import Draft, Position, StreamId

WEB, APP = StreamId("web-1/system"), StreamId("app-7/sessions")
AT = datetime(2026, 11, 21, tzinfo=UTC)


def write(spool, stream, count):
    spool.append([Draft(stream, "metric_collected", AT, {}) for _ in range(count)])


@pytest.fixture
def spools(tmp_path):
    with Spool.open(tmp_path / "a.db") as one, Spool.open(tmp_path / "b.db") as other:
        one.open_stream(WEB, 1, None, AT)
        other.open_stream(APP, 4, None, AT)
        yield one, other


def read_all(readers, after, limit, upto=None):
    found = []
    while batch := readers.read(after, limit, upto):
        assert len(batch) <= limit
        after = batch[-1][0]
        found += batch
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_every_event_of_all_of_them_comes_once_and_in_order(tmp_path, spools, limit):
    one, other = spools
    write(one, WEB, 5)
    write(other, APP, 3)
    with SpoolReaders(tmp_path / "a.db", tmp_path / "b.db") as readers:
        found = read_all(readers, 0, limit)
        places = [place for place, _ in found]
        assert places == sorted(set(places))
        assert places[-1] == readers.position()
        assert [event.seq for _, event in found if event.stream == WEB] == [1, 2, 3, 4, 5, 6]
        assert [event.seq for _, event in found if event.stream == APP] == [1, 2, 3, 4]
        assert readers.heads() == Cursor({WEB: Position(1, 6), APP: Position(4, 4)})


def test_from_a_place_on_what_came_since_is_read_from_each(tmp_path, spools):
    one, other = spools
    with SpoolReaders(tmp_path / "a.db", tmp_path / "b.db") as readers:
        place = readers.position()
        write(other, APP, 2)
        between = readers.position()
        write(one, WEB, 1)
        write(other, APP, 1)
        assert [event.seq for _, event in read_all(readers, place, 10, between)] == [2, 3]
        assert [(event.stream, event.seq) for _, event in read_all(readers, between, 10)] == [
            (WEB, 2),
            (APP, 4),
        ]


def test_one_that_is_made_later_is_read_from_then_on(tmp_path):
    with Spool.open(tmp_path / "a.db") as one, SpoolReaders(tmp_path / "a.db", tmp_path / "b.db") as readers:
        one.open_stream(WEB, 1, None, AT)
        place = readers.position()
        with Spool.open(tmp_path / "b.db") as other:
            other.open_stream(APP, 1, None, AT)
            assert [event.stream for _, event in readers.read(place, 10)] == [APP]


def test_the_first_has_to_be_there(tmp_path):
    with pytest.raises(SpoolError):
        SpoolReaders(tmp_path / "none.db", tmp_path / "b.db")
