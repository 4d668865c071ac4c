"""Legs merged by position: what the candidate brings costs nothing, what the active leg lacks waits to be filled."""

from __future__ import annotations

from monitoring.cursor import Cursor
from monitoring.events import Position, StreamId
from monitoring.merging import Sequenced, merge
from monitoring.overlap import Overlap
from monitoring.sequencer import Sequencer
from monitoring.service import Capabilities, Gap
from tests.fakes.event_factory import event

S = StreamId("web-1/system")
START = Cursor({S: Position(1, 3)})
WHOLE = Capabilities()


def opened(*legs: str) -> Sequenced:
    merged = Sequenced(START, lag=2.0)
    for leg in legs:
        merged.open(leg, WHOLE, START)
        merged.live(leg, 0.0)
    return merged


def test_the_backends_decide_how_it_is_merged() -> None:
    assert isinstance(merge(START, [WHOLE], 2.0), Sequenced)
    assert isinstance(merge(START, [WHOLE, Capabilities(identity=False)], 2.0), Overlap)


def test_what_both_bring_is_delivered_once() -> None:
    merged = opened("a", "b")
    assert merged.offer("b", event(seq=4), 0.0) == [event(seq=4)]
    assert merged.offer("a", event(seq=4), 0.0) == []
    assert merged.duplicates == 1


def test_a_candidate_is_ready_when_it_has_what_the_client_had() -> None:
    merged = opened("a", "b")
    merged.offer("a", event(seq=4), 0.0)
    assert merged.obstacle(0.0)
    merged.offer("b", event(seq=4), 0.1)
    merged.offer("a", event(seq=5), 0.1)
    assert not merged.obstacle(0.2), "measured against what the client had at most two seconds ago"
    merged.down("b", 0.3)
    assert merged.obstacle(0.3)


def test_a_candidate_past_a_hole_delivers_nothing_until_it_takes_over() -> None:
    merged = opened("a", "b")
    merged.gap("b", Gap(S, 1, 4, 6), 0.0)
    assert merged.offer("b", event(seq=7), 0.0) == []
    assert merged.loss() == "it has no history of web-1/system before seq 7"
    assert merged.offer("a", event(seq=4), 0.0) == [event(seq=4)]
    assert merged.switch(0.0) == [Gap(S, 1, 5, 6), event(seq=7)]


def test_a_dropped_candidate_leaves_what_follows_on_once_the_active_leg_gets_there() -> None:
    merged = opened("a", "b")
    merged.offer("b", event(seq=6), 0.0)
    merged.drop()
    assert merged.offer("a", event(seq=4), 0.0) == [event(seq=4)]
    assert merged.offer("a", event(seq=5), 0.0) == [event(seq=5), event(seq=6)]
    assert merged.offer("a", event(seq=6), 0.0) == []


def test_what_the_active_leg_lacks_is_filled_by_the_candidate() -> None:
    merged = opened("a", "b")
    merged.gap("a", Gap(S, 1, 4, 5), 0.0)
    assert merged.offer("a", event(seq=6), 0.0) == []
    assert merged.lacking() is not None
    assert merged.offer("b", event(seq=4), 0.0) == [event(seq=4)]
    assert merged.offer("b", event(seq=5), 0.0) == [event(seq=5), event(seq=6)]
    assert merged.lacking() is None
    assert merged.offer("a", event(seq=7), 0.0) == [event(seq=7)]


def test_what_nobody_has_is_told_and_what_waited_behind_it_follows() -> None:
    merged = opened("a")
    merged.gap("a", Gap(S, 1, 4, 5), 0.0)
    assert merged.offer("a", event(seq=6), 0.0) == []
    assert merged.concede() == [Gap(S, 1, 4, 5), event(seq=6)]
    assert merged.offer("a", event(seq=7), 0.0) == [event(seq=7)]


def test_when_nothing_more_can_wait_it_is_given_up_without_losing_what_waits() -> None:
    merged = opened("a")
    merged._sequencer = Sequencer(START, max_held=2)
    merged.gap("a", Gap(S, 1, 4, 5), 0.0)
    assert [merged.offer("a", event(seq=seq), 0.0) for seq in (6, 7)] == [[], []]
    told = merged.offer("a", event(seq=8), 0.0)
    assert told == [Gap(S, 1, 4, 5), event(seq=6), event(seq=7), event(seq=8)]


def test_what_only_another_candidate_had_held_is_not_taken_for_history() -> None:
    """A false gap would be told otherwise: the leg that takes over has not got there yet."""
    merged = opened("a", "b")
    merged.offer("b", event(seq=50), 0.0)
    merged.drop()
    merged.open("c", WHOLE, START)
    merged.live("c", 0.0)
    assert merged.switch(0.0) == []
    assert merged.offer("c", event(seq=4), 0.0) == [event(seq=4)]


def test_what_is_given_up_is_told_without_what_another_leg_had_brought_of_it() -> None:
    merged = opened("a", "b")
    merged.gap("a", Gap(S, 1, 4, 9), 0.0)
    merged.offer("a", event(seq=10), 0.0)
    merged.gap("b", Gap(S, 1, 4, 6), 0.0)
    for seq in (7, 9):
        assert merged.offer("b", event(seq=seq), 0.0) == []
    merged.drop()
    assert merged.concede() == [
        Gap(S, 1, 4, 6),
        event(seq=7),
        Gap(S, 1, 8, 8),
        event(seq=9),
        event(seq=10),
    ]
