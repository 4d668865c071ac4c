from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.cursor import Cursor
from monitoring.events import Event, Position, StreamId
from monitoring.service import Backend
from validation.alignment import Alignment
from validation.limits import Limits
from validation.observation import Outcome
from validation.result import check_sum
from validation.rules import NO_RULES, Rules, parse_rules
from validation.tally import Tally
from validation.tracks import Sighting

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

A, B = StreamId("web-1/system"), StreamId("web-1/containers")
AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(seq: int, stream: StreamId = A, epoch: int = 1, **payload: object) -> Event:
    identity = UUID(int=seq + 1000 * epoch + (10**9 if stream == B else 0))
    return Event(identity, stream, epoch, seq, "k", AT, {"n": seq, **payload})


def opening(epoch: int, previous: Position | None, stream: StreamId = A) -> Event:
    before = {"epoch": previous.epoch, "seq": previous.seq} if previous else None
    return replace(event(1, stream, epoch), kind="stream_opened", payload={"previous": before})


class Bench:
    """An alignment with its tally and a clock that is moved by hand."""

    def __init__(
        self, start: dict | None = None, limits: Limits | None = None, rules: Rules = NO_RULES
    ) -> None:
        self.core = Alignment(start or {}, limits, rules)
        self.tally = Tally()
        self.now = 100.0

    def publish(self, *events: Event) -> None:
        for item in events:
            self.core.publish(item, self.now)

    def both(self, *events: Event) -> None:
        self.legacy(*events)
        self.supabase(*events)

    def legacy(self, *events: Event) -> None:
        for item in events:
            self.core.observe(Backend.LEGACY, item, self.now, 0.01)

    def supabase(self, *events: Event) -> None:
        for item in events:
            self.core.observe(Backend.SUPABASE, item, self.now, 0.02)

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 0.5, until)
            self.tally.add(self.core.decide(self.now))

    def found(self, wait: float = 20.0) -> dict[Outcome, int]:
        self.wait(wait)
        check_sum(self.tally.counts, published=self.core.published, pending=self.core.pending)
        return {outcome: count for outcome, count in self.tally.counts.items() if count}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def numbered(count: int) -> list[Event]:
    return [event(seq) for seq in range(1, count + 1)]


def test_nothing_is_decided_before_the_grace_is_over(bench):
    bench.publish(*numbered(3))
    bench.both(*numbered(3))
    assert bench.found(5) == {}
    assert (bench.core.pending, bench.core.open) == (3, 3)
    assert bench.found(0.5) == {Outcome.MATCHED: 3}
    assert (bench.core.pending, bench.core.open) == (0, 0)


@pytest.mark.parametrize(
    ("lost", "outcome"), [("legacy", Outcome.MISSING_LEGACY), ("supabase", Outcome.MISSING_SUPABASE)]
)
def test_a_hole_is_missing_after_the_grace(bench, lost, outcome):
    bench.publish(*numbered(3))
    holed = [numbered(3)[0], numbered(3)[2]]
    bench.legacy(*(holed if lost == "legacy" else numbered(3)))
    bench.supabase(*(holed if lost == "supabase" else numbered(3)))
    assert bench.found(6) == {Outcome.MATCHED: 2, outcome: 1}


def test_a_side_that_is_only_behind_gets_until_the_cap(bench):
    bench.publish(*numbered(2))
    bench.legacy(*numbered(2))
    assert bench.found(14) == {}
    bench.supabase(*numbered(2))
    assert bench.found(1.5) == {Outcome.MATCHED: 2}


def test_a_side_that_stays_silent_is_missing_after_the_cap(bench):
    bench.publish(*numbered(2))
    bench.legacy(*numbered(2))
    assert bench.found(15.5) == {Outcome.MISSING_SUPABASE: 2}


def test_missing_on_both(bench):
    bench.publish(*numbered(1))
    assert bench.found() == {Outcome.MISSING_BOTH: 1}


