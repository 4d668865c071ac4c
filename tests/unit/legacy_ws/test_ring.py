"""What the ring keeps, and what it answers to a cursor."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from legacy_ws.ring import Ring, Taken
from monitoring.cursor import Cursor
from monitoring.events import Position, StreamId
from monitoring.sequencer import Sequencer
from monitoring.service import Gap
from monitoring.topics import GLOBAL, parse_topic
from tests.fakes.event_factory import event, opened, run

WEB = StreamId("web-1/system")
ALL = frozenset({GLOBAL})


def filled(events, max_events=1000):
    ring = Ring(max_events)
    for one in events:
        assert ring.judge(one) is Taken.NEW
        ring.take(one, str(one.seq).encode())
    return ring


def replayed(ring, cursor):
    return [(kept.event.epoch, kept.event.seq) for kept in ring.replay(ALL, cursor).events]


def test_a_replay_begins_after_the_cursor_and_ends_at_the_head():
    ring = filled(run(WEB, 5))
    answer = ring.replay(ALL, Cursor({WEB: Position(1, 3)}))
    assert [kept.message for kept in answer.events] == [b"4", b"5"]
    assert answer.heads == {WEB: (1, 5)}
    assert answer.gaps == ()


def test_without_a_cursor_only_the_heads_are_told():
    answer = filled(run(WEB, 5)).replay(ALL, None)
    assert answer.events == ()
    assert answer.heads == {WEB: (1, 5)}


def test_a_stream_absent_from_the_cursor_is_replayed_from_its_first_retained_event_without_a_gap():
    ring = filled(run(WEB, 5), max_events=2)
    assert replayed(ring, Cursor()) == [(1, 3), (1, 4), (1, 5)]
    assert ring.replay(ALL, Cursor()).gaps == ()


def test_what_was_evicted_is_told_as_a_gap():
    ring = filled(run(WEB, 6), max_events=2)
    assert ring.evicted == 3
    assert ring.replay(ALL, Cursor({WEB: Position(1, 1)})).gaps == (Gap(WEB, 1, 2, 3),)


def test_what_is_retained_is_bounded_by_bytes_and_the_newest_of_each_stream_stays():
    ring = Ring(max_bytes=100)
    for one in run(WEB, 5):
        ring.take(one, b"", 40)
    assert (replayed(ring, Cursor()), ring.size, ring.evicted) == ([(1, 4), (1, 5)], 80, 3)
    ring.take(event(WEB, 6), b"", 1000)
    assert (replayed(ring, Cursor()), ring.size, ring.evicted) == ([(1, 6)], 1000, 5)
    assert ring.replay(ALL, Cursor({WEB: Position(1, 3)})).gaps == (Gap(WEB, 1, 4, 5),)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=60), st.integers(0, 200))
def test_the_size_is_that_of_what_is_retained(taken, most):
    ring = Ring(max_events=20, max_bytes=most)
    seqs = dict.fromkeys("abc", 0)
    for device, size in taken:
        seqs[device] += 1
        ring.take(event(StreamId(f"{device}/system"), seqs[device]), b"", size)
        kept = ring.replay(ALL, Cursor()).events
        assert ring.size == sum(each.size for each in kept)
        newest = sum(1 for seq in seqs.values() if seq)
        assert ring.size <= most or len(kept) == newest


def test_a_change_of_owner_right_after_the_cursor_is_no_gap():
    ring = filled([opened(WEB, 2, previous=(1, 5)), event(WEB, 2, 2)])
    assert ring.replay(ALL, Cursor({WEB: Position(1, 5)})).gaps == ()


def test_a_change_of_owner_names_the_gap_before_it():
    ring = filled([opened(WEB, 2, previous=(1, 5))])
    assert ring.replay(ALL, Cursor({WEB: Position(1, 3)})).gaps == (Gap(WEB, 1, 4, 5),)


def test_events_of_an_ended_epoch_are_stale_and_repeated_ones_duplicates():
    ring = filled([opened(WEB, 2, previous=(1, 5))])
    assert ring.judge(event(WEB, 6, 1)) is Taken.STALE
    assert ring.judge(event(WEB, 1, 2)) is Taken.DUPLICATE
    assert ring.judge(event(WEB, 2, 2)) is Taken.NEW


def test_the_newest_event_of_a_quiet_stream_survives_a_noisy_one():
    quiet = StreamId("db-1/system")
    ring = filled([opened(quiet), *run(WEB, 50)], max_events=10)
    assert len(ring) == 12
    assert [
        kept.event.stream for kept in ring.replay(frozenset({parse_topic("devices.db-1")}), Cursor()).events
    ] == [quiet]


def test_the_latest_event_of_each_kind_outlives_its_eviction():
    ring = filled(run(WEB, 50), max_events=3)
    assert [(one.kind, one.seq) for one in ring.latest(ALL)] == [
        ("stream_opened", 1),
        ("metric_collected", 50),
    ]


def test_topics_select_heads_events_and_state():
    ring = filled([*run(WEB, 2), *run("web-1/containers", 3)])
    topics = frozenset({parse_topic("categories.containers")})
    assert ring.heads(topics) == {"web-1/containers": (1, 3)}
    assert {kept.event.stream for kept in ring.replay(topics, Cursor()).events} == {"web-1/containers"}
    assert {one.stream for one in ring.latest(topics)} == {"web-1/containers"}


def test_a_head_without_events_is_adopted_and_told_as_gone():
    ring = Ring()
    ring.adopt({WEB: Position(1, 9)})
    assert ring.heads() == {WEB: (1, 9)}
    assert ring.replay(ALL, Cursor({WEB: Position(1, 7)})).gaps == (Gap(WEB, 1, 8, 9),)
    assert ring.replay(ALL, Cursor()).gaps == (Gap(WEB, 1, 1, 9),)
    assert ring.replay(ALL, Cursor({WEB: Position(1, 9)})).gaps == ()
    assert ring.judge(event(WEB, 9)) is Taken.DUPLICATE
    assert ring.judge(event(WEB, 10)) is Taken.NEW


def test_a_stream_with_events_does_not_skip_ahead():
    ring = filled(run(WEB, 2))
    ring.adopt({WEB: Position(1, 9)})
    assert ring.heads() == {WEB: (1, 2)}


def test_a_cursor_ahead_of_the_ring_gets_nothing_and_no_gap():
    answer = filled(run(WEB, 2)).replay(ALL, Cursor({WEB: Position(1, 9)}))
    assert answer.events == ()
    assert answer.gaps == ()


def test_recent_is_the_newest_of_all_streams_in_order_of_time():
    ring = filled([*run(WEB, 5), *run("db-1/system", 3)])
    times = [kept.event.occurred_at for kept in ring.recent(4)]
    assert len(times) == 4
    assert times == sorted(times)


@given(
    epochs=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    dropped=st.sets(st.integers(0, 30)),
    max_events=st.integers(1, 40),
    start=st.one_of(st.none(), st.tuples(st.integers(1, 4), st.integers(1, 8))),
)
def test_a_client_that_takes_a_replay_as_history_ends_at_the_head_with_every_seq_or_a_gap(
    epochs, dropped, max_events, start
):
    events, previous = [], None
    for number, count in enumerate(epochs, 1):
        events += run(WEB, count, number, previous)
        previous = (number, count)
    kept = [one for index, one in enumerate(events) if index not in dropped]
    ring = filled(kept, max_events)
    cursor = Cursor({WEB: Position(*start)}) if start else Cursor()
    answer = ring.replay(ALL, cursor)
    position = cursor.get(WEB, Position(0, 0))
    head = answer.heads.get(WEB, position)
    assert all(one.event.position > position for one in answer.events)
    if head > position:
        last = answer.events[-1].event.position if answer.events else None
        assert last == head or any((gap.epoch, gap.to_seq) == head for gap in answer.gaps)
    sequencer = Sequencer(cursor)
    out = sequencer.fill(WEB, [one.event for one in answer.events], upto=head)
    assert sequencer.position(WEB) == max(position, head)
    assert [item for item in out if not isinstance(item, Gap)] == [one.event for one in answer.events]
