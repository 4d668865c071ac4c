"""Two feeds of one truth, of which one or both have no identity: nothing lost, nothing twice, doubt said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.cursor import Cursor
from monitoring.events import Event, Kind, Position, StreamId
from monitoring.overlap import Overlap, OverlapLimits
from monitoring.service import Capabilities, Gap
from tests.fakes.event_factory import event, opened
from tests.unit.monitoring.legs import IDENTIFIED, NAMELESS, TIMELESS, nameless, says


def moving(*, since: Cursor | None = None, active: Capabilities = NAMELESS, **settings: object) -> Overlap:
    """Return an overlap with an old leg that is live at 0."""
    overlap = Overlap(**settings)  # type: ignore[arg-type]
    overlap.open("old", active, since)
    overlap.live("old", 0.0)
    return overlap


def one(n: int) -> Event:
    return event(seq=n)


def test_while_the_candidate_is_compared_the_active_leg_delivers_and_the_cursor_follows() -> None:
    overlap = moving()
    overlap.open("new", IDENTIFIED)
    overlap.live("new", 10.0)
    assert says(overlap.offer("old", nameless(one(5)), 20.0)) == [5]
    assert overlap.cursor == {}
    assert overlap.offer("new", one(5), 20.5) == []
    assert overlap.cursor == {"web-1/system": (1, 5)}
    assert overlap.offer("new", one(6), 21.0) == []  # the candidate is ahead
    assert overlap.cursor == {"web-1/system": (1, 5)}
    assert overlap.held == 1
    assert says(overlap.offer("old", nameless(one(6)), 21.5)) == [6]
    assert overlap.cursor == {"web-1/system": (1, 6)}
    assert (overlap.held, overlap.duplicates) == (0, 2)


def test_a_candidate_begins_with_the_oldest_that_is_remembered() -> None:
    overlap = moving()
    for n, now in ((1, 40.0), (2, 90.0)):
        overlap.drained("old", now - 1.0)
        overlap.offer("old", nameless(one(n)), now)
    overlap.drained("old", 99.0)
    begins = overlap.start(100.0)
    assert (dict(begins), begins.back_seconds) == ({}, 60.0 + 1.0 + 2.0)
    assert overlap.start(120.0).back_seconds == 30.0 + 1.0 + 2.0, "the first is forgotten"


def test_what_waits_for_a_client_that_reads_slowly_is_from_before() -> None:
    overlap = moving()
    overlap.drained("old", 10.0)
    overlap.offer("old", nameless(one(1)), 500.0)
    assert overlap.start(500.0).back_seconds == 490.0 + 2.0
    overlap.drained("old", 600.0)
    assert overlap.start(600.0).back_seconds == 2.0


def test_a_candidate_begins_before_the_active_leg_was_lost() -> None:
    overlap = moving()
    overlap.drained("old", 49.0)
    overlap.down("old", 50.0)
    overlap.drained("old", 299.0)
    assert overlap.start(300.0).back_seconds == 250.0 + 10.0 + 2.0


def test_old_events_of_a_stream_that_is_silent_do_not_hold_up_a_move() -> None:
    """Nobody says again what was told before the client came."""
    overlap = moving()
    overlap.offer("old", nameless(one(1)), 20.0)
    overlap.open("new", IDENTIFIED, overlap.start(20.0))
    overlap.offer("new", event("web-1/rare", seq=9), 20.1)
    overlap.offer("new", one(1), 20.1)
    overlap.live("new", 20.2)
    assert overlap.alignment(30.0).certain
    overlap.offer("new", event("web-1/other", seq=3), 30.0)
    assert not overlap.alignment(40.0).ready, "this one happened while both were live"


def test_a_stream_that_only_identified_legs_bring_goes_on_where_the_client_is() -> None:
    overlap = moving(active=IDENTIFIED, since=Cursor())
    overlap.offer("old", one(5), 1.0)
    overlap.offer("old", event("crossfade/alerts", seq=7), 1.0)
    assert overlap.start(2.0).back_seconds is None
    overlap.open("new", NAMELESS)
    overlap.live("new", 2.0)
    overlap.switch(20.0)
    assert dict(overlap.start(21.0)) == overlap.cursor
    overlap.offer("new", nameless(one(6)), 21.0)
    begins = overlap.start(22.0)
    assert dict(begins) == {"crossfade/alerts": (1, 7)}
    assert begins.back_seconds is not None
    assert "web-1/system" in overlap.cursor


def test_the_cursor_does_not_pass_what_is_held() -> None:
    overlap = moving()
    overlap.open("new", IDENTIFIED)
    overlap.live("new", 10.0)
    overlap.offer("new", one(5), 20.0)
    overlap.offer("new", one(6), 20.0)
    assert says(overlap.offer("old", nameless(one(6)), 20.1)) == [6]
    assert overlap.cursor == {}
    assert says(overlap.switch(20.2)) == [5]
    assert overlap.cursor == {"web-1/system": (1, 6)}


def test_after_the_switch_copies_are_dropped_and_news_delivered() -> None:
    overlap = moving()
    overlap.open("new", IDENTIFIED)
    overlap.live("new", 10.0)
    overlap.offer("old", nameless(one(5)), 20.0)
    overlap.offer("new", one(5), 20.1)
    overlap.offer("old", nameless(one(6)), 20.2)
    assert overlap.alignment(20.3).certain
    assert overlap.switch(20.3) == []
    assert overlap.offer("new", one(6), 20.4) == []
    assert overlap.offer("new", one(7), 20.5) == [one(7)]
    assert overlap.cursor == {"web-1/system": (1, 7)}


def test_equal_events_are_counted() -> None:
    overlap = moving(likeness=TIMELESS)
    overlap.open("new", NAMELESS)
    overlap.live("new", 0.0)
    same = nameless(one(1))
    assert len([*overlap.offer("old", same, 10.0), *overlap.offer("old", same, 10.1)]) == 2
    for _ in range(3):
        overlap.offer("new", same, 10.2)
    assert overlap.held == 1
    assert len(overlap.switch(10.3)) == 1
    assert overlap.offer("new", same, 10.4) != []


def test_seq_without_identity_counts_over_the_legs() -> None:
    overlap = moving()
    overlap.offer("old", nameless(one(1), 1), 1.0)
    overlap.offer("old", nameless(one(2), 2), 2.0)
    overlap.open("new", NAMELESS)
    overlap.live("new", 2.0)
    overlap.offer("new", nameless(one(3), 1), 3.0)
    (given_,) = overlap.switch(10.0)
    assert isinstance(given_, Event)
    assert (given_.epoch, given_.seq) == (0, 3)


@pytest.mark.parametrize(
    ("brought", "at", "reason"),
    [
        ([], 15.9, "not been live for long enough"),
        ([], 19.9, "nothing to match yet"),
        ([], 20.1, "doubles are possible"),
        ([("old", 5, 15.0)], 20.0, "1 events did not come from the candidate"),
        ([("new", 5, 15.0)], 20.0, "1 events did not come from the active feed"),
        ([("old", 5, 15.0), ("new", 5, 15.0)], 20.0, "1 events matched"),
    ],
)
def test_alignment_says_what_is_uncertain(
    brought: list[tuple[str, int, float]], at: float, reason: str
) -> None:
    overlap = moving()
    overlap.open("new", NAMELESS)
    overlap.live("new", 10.0)
    for leg, n, when in brought:
        overlap.offer(leg, nameless(one(n)), when)
    alignment = overlap.alignment(at)
    assert reason in alignment.reason
    assert alignment.ready == (at == 20.1 or "matched" in reason)
    assert alignment.certain == ("matched" in reason)
    assert (overlap.obstacle(at) is None) == alignment.ready


def test_a_leg_that_lags_is_waited_for_and_costs_nothing() -> None:
    overlap = moving()
    overlap.open("new", IDENTIFIED)
    overlap.live("new", 0.0)
    overlap.offer("old", nameless(one(5)), 10.0)
    assert overlap.obstacle(13.0)
    overlap.offer("new", one(5), 14.0)
    assert not overlap.obstacle(14.0)
    overlap.offer("old", nameless(one(6)), 15.0)
    overlap.switch(15.0)
    assert overlap.offer("new", one(6), 40.0) == []


def test_a_candidate_that_is_down_is_not_ready_and_begins_anew_when_it_cannot_resume() -> None:
    overlap = moving()
    overlap.open("new", NAMELESS)
    overlap.live("new", 0.0)
    overlap.offer("old", nameless(one(5)), 10.0)
    overlap.offer("new", nameless(one(5)), 10.0)
    assert not overlap.obstacle(11.0)
    overlap.down("new", 11.0)
    assert "not live" in overlap.alignment(11.0).reason
    overlap.live("new", 12.0)
    assert "long enough" in overlap.alignment(17.9).reason
    overlap.gap("new", Gap("web-1/system", 0, 2, None), 20.0)
    assert "long enough" in overlap.alignment(25.9).reason


def test_a_candidate_from_the_clients_cursor_covers_what_was_delivered_before_it() -> None:
    overlap = moving()
    overlap.open("first", IDENTIFIED)
    overlap.live("first", 0.0)
    overlap.offer("old", nameless(one(5)), 8.0)
    overlap.offer("first", one(5), 8.0)
    overlap.drop()
    for n in range(6, 100):
        overlap.offer("old", nameless(one(n)), float(n))
    since = overlap.cursor
    assert since == {"web-1/system": (1, 5)}
    overlap.open("new", IDENTIFIED, since)
    overlap.live("new", 100.0)
    for n in range(6, 60):  # far behind; of some the delivery has been forgotten long ago
        assert overlap.offer("new", one(n), 100.0 + n / 100) == []
    assert "did not come from the candidate" in overlap.alignment(103.0).reason
    for n in range(60, 100):
        assert overlap.offer("new", one(n), 103.0) == []
    assert says(overlap.offer("old", nameless(one(100)), 103.1)) == [100]
    overlap.offer("new", one(100), 103.2)
    assert not overlap.obstacle(103.2)
    assert overlap.switch(103.2) == []
    assert overlap.cursor == {"web-1/system": (1, 100)}


def test_a_failure_after_the_candidate_covered_loses_nothing_and_before_is_told() -> None:
    for opened_at, told in ((5.0, False), (9.0, True)):
        overlap = moving()
        overlap.offer("old", nameless(one(1)), 1.0)
        overlap.open("new", IDENTIFIED)
        overlap.live("new", opened_at)
        overlap.offer("old", nameless(one(2)), 11.5)
        overlap.offer("new", one(2), 11.5)
        overlap.offer("new", one(3), 11.6)
        overlap.down("old", 12.0)
        items = overlap.switch(12.0)
        gaps = [item for item in items if isinstance(item, Gap)]
        assert [(gap.stream, gap.epoch, gap.from_seq, gap.to_seq) for gap in gaps] == (
            [("web-1/system", 0, 3, None)] if told else []
        )
        assert says(items[len(gaps) :]) == [3]


def test_a_failure_of_the_identified_leg_tells_the_gap_in_its_positions() -> None:
    overlap = moving(active=IDENTIFIED)
    overlap.offer("old", one(4), 1.0)
    overlap.down("old", 2.0)
    overlap.open("new", NAMELESS)
    overlap.live("new", 4.0)
    (gap,) = overlap.switch(5.0)
    assert isinstance(gap, Gap)
    assert (gap.epoch, gap.from_seq, gap.to_seq) == (1, 5, None)
    assert "not known" in gap.reason


def test_gaps_of_the_active_leg_are_told_at_once_and_the_candidates_when_it_takes_over() -> None:
    overlap = moving(since={"web-1/system": Position(1, 3)}, active=IDENTIFIED)
    known = Gap("web-1/system", 1, 4, 6)
    assert overlap.gap("old", known, 1.0) == [known]
    assert overlap.gap("old", known, 1.0) == []
    assert overlap.cursor == {"web-1/system": (1, 6)}
    overlap.open("new", IDENTIFIED, overlap.cursor)
    overlap.live("new", 1.0)
    other = Gap("web-1/system", 1, 7, 9)
    assert overlap.gap("new", other, 2.0) == []
    assert "no history" in overlap.alignment(30.0).reason
    assert overlap.switch(30.0) == [other]


def test_what_the_candidate_lost_and_the_active_leg_brought_is_no_loss() -> None:
    overlap = moving(since={"web-1/system": Position(1, 3)}, active=IDENTIFIED)
    overlap.open("new", IDENTIFIED, overlap.cursor)
    overlap.live("new", 1.0)
    overlap.gap("new", Gap("web-1/system", 1, 4, 5), 1.0)
    assert overlap.loss() == "it has no history of web-1/system"
    for seq in (4, 5):
        overlap.offer("old", event(seq=seq), 1.0)
    assert overlap.loss() is None
    assert overlap.switch(30.0) == []


def test_what_the_active_leg_told_as_a_gap_does_not_hold_up_a_move_and_is_still_delivered() -> None:
    overlap = moving()
    overlap.open("new", IDENTIFIED)
    overlap.live("new", 0.0)
    overlap.offer("old", nameless(one(4)), 10.0)
    overlap.offer("new", one(4), 10.0)
    overlap.offer("new", one(5), 11.0)
    gap = Gap("web-1/system", 0, 2, None)
    assert overlap.gap("old", gap, 12.0) == [gap]
    assert not overlap.obstacle(20.0)
    assert says(overlap.switch(20.0)) == [5]


def test_memory_is_bounded_and_what_that_costs_is_said() -> None:
    overlap = moving(limits=OverlapLimits(max_delivered=10, max_held=5))
    for n in range(1, 101):
        overlap.offer("old", nameless(one(n)), n / 10)
    assert overlap.forgotten == 89
    assert len(overlap._delivered) <= 11
    overlap.open("new", NAMELESS)
    overlap.live("new", 11.0)
    for n in range(101, 111):
        overlap.offer("new", nameless(one(n)), 30.0)
    assert overlap.held == 5
    assert "more than 5 events behind" in overlap.alignment(30.1).reason
    gap, *rest = overlap.switch(30.1)
    assert isinstance(gap, Gap)
    assert gap.to_seq is None
    assert says(rest) == [101, 102, 103, 104, 105]


def test_misuse_is_said() -> None:
    overlap = moving()
    with pytest.raises(ValueError, match="no candidate"):
        overlap.switch(1.0)
    assert overlap.obstacle(1.0)
    overlap.open("new", NAMELESS)
    with pytest.raises(ValueError, match="one candidate"):
        overlap.open("third", NAMELESS)
    with pytest.raises(ValueError, match="neither"):
        overlap.offer("third", one(1), 1.0)


def test_a_client_that_comes_back_to_a_feed_with_identities_does_not_wait_for_what_stands_before_its_cursor() -> (
    None
):
    overlap = moving()
    overlap.open("there", IDENTIFIED)
    overlap.live("there", 0.0)
    for n in (5, 6):
        overlap.offer("old", nameless(one(n)), 10.0 + n)
        overlap.offer("there", one(n), 10.0 + n)
    overlap.switch(17.0)
    overlap.offer("there", one(7), 18.0)
    overlap.open("back", NAMELESS)
    overlap.live("back", 18.0)
    overlap.offer("there", one(8), 27.0)
    overlap.offer("back", nameless(one(8)), 27.0)
    assert not overlap.obstacle(28.0)
    overlap.switch(28.0)
    assert says(overlap.offer("back", nameless(one(9)), 29.0)) == [9]
    overlap.open("there again", IDENTIFIED, overlap.cursor)
    overlap.live("there again", 30.0)
    assert overlap.offer("there again", one(9), 30.0) == []
    assert overlap.alignment(33.0).reason == "1 events matched"
    assert not overlap.obstacle(33.0)


def test_what_only_our_own_servers_tell_of_a_stream_keeps_nobody_from_moving() -> None:
    overlap = moving()
    overlap.open("there", IDENTIFIED)
    overlap.live("there", 0.0)
    gap = replace(one(6), kind=Kind.BRIDGE_GAP)
    assert overlap.offer("there", opened(), 10.0) == []
    assert overlap.offer("there", gap, 10.0) == []
    assert overlap.offer("old", nameless(one(7)), 11.0)
    assert overlap.offer("there", one(7), 11.0) == []
    assert not overlap.obstacle(14.0)
    assert [item.kind for item in overlap.switch(14.0) if isinstance(item, Event)] == [
        Kind.STREAM_OPENED,
        Kind.BRIDGE_GAP,
    ]
    overlap.open("back", NAMELESS)
    overlap.live("back", 14.0)
    assert overlap.offer("there", replace(one(8), kind=Kind.BRIDGE_GAP), 24.0)
    overlap.offer("there", one(9), 25.0)
    overlap.offer("back", nameless(one(9)), 25.0)
    assert not overlap.obstacle(28.0)


def test_streams_of_crossfade_itself_keep_nobody_from_moving() -> None:
    ours = replace(one(6), stream=StreamId("crossfade/alerts"), kind="alerts_collected")
    overlap = moving()
    overlap.open("there", IDENTIFIED)
    overlap.live("there", 0.0)
    assert overlap.offer("there", ours, 10.0) == []
    assert overlap.offer("old", nameless(one(7)), 11.0)
    assert overlap.offer("there", one(7), 11.0) == []
    assert not overlap.obstacle(14.0)
    assert overlap.switch(14.0) == [ours]
    overlap.open("back", NAMELESS)
    overlap.live("back", 14.0)
    assert overlap.offer("there", replace(ours, seq=7), 24.0)
    overlap.offer("there", one(9), 25.0)
    overlap.offer("back", nameless(one(9)), 25.0)
    assert not overlap.obstacle(28.0)
