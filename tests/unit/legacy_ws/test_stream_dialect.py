"""/ws/stream: seed 004's topics, types of message and events."""

from __future__ import annotations

import json

import pytest

from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol import stream
from legacy_ws.protocol.dialect import Arrival, AskReplay
from legacy_ws.protocol.records import encode
from legacy_ws.protocol.stream import StreamDialect
from monitoring.cursor import Cursor
from monitoring.events import Position, StreamId
from monitoring.service import Gap
from tests.fakes.dialect_host import NOW, Peer, told

WEB = StreamId("web-1/system")
METRIC = told(WEB, "metric_collected", seq=7, cpu_usage=12.5, memory_usage=40.0, hostname="web-1")


def test_the_seed_has_five_types_of_message():
    assert {one.TYPE for one in (stream.Data, stream.EventMessage, stream.Subscription, stream.Heartbeat, stream.ErrorMessage)} == {
        "data",
        "event",
        "subscription",
        "heartbeat",
        "error",
    }  # fmt: skip


@pytest.mark.parametrize("topic", ["devices.web-1", "categories.system", "metrics.system_metrics", "global"])
def test_every_topic_of_the_seed_selects_the_metrics_of_a_device(topic):
    peer = Peer(StreamDialect())
    (answer,) = peer.send(type="subscription", action="subscribe", topics=[topic])
    assert answer == {
        "type": "subscription",
        "action": "subscribed",
        "topics": [topic],
        "timestamp": "2026-11-21T12:00:00.000Z",
    }
    message = peer.hears(METRIC)
    assert message == {
        "type": "data",
        "topics": ["devices.web-1", "categories.system", "metrics.system_metrics"],
        "timestamp": "2026-11-21T12:00:00.000Z",
        "data": {
            "cpu_usage": 12.5,
            "memory_usage": 40.0,
            "hostname": "web-1",
            "event_type": "metric_collected",
            "device_id": "web-1",
        },
        "id": str(METRIC.id),
        "stream": WEB,
        "epoch": 1,
        "seq": 7,
    }
    assert encode(stream.SERVER.read(json.dumps(message))) == stream.write_event(METRIC, NOW)


@pytest.mark.parametrize("topic", ["devices.web-2", "categories.drives", "metrics.drive_health"])
def test_other_topics_do_not(topic):
    peer = Peer(StreamDialect())
    peer.send(type="subscription", action="subscribe", topics=[topic])
    assert peer.hears(METRIC) is None


def test_a_change_of_status_is_an_event_with_the_seeds_fields():
    peer = Peer(StreamDialect())
    peer.send(type="subscription", action="subscribe", topics=["global"])
    message = peer.hears(told(WEB, "device_status_changed", old_status="online", new_status="offline"))
    assert message["type"] == "event"
    assert message["data"] == {
        "old_status": "online",
        "new_status": "offline",
        "event_type": "device_status_changed",
        "device_id": "web-1",
    }


def test_nothing_is_sent_before_a_subscription_but_heartbeats():
    peer = Peer(StreamDialect())
    assert peer.messages == []
    assert peer.hears(METRIC) is None
    assert peer.ticks(NOW) == [{"type": "heartbeat", "timestamp": "2026-11-21T12:00:00.000Z"}]


def test_topics_add_up_and_an_event_of_several_is_sent_once():
    peer = Peer(StreamDialect())
    peer.send(type="subscription", action="subscribe", topics=["devices.web-1"])
    (answer,) = peer.send(type="subscription", action="subscribe", topics=["global"])
    assert answer["topics"] == ["devices.web-1", "global"]
    assert peer.hears(METRIC)["seq"] == 7
    (answer,) = peer.send(type="subscription", action="unsubscribe", topics=["global"])
    assert (answer["action"], answer["topics"]) == ("unsubscribed", ["devices.web-1"])
    assert peer.hears(told("db-1/system", "metric_collected")) is None


def test_a_client_resumes_with_a_cursor_and_is_told_what_is_gone():
    peer = Peer(StreamDialect())
    assert peer.send(type="subscription", action="subscribe", topics=["global"], cursor={WEB: [1, 5]}) == []
    (ask,) = peer.asks
    assert isinstance(ask, AskReplay)
    assert ask.since == {WEB: (1, 5)}
    assert json.loads(ask.waiting("starting")) == {
        "type": "subscription",
        "action": "waiting",
        "topics": ["global"],
        "timestamp": "2026-11-21T12:00:00.000Z",
        "waiting": "starting",
    }
    answer = json.loads(ask.granted(Cursor({WEB: Position(1, 9)}), (Gap(WEB, 1, 6, 7),)))
    assert answer["heads"] == {WEB: [1, 9]}
    assert answer["gaps"] == [{"stream": WEB, "epoch": 1, "from_seq": 6, "to_seq": 7}]
    assert json.loads(ask.event(METRIC, NOW))["seq"] == 7
    assert peer.hears(METRIC, news=False) is not None, "it knows its place"


def test_history_is_no_news_to_a_client_that_does_not_resume():
    peer = Peer(StreamDialect())
    peer.send(type="subscription", action="subscribe", topics=["global"])
    assert peer.hears(METRIC, news=False) is None


def test_a_message_is_written_once_for_all_audiences():
    dialect = StreamDialect()
    peers = [Peer(dialect), Peer(dialect)]
    for peer, topic in zip(peers, ["global", "devices.web-1"], strict=True):
        peer.send(type="subscription", action="subscribe", topics=[topic])
    telling = dialect.take(Arrival(METRIC, NOW), news=True)
    assert telling(peers[0].session.audience) is telling(peers[1].session.audience)
    assert list(dialect.subscriptions(peers[1].session.audience)) == ["devices.web-1"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "subscription", "action": "subscribe", "topics": []}, "topics is empty"),
        ({"type": "subscription", "action": "subscribe", "topics": ["nonsense.x"]}, "nonsense"),
        ({"type": "subscription", "action": "subscribe", "topics": ["devices."]}, "name after the dot"),
        ({"type": "subscription", "action": "listen", "topics": ["global"]}, "action must be"),
        (
            {"type": "subscription", "action": "subscribe", "topics": ["global"], "cursor": 3},
            "cursor must be",
        ),
        ({"type": "subscription", "action": "subscribe", "topics": ["global"], "cursor": {"a": 1}}, "cursor"),
        ({"type": "data"}, "unknown message type"),
    ],
)
def test_a_bad_request_is_named(message, reason):
    with pytest.raises(MalformedMessage, match=reason):
        Peer(StreamDialect()).send(**message)


def test_topics_are_bounded_however_they_are_added():
    peer = Peer(StreamDialect())
    for start in (0, 500):
        peer.send(
            type="subscription", action="subscribe", topics=[f"devices.d{start + n}" for n in range(500)]
        )
    with pytest.raises(MalformedMessage, match="at most 1000 topics"):
        peer.send(type="subscription", action="subscribe", topics=["global"])
    assert len(peer.session.audience.topics) == 1000


def test_a_heartbeat_is_answered():
    assert Peer(StreamDialect()).send(type="heartbeat")[0]["type"] == "heartbeat"
