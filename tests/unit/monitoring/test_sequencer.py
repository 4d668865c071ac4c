"""The sequencer gives each event once and in order, or an explicit gap."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.cursor import Cursor
from monitoring.events import Position, StreamId
from monitoring.sequencer import Sequencer
from monitoring.service import Gap
from tests.fakes.event_factory import event, opened, run

S = StreamId("web-1/system")


def at(epoch: int, seq: int) -> dict[StreamId, Position]:
    return {S: Position(epoch, seq)}


def test_events_that_follow_on_go_out_at_once() -> None:
    sequencer = Sequencer(at(1, 4))
    assert sequencer.offer(event(seq=5)) == [event(seq=5)]
    assert sequencer.cursor == Cursor(at(1, 5))


def test_an_event_seen_before_is_dropped_and_counted() -> None:
    sequencer = Sequencer(at(1, 4))
    assert sequencer.offer(event(seq=4)) == []
    sequencer.offer(event(seq=6))
    assert sequencer.offer(event(seq=6)) == []
    assert sequencer.duplicates == 2


def test_an_early_event_waits_for_those_before_it() -> None:
    sequencer = Sequencer(at(1, 4))
    assert sequencer.offer(event(seq=7)) == []
    assert sequencer.offer(event(seq=6)) == []
    assert sequencer.holes == Cursor(at(1, 4))
    assert [e.seq for e in sequencer.offer(event(seq=5))] == [5, 6, 7]
    assert not sequencer.holes


def test_history_fills_a_hole() -> None:
    sequencer = Sequencer(at(1, 1))
    sequencer.offer(event(seq=4))
    assert [e.seq for e in sequencer.fill(S, [event(seq=2), event(seq=3)])] == [2, 3, 4]


def test_what_history_lost_is_a_gap() -> None:
    sequencer = Sequencer(at(1, 1))
    sequencer.offer(event(seq=9))
    assert sequencer.fill(S, [event(seq=5), event(seq=6)], upto=Position(1, 8)) == [
        Gap(S, 1, 2, 4),
        event(seq=5),
        event(seq=6),
        Gap(S, 1, 7, 8),
        event(seq=9),
    ]


def test_a_new_stream_begins_with_its_first_retained_event() -> None:
    sequencer = Sequencer()
    assert sequencer.offer(event(seq=40)) == []
    assert [e.seq for e in sequencer.fill(S, [event(seq=39), event(seq=40)], upto=Position(1, 40))] == [
        39,
        40,
    ]


def test_a_new_stream_whose_history_is_gone_begins_at_its_head_without_a_gap() -> None:
    sequencer = Sequencer()
    assert sequencer.fill(S, [], upto=Position(1, 40)) == []
    assert sequencer.offer(event(seq=41)) == [event(seq=41)]


def test_a_new_stream_seen_from_its_very_first_event_needs_no_history() -> None:
    assert Sequencer().offer(opened()) == [opened()]


def test_an_epoch_follows_where_it_says_it_does() -> None:
    sequencer = Sequencer(at(1, 57))
    assert sequencer.offer(opened(epoch=2, previous=(1, 57))) == [opened(epoch=2, previous=(1, 57))]
    assert sequencer.cursor == Cursor(at(2, 1))


def test_an_epoch_that_follows_a_later_position_is_a_hole() -> None:
    sequencer = Sequencer(at(1, 55))
    sequencer.offer(event(epoch=2, seq=2))
    assert sequencer.offer(opened(epoch=2, previous=(1, 57))) == []
    out = sequencer.fill(S, [event(seq=56), event(seq=57)])
    assert [(e.epoch, e.seq) for e in out] == [(1, 56), (1, 57), (2, 1), (2, 2)]


def test_the_lost_end_of_an_epoch_is_a_gap_with_known_bounds() -> None:
    sequencer = Sequencer(at(1, 55))
    first = opened(epoch=2, previous=(1, 57))
    assert sequencer.fill(S, [first]) == [Gap(S, 1, 56, 57), first]


def test_a_lost_epoch_is_told_with_what_is_known() -> None:
    sequencer = Sequencer(at(1, 55))
    assert sequencer.fill(S, [event(epoch=3, seq=9)]) == [
        Gap(S, 1, 56, None),
        Gap(S, 3, 1, 8),
        event(epoch=3, seq=9),
    ]


def test_every_epoch_that_was_lost_in_between_is_told() -> None:
    sequencer = Sequencer(at(1, 11))
    first = opened(epoch=3, previous=(2, 50))
    assert sequencer.fill(S, [first]) == [Gap(S, 1, 12, None), Gap(S, 2, 1, 50), first]


def test_an_owner_that_knew_less_than_the_client_makes_no_gap() -> None:
    """The owner before died before its writer had caught up: the client has more than the new epoch follows."""
    sequencer = Sequencer(at(1, 11))
    first = opened(epoch=2, previous=(1, 9))
    assert sequencer.offer(first) == [first]
    assert sequencer.holes == Cursor()


LOST = "the owner before lost its lease: what it had not yet delivered is lost"


@pytest.mark.parametrize(("stands", "gap_from"), [((1, 9), 10), ((1, 11), 12), ((1, 7), 10)])
def test_an_epoch_that_was_not_drained_ends_in_a_gap_for_everybody(
    stands: tuple[int, int], gap_from: int
) -> None:
    """Over one path more may have come than the new owner knew of: each reader is told from where it stands."""
    sequencer = Sequencer(at(*stands))
    first = opened(epoch=2, previous=(1, 9), drained=False)
    assert sequencer.offer(first) == []
    assert sequencer.holes == at(*stands)
    known = [event(seq=seq) for seq in range(stands[1] + 1, 10)]
    assert sequencer.fill(S, [*known, first]) == [*known, Gap(S, 1, gap_from, None, reason=LOST), first]


def test_what_history_has_of_an_epoch_that_was_not_drained_comes_before_its_gap() -> None:
    """The owner before came back in time, before the new epoch was begun in the history."""
    sequencer = Sequencer(at(1, 9))
    first, second = opened(epoch=2, previous=(1, 9), drained=False), event(epoch=2, seq=2)
    assert sequencer.offer(first) == sequencer.offer(second) == []
    late = [event(seq=10), event(seq=11)]
    assert sequencer.fill(S, [*late, first], upto=first.position) == [
        *late,
        Gap(S, 1, 12, None, reason=LOST),
        first,
        second,
    ]


def test_a_new_reader_of_a_stream_is_told_nothing_of_the_epoch_before() -> None:
    sequencer = Sequencer()
    first = opened(epoch=2, previous=None, drained=False)
    assert sequencer.offer(first) == []
    assert sequencer.fill(S, [first]) == [first]


def test_too_many_early_events_are_dropped_but_the_hole_stays_known() -> None:
    sequencer = Sequencer(at(1, 1), max_held=3)
    for seq in range(3, 10):
        sequencer.offer(event(seq=seq))
    assert sequencer.overflowed == 4
    out = sequencer.fill(S, [event(seq=seq) for seq in range(2, 10)], upto=Position(1, 9))
    assert [e.seq for e in out] == list(range(2, 10))


@given(st.data())
def test_any_arrival_order_with_repeats_delivers_each_event_once_and_in_order(data: st.DataObject) -> None:
    truth = [*run(S, 6), *run(S, 5, epoch=2, previous=(1, 6)), *run(S, 3, epoch=4, previous=(2, 5))]
    arrivals = data.draw(st.permutations(truth + data.draw(st.lists(st.sampled_from(truth), max_size=9))))
    sequencer = Sequencer(at(0, 0))
    delivered = [out for arrival in arrivals for out in sequencer.offer(arrival)]
    assert delivered == truth


@given(st.data())
def test_losses_are_filled_or_told_and_never_doubled(data: st.DataObject) -> None:
    """Whatever arrives and whatever history has: delivered events and gaps together are the truth, in order."""
    truth = run(S, 12)
    arriving = data.draw(st.lists(st.sampled_from(truth), max_size=12))
    first_retained = data.draw(st.integers(0, 11))
    sequencer = Sequencer(at(0, 0))
    out = [each for arrival in arriving for each in sequencer.offer(arrival)]
    behind = [e for e in truth[first_retained:] if e.position > sequencer.position(S)]
    out += sequencer.fill(S, behind, upto=Position(1, 12))  # type: ignore[arg-type]
    told: list[int] = []
    for item in out:
        told += range(item.from_seq, (item.to_seq or 0) + 1) if isinstance(item, Gap) else [item.seq]
    assert told == list(range(1, 13))


def test_events_without_identity_have_no_place_in_a_sequence() -> None:
    nameless = replace(event(), epoch=0)
    with pytest.raises(ValueError, match="without identity"):
        Sequencer().offer(nameless)
    with pytest.raises(ValueError, match="without identity"):
        Sequencer().fill(nameless.stream, [nameless])


def test_what_is_held_in_a_hole_of_history_is_delivered_and_not_told_as_gone() -> None:
    sequencer = Sequencer({S: Position(1, 3)})
    for seq in (6, 8, 20):
        assert sequencer.offer(event(S, seq)) == []
    assert sequencer.fill(S, [event(S, 4)], Position(1, 9)) == [
        event(S, 4),
        Gap(S, 1, 5, 5),
        event(S, 6),
        Gap(S, 1, 7, 7),
        event(S, 8),
        Gap(S, 1, 9, 9),
    ]
    assert sequencer.holes == {S: (1, 9)}
