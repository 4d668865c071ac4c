"""Every message of every dialect over a real socket, by a client that knows only JSON and docs/dialects.md."""

from __future__ import annotations

import json
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from legacy_ws.server import LegacyServer
from monitoring.events import to_json
from tests.fakes.dialect_host import told
from tests.fakes.event_factory import event, run
from tests.fakes.seeds import assert_like, seed
from tests.integration.legacy.conftest import (
    BEARER,
    STREAM_TOKEN,
    TOKEN,
    dashboard,
    get,
    until,
)
from tests.unit.legacy_ws.test_container_states import changed, entry, listed

WEB = "web-1/system"


# /ws


async def test_an_export_is_a_file_that_holds_the_data(server):
    server.hub.take([*run(WEB, 5), *run("db-1/system", 2)])
    async with dashboard(server.url) as client:
        await client.send(type="export", topics=["devices.web-1"])
        complete = await client.next("export_complete")
        assert complete["path"] == f"/exports/{complete['file']}"
        assert complete["events"] == 5
        status, body = await get(server.port, complete["path"])
        assert status == 200
        assert complete["size_bytes"] == len(body)
        assert [json.loads(line) for line in body.splitlines()] == [
            json.loads(json.dumps(to_json(one))) for one in run(WEB, 5)
        ]


@pytest.mark.parametrize(
    "path", ["/exports/", "/exports/x", "/exports/../legacy/link.token", "/exports/%2e%2e/x"]
)
async def test_only_exports_are_served(server, path):
    status, _ = await get(server.port, path)
    assert status == 404


async def test_only_the_newest_exports_are_kept(server, tmp_path):
    async with dashboard(server.url) as client:
        for _ in range(22):
            await client.send(type="export")
            await client.next("export_complete")
    assert len(list((tmp_path / "exports").iterdir())) == 20


async def test_an_export_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    for directory, reason in ((None, "keeps no exports"), (tmp_path / "file", "cannot be written")):
        async with (
            LegacyServer(token=TOKEN, port=0, export_dir=directory) as server,
            dashboard(server.url) as client,
        ):
            await client.send(type="export")
            assert reason in (await client.next("error"))["error"]


async def test_a_test_event_reaches_every_dashboard(server):
    async with dashboard(server.url) as one, dashboard(server.url) as other:
        await other.next("initial_stats")
        await one.send(type="test_event", metadata={"from": "one"})
        first = await one.next("test_event")
        assert first == await other.next("test_event")
        assert_like({**first, "type": "event"}, seed("001_event"))


async def test_initial_stats_tells_what_applications_told(server):
    server.hub.take(
        [
            told("app-7/redis", "connection_event", 1, response_time_ms=10, data_size_bytes=100),
            told("app-7/redis", "connection_event", 2, response_time_ms=20, error="timed out"),
            told("app-7/sessions", "session_created", 1, session_id="s1"),
            told("app-7/semaphores", "semaphore_gauge", 1, name="db", limit=5, in_use=2, waiting=0),
        ]
    )
    async with dashboard(server.url) as client:
        message = await client.next("initial_stats")
    assert_like(message, seed("001_initial_stats"), extra={"sessions", "semaphores"})
    redis = message["stats"]["redis"]
    assert (redis["events"], redis["errors"], redis["average_response_time_ms"]) == (2, 1, 15.0)
    assert message["session_metrics"] == {"active_count": 1, "total_count": 1}
    assert message["semaphore_metrics"] == {"app-7/db": {"limit": 5, "in_use": 2, "waiting": 0}}
    assert message["websocket_health"]["clients_by_dialect"]["dashboard"] == 1
    assert message["recent_events"][0]["response_time_ms"] == 10


# /ws/containers and /ws/frontend


async def test_the_controller_tells_the_state_then_changes(server):
    server.hub.take([listed(entry("ffmpeg-kick", "exited"))])
    async with dashboard(server.url_of("/ws/containers")) as client:
        first = await client.next()
        assert_like(first, seed("002_initial_state"), extra={"device"})
        assert [one["name"] for one in first["containers"]] == ["ffmpeg-kick"]
        began = time.monotonic()
        server.hub.take([changed_at("ffmpeg-kick", 3, "running", "starting")])
        change = await client.next()
        assert time.monotonic() - began < 2
        assert_like(change, seed("002_status_change"), extra={"device"})
        assert change["changes"][0]["previousStatus"] == "exited"
        assert change["changes"][0]["currentStatus"] == "running"


def changed_at(name, seq, status, health=None):
    one = changed(name, status, health=health)
    return told("web-1/containers", one.kind, seq, **one.payload)


