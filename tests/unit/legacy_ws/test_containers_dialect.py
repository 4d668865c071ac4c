"""The controller and the relay against seed 002's JSON."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol import containers, frontend
from legacy_ws.protocol.dialect import AskLogs, EndLogs, LogTail
from legacy_ws.protocol.records import encode
from tests.fakes.dialect_host import NOW, Peer, told
from tests.fakes.seeds import assert_like, quoted, seed
from tests.unit.legacy_ws.test_container_states import changed, entry, listed

SERVER_MESSAGES = ["002_initial_state", "002_status_change", "002_log_snapshot", "002_new_logs"]


@pytest.mark.parametrize("name", SERVER_MESSAGES)
def test_the_seeds_messages_are_read_and_written_unchanged(name):
    assert json.loads(encode(containers.SERVER.read(quoted(name)))) == seed(name)


@pytest.mark.parametrize("name", ["002_subscribe_logs", "002_unsubscribe_logs"])
def test_the_seeds_requests_are_read_and_written_unchanged(name):
    again = json.loads(encode(containers.CLIENT.read(quoted(name))))
    # 100 lines are what a request means that names none
    assert {"lines": 100, **again} == {"lines": 100, **seed(name)}


def test_the_relays_message_is_read_and_written_unchanged():
    message = frontend.SERVER.read(quoted("002_container_update"))
    assert {"changes": [], **json.loads(encode(message))} == seed("002_container_update")


def test_the_state_on_connect_has_the_seeds_shape():
    dialect = containers.ContainerDialect(prefix="latestrelayer-")
    started = (NOW - timedelta(hours=2)).isoformat()
    Peer(dialect).hears(listed(entry("latestrelayer-nginx-proxy", health="healthy", started_at=started)))
    (first,) = Peer(dialect).messages
    assert_like(first, seed("002_initial_state"), extra={"device"})
    assert first["timestamp"] == "2026-11-21T12:00:00.000Z"
    assert first["containers"] == [
        {
            "name": "nginx-proxy",
            "full_name": "latestrelayer-nginx-proxy",
            "status": "running",
            "status_detail": "Up 2 hours (healthy)",
            "running": True,
            "health": "healthy",
            "id": "abc",
            "created": True,
            "device": "web-1",
        }
    ]


def test_a_change_has_the_seeds_shape_and_values():
    peer = Peer(containers.ContainerDialect())
    peer.hears(listed(entry("ffmpeg-kick", "exited")))
    message = peer.hears(changed("ffmpeg-kick", "running", health="starting"), at=NOW + timedelta(seconds=5))
    assert_like(message, seed("002_status_change"), extra={"device"})
    wanted = {**seed("002_status_change"), "timestamp": "2026-11-21T12:00:05.000Z"}
    wanted["changes"][0]["device"] = "web-1"
    assert message == wanted


def test_only_changes_of_status_health_or_running_are_told():
    peer = Peer(containers.ContainerDialect())
    assert peer.hears(listed(entry("a"))) is not None
    assert peer.hears(listed(entry("a", cpu_percent=50.0))) is None
    assert peer.hears(told("web-1/system", "metric_collected", cpu_usage=1)) is None
    assert peer.hears(listed(entry("a", health="unhealthy")))["changes"][0]["currentHealth"] == "unhealthy"


def test_a_container_that_is_gone_is_removed():
    peer = Peer(containers.ContainerDialect())
    peer.hears(listed(entry("a")))
    (change,) = peer.hears(listed())["changes"]
    assert (change["previousStatus"], change["currentStatus"], change["running"]) == (
        "running",
        "removed",
        False,
    )


def test_restored_history_is_no_news_and_is_told_as_a_state_once_it_is_there():
    dialect = containers.ContainerDialect()
    peer = Peer(dialect)
    assert peer.hears(listed(entry("a")), news=False) is None
    (telling,) = dialect.filled(NOW)
    state = json.loads(telling(peer.session.audience))
    assert state["type"] == "initial_state"
    assert [one["name"] for one in state["containers"]] == ["a"]


def test_the_relay_sends_one_shape_and_the_last_known_state_while_docker_is_away():
    dialect = frontend.FrontendDialect()
    peer = Peer(dialect)
    update = peer.hears(listed(entry("a", "exited")))
    assert_like(update, seed("002_container_update"), extra={"device"})
    update = peer.hears(changed("a", "running"))
    assert [one["status"] for one in update["containers"]] == ["running"]
    assert update["changes"][0]["previousStatus"] == "exited"
    peer.hears(listed(available=False))
    (first,) = Peer(dialect).messages
    assert list(first) == ["type", "timestamp", "containers", "stale"]
    assert [one["name"] for one in first["containers"]] == ["a"]
    assert first["stale"] is True


def test_logs_are_asked_for_by_any_of_a_containers_names():
    dialect = containers.ContainerDialect(prefix="app-")
    peer = Peer(dialect)
    peer.hears(listed(entry("app-web")))
    for name in ("web", "app-web", "web-1/app-web"):
        peer.send(type="subscribe_logs", container=name, lines=5000)
        ask = peer.asks.pop()
        assert isinstance(ask, AskLogs)
        assert (ask.container, ask.device, ask.full_name, ask.lines) == (name, "web-1", "app-web", 1000)
    tail = LogTail("web", ("2025-11-25T22:52:30.123Z Starting",), NOW)
    assert_like(json.loads(ask.snapshot(tail)), seed("002_log_snapshot"))
    assert_like(json.loads(ask.more(tail)), seed("002_new_logs"))
    assert json.loads(ask.failed("no"))["error"] == "no"
    peer.send(type="unsubscribe_logs", container="web")
    assert peer.asks == [EndLogs("web")]


def test_a_name_on_two_machines_has_to_be_told_apart():
    peer = Peer(containers.ContainerDialect())
    peer.hears(listed(entry("web")))
    peer.hears(told("db-1/containers", "containers_collected", available=True, containers=[entry("web")]))
    with pytest.raises(MalformedMessage, match="several containers: db-1/web, web-1/web"):
        peer.send(type="subscribe_logs", container="web")
    peer.send(type="subscribe_logs", container="db-1/web")
    assert peer.asks[0].device == "db-1"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "subscribe_logs"}, "container is missing"),
        ({"type": "subscribe_logs", "container": "nobody"}, "no container 'nobody' is known"),
        ({"type": "subscribe_logs", "container": "a", "lines": -1}, "lines must be 0 or more"),
        ({"type": "subscribe_logs", "container": "a", "lines": "all"}, "lines must be int"),
        ({"type": "subscribe_logs", "container": ""}, "container must be a name"),
        ({"type": "subscribe_logs", "container": "x" * 301}, "container must be a name"),
        ({"type": "initial_state"}, "unknown message type 'initial_state'"),
    ],
)
def test_a_bad_request_is_named(message, reason):
    peer = Peer(containers.ContainerDialect())
    peer.hears(listed(entry("a")))
    with pytest.raises(MalformedMessage, match=reason):
        peer.send(**message)
    error = json.loads(peer.session.refused("why", NOW))
    assert error == {"type": "error", "error": "why", "timestamp": "2026-11-21T12:00:00.000Z"}