def test_the_grace_grows_with_the_measured_skew(bench):
    for seq in range(1, 50):
        bench.publish(event(seq))
        bench.legacy(event(seq))
        bench.now += 4
        bench.supabase(event(seq))
    assert 7.8 < bench.core.grace_seconds() < 8.2
    bench.publish(event(50))
    bench.now += 60
    bench.both(event(50))
    assert bench.core.grace_seconds() == 15


def test_extra_is_what_was_never_published(bench):
    bench.publish(*numbered(1))
    bench.both(*numbered(1))
    bench.legacy(event(2))
    assert bench.found() == {Outcome.MATCHED: 1, Outcome.EXTRA: 1}
    assert bench.tally.samples[Outcome.EXTRA][0].details == ("legacy: not in the spool",)


def test_a_side_may_be_ahead_of_the_reader_of_the_truth(bench):
    bench.both(*numbered(2))
    bench.wait(1)
    bench.publish(*numbered(2))
    assert bench.found() == {Outcome.MATCHED: 2}


def test_a_truth_that_comes_after_the_decision_is_excluded_not_counted_twice(bench):
    bench.both(event(1))
    bench.wait(6)
    bench.publish(event(1))
    assert bench.found() == {Outcome.EXTRA: 1, Outcome.EXCLUDED: 1}


def test_duplicates(bench):
    bench.publish(*numbered(3))
    bench.both(*numbered(3))
    bench.legacy(event(3))
    bench.supabase(event(2), event(2))
    assert bench.found() == {Outcome.MATCHED: 1, Outcome.DUPLICATE: 2}
    assert bench.core.sides[Backend.SUPABASE].duplicates == 2
    assert bench.tally.samples[Outcome.DUPLICATE][0].details == ("supabase: 3 times",)


def test_a_duplicate_after_the_decision_revises_it(bench):
    bench.publish(*numbered(2))
    bench.both(*numbered(2))
    assert bench.found() == {Outcome.MATCHED: 2}
    bench.legacy(event(1), event(1))
    assert bench.found() == {Outcome.MATCHED: 1, Outcome.DUPLICATE: 1}
    assert bench.core.sides[Backend.LEGACY].duplicates == 2


def test_an_arrival_after_the_decision_revises_it_to_late(bench):
    bench.publish(*numbered(1))
    assert bench.found() == {Outcome.MISSING_BOTH: 1}
    bench.supabase(event(1))
    assert bench.found() == {Outcome.MISSING_LEGACY: 1}
    bench.legacy(event(1))
    assert bench.found() == {Outcome.LATE: 1}
    assert not bench.tally.samples.get(Outcome.MISSING_BOTH)
    bench.legacy(event(1))
    assert bench.found() == {Outcome.DUPLICATE: 1}


def test_an_extra_that_the_other_side_has_too_stays_an_extra(bench):
    bench.legacy(event(9))
    assert bench.found() == {Outcome.EXTRA: 1}
    bench.supabase(event(9))
    assert bench.found() == {Outcome.EXTRA: 1}


def test_reordered(bench):
    bench.publish(*numbered(3))
    bench.legacy(*numbered(3))
    bench.supabase(event(1), event(3), event(2))
    assert bench.found() == {Outcome.MATCHED: 2, Outcome.REORDERED: 1}
    assert bench.core.sides[Backend.SUPABASE].reordered == 1


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        (event(2, load=2), "supabase payload.load: expected (absent), got 2"),
        (replace(event(2), kind="x"), 'supabase kind: expected "k", got "x"'),
        (replace(event(2), id=UUID(int=5)), 'supabase id: expected "00000000-0000-0000-0000-0000000003ea"'),
        (replace(event(2), occurred_at=AT + timedelta(microseconds=1)), "supabase occurred_at: expected"),
    ],
)
def test_mismatch_names_the_side_and_the_field(bench, changed, detail):
    bench.publish(*numbered(3))
    bench.legacy(*numbered(3))
    bench.supabase(event(1), changed, event(3))
    assert bench.found() == {Outcome.MATCHED: 2, Outcome.MISMATCH: 1}
    assert bench.tally.samples[Outcome.MISMATCH][0].details[0].startswith(detail)