async def test_the_relay_tells_one_shape(server):
    server.hub.take([listed(entry("a", "exited"))])
    async with dashboard(server.url_of("/ws/frontend")) as client:
        first = await client.next()
        assert_like({**first, "changes": []}, seed("002_container_update"), extra={"device"})
        server.hub.take([changed_at("a", 3, "running")])
        update = await client.next()
        assert_like(update, seed("002_container_update"), extra={"device"})
        assert [one["status"] for one in update["containers"]] == ["running"]


async def test_containers_that_come_and_go_are_told(server):
    server.hub.take([listed(entry("a"))])
    async with dashboard(server.url_of("/ws/containers")) as client:
        await client.next("initial_state")
        both = told(
            "web-1/containers",
            "containers_collected",
            3,
            available=True,
            containers=[entry("a"), entry("b", id_="b")],
        )
        server.hub.take([both])
        (new,) = (await client.next("status_change"))["changes"]
        assert (new["name"], new["previousStatus"], new["currentStatus"]) == ("b", None, "running")
        server.hub.take(
            [
                told(
                    "web-1/containers",
                    "containers_collected",
                    4,
                    available=True,
                    containers=[entry("b", id_="b")],
                )
            ]
        )
        (gone,) = (await client.next("status_change"))["changes"]
        assert (gone["name"], gone["previousStatus"], gone["currentStatus"]) == ("a", "running", "removed")


@pytest.mark.parametrize("path", ["/ws/containers", "/ws/frontend"])
async def test_an_unknown_container_is_an_error_that_names_it(server, path):
    async with dashboard(server.url_of(path)) as client:
        await client.send(type="subscribe_logs", container="no-such")
        assert "no-such" in (await client.next("error"))["error"]
        await client.send(type="unsubscribe_logs", container="never-subscribed")
        await client.send(type="nonsense")
        assert "nonsense" in (await client.next("error"))["error"]


@pytest.mark.parametrize("path", ["/ws/containers", "/ws/frontend"])
async def test_logs_are_read_while_somebody_is_subscribed_and_not_otherwise(server, logs, path):
    server.hub.take([listed(entry("ffmpeg-kick"))])
    logs.write("web-1", "ffmpeg-kick", "Starting FFmpeg...", "Connected to Kick...")
    async with dashboard(server.url_of(path)) as one, dashboard(server.url_of(path)) as other:
        await one.next()
        assert logs.reading == set()
        await one.send(**seed("002_subscribe_logs"))
        snapshot = await one.next("log_snapshot")
        assert snapshot == {
            **seed("002_log_snapshot"),
            "logs": snapshot["logs"],
            "lastLogTimestamp": snapshot["lastLogTimestamp"],
        }
        assert snapshot["logs"] == [
            "2025-11-25T22:52:30.123Z Starting FFmpeg...",
            "2025-11-25T22:52:31.123Z Connected to Kick...",
        ]
        assert snapshot["lastLogTimestamp"] == "2025-11-25T22:52:31.123Z"
        began = time.monotonic()
        logs.write("web-1", "ffmpeg-kick", "Stream started")
        fresh = await one.next()
        assert time.monotonic() - began < 0.5
        assert_like(fresh, seed("002_new_logs"))
        assert fresh["logs"] == ["2025-11-25T22:52:32.123Z Stream started"]
        await other.send(type="subscribe_logs", container="ffmpeg-kick", lines=1)
        assert (await other.next("log_snapshot"))["logs"] == fresh["logs"]
        logs.write("web-1", "ffmpeg-kick", "both")
        assert (await one.next())["logs"] == (await other.next())["logs"]
        await one.send(**seed("002_unsubscribe_logs"))
        await other.send(**seed("002_unsubscribe_logs"))
        await until(lambda: not logs.reading)
        assert server._desk.followed == 0


async def test_lines_before_a_second_snapshot_are_told_once_to_each(server, logs):
    server.hub.take([listed(entry("a"))])
    logs.write("web-1", "a", "1")
    async with (
        dashboard(server.url_of("/ws/containers")) as one,
        dashboard(server.url_of("/ws/containers")) as other,
    ):
        await one.send(type="subscribe_logs", container="a")
        await one.next("log_snapshot")
        logs.write("web-1", "a", "2")
        await until(lambda: server._desk._followers["web-1", "a"].fresh)
        await other.send(type="subscribe_logs", container="a")
        snapshot = await other.next("log_snapshot")
        logs.write("web-1", "a", "3")
        assert [line[-1] for line in snapshot["logs"]] == ["1", "2"]
        assert [line[-1] for line in (await other.next("new_logs"))["logs"]] == ["3"]
        assert [line[-1] for _ in range(2) for line in (await one.next("new_logs"))["logs"]] == ["2", "3"]


