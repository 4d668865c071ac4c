"""A backend that is behind what the client has is not live, but not for ever."""

from __future__ import annotations

from monitoring.coverage import PATIENCE_SECONDS, Coverage
from monitoring.events import Position, StreamId
from monitoring.topics import GLOBAL, parse_topics

S, OTHER = StreamId("web-1/system"), StreamId("web-2/system")


def test_a_backend_that_knows_as_much_is_complete_at_once() -> None:
    coverage = Coverage()
    coverage.begin({S: Position(1, 5)}, {S: Position(1, 5), OTHER: Position(1, 1)}, {GLOBAL}, 0.0)
    assert coverage.complete(0.0)


def test_it_is_complete_when_it_has_shown_what_was_missing() -> None:
    coverage = Coverage()
    coverage.begin({S: Position(1, 5), OTHER: Position(2, 1)}, {S: Position(1, 3)}, {GLOBAL}, 0.0)
    coverage.shown(S, Position(1, 4))
    coverage.shown(OTHER, Position(2, 2))
    assert not coverage.complete(1.0)
    assert set(coverage.behind) == {S}
    coverage.shown(S, Position(1, 5))
    assert coverage.complete(1.0)


def test_streams_that_were_not_asked_for_do_not_count() -> None:
    coverage = Coverage()
    coverage.begin({OTHER: Position(2, 1)}, {}, parse_topics(["devices.web-1"]), 0.0)
    assert coverage.complete(0.0)


def test_an_owner_that_is_gone_holds_nobody_up_for_ever() -> None:
    coverage = Coverage()
    coverage.begin({S: Position(1, 5)}, {}, {GLOBAL}, 100.0)
    assert not coverage.complete(100.0 + PATIENCE_SECONDS - 0.1)
    assert coverage.complete(100.0 + PATIENCE_SECONDS)
