"""What a subscription makes of a server without ids, over as many connections as it takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta

import pytest

from adapters.foreign_feed import ForeignFeed
from adapters.legacy_dialect import Misbehaved
from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol.foreign import Observation, Reply
from legacy_ws.protocol.plain_dashboard import PlainDashboard
from monitoring.cursor import Cursor
from monitoring.events import Event, Position
from monitoring.fingerprint import Likeness
from monitoring.service import Gap
from monitoring.topics import GLOBAL, parse_topic
from tests.fakes.event_factory import START, event
from tests.fakes.plain_server import message

WEB, DB = "web-1/system", "db-1/system"
ALL = frozenset({GLOBAL})


def told(*seqs, stream=WEB):
    return [message(event(stream, seq)) for seq in seqs]


def greeting(*recent):
    return {
        "type": "initial_stats",
        "stats": {},
        "recent_events": list(recent),
        "timestamp": "2026-11-21T08:00:00Z",
    }


class Played:
    """A feed, and what it delivered in short: a payload's number, or a gap."""

    def __init__(self, topics=ALL, since=None, dialect=None, had=()):
        self.feed = ForeignFeed(dialect or PlainDashboard(), topics, since, had)
        self.got = []

    def _take(self, items):
        self.got += [
            item.payload["metadata"]["n"] if isinstance(item, Event) else ("gap", item.stream, item.from_seq)
            for item in items
        ]

    def connect(self, *recent):
        self.feed.disconnected()
        self._take(self.feed.connected())
        self.say(greeting(*recent))

    def say(self, *messages):
        for each in messages:
            self._take(self.feed.receive(json.dumps(each)))


def test_it_begins_now_and_is_live_with_the_greeting():
    played = Played()
    played.feed.connected()
    assert not played.feed.live
    played.say(greeting(*told(1, 2)))
    assert played.feed.live
    played.say(*told(3, 4))
    assert played.got == [3, 4]


def test_events_stand_in_epoch_0_and_are_counted_by_stream():
    feed = ForeignFeed(PlainDashboard(), ALL, None)
    feed.connected()
    feed.receive(json.dumps(greeting()))
    items = [feed.receive(json.dumps(each))[0] for each in (*told(1, 2), *told(1, stream=DB))]
    assert [(one.stream, one.epoch, one.seq, one.identified) for one in items] == [
        (WEB, 0, 1, False), (WEB, 0, 2, False), (DB, 0, 1, False),
    ]  # fmt: skip
    assert len({one.id for one in items}) == 3
    again = ForeignFeed(PlainDashboard(), ALL, None)
    again.connected()
    again.receive(json.dumps(greeting()))
    assert again.receive(json.dumps(told(1)[0]))[0].id == items[0].id


def test_a_cut_is_made_good_from_the_servers_memory():
    played = Played()
    played.connect()
    played.say(*told(1, 2))
    played.connect(*told(1, 2, 3, 4))
    played.say(*told(5))
    assert played.got == [1, 2, 3, 4, 5]
    assert played.feed.counters == {"recovered": 2}


def test_a_memory_that_does_not_reach_back_is_told_as_a_gap_of_every_stream_it_may_concern():
    played = Played()
    played.connect()
    played.say(*told(1, 2), *told(1, stream=DB))
    played.connect(*told(7, 8))
    assert played.got == [1, 2, 1, ("gap", DB, 2), ("gap", WEB, 3), 7, 8]
    gap = next(item for item in played.feed._unknown())
    assert isinstance(gap, Gap)
    assert (gap.epoch, gap.to_seq) == (0, None)


def test_a_server_that_forgot_everything_is_a_gap():
    played = Played()
    played.connect(*told(1))
    played.connect()
    assert played.got == [("gap", WEB, 1)]


def test_other_topics_are_not_delivered_but_help_to_find_the_place():
    played = Played(topics=frozenset({parse_topic("devices.web-1")}))
    played.connect()
    played.say(*told(1), *told(5, stream=DB))
    played.connect(*told(5, stream=DB), *told(2), *told(6, stream=DB))
    assert played.got == [1, 2]