async def test_a_client_that_leaves_ends_its_reading(server, logs):
    server.hub.take([listed(entry("a"))])
    async with dashboard(server.url_of("/ws/containers")) as client:
        await client.send(type="subscribe_logs", container="a")
        assert (await client.next("log_snapshot"))["lastLogTimestamp"] is None
    await until(lambda: not logs.reading)


async def test_a_log_that_ends_is_said_and_can_be_followed_again(server, logs):
    server.hub.take([listed(entry("a"))])
    async with dashboard(server.url_of("/ws/containers")) as client:
        await client.send(type="subscribe_logs", container="a")
        await client.next("log_snapshot")
        logs.write("web-1", "a", "last words")
        logs.fail("web-1", "a", "Docker went away")
        assert (await client.next("new_logs"))["logs"][0].endswith("last words")
        assert "Docker went away" in (await client.next("error"))["error"]
        logs._failed.clear()
        await client.send(type="subscribe_logs", container="a", lines=0)
        assert (await client.next("log_snapshot"))["logs"] == []


async def test_a_source_that_errs_ends_its_own_reading_and_no_clock(server, logs):
    server.hub.take([listed(entry("a"))])
    async with (
        dashboard(server.url_of("/ws/containers")) as client,
        dashboard(server.url_of("/ws/metrics")) as metrics,
    ):
        await client.send(type="subscribe_logs", container="a")
        await client.next("log_snapshot")
        logs.broken.add(("web-1", "a"))
        logs.write("web-1", "a", "x")
        assert "reading it failed" in (await client.next("error"))["error"]
        await metrics.next("realtime_update")
        assert (await metrics.next("realtime_update"))["data"]


async def test_a_client_may_not_follow_everything(server, logs):
    server.hub.take([listed(*(entry(f"c{n}") for n in range(21)))])
    async with dashboard(server.url_of("/ws/containers")) as client:
        for number in range(21):
            await client.send(type="subscribe_logs", container=f"c{number}")
        assert "at most 20 containers" in (await client.next("error"))["error"]
    await until(lambda: not logs.reading)


async def test_a_server_whose_links_have_no_logs_says_so():
    async with (
        LegacyServer(token=TOKEN, port=0) as server,
        dashboard(server.url_of("/ws/containers")) as client,
    ):
        server.hub.take([listed(entry("a"))])
        await client.send(type="subscribe_logs", container="a")
        assert (await client.next("error"))["error"] == (
            "no logs of 'a': no collector that has the container logs of web-1 is connected"
        )


# /ws/metrics


async def test_updates_come_every_three_seconds_and_only_what_was_asked_for(server):
    async with (
        dashboard(server.url_of("/ws/metrics")) as plain,
        dashboard(server.url_of("/ws/metrics")) as page,
    ):
        assert (await plain.next())["type"] == "connected"
        assert_like(await plain.next(), seed("003_realtime_update"))
        await page.send(type="subscribe", page="containers")
        await page.next("subscribed")
        await page.next("realtime_update")
        first = await page.next("realtime_update")
        began = time.monotonic()
        assert list(first["data"]) == ["containers"]
        second = await page.next("realtime_update")
        assert 2.5 < time.monotonic() - began < 4
        assert second["timestamp"] > first["timestamp"]
        assert list((await plain.next("realtime_update"))["data"]) == ["metrics", "containers", "sessions"]
        await plain.next("heartbeat", seconds=20)
        _, health = await get(server.port, "/health")
        assert json.loads(health)["subscriptions"]["metrics"] == {
            "containers": 2,
            "metrics": 1,
            "sessions": 1,
        }


async def test_session_events_and_alerts_reach_the_pages_that_show_them(server):
    async with dashboard(server.url_of("/ws/metrics")) as page:
        await page.send(type="subscribe", page="sessions")
        assert (await page.next("session_list"))["sessions"] == []
        server.hub.take([told("app-7/sessions", "session_created", 1, session_id="s1")])
        assert (await page.next("session_event"))["session"]["id"] == "s1"
        await page.send(type="subscribe", page="alerts")
        await page.next("alert_list")
        server.hub.take([told("web-1/alerts", "alert_raised", 1, rule="cpu")])
        assert (await page.next("system_alert"))["alert"]["rule"] == "cpu"


