"""Container logs through the gateway: from the legacy server, over Supabase, and from the one to the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from adapters.either_logs import EitherLogs
from adapters.interest import InterestListener
from adapters.legacy_logs import LegacyLogs
from adapters.log_broadcast import LogBroadcast
from adapters.supabase_connection import Project
from adapters.supabase_logs import SupabaseLogs
from legacy_ws.gateway import Gateway
from legacy_ws.mounts import Mount
from legacy_ws.server import LegacyServer
from monitoring.logs import LogSource
from monitoring.service import Backend, MonitoringService
from tests.conftest import EmbeddedSupabase
from tests.fakes.event_factory import opened
from tests.fakes.log_source import ScriptedLogs
from tests.fakes.memory_service import MemoryService
from tests.integration.legacy.conftest import JsonClient, dashboard, until
from tests.unit.legacy_ws.test_container_states import entry, listed


@asynccontextmanager
async def gateway_with(logs: LogSource) -> AsyncIterator[str]:
    """A gateway that knows the container ``a`` of ``web-1``; yields where it speaks ``containers``."""
    backend = MemoryService(Backend.LEGACY)
    state = listed(entry("a"))
    await backend.publish(opened(state.stream), state)

    @asynccontextmanager
    async def connect(_client_id: str) -> AsyncIterator[MonitoringService]:
        yield backend

    async with Gateway(connect, [Mount(0, "/c", "containers")], logs=logs) as gateway:
        yield f"ws://127.0.0.1:{gateway.ports[0]}/c"
    await backend.close()


@asynccontextmanager
async def legacy_with(logs: ScriptedLogs) -> AsyncIterator[LegacyServer]:
    async with LegacyServer(token="t", port=0, logs=logs, fill_seconds=0) as server:
        server.hub.take([listed(entry("a"))])
        yield server


def over(server: LegacyServer) -> LegacyLogs:
    return LegacyLogs(server.url_of("/ws/containers"))


async def told(client: JsonClient, count: int) -> list[str]:
    """Return so many lines, without their time."""
    texts: list[str] = []
    while len(texts) < count:
        message = await client.next("new_logs", 30)
        texts += [line.partition(" ")[2] for line in message["logs"]]
    return texts


async def test_a_log_is_read_once_for_all_and_not_when_nobody_listens() -> None:
    logs = ScriptedLogs()
    logs.write("web-1", "a", "one", "two", "three")
    async with legacy_with(logs) as server, gateway_with(over(server)) as url:
        async with dashboard(url) as first, dashboard(url) as second:
            for client, lines in ((first, 2), (second, 1)):
                await client.next("initial_state")
                await client.send(type="subscribe_logs", container="a", lines=lines)
                snapshot = await client.next("log_snapshot")
                assert len(snapshot["logs"]) == lines
                assert snapshot["logs"][-1] == "2025-11-25T22:52:32.123Z three"
                assert snapshot["lastLogTimestamp"] == "2025-11-25T22:52:32.123Z"
            logs.write("web-1", "a", "four")
            assert await told(first, 1) == ["four"]
            assert await told(second, 1) == ["four"]
            assert logs.reading == {("web-1", "a")}
            await first.send(type="unsubscribe_logs", container="a")
        await until(lambda: not logs.reading)


async def test_a_log_that_cannot_be_read_and_a_container_that_nobody_knows_are_errors() -> None:
    logs = ScriptedLogs()
    logs.fail("web-1", "a", "its driver cannot be read")
    async with (
        legacy_with(logs) as server,
        gateway_with(EitherLogs([over(server)], patience_seconds=0)) as url,
        dashboard(url) as client,
    ):
        await client.send(type="subscribe_logs", container="b")
        assert "no container 'b'" in (await client.next("error"))["error"]
        await client.send(type="subscribe_logs", container="a")
        assert (await client.next("log_snapshot"))["logs"] == []
        assert "its driver cannot be read" in (await client.next("error"))["error"]


async def test_without_a_source_that_answers_there_is_an_error() -> None:
    nobody = EitherLogs([LegacyLogs("ws://127.0.0.1:9/ws/containers")])
    async with gateway_with(nobody) as url, dashboard(url) as client:
        await client.send(type="subscribe_logs", container="a")
        assert "no logs of 'a'" in (await client.next("error"))["error"]


async def test_a_log_goes_on_over_supabase_when_the_legacy_server_is_gone(
    embedded_supabase: EmbeddedSupabase,
) -> None:
    logs = ScriptedLogs()
    logs.write("web-1", "a", "one", "two")
    broadcast = LogBroadcast({"web-1": logs})
    listener = InterestListener(embedded_supabase.postgres.dsn(), [broadcast])
    broadcasting = asyncio.create_task(listener.run())
    project = Project(embedded_supabase.url, embedded_supabase.keys.anon_key, embedded_supabase.token)
    try:
        async with legacy_with(logs) as server:
            source = EitherLogs([over(server), SupabaseLogs(project)])
            async with gateway_with(source) as url:
                async with dashboard(url) as client:
                    await client.send(type="subscribe_logs", container="a", lines=10)
                    snapshot = await client.next("log_snapshot")
                    assert [line.partition(" ")[2] for line in snapshot["logs"]] == ["one", "two"]
                    logs.write("web-1", "a", "three")
                    assert await told(client, 1) == ["three"]
                    await server.drain()
                    logs.write("web-1", "a", "four")
                    await until(lambda: broadcast.followed == 1)
                    assert await told(client, 1) == ["four"]
                    logs.write("web-1", "a", "five", "six")
                    assert await told(client, 2) == ["five", "six"]
                await until(lambda: broadcast.followed == 0)
    finally:
        broadcasting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await broadcasting
