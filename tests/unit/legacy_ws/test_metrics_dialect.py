"""/ws/metrics against seed 003's JSON, and what its later phases need."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol import metrics
from legacy_ws.protocol.dialect import Arrival
from legacy_ws.protocol.metrics import MetricsDialect, OldMetricsDialect
from legacy_ws.protocol.records import encode
from tests.fakes.dialect_host import NOW, Peer, told
from tests.fakes.seeds import assert_like, quoted, seed

MB = 1024 * 1024
LATER = NOW + timedelta(seconds=3)


def feed(peer):
    """Tell a dialect what makes the seed's figures."""
    peer.hears(
        told(
            "web-1/system",
            "metric_collected",
            cpu_usage=45.2,
            memory_usage=62.1,
            memory={"total_bytes": 1000 * MB, "used_bytes": 621 * MB},
        )
    )
    entry = {
        "id": "a1",
        "name": "kato",
        "status": "running",
        "health": None,
        "running": True,
        "cpu_percent": 1.55,
        "memory_used_bytes": int(97.41 * MB),
        "memory_limit_bytes": 7856 * MB,
    }
    peer.hears(told("web-1/containers", "containers_collected", available=True, containers=[entry]))
    for number in range(3):
        peer.hears(told("app-7/sessions", "session_created", session_id=f"s{number}", user="u"))
    peer.hears(told("app-7/sessions", "session_destroyed", session_id="s0"))
    peer.hears(told("app-7/http", "http_requests", count=125, interval_seconds=10))


def test_the_seeds_update_is_read_and_written_unchanged():
    text = quoted("003_realtime_update")
    assert json.loads(encode(metrics.SERVER.read(text))) == seed("003_realtime_update")


def test_the_seeds_old_form_is_read_and_written_unchanged():
    text = quoted("003_metrics_update")
    assert json.loads(encode(metrics.SERVER.read(text))) == seed("003_metrics_update")


def test_an_update_has_the_seeds_shape_and_the_figures_that_were_told():
    peer = Peer(MetricsDialect())
    feed(peer)
    update, heartbeat = peer.ticks(LATER)
    assert_like(update, seed("003_realtime_update"))
    assert update["data"] == {
        "metrics": {
            "sessions": {"active": 2, "total": 3},
            "requests": {"total": 125, "per_second": 12.5},
            "resources": {"cpu_percent": 45.2, "memory_percent": 62.1},
        },
        "containers": {
            "aggregated": {
                "total_cpu_percent": 1.55,
                "total_memory_mb": 97.41,
                "total_memory_percent": 9.74,
                "container_count": 1,
            },
            "containers": [
                {
                    "name": "kato",
                    "cpu": 1.55,
                    "memory": {"usage_mb": 97.41, "usage_percent": 1.24},
                    "status": "running",
                }
            ],
        },
        "sessions": {"active_count": 2, "total_count": 3},
    }
    assert heartbeat == {"type": "heartbeat", "timestamp": "2026-11-21T12:00:03.000Z"}


def test_a_client_is_connected_and_shown_the_state_at_once():
    connected, update = Peer(MetricsDialect()).messages
    assert connected["type"] == "connected"
    assert connected["interval_seconds"] == 3
    assert connected["sections"] == ["metrics", "containers", "sessions"]
    assert_like(update, seed("003_realtime_update"))


def test_figures_nobody_told_are_null_not_zero():
    update = Peer(MetricsDialect()).messages[1]
    assert update["data"]["metrics"]["resources"] == {"cpu_percent": None, "memory_percent": None}
    assert update["data"]["containers"]["aggregated"]["total_memory_percent"] is None


def test_a_heartbeat_comes_every_fifth_time():
    peer = Peer(MetricsDialect())
    types = [[one["type"] for one in peer.ticks(NOW + timedelta(seconds=3 * step))] for step in range(11)]
    assert [number for number, told_ in enumerate(types) if "heartbeat" in told_] == [0, 5, 10]


@pytest.mark.parametrize("ask", [True, False])
def test_old_clients_get_the_old_form(ask):
    peer = Peer(MetricsDialect() if ask else OldMetricsDialect())
    if ask:
        subscribed, _ = peer.send(type="subscribe", form="metrics_update")
        assert subscribed["form"] == "metrics_update"
    feed(peer)
    update = peer.ticks(LATER)[0]
    assert_like(update, seed("003_metrics_update"))
    assert update["data"] == {
        "sessions": {"active": 2, "total": 3},
        "requests": {"total": 125, "per_second": 12.5},
    }


@pytest.mark.parametrize(
    ("page", "sections"),
    [
        ("dashboard", {"metrics", "containers", "sessions"}),
        ("containers", {"containers"}),
        ("sessions", {"sessions"}),
    ],
)
def test_a_page_is_sent_only_what_it_shows(page, sections):
    peer = Peer(MetricsDialect())
    assert peer.send(type="subscribe", page=page)[0]["page"] == page
    assert set(peer.ticks(LATER)[0]["data"]) == sections