def test_both_sides_agreeing_on_something_else_is_a_mismatch(bench):
    bench.both(event(1, load=1))
    bench.publish(event(1))
    assert bench.found() == {Outcome.MISMATCH: 1}
    assert len(bench.tally.samples[Outcome.MISMATCH][0].details) == 2


def test_events_whose_contents_the_truth_has_lost_are_compared_with_each_other(bench):
    bench.both(event(1), event(2))
    bench.legacy(event(3, load=1))
    bench.supabase(event(3, load=2))
    bench.core.publish_upto(A, Position(1, 4), bench.now)
    assert bench.found() == {Outcome.MATCHED: 2, Outcome.MISMATCH: 1, Outcome.MISSING_BOTH: 1}


def test_the_window_begins_after_the_start_and_ends_at_the_end():
    bench = Bench({A: Position(1, 2)})
    bench.publish(*numbered(5))
    bench.both(*numbered(6))
    bench.core.finish(Cursor({A: Position(1, 4)}))
    bench.publish(event(6))
    bench.both(event(7))
    assert bench.found() == {Outcome.MATCHED: 3}
    assert bench.core.outside == 6
    assert bench.core.published == 3


def test_a_stream_that_opens_during_the_window_counts_from_its_first_event(bench):
    bench.publish(opening(3, Position(2, 500), B), event(2, B, 3))
    bench.both(opening(3, Position(2, 500), B), event(2, B, 3))
    assert bench.found() == {Outcome.MATCHED: 2}


def test_events_of_two_epochs_are_never_compared():
    bench = Bench({A: Position(1, 1)})
    second = [opening(2, Position(1, 3)), event(2, epoch=2)]
    bench.publish(event(2), event(3), *second)
    bench.both(event(2), event(3), *second)
    assert bench.found() == {Outcome.MATCHED: 4}


def test_the_end_of_an_epoch_that_the_truth_has_lost_is_known_from_the_next():
    bench = Bench({A: Position(1, 1)})
    bench.publish(event(2), opening(2, Position(1, 4)))
    bench.both(*numbered(4)[1:], opening(2, Position(1, 4)))
    assert bench.found() == {Outcome.MATCHED: 4}


def test_heads_of_an_epoch_before_the_window_publish_nothing():
    bench = Bench({A: Position(2, 1)})
    bench.core.publish_upto(A, Position(1, 9), bench.now)
    assert bench.core.published == 0


def test_streams_of_other_owners_can_be_left_out():
    bench = Bench(limits=Limits(truth_is_complete=False))
    bench.publish(event(1))
    bench.both(event(1), event(1, B))
    assert bench.found() == {Outcome.MATCHED: 1}
    assert bench.core.foreign == {B}


def test_streams_of_other_owners_are_named_when_the_window_ends_within_the_grace():
    bench = Bench(limits=Limits(truth_is_complete=False))
    bench.publish(event(1))
    bench.both(event(1), event(1, B))
    bench.core.finish({event(1).stream: event(1).position})
    assert bench.found() == {Outcome.MATCHED: 1}
    assert bench.core.foreign == {B}


def test_too_many_open_events_suspend_it_without_false_findings():
    bench = Bench(limits=Limits(max_open=10))
    bench.publish(*numbered(20))
    bench.both(*numbered(20))
    assert bench.core.suspended
    bench.both(event(21))
    assert bench.found() == {Outcome.MATCHED: 10, Outcome.EXCLUDED: 10}
    assert bench.core.forgotten > 0
    assert not bench.core.suspended
    assert bench.core.was_suspended
    bench.publish(event(21), event(22))
    bench.both(event(22))
    assert bench.found() == {Outcome.MATCHED: 11, Outcome.EXCLUDED: 11}


