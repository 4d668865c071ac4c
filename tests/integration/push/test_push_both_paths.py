"""What is pushed to the query service is an owner's event like any other: both backends deliver it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect

from adapters.legacy_websocket import LegacyWebSocket
from adapters.supabase_realtime import SupabaseRealtime
from crossfade import push
from crossfade.paths import DataDir
from legacy_ws.server import LegacyServer
from monitoring.events import Event
from monitoring.service import MonitoringService
from monitoring.topics import parse_topics
from tests.conftest import ROOT, EmbeddedSupabase
from tests.query_process import QueryProcess

TOKEN = "push-tests"


@pytest.fixture
async def server() -> AsyncIterator[LegacyServer]:
    async with LegacyServer(token=TOKEN, port=0) as one:
        yield one


@pytest.fixture
async def linked(
    embedded_supabase: EmbeddedSupabase, server: LegacyServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[QueryProcess]:
    """A query service of its own that is linked to the legacy server."""
    data = DataDir.of(tmp_path_factory.mktemp("linked"))
    data.create()
    data.link_token.write_text(TOKEN)
    data.keys.write_text((embedded_supabase.postgres.data_dir / "supabase" / "keys.json").read_text())
    data.keys.chmod(0o600)
    flags = data.root / "flags.yaml"
    flags.write_text((ROOT / "flags.yaml").read_text())
    link = f"ws://127.0.0.1:{server.port}/link"
    # In a thread: starting it waits, and the legacy server is of this event loop.
    process = await asyncio.to_thread(
        QueryProcess, data.root, embedded_supabase.postgres.dsn("authenticator"), flags, legacy_link=link
    )
    yield process
    await asyncio.to_thread(process.stop)


async def follow(service: MonitoringService, device: str, count: int) -> list[Event]:
    """Return the events of a device up to so many, the openings aside."""
    found: list[Event] = []
    async with asyncio.timeout(30):
        async for item in service.subscribe(parse_topics([f"devices.{device}"]), None):
            if isinstance(item, Event) and item.kind != "stream_opened":
                found.append(item)
            if len(found) == count:
                break
    return found


async def test_both_backends_deliver_the_same_events_once_and_in_order(
    embedded_supabase: EmbeddedSupabase, server: LegacyServer, linked: QueryProcess, device: str
) -> None:
    legacy = LegacyWebSocket(f"ws://127.0.0.1:{server.port}/ws")
    token = embedded_supabase.token("viewer")
    supabase = SupabaseRealtime(embedded_supabase.url, embedded_supabase.keys.anon_key, lambda: token)
    operator = embedded_supabase.token("operator")
    async with push.application(device, linked.url, token=operator, batch_seconds=0.02) as app:
        app.session_created("s-0")
        assert await app.aflush(20)
        following = [asyncio.ensure_future(follow(service, device, 40)) for service in (legacy, supabase)]
        subscribed = 0
        while not all(task.done() for task in following) and subscribed < 5_000:
            # Whoever is not live yet begins with the newest: they are followed until both have had forty.
            app.session_updated("s-0", step=subscribed)
            subscribed += 1
            await asyncio.sleep(0.01)
        one, other = await asyncio.gather(*following)
    for delivered in (one, other):
        assert [event.seq for event in delivered] == list(range(delivered[0].seq, delivered[0].seq + 40))
    on_legacy, on_supabase = ({event.seq: event for event in delivered} for delivered in (one, other))
    both = on_legacy.keys() & on_supabase.keys()
    assert both
    assert all(on_legacy[seq] == on_supabase[seq] for seq in both)
    await legacy.close()
    await supabase.close()


async def test_the_old_servers_dashboards_show_what_applications_push(
    embedded_supabase: EmbeddedSupabase, server: LegacyServer, linked: QueryProcess, device: str
) -> None:
    token = embedded_supabase.token("operator")
    async with (
        push.application(device, linked.url, token=token) as app,
        connect(f"ws://127.0.0.1:{server.port}/ws", proxy=None) as socket,
    ):
        app.session_created("s-1", user="ann")
        app.session_created("s-2")
        app.session_destroyed("s-2")
        app.semaphore("pool", in_use=3, limit=10)
        app.connection("redis", function_name="get", data_size_bytes=9, response_time_ms=4, key="k")
        app.connection("redis", response_time_ms=6, error="timed out")
        app.connection("carrier pigeon", direction="inbound")
        assert await app.aflush(20)
        events, pigeon = [], False
        async with asyncio.timeout(20):
            while not pigeon:
                message = json.loads(await socket.recv())
                if message["type"] == "event" and message["script_name"] == device:
                    events.append(message)
                    pigeon = message["connection_type"] == "carrier pigeon"
            stats: dict[str, Any] = {}
            while len(stats.get("semaphore_metrics", ())) < 1 or "carrier pigeon" not in stats["stats"]:
                await socket.send('{"type": "stats"}')
                message = json.loads(await socket.recv())
                stats = message if message["type"] == "stats" else stats
    redis = next(each for each in events if each["connection_type"] == "redis")
    assert {key: redis[key] for key in ("direction", "function_name", "data_size_bytes", "response_time_ms")} == {
        "direction": "outbound", "function_name": "get", "data_size_bytes": 9, "response_time_ms": 4,
    }  # fmt: skip
    assert redis["metadata"]["key"] == "k"
    section = stats["stats"]["redis"]
    assert (section["events"], section["errors"], section["average_response_time_ms"]) == (2, 1, 5.0)
    assert stats["session_metrics"] == {"active_count": 1, "total_count": 2}
    assert stats["semaphore_metrics"][f"{device}/pool"] == {"limit": 10, "in_use": 3}