def test_what_comes_before_the_greeting_is_delivered_after_it_and_once():
    played = Played()
    played.feed.connected()
    played.say(*told(1))
    assert played.got == []
    played.say(greeting(*told(1)))
    assert played.got == [1]
    played.feed.disconnected()
    played.feed.connected()
    played.say(*told(3), greeting(*told(1, 2, 3)), *told(4))
    assert played.got == [1, 2, 3, 4]


def test_what_is_broadcast_while_the_greeting_is_made_comes_once():
    played = Played()
    played.connect(*told(1))
    played.say(*told(1))  # began before us, and reached us
    played.connect(*told(1, 2))
    played.say(*told(2), *told(3))
    assert played.got == [1, 2, 3]
    assert played.feed.counters["duplicates_dropped"] == 1


def test_of_a_cursor_it_says_that_it_does_not_know_what_came_after():
    played = Played(
        topics=frozenset({parse_topic("devices.web-1")}),
        since=Cursor({WEB: Position(2, 7), DB: Position(1, 1)}),
    )
    played.connect()
    assert played.got == [("gap", WEB, 8)]
    played.connect()
    assert played.got == [("gap", WEB, 8)]


def test_events_without_end_and_no_greeting_are_given_up():
    played = Played()
    played.feed.connected()
    played.say(*told(*range(1, 1001)))
    with pytest.raises(Misbehaved, match="no greeting"):
        played.say(*told(1001))


def test_complaints_are_kept_and_garbage_is_said():
    played = Played()
    played.connect()
    played.say({"type": "error", "error": "who are you"})
    assert played.feed.complaints == "who are you"
    with pytest.raises(MalformedMessage):
        played.feed.receive("{")


@dataclass(frozen=True)
class Terse(PlainDashboard):
    """A dialect without times, greeting, or names, but with ids."""

    @property
    def likeness(self):
        return Likeness(resolution=None)

    @property
    def greets(self):
        return self.device is not None

    def decode(self, frame):
        said = super().decode(frame)
        return [
            Observation(one.stream, one.kind, START + timedelta(days=1), {"metadata": {"n": 0}}, id=one.payload["metadata"]["n"] and "x")
            if isinstance(one, Observation) else one
            for one in said
        ]  # fmt: skip


def test_without_a_greeting_it_is_live_at_once_and_every_cut_is_a_gap():
    played = Played(dialect=Terse())
    played.feed.connected()
    assert played.feed.live
    played.say(*told(1))
    played.feed.disconnected()
    played._take(played.feed.connected())
    assert played.got == [0, ("gap", WEB, 2)]


def test_without_times_a_memory_that_seems_to_follow_on_proves_nothing():
    played = Played(dialect=Terse(device="web-1"))
    played.connect()
    played.say(*told(1, 2))
    played.connect(*told(1, 2, 3))
    assert played.got[:2] == [0, 0]
    assert ("gap", WEB, 3) in played.got


def test_a_feed_that_follows_an_earlier_process_goes_on_from_what_that_one_had():
    had = [said for each in told(1, 2) for said in PlainDashboard().decode(json.dumps(each))]
    played = Played(had=had)
    played.feed.connected()
    played.say(greeting(*told(1, 2, 3)))
    played.say(*told(4))
    assert played.got == [3, 4]
    unknown = Played(had=had)
    unknown.feed.connected()
    unknown.say(greeting(*told(5, 6)))
    assert unknown.got == [("gap", WEB, 1), 5, 6]


def test_a_first_connection_that_broke_before_the_greeting_changes_nothing():
    played = Played()
    played.feed.connected()
    played.connect(*told(1, 2))
    played.say(*told(3))
    assert played.got == [3]


def test_what_a_protocol_wants_to_be_answered_is_left_for_the_caller():
    class Polite(PlainDashboard):
        def decode(self, frame):
            return (Reply(b"3"),) if frame == "2" else super().decode(frame)

    feed = ForeignFeed(Polite(), ALL, None)
    feed.connected()
    assert feed.receive("2") == []
    assert feed.replies == [b"3"]