async def test_sessions_and_alerts_end_and_a_page_that_unsubscribes_hears_nothing_more(server):
    async with dashboard(server.url_of("/ws/metrics")) as page:
        await page.send(type="subscribe", sections=["session_events", "alerts"])
        assert (await page.next("subscribed"))["sections"] == ["session_events", "alerts"]
        await page.next("alert_list")
        for seq, (kind, what) in enumerate(
            [
                ("session_created", "created"),
                ("session_updated", "updated"),
                ("session_destroyed", "destroyed"),
            ],
            1,
        ):
            server.hub.take([told("app-7/sessions", kind, seq, session_id="s1")])
            change = await page.next("session_event")
            assert (change["event"], change["sessions"]["active_count"]) == (what, int(what != "destroyed"))
        for seq, (kind, what) in enumerate([("alert_raised", "raised"), ("alert_resolved", "resolved")], 1):
            server.hub.take([told("web-1/alerts", kind, seq, rule="cpu")])
            assert (await page.next("system_alert"))["event"] == what
        await page.send(type="unsubscribe")
        assert (await page.next("subscribed"))["sections"] == []
        server.hub.take([told("app-7/sessions", "session_created", 4, session_id="s2")])
        await page.send(type="heartbeat")
        assert (await page.next())["type"] == "heartbeat"


# /ws/stream


async def test_what_happened_is_an_event_and_topics_can_be_left(server):
    async with dashboard(server.url_of("/ws/stream"), additional_headers=BEARER) as client:
        await client.send(type="subscription", action="subscribe", topics=["devices.web-1", "devices.app-7"])
        assert (await client.next("subscription"))["topics"] == ["devices.app-7", "devices.web-1"]
        server.hub.take([told("app-7/sessions", "session_created", 1, session_id="s1")])
        happened = await client.next()
        assert (happened["type"], happened["data"]["event_type"]) == ("event", "session_created")
        await client.send(type="subscription", action="unsubscribe", topics=["devices.app-7"])
        answer = await client.next()
        assert (answer["action"], answer["topics"]) == ("unsubscribed", ["devices.web-1"])
        server.hub.take([told("app-7/sessions", "session_created", 2, session_id="s2"), event(WEB, 1)])
        assert (await client.next())["stream"] == WEB


@pytest.mark.parametrize(
    "settings", [{"additional_headers": BEARER}, {"subprotocols": ["bearer", STREAM_TOKEN]}]
)
async def test_a_token_at_the_handshake_opens_the_stream(server, settings):
    async with dashboard(server.url_of("/ws/stream"), **settings) as client:
        await client.send(type="subscription", action="subscribe", topics=["metrics.system_metrics"])
        assert (await client.next())["action"] == "subscribed"
        server.hub.take([event(WEB, 1, cpu_usage=12.5), event("web-1/drives", 1)])
        message = await client.next()
        assert (message["type"], message["data"]["cpu_usage"], message["seq"]) == ("data", 12.5, 1)
        await client.send(type="heartbeat")
        assert (await client.next())["type"] == "heartbeat"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"additional_headers": {"Authorization": "Bearer wrong"}},
        {"additional_headers": {"Authorization": f"Bearer {TOKEN}"}},
        {"additional_headers": [("Authorization", f"Bearer {STREAM_TOKEN}"), ("Authorization", "Bearer x")]},
        {"subprotocols": ["bearer", "wrong"]},
        {"subprotocols": ["bearer"]},
        {"subprotocols": [STREAM_TOKEN]},
    ],
)
async def test_without_the_token_the_stream_stays_shut(server, settings):
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.url_of("/ws/stream"), proxy=None, **settings)
    assert refused.value.response.status_code == 401


async def test_a_server_without_a_token_keeps_the_stream_shut():
    async with LegacyServer(token=TOKEN, port=0) as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.url_of("/ws/stream"), proxy=None, additional_headers=BEARER)
        assert refused.value.response.status_code == 503
        assert b"--stream-token-file" in refused.value.response.body


async def test_a_stream_resumes_after_its_cursor(server):
    server.hub.take(run(WEB, 5))
    async with dashboard(server.url_of("/ws/stream"), additional_headers=BEARER) as client:
        await client.send(type="subscription", action="subscribe", topics=["global"], cursor={WEB: [1, 3]})
        answer = await client.next()
        assert (answer["heads"], answer["gaps"]) == ({WEB: [1, 5]}, [])
        server.hub.take([event(WEB, 6)])
        assert [(await client.next())["seq"] for _ in range(3)] == [4, 5, 6]
