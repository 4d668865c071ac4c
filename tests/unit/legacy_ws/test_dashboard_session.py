"""What a connection to /ws asks of its host, and what it is told."""

from __future__ import annotations

import json

import pytest

from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol.dashboard_dialect import DashboardDialect
from legacy_ws.protocol.dialect import (
    Arrival,
    AskExport,
    AskFigures,
    AskReplay,
    AskSnapshot,
    Exported,
    Figures,
)
from monitoring.cursor import Cursor
from monitoring.events import Position, StreamId
from monitoring.topics import GLOBAL
from tests.fakes.dialect_host import NOW, Peer
from tests.fakes.event_factory import event
from tests.fakes.seeds import assert_like, seed

WEB = StreamId("web-1/system")


def figures(*recent):
    return Figures({"redis": {"events": 1}, "system": {}}, {}, {}, {"status": "ok"}, recent, NOW)


def test_the_first_message_has_every_section_of_the_seed():
    peer = Peer(DashboardDialect())
    (ask,) = peer.asks
    assert isinstance(ask, AskFigures)
    message = json.loads(ask.write(figures(Arrival(event(WEB, 3), NOW))))
    assert_like(message, seed("001_initial_stats"), extra={"system"})
    assert list(message["stats"]) == ["websocket", "redis", "supabase", "kimi", "glm", "system"]
    assert message["stats"]["redis"] == {"events": 1}
    assert_like(message["recent_events"][0], seed("001_event"))


def test_stats_on_request_are_the_same_under_their_own_type():
    peer = Peer(DashboardDialect())
    peer.send(type="stats")
    first, again = (json.loads(ask.write(figures())) for ask in peer.asks)
    assert (first["type"], again["type"]) == ("initial_stats", "stats")
    assert {**first, "type": ""} == {**again, "type": ""}


def test_a_plain_client_gets_news_a_subscriber_its_topics_history_too():
    peer = Peer(DashboardDialect())
    assert_like(peer.hears(event(WEB, 2)), seed("001_event"))
    assert peer.hears(event(WEB, 3), news=False) is None
    peer.send(type="subscribe", topics=["devices.web-1"], cursor={WEB: [1, 3]})
    ask = peer.asks[-1]
    assert isinstance(ask, AskReplay)
    assert ask.since == {WEB: (1, 3)}
    assert peer.hears(event("db-1/system", 2)) is not None, "not granted yet: still a plain client"
    assert json.loads(ask.granted(Cursor({WEB: Position(1, 3)}), ())) == {
        "type": "subscribed",
        "heads": {WEB: [1, 3]},
        "gaps": [],
    }
    assert peer.hears(event("db-1/system", 3)) is None
    assert peer.hears(event(WEB, 4), news=False) is not None


def test_equal_subscriptions_are_one_audience_and_share_a_message():
    dialect = DashboardDialect()
    peers = [Peer(dialect) for _ in range(3)]
    for peer in peers[1:]:
        peer.send(type="subscribe", topics=["global"])
        peer.asks[-1].granted(Cursor(), ())
    assert peers[1].session.audience == peers[2].session.audience != peers[0].session.audience
    telling = dialect.take(Arrival(event(WEB, 2), NOW), news=True)
    assert telling(peers[0].session.audience) is telling(peers[1].session.audience)


def test_an_export_asks_for_a_file_and_tells_where_it_is():
    peer = Peer(DashboardDialect())
    peer.send(type="export")
    ask = peer.asks[-1]
    assert isinstance(ask, AskExport)
    assert ask.topics == {GLOBAL}
    assert json.loads(ask.write(Exported("a.jsonl", "/exports/a.jsonl", 59, 48120))) == {
        "type": "export_complete",
        "file": "a.jsonl",
        "path": "/exports/a.jsonl",
        "format": "jsonl",
        "events": 59,
        "size_bytes": 48120,
        "timestamp": "2026-11-21T12:00:00.000000Z",
    }
    assert json.loads(ask.failed("the disk is full"))["error"] == "the disk is full"


def test_a_snapshot_is_asked_for():
    peer = Peer(DashboardDialect())
    peer.send(type="snapshot", topics=["devices.web-1"])
    ask = peer.asks[-1]
    assert isinstance(ask, AskSnapshot)
    answer = json.loads(ask.write((event(WEB, 3),), Cursor({WEB: Position(1, 3)})))
    assert (answer["type"], answer["state"][0]["seq"], answer["cursor"]) == ("snapshot", 3, {WEB: [1, 3]})


def test_a_test_event_reaches_everybody_in_the_shape_of_an_event():
    peer = Peer(DashboardDialect())
    (message,) = peer.send(type="test_event", metadata={"from": "me"})
    assert_like({**message, "type": "event"}, seed("001_event"))
    assert message["metadata"] == {"from": "me"}


@pytest.mark.parametrize(
    ("metadata", "reason"), [({"x": "y" * 5000}, "at most 4096 bytes"), ([], "metadata must be dict")]
)
def test_a_test_event_cannot_burden_everybody(metadata, reason):
    with pytest.raises(MalformedMessage, match=reason):
        Peer(DashboardDialect()).send(type="test_event", metadata=metadata)


def test_a_test_event_nested_too_deeply_is_refused():
    peer = Peer(DashboardDialect())
    with pytest.raises(MalformedMessage, match="nested too deeply"):
        peer.session.received('{"type":"test_event","metadata":' + '{"a":' * 300 + "1" + "}" * 301, NOW)