def test_what_is_forgotten_is_said_not_guessed():
    bench = Bench(limits=Limits(max_remembered=2))
    bench.publish(*numbered(5))
    assert bench.found() == {Outcome.MISSING_BOTH: 5}
    bench.both(event(1), event(5))
    assert bench.found() == {Outcome.MISSING_BOTH: 4, Outcome.LATE: 1}
    assert bench.core.forgotten == 2


def test_every_matched_event_is_known_to_have_been_delivered_however_long_ago():
    bench = Bench(limits=Limits(max_remembered=2))
    for seq in range(1, 400):
        bench.publish(event(seq))
        bench.both(event(seq))
        bench.wait(1)
    bench.legacy(event(1))
    assert bench.found() == {Outcome.MATCHED: 398, Outcome.DUPLICATE: 1}
    assert bench.core.forgotten == 0


@pytest.mark.parametrize("first", ["publish", "legacy", "supabase"])
def test_old_open_events_are_compared_by_digest(first):
    """Of the first event only a digest is kept; a difference is found, though its field is no longer known."""
    bench = Bench(limits=Limits(max_recent=3))
    order = [first, *({"publish", "legacy", "supabase"} - {first})]
    wrong = [event(n, load=n == 2) for n in range(1, 21)]
    for name in order:
        getattr(bench, name)(*(wrong if name == "supabase" else [event(n, load=False) for n in range(1, 21)]))
    assert bench.core._recent_bytes <= 20 * 250
    assert bench.found() == {Outcome.MATCHED: 19, Outcome.MISMATCH: 1}
    details = bench.tally.samples[Outcome.MISMATCH][0].details
    assert len(details) == 1
    assert "content: expected a digest" in details[0] or "not kept" in details[0]
    assert bench.core._recent_bytes == 0


def test_large_contents_are_let_go_before_many_small_ones():
    bench = Bench(limits=Limits(max_recent_bytes=1_000_000))
    bench.publish(*(event(n, text="x" * 100_000) for n in range(1, 101)))
    assert bench.core._recent_bytes < 1_200_000
    bench.both(*(event(n, text="x" * 100_000) for n in range(1, 101)))
    assert bench.found() == {Outcome.MATCHED: 100}


def test_too_many_streams_are_not_taken_in():
    bench = Bench(limits=Limits(max_tracks=2, truth_is_complete=False))
    bench.publish(event(1))
    bench.both(event(1), *(event(1, StreamId(f"invented-{n}/x")) for n in range(50)))
    assert bench.found() == {Outcome.MATCHED: 1}
    assert (bench.core.forgotten, bench.core.was_suspended) == (98, True)


def test_a_head_far_ahead_is_excluded_at_once():
    bench = Bench(limits=Limits(max_open=10))
    bench.core.publish_upto(A, Position(1, 10**9), bench.now)
    assert bench.found() == {Outcome.EXCLUDED: 10**9 - 10, Outcome.MISSING_BOTH: 10}


def test_rules_let_pass_and_are_counted():
    rules = parse_rules([{"path": "payload.load", "tolerance": 1}], AT.date())
    bench = Bench(rules=rules)
    bench.publish(event(1, load=1.0), event(2, load=1.0))
    bench.legacy(event(1, load=1.0), event(2, load=1.0))
    bench.supabase(event(1, load=1.5), event(2, load=3.0))
    assert bench.found() == {Outcome.MATCHED: 1, Outcome.MISMATCH: 1}
    assert bench.tally.passed == {"payload.load": 1}


def test_after_this_process_stood_still_queued_events_are_taken_in_first(bench):
    bench.publish(*numbered(1))
    bench.tally.add(bench.core.decide(bench.now))
    bench.now += 60
    bench.tally.add(bench.core.decide(bench.now))
    bench.both(*numbered(1))
    assert bench.found() == {Outcome.MATCHED: 1}


def test_latency_of_each_side(bench):
    bench.both(event(1))
    assert bench.core.latency[Backend.LEGACY].figures().max_seconds == 0.01
    assert bench.core.latency[Backend.SUPABASE].count == 1


