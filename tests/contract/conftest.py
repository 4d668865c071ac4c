"""One world for each implementation of `MonitoringService`: how to publish into it, and how to break it."""

from __future__ import annotations

import asyncio
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import asyncpg
import pytest
import websockets

from adapters.legacy_websocket import LegacyWebSocket
from adapters.supabase_realtime import SupabaseRealtime
from legacy_ws.server import LegacyServer
from monitoring.events import Event, metric_type_of, to_json
from monitoring.router import Router
from monitoring.service import Backend, MonitoringService
from tests.conftest import EmbeddedSupabase
from tests.fakes.memory_service import MemoryService

TOKEN = "contract-tests"


class World(ABC):
    """A backend with events in it, seen through the port."""

    def __init__(self) -> None:
        self.device = f"dev-{uuid.uuid4().hex[:12]}"
        self.stack = AsyncExitStack()

    @abstractmethod
    async def start(self) -> None:
        """Make the backend ready."""

    @abstractmethod
    def service(self) -> MonitoringService:
        """Return a new service over the backend."""

    @abstractmethod
    async def publish(self, *events: Event) -> None:
        """Put events on the backend's path, as its forwarder would."""

    @abstractmethod
    async def interrupt(self) -> None:
        """Cut every client off, briefly; the backend comes back with what it had."""


class MemoryWorld(World):
    def __init__(self) -> None:
        super().__init__()
        self.backend = MemoryService(Backend.LEGACY)

    async def start(self) -> None:
        pass

    def service(self) -> MonitoringService:
        return self.backend

    async def publish(self, *events: Event) -> None:
        await self.backend.publish(*events)

    async def interrupt(self) -> None:
        await self.backend.set_up(False)
        await self.backend.set_up(True)


class LegacyWorld(World):
    async def start(self) -> None:
        self.published: list[Event] = []
        self.port = 0
        await self._serve()

    async def _serve(self) -> None:
        self.server = LegacyServer(token=TOKEN, port=self.port)
        await self.server.__aenter__()
        self.port = self.server.port
        self.stack.push_async_callback(self.server.drain)

    def service(self) -> MonitoringService:
        return LegacyWebSocket(self.server.url)

    async def publish(self, *events: Event) -> None:
        self.published += events
        await self._link(events)

    async def _link(self, events: tuple[Event, ...] | list[Event]) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with websockets.connect(self.server.link_url, additional_headers=headers) as link:
            await link.recv()
            frame = {
                "type": "events",
                "position": len(self.published),
                "events": [to_json(e) for e in events],
            }
            await link.send(json.dumps(frame))
            assert json.loads(await link.recv())["type"] == "ack"

    async def interrupt(self) -> None:
        await self.server.drain()
        await self._serve()
        await self._link(self.published)


class SupabaseWorld(World):
    def __init__(self, supabase: EmbeddedSupabase) -> None:
        super().__init__()
        self.supabase = supabase
        self.owner = str(uuid.uuid4())

    async def start(self) -> None:
        self.connection = await asyncpg.connect(self.supabase.postgres.dsn())
        self.stack.push_async_callback(self.connection.close)

    def service(self) -> MonitoringService:
        return SupabaseRealtime(self.supabase.url, self.supabase.keys.anon_key, self.supabase.token)

    async def publish(self, *events: Event) -> None:
        for stream, epoch in sorted({(e.stream, e.epoch) for e in events}):
            await self.connection.fetchval("select cf_acquire_lease($1, $2, $3)", stream, self.owner, epoch)
        rows = [{**to_json(e), "metric_type": metric_type_of(e.stream)} for e in events]
        await self.connection.fetchval("select cf_append($1, $2)", self.owner, json.dumps(rows))

    async def interrupt(self) -> None:
        await self.connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'walsender'"
        )


class RouterWorld(LegacyWorld):
    """Both real backends behind the router, with the flags on one of them."""

    def __init__(self, supabase: EmbeddedSupabase, wish: Backend) -> None:
        super().__init__()
        self.other = SupabaseWorld(supabase)
        self.backend_wished = wish

    async def start(self) -> None:
        await super().start()
        await self.other.start()
        self.stack.push_async_callback(self.other.stack.aclose)

    def wish(self, _client_id: str) -> Backend:
        return self.backend_wished

    def service(self) -> MonitoringService:
        services = {Backend.LEGACY: super().service(), Backend.SUPABASE: self.other.service()}
        return Router(services, self, "contract", now=lambda: datetime.now(UTC))

    async def publish(self, *events: Event) -> None:
        await super().publish(*events)
        await self.other.publish(*events)

    async def interrupt(self) -> None:
        if self.backend_wished is Backend.LEGACY:
            await super().interrupt()
        else:
            await self.other.interrupt()


def _embedded(request: pytest.FixtureRequest) -> EmbeddedSupabase:
    supabase: EmbeddedSupabase = request.getfixturevalue("embedded_supabase")
    return supabase


MAKERS: dict[str, Callable[[pytest.FixtureRequest], World]] = {
    "memory": lambda _: MemoryWorld(),
    "legacy": lambda _: LegacyWorld(),
    "supabase": lambda request: SupabaseWorld(_embedded(request)),
    "router-legacy": lambda request: RouterWorld(_embedded(request), Backend.LEGACY),
    "router-supabase": lambda request: RouterWorld(_embedded(request), Backend.SUPABASE),
}


@pytest.fixture(params=list(MAKERS))
def made_world(request: pytest.FixtureRequest) -> World:
    """A world of each implementation in turn; not async, so that what it needs can be started outside the loop."""
    return MAKERS[request.param](request)


@pytest.fixture
async def world(made_world: World) -> AsyncIterator[World]:
    """The same, ready."""
    async with made_world.stack:
        await made_world.start()
        yield made_world


@pytest.fixture
async def service(world: World) -> AsyncIterator[MonitoringService]:
    """A service over the world, closed at the end."""
    made = world.service()
    yield made
    async with asyncio.timeout(10):
        await made.close()
