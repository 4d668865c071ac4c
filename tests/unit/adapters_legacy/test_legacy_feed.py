"""What a subscription makes of a server's messages, whatever the server sends."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.legacy_dialect import Misbehaved, NotUnderstood
from adapters.legacy_feed import LegacyFeed
from legacy_ws.protocol import dashboard as ws
from legacy_ws.ring import Ring, Taken
from monitoring.coverage import PATIENCE_SECONDS
from monitoring.cursor import Cursor
from monitoring.events import Position, StreamId
from monitoring.service import Gap
from monitoring.topics import GLOBAL, parse_topic
from tests.fakes.event_factory import START, event, opened, run

WEB = StreamId("web-1/system")
STRANGE = StreamId("db-9/system")
ALL = frozenset({GLOBAL})


def told(one):
    return ws.event_message(one, START + timedelta(days=9))


def cursor(**positions):
    return Cursor({WEB: Position(*positions["web"])})


def connected(since, heads=(), gaps=(), topics=ALL):
    """Return a feed whose first subscription was answered."""
    feed = LegacyFeed(topics, since)
    feed.request()
    items = feed.receive(ws.Subscribed(Cursor({WEB: Position(*heads)} if heads else {}), tuple(gaps)))
    return feed, items


def test_from_now_on_begins_at_the_heads_of_the_first_answer():
    feed = LegacyFeed(ALL, None)
    assert feed.request().cursor is None
    assert feed.receive(told(event(WEB, 3))) == []
    feed.receive(ws.Subscribed(cursor(web=(1, 3))))
    assert feed.live
    assert feed.receive(told(event(WEB, 4))) == [event(WEB, 4)]
    feed.disconnected()
    assert feed.request().cursor == {WEB: (1, 4)}


def test_a_server_that_never_had_one_of_our_streams_is_waited_for_and_then_counts_as_all_there_is():
    now = 100.0
    feed = LegacyFeed(ALL, Cursor({WEB: Position(1, 3), STRANGE: Position(1, 7)}), clock=lambda: now)
    feed.request()
    feed.receive(ws.Subscribed(cursor(web=(1, 3))))
    now += PATIENCE_SECONDS - 0.001
    assert feed.behind  # the owner may still be refilling it: it is asked again
    feed.request()
    feed.receive(ws.Subscribed(cursor(web=(1, 3))))
    assert not feed.live
    now += 0.001
    assert feed.live
    feed.disconnected()
    feed.request()
    feed.receive(ws.Subscribed(cursor(web=(1, 3))))
    assert not feed.live  # another server may be there by now


def test_the_replay_is_delivered_and_only_then_the_feed_is_live():
    feed, _ = connected(cursor(web=(1, 1)), (1, 3))
    assert not feed.live
    assert feed.catching_up
    assert feed.receive(told(event(WEB, 2))) == [event(WEB, 2)]
    assert not feed.live
    assert feed.receive(told(event(WEB, 3))) == [event(WEB, 3)]
    assert feed.live


def test_what_the_server_no_longer_has_becomes_a_gap():
    feed, items = connected(cursor(web=(1, 1)), (1, 5), [Gap(WEB, 1, 2, 3)])
    assert items == []
    assert feed.receive(told(event(WEB, 4))) == [Gap(WEB, 1, 2, 3), event(WEB, 4)]


def test_a_head_that_is_gone_itself_is_not_waited_for():
    feed, items = connected(cursor(web=(1, 1)), (1, 5), [Gap(WEB, 1, 2, 5)])
    assert items == [Gap(WEB, 1, 2, 5)]
    assert feed.live
    assert feed.receive(told(event(WEB, 6))) == [event(WEB, 6)]


def test_a_hole_is_asked_for_and_the_answer_is_final():
    feed, _ = connected(cursor(web=(1, 1)), (1, 1))
    assert feed.receive(told(event(WEB, 4))) == []
    assert feed.wants_history
    assert not feed.live
    assert feed.request().cursor == {WEB: (1, 1)}
    assert not feed.wants_history
    feed.receive(ws.Subscribed(cursor(web=(1, 4)), (Gap(WEB, 1, 2, 2),)))
    assert feed.receive(told(event(WEB, 3))) == [Gap(WEB, 1, 2, 2), event(WEB, 3), event(WEB, 4)]
    assert feed.receive(told(event(WEB, 4))) == []
    assert feed.live


def test_a_server_that_denies_what_it_sent_is_given_up():
    feed, _ = connected(cursor(web=(1, 1)), (1, 1))
    feed.receive(told(event(WEB, 4)))
    feed.request()
    with pytest.raises(Misbehaved):
        feed.receive(ws.Subscribed(cursor(web=(1, 1))))


def test_a_server_that_came_back_empty_is_waited_for_and_repeats_nothing():
    feed, _ = connected(cursor(web=(1, 3)))
    assert not feed.live
    for one in run(WEB, 3):
        assert feed.receive(told(one)) == []
    assert feed.live
    assert feed.receive(told(event(WEB, 4))) == [event(WEB, 4)]


def test_an_older_head_of_another_stream_does_not_hinder_topics_that_leave_it_out():
    feed = LegacyFeed(
        frozenset({parse_topic("devices.web-1")}),
        Cursor({WEB: Position(1, 1), StreamId("db-1/system"): Position(1, 9)}),
    )
    feed.request()
    feed.receive(ws.Subscribed(cursor(web=(1, 1))))
    assert feed.live
    assert feed.receive(told(opened("db-1/system", 2))) == []


def test_a_server_that_waits_owes_nothing_yet():
    feed = LegacyFeed(ALL, None)
    feed.request()
    assert feed.catching_up
    feed.receive(ws.Waiting("soon"))
    assert not feed.catching_up
    assert not feed.live


def test_a_server_without_subscribe_is_not_understood():
    feed = LegacyFeed(ALL, None)
    feed.request()
    with pytest.raises(NotUnderstood, match="unknown"):
        feed.receive(ws.ErrorMessage("unknown message type", START))


def test_an_event_without_identity_is_counted_and_passed_over():
    feed, _ = connected(Cursor())
    message = told(event())
    plain = ws.EventMessage(
        message.connection_type, "inbound", "a", "b", 1, 1, None, {}, message.broadcast_time
    )
    assert feed.receive(plain) == []
    assert feed.unreadable == 1


FULL = [*run(WEB, 6), *run(WEB, 5, 2, (1, 6)), *run(WEB, 4, 3, (2, 5))]


def serve(feed, ring, events):
    """Run one connection: the ring's answers to the feed's requests, and live events in between."""
    feed.disconnected()
    requests, out = [feed.request()], []
    for one in [None, *events]:
        if one is not None:
            keep(ring, [one])
            out += feed.receive(told(one))
            if feed.wants_history:
                requests.append(feed.request())
        while requests:
            answer = ring.replay(ALL, requests.pop().cursor)
            out += feed.receive(ws.Subscribed(answer.heads, answer.gaps))
            for kept in answer.events:
                out += feed.receive(told(kept.event))
    return out


def keep(ring, events):
    for one in events:
        if ring.judge(one) is Taken.NEW:
            ring.take(one, b"")


@given(data=st.data())
def test_over_any_server_every_seq_is_delivered_once_in_order_or_named_in_a_gap(data):
    """A server that restarts empty, forgets, repeats, leaves out and reorders."""
    feed = LegacyFeed(ALL, Cursor({WEB: Position(1, 1)}))
    out = []
    for _ in range(data.draw(st.integers(1, 4), label="connections")):
        ring = Ring(data.draw(st.integers(1, 20), label="ring"))
        known = data.draw(st.integers(0, len(FULL)), label="known")
        keep(ring, FULL[:known])
        live = list(FULL[known : data.draw(st.integers(known, len(FULL)), label="upto")])
        live += data.draw(st.lists(st.sampled_from(FULL), max_size=3), label="repeated")
        shuffled = data.draw(st.booleans(), label="shuffled")
        out += serve(feed, ring, data.draw(st.permutations(live), label="order") if shuffled else live)
    covered = []
    for item in out:
        if isinstance(item, Gap):
            last = {1: 6, 2: 5, 3: 4}[item.epoch] if item.to_seq is None else item.to_seq
            covered += [(item.epoch, seq) for seq in range(item.from_seq, last + 1)]
        else:
            covered.append(tuple(item.position))
    everything = [tuple(one.position) for one in FULL[1:]]
    events = [tuple(item.position) for item in out if not isinstance(item, Gap)]
    assert events == sorted(set(events))
    assert covered == sorted(set(covered))
    if not any(isinstance(item, Gap) and item.to_seq is None for item in out):
        assert covered == everything[: len(covered)]