def test_a_page_without_updates_is_sent_none():
    peer = Peer(MetricsDialect())
    peer.send(type="subscribe", page="alerts")
    assert [one["type"] for one in peer.ticks(LATER)] == ["heartbeat"]
    peer.send(type="unsubscribe")
    assert peer.session.audience.sections == frozenset()


def test_sections_can_be_named_one_by_one():
    peer = Peer(MetricsDialect())
    subscribed, *_ = peer.send(type="subscribe", sections=["containers", "alerts"])
    assert subscribed["sections"] == ["containers", "alerts"]
    assert list(peer.dialect.subscriptions(peer.session.audience)) == ["containers", "alerts"]


def test_session_events_change_the_list_that_came_first():
    dialect = MetricsDialect()
    plain, peer = Peer(dialect), Peer(dialect)
    dialect.take(
        Arrival(told("app-7/sessions", "session_created", session_id="s0", user="u"), NOW), news=True
    )
    _, _, first = peer.send(type="subscribe", page="sessions")
    assert first["type"] == "session_list"
    assert first["sessions"] == [{"session_id": "s0", "user": "u", "id": "s0", "application": "app-7"}]
    event = told("app-7/sessions", "session_destroyed", session_id="s0")
    telling = dialect.take(Arrival(event, NOW), news=True)
    assert telling(plain.session.audience) is None
    assert json.loads(telling(peer.session.audience)) == {
        "type": "session_event",
        "timestamp": "2026-11-21T12:00:00.000Z",
        "event": "destroyed",
        "session": {"session_id": "s0", "id": "s0", "application": "app-7"},
        "sessions": {"active_count": 0, "total_count": 1},
    }


def test_alerts_are_told_at_once_and_listed_until_resolved():
    dialect = MetricsDialect()
    peer = Peer(dialect)
    peer.send(type="subscribe", page="alerts")
    raised = peer.hears(told("web-1/alerts", "alert_raised", rule="cpu", value=97, threshold=90))
    assert (raised["type"], raised["event"]) == ("system_alert", "raised")
    assert raised["alert"] == {
        "rule": "cpu",
        "value": 97,
        "threshold": 90,
        "device": "web-1",
        "at": "2026-11-21T12:00:00.000Z",
    }
    again = Peer(dialect)
    assert again.send(type="subscribe", page="alerts")[-1]["alerts"] == [raised["alert"]]
    assert peer.hears(told("web-1/alerts", "alert_resolved", rule="cpu"))["event"] == "resolved"
    assert again.send(type="subscribe", page="alerts")[-1]["alerts"] == []


def test_restored_history_counts_and_is_no_news():
    peer = Peer(MetricsDialect())
    peer.send(type="subscribe", page="sessions")
    assert peer.hears(told("a/sessions", "session_created", session_id="x"), news=False) is None
    told_ = [telling(peer.session.audience) for telling in peer.dialect.filled(NOW)]
    update, sessions = [json.loads(message) for message in told_ if message]
    assert update["data"]["sessions"]["active_count"] == 1
    assert [one["id"] for one in sessions["sessions"]] == ["x"]


def test_equal_subscriptions_are_one_audience():
    dialect = MetricsDialect()
    first, second = Peer(dialect), Peer(dialect)
    first.send(type="subscribe", page="containers")
    second.send(type="subscribe", sections=["containers"])
    assert first.session.audience == second.session.audience


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "subscribe", "page": "secret"}, "unknown page 'secret'; pages are dashboard"),
        ({"type": "subscribe", "sections": ["x"]}, "unknown section 'x'"),
        ({"type": "subscribe", "sections": "x"}, "sections must be list"),
        ({"type": "subscribe", "form": "x"}, "unknown form 'x'"),
        ({"type": "realtime_update"}, "unknown message type"),
    ],
)
def test_a_bad_request_is_named_and_changes_nothing(message, reason):
    peer = Peer(MetricsDialect())
    before = peer.session.audience
    with pytest.raises(MalformedMessage, match=reason):
        peer.send(**message)
    assert peer.session.audience == before


def test_a_heartbeat_is_answered():
    assert Peer(MetricsDialect()).send(type="heartbeat") == [
        {"type": "heartbeat", "timestamp": "2026-11-21T12:00:00.000Z"}
    ]


def test_figures_of_the_wrong_type_spoil_nothing():
    peer = Peer(MetricsDialect())
    peer.hears(told("a/system", "metric_collected", cpu_usage="much", memory_usage=None, memory=[1]))
    peer.hears(
        told("a/system", "metric_collected", cpu_usage=True, memory={"total_bytes": "x", "used_bytes": -1})
    )
    peer.hears(told("a/http", "http_requests", count=-5, interval_seconds=0))
    peer.hears(told("a/http", "http_requests", count="x"))
    peer.hears(told("a/sessions", "session_created", session_id=5))
    peer.hears(told("a/alerts", "alert_raised", rule=None))
    data = peer.ticks(LATER)[0]["data"]
    assert data["metrics"]["requests"] == {"total": 0, "per_second": 0}
    assert data["sessions"] == {"active_count": 0, "total_count": 0}
