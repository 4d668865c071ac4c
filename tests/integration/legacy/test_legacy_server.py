"""The server over real sockets, seen by a client that knows only the seed's JSON."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from legacy_ws.connections import MAX_MESSAGE_BYTES
from legacy_ws.errors import PortTaken
from legacy_ws.server import LegacyServer
from monitoring.events import to_json
from tests.fakes.event_factory import event, run
from tests.integration.legacy.conftest import (
    TOKEN,
    dashboard,
    get,
    linked,
    read_to_the_end,
    that_reads_little,
    until,
)

WEB = "web-1/system"
EVENT_KEYS = [
    "type", "connection_type", "direction", "script_name", "function_name", "data_size_bytes", "response_time_ms",
    "error", "metadata", "broadcast_time",
]  # fmt: skip


async def test_a_plain_client_gets_the_seeds_stats_and_every_event(server):
    async with dashboard(server.url) as client:
        stats = await client.next()
        assert list(stats) == [
            "type",
            "stats",
            "session_metrics",
            "semaphore_metrics",
            "websocket_health",
            "recent_events",
            "timestamp",
        ]
        assert stats["type"] == "initial_stats"
        assert list(stats["stats"]) == ["websocket", "redis", "supabase", "kimi", "glm"]
        assert stats["stats"]["kimi"] == {}
        server.hub.take(run(WEB, 3))
        for seq in (1, 2, 3):
            message = await client.next()
            assert list(message) == EVENT_KEYS
            assert message["metadata"]["event"]["seq"] == seq
        await client.send(type="stats")
        answer = await client.next()
        assert answer["type"] == "stats"
        assert [one["metadata"]["event"]["seq"] for one in answer["recent_events"]] == [1, 2, 3]


async def test_a_subscriber_resumes_after_its_cursor(server):
    server.hub.take(run(WEB, 5))
    async with dashboard(server.url) as client:
        await client.send(type="subscribe", topics=["devices.web-1"], cursor={WEB: [1, 3]})
        assert await client.next("subscribed") == {"type": "subscribed", "heads": {WEB: [1, 5]}, "gaps": []}
        server.hub.take([event("db-1/system", 1), event(WEB, 6)])
        assert [(await client.next())["metadata"]["event"]["seq"] for _ in range(3)] == [4, 5, 6]


async def test_a_snapshot_has_the_newest_of_each_kind(server):
    server.hub.take(run(WEB, 5))
    async with dashboard(server.url) as client:
        await client.send(type="snapshot")
        answer = await client.next("snapshot")
    assert [one["seq"] for one in answer["state"]] == [1, 5]
    assert answer["cursor"] == {WEB: [1, 5]}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "JSON object"),
        ('{"type":"launch"}', "unknown message type 'launch'"),
        ('{"type":"subscribe","topics":"x"}', "topics must be"),
        ('{"type":"subscribe","cursor":7}', "cursor"),
        (b"\x00\x01", "binary"),
        ("[" * 50_000, "not JSON"),
    ],
)
async def test_a_bad_message_is_answered_and_disturbs_nobody(server, bad, reason):
    async with dashboard(server.url) as other, dashboard(server.url) as client:
        await client.socket.send(bad)
        error = await client.next("error")
        assert reason in error["error"]
        assert list(error) == ["type", "error", "timestamp"]
        await client.send(type="ping")
        assert await client.next() == {"type": "pong"}
        server.hub.take(run(WEB, 1))
        assert (await other.next("event"))["metadata"]["event"]["seq"] == 1


async def test_an_oversized_message_closes_only_its_sender(server):
    async with dashboard(server.url) as other, dashboard(server.url) as client:
        await client.socket.send("x" * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            await client.next("never")
        assert closed.value.rcvd.code == 1009
        await other.send(type="ping")
        await other.next("pong")


async def test_invalid_text_closes_only_its_sender(server):
    async with dashboard(server.url) as other, dashboard(server.url) as client:
        await client.socket.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed) as closed:
            await client.next("never")
        assert closed.value.rcvd.code == 1007
        await other.send(type="ping")
        await other.next("pong")


async def test_a_client_that_does_not_read_is_closed_with_1013_and_the_others_get_everything():
    async with (
        LegacyServer(token=TOKEN, port=0, max_queue=50) as server,
        that_reads_little(server.url) as slow,
        dashboard(server.url) as quick,
    ):
        await quick.next("initial_stats")
        seq = 0
        while not server.hub.measured.traffic.slow_clients_closed:
            assert seq < 20_000
            seq += 1
            server.hub.take([event(WEB, seq, note="x" * 20_000)])
            assert (await quick.next("event"))["metadata"]["event"]["seq"] == seq
        with pytest.raises(ConnectionClosed) as closed:
            await read_to_the_end(slow.socket)
        assert closed.value.rcvd.code == 1013
        assert "too slow" in closed.value.rcvd.reason
        server.hub.take([event(WEB, seq + 1)])
        assert (await quick.next("event"))["metadata"]["event"]["seq"] == seq + 1


async def test_a_client_that_never_reads_again_is_let_go():
    async with LegacyServer(token=TOKEN, port=0, max_queue=5) as server, that_reads_little(server.url):
        for seq in range(1, 500):
            server.hub.take([event(WEB, seq, note="x" * 50_000)])
            await asyncio.sleep(0)
        assert server.hub.measured.traffic.slow_clients_closed == 1
        await until(lambda: not server._listeners.connections, 10)


async def test_a_burst_over_the_link_closes_no_client_that_reads():
    async with LegacyServer(token=TOKEN, port=0, max_queue=100) as server, dashboard(server.url) as client:

        async def burst():
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with connect(server.link_url, additional_headers=headers, proxy=None) as link:
                await link.recv()
                for start in range(0, 3000, 100):
                    events = [to_json(event(WEB, start + step)) for step in range(1, 101)]
                    await link.send(json.dumps({"type": "events", "position": start, "events": events}))
                for _ in range(30):
                    assert json.loads(await link.recv())["type"] == "ack"

        async with asyncio.TaskGroup() as group:
            group.create_task(burst())
            got = [(await client.next("event"))["metadata"]["event"]["seq"] for _ in range(3000)]
        assert got == list(range(1, 3001))


async def test_an_unknown_path_names_the_paths(server):
    status, data = await get(server.port, "/nowhere")
    assert status == 404
    body = data.decode()
    assert "/ws for dashboard, /ws/containers for containers" in body
    assert "/link for the link, /health" in body
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.url + "x", proxy=None)
    assert refused.value.response.status_code == 404


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        ("http://localhost:3000", True),
        ("http://127.0.0.1:8003", True),
        ("http://[::1]:8003", True),
        ("https://dashboards.example", True),
        ("https://stranger.example", False),
        ("http://127.0.0.1.stranger.example", False),
        ("null", False),
    ],
)
async def test_pages_of_strangers_are_refused(origin, admitted):
    async with LegacyServer(token="t", port=0, origins=["https://dashboards.example"]) as own:
        connecting = connect(own.url, origin=origin)
        if admitted:
            async with connecting as client:
                assert json.loads(await client.recv())["type"] == "initial_stats"
        else:
            with pytest.raises(InvalidStatus) as refused:
                await connecting
            assert refused.value.response.status_code == 403
            assert b"--origin" in refused.value.response.body


async def test_health_is_json(server):
    async with dashboard(server.url) as client:
        await client.next()
        status, data = await get(server.port, "/health")
    assert status == 200
    health = json.loads(data)
    assert health["status"] == "no source"
    assert health["clients"] == 1


async def test_metrics_say_what_health_and_initial_stats_say(owner, server):
    owner.open(WEB)
    owner.write(WEB, 3)
    async with linked(owner.spool, server.link_url), dashboard(server.url_of("/ws/containers")):
        await until(lambda: server.hub.health()["status"] == "ok" and server.hub.link_figures)
        async with dashboard(server.url) as client:
            health = (await client.next("initial_stats"))["websocket_health"]
            _, data = await get(server.port, "/metrics")
    read = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(data.decode())
        for sample in family.samples
    }
    assert read["crossfade_legacy_events_taken_total",] == health["events_taken"] == 4
    assert read["crossfade_legacy_connections_total",] == health["connections"] == 2
    assert read["crossfade_legacy_links",] == health["links"] == 1
    assert read["crossfade_legacy_link_retries",] == health["link_retries"] == 0
    assert read["crossfade_legacy_clients", "containers"] == 1
    assert health["longest_queue"] >= 0
    assert read["crossfade_legacy_messages_sent_total",] == health["messages_sent"] + 1  # initial_stats


async def test_a_link_tells_how_often_it_failed_before(owner, unused_tcp_port):
    owner.open(WEB)
    async with linked(owner.spool, f"ws://127.0.0.1:{unused_tcp_port}/link") as link:
        await until(lambda: link.state.breaker.opened)
        async with LegacyServer(token=TOKEN, port=unused_tcp_port) as server:
            await until(lambda: server.hub.link_figures, 30)
            health = server.hub.health()
    assert health["link_breaker_opened"] == 1
    assert health["link_retries"] >= 5
    assert server.hub.health()["link_retries"] == 0  # of links that are connected


async def test_a_browser_get_of_ws_says_what_it_is_for(server):
    status, data = await get(server.port, "/ws")
    assert status == 426
    assert b"WebSocket" in data


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}])
async def test_a_link_without_the_token_is_refused(server, headers):
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.link_url, additional_headers=headers, proxy=None)
    assert refused.value.response.status_code == 401


async def test_the_link_states_heads_takes_events_and_answers_bad_frames(server):
    server.hub.take(run(WEB, 2))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with connect(server.link_url, additional_headers=headers, proxy=None) as link:
        assert json.loads(await link.recv()) == {"type": "heads", "heads": {WEB: [1, 2]}}
        await link.send("nonsense")
        assert json.loads(await link.recv())["type"] == "error"
        await link.send('{"type":"ack","position":1}')
        assert json.loads(await link.recv())["type"] == "error"
        bad = {**to_json(event(WEB, 3)), "kind": None}
        await link.send(
            json.dumps({"type": "events", "position": 5, "events": [bad, to_json(event(WEB, 4))]})
        )
        assert json.loads(await link.recv()) == {"type": "ack", "position": 5}
    assert server.hub.ring.heads() == {WEB: (1, 4)}
    assert server.hub.measured.traffic.rejected_events == 1


async def test_a_taken_port_is_said(server):
    with pytest.raises(
        PortTaken, match=f"port {server.port} on 127.0.0.1, for the legacy server, is taken.*--port"
    ):
        async with LegacyServer(token=TOKEN, port=server.port):
            pass


async def test_draining_hands_over_what_is_queued_and_closes_with_1001():
    async with LegacyServer(token=TOKEN, port=0) as server, dashboard(server.url) as client:
        await client.next()
        server.hub.take(run(WEB, 400))
        async with asyncio.TaskGroup() as group:
            group.create_task(server.drain())
            for seq in range(1, 401):
                assert (await client.next())["metadata"]["event"]["seq"] == seq
            with pytest.raises(ConnectionClosed) as closed:
                await client.next()
        assert closed.value.rcvd.code == 1001


async def test_half_a_handshake_and_a_reset_disturb_nobody(server):
    loop = asyncio.get_running_loop()
    for data in (b"GET /ws HTTP/1.1\r\n", b"\x16\x03\x01junk\r\n\r\n", b""):
        raw = socket.socket()
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", server.port))
        await loop.sock_sendall(raw, data)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()
    async with dashboard(server.url) as client:
        assert (await client.next())["type"] == "initial_stats"


async def test_whoever_offers_compression_gets_it_and_both_are_told_the_same(server):
    """A browser offers it always, so do most libraries; a window smaller than ours is answered without."""
    small = [ClientPerMessageDeflateFactory(server_max_window_bits=9)]
    async with (
        connect(server.url, proxy=None) as offering,
        connect(server.url, proxy=None, compression=None) as plain,
        connect(server.url, proxy=None, compression=None, extensions=small) as narrow,
    ):
        clients = (offering, plain, narrow)
        assert offering.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
        assert "Sec-WebSocket-Extensions" not in plain.response.headers
        for client in clients:
            await client.recv()
        before = server.hub.measured.traffic.bytes_sent
        server.hub.take([event(WEB, 1, note="again and again " * 500)])
        texts = {await client.recv() for client in clients}
        assert json.loads(texts.pop())["metadata"]["event"]["payload"] == {"note": "again and again " * 500}
        assert texts == set()
        assert 16_000 < server.hub.measured.traffic.bytes_sent - before < 18_000  # two as they are
        await offering.send(json.dumps({"type": "subscribe", "cursor": {}, "topics": ["x" * 300] * 3}))
        assert json.loads(await offering.recv())["type"] == "error"  # a compressed request is read, too