streams = st.builds(
    lambda a, b: [event(n) for n in range(1, a + 1)] + [event(n, B) for n in range(1, b + 1)],
    st.integers(1, 20),
    st.integers(0, 20),
)


def shuffled_between_streams(data, events: list[Event]) -> list[Event]:
    """Interleave the streams in another way; the order within each stays."""
    queues = {stream: [item for item in events if item.stream == stream] for stream in (A, B)}
    out: list[Event] = []
    while any(queues.values()):
        out.append(queues[data.draw(st.sampled_from([stream for stream in queues if queues[stream]]))].pop(0))
    return out


def play(data, truth: list[Event], legacy: list[Event], supabase: list[Event]) -> Bench:
    """Deliver three sequences in any interleaving, within the grace."""
    bench = Bench()
    queues = {"publish": list(truth), "legacy": list(legacy), "supabase": list(supabase)}
    while any(queues.values()):
        name = data.draw(st.sampled_from([name for name in queues if queues[name]]))
        getattr(bench, name)(queues[name].pop(0))
    return bench


@UNHURRIED
@given(st.data(), streams)
def test_a_stream_equals_itself_in_any_arrival_order(data, events):
    bench = play(data, events, shuffled_between_streams(data, events), shuffled_between_streams(data, events))
    assert bench.found() == {Outcome.MATCHED: len(events)}


@UNHURRIED
@given(st.data(), streams, st.sampled_from(["legacy", "supabase"]))
def test_one_fault_is_exactly_one_finding(data, events, side):
    index = data.draw(st.integers(0, len(events) - 1))
    fault = data.draw(st.sampled_from(["drop", "double", "change", "add", "move"]))
    faulty = list(events)
    if fault == "drop":
        del faulty[index]
        expected = Outcome(f"missing_{side}")
    elif fault == "double":
        faulty.insert(data.draw(st.integers(index, len(events))), events[index])
        expected = Outcome.DUPLICATE
    elif fault == "move":
        stream = [at for at, item in enumerate(events) if item.stream == events[index].stream]
        later = [at for at in stream if at > index]
        if not later:
            return
        faulty.insert(data.draw(st.sampled_from(later)), faulty.pop(index))
        expected = Outcome.REORDERED
    elif fault == "change":
        faulty[index] = replace(events[index], payload={"n": "other"})
        expected = Outcome.MISMATCH
    else:
        faulty.append(event(500))
        expected = Outcome.EXTRA
    bench = play(
        data, events, faulty if side == "legacy" else events, faulty if side == "supabase" else events
    )
    matched = len(events) - (fault != "add")
    assert bench.found() == Counter({Outcome.MATCHED: matched, expected: 1}) - Counter()


actions = st.lists(
    st.tuples(
        st.sampled_from(["publish", "legacy", "supabase", "wait"]), st.integers(1, 8), st.sampled_from([A, B])
    ),
    max_size=60,
)


@UNHURRIED
@given(actions, st.integers(2, 30), st.integers(1, 30), st.integers(1, 30))
def test_classes_always_add_up_in_bounded_memory(actions, max_open, max_remembered, max_recent):
    limits = Limits(max_open=max_open, max_remembered=max_remembered, max_recent=max_recent)
    bench = Bench({B: Position(1, 2)}, limits)
    for name, number, stream in actions:
        if name == "wait":
            bench.wait(number)
        else:
            getattr(bench, name)(event(number, stream))
        check_sum(bench.tally.counts, published=bench.core.published, pending=bench.core.pending)
        tracks = bench.core._tracks.values()
        assert sum(len(track.open) for track in tracks) == bench.core.open <= max_open
        assert sum(len(track.others) for track in tracks) <= max_remembered
        held = [each for track in tracks for each in track.open.values() if isinstance(each, Sighting)]
        assert len(held) <= max_recent
        assert sum(each.held_bytes for each in held) == bench.core._recent_bytes
    bench.core.finish({})
    bench.found(40)
    assert bench.core.pending == 0
    assert (bench.core.open, bench.core._recent_bytes) == (0, 0)
