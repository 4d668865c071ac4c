"""One world for each implementation of `MonitoringService`: how to publish into it, and how to break it."""

from __future__ import annotations

import asyncio
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import pytest
import websockets

from adapters.foreign_websocket import ForeignWebSocket
from adapters.http_polling import HttpPolling
from adapters.legacy_websocket import LegacyWebSocket
from adapters.supabase_realtime import SupabaseRealtime
from legacy_ws.gateway import Gateway
from legacy_ws.mounts import Mount
from legacy_ws.protocol.plain_dashboard import PlainDashboard
from legacy_ws.server import LegacyServer
from monitoring.cursor import Cursor
from monitoring.events import Event, metric_type_of, to_json
from monitoring.route import Route
from monitoring.router import Router
from monitoring.service import Backend, Item, MonitoringService
from monitoring.sharing import SharedService
from monitoring.topics import GLOBAL
from tests.conftest import EmbeddedSupabase
from tests.fakes.memory_service import MemoryService
from tests.fakes.plain_server import PlainServer
from tests.query_process import QueryProcess

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

    def shown(self, items: Iterable[Item]) -> list[object]:
        """Return what a client can tell of items: all there is to them, unless they have no identity."""
        return list(items)


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


class PlainWorld(World):
    """A server without ids: what an event says is all that is known of it."""

    async def start(self) -> None:
        self.server = PlainServer()
        await self.stack.enter_async_context(self.server)

    def service(self) -> MonitoringService:
        return ForeignWebSocket(self.server.url, PlainDashboard())

    async def publish(self, *events: Event) -> None:
        await self.server.broadcast(*events)

    async def interrupt(self) -> None:
        await self.server.stop()
        await self.server.start()

    def shown(self, items: Iterable[Item]) -> list[object]:
        return [
            (
                item.stream,
                item.kind,
                item.occurred_at,
                item.payload if item.identified else item.payload["metadata"],
            )
            if isinstance(item, Event)
            else item
            for item in items
        ]


class SupabaseWorld(World):
    def __init__(self, supabase: EmbeddedSupabase, mode: str = "changes") -> None:
        super().__init__()
        self.supabase = supabase
        self.mode = mode
        self.owner = str(uuid.uuid4())

    async def start(self) -> None:
        self.connection = await asyncpg.connect(self.supabase.postgres.dsn())
        self.stack.push_async_callback(self.connection.close)
        await self.connection.fetchval("select cf_set_mode($1)", self.mode)

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


class PollingWorld(SupabaseWorld):
    """The same database, asked by HTTP; polled often, so that the tests need not wait."""

    def __init__(self, supabase: EmbeddedSupabase, query: QueryProcess) -> None:
        super().__init__(supabase)
        self.query = query

    def service(self) -> MonitoringService:
        return HttpPolling(self.query.url, self.supabase.token, every_seconds=0.05)

    async def interrupt(self) -> None:
        await asyncio.to_thread(self.query.kill)
        await asyncio.to_thread(self.query.start)


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

    def route(self, _client_id: str) -> Route:
        return Route(self.backend_wished)

    def listen(self, _wake: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

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


class GatewayWorld(World):
    """A backend behind the gateway, seen by a client of the old dialect that can name what it has."""

    def __init__(self, behind: World) -> None:
        super().__init__()
        self.behind = behind
        self.device = behind.device

    async def start(self) -> None:
        await self.stack.enter_async_context(self.behind.stack)
        await self.behind.start()

        @asynccontextmanager
        async def connect(_client_id: str) -> AsyncIterator[MonitoringService]:
            service = self.behind.service()
            try:
                yield service
            finally:
                await service.close()

        gateway = Gateway(connect, [Mount(0, "/ws", "dashboard")])
        await self.stack.enter_async_context(gateway)
        self.url = f"ws://127.0.0.1:{gateway.ports[0]}/ws"

    def service(self) -> MonitoringService:
        return LegacyWebSocket(self.url)

    async def publish(self, *events: Event) -> None:
        await self.behind.publish(*events)

    async def interrupt(self) -> None:
        await self.behind.interrupt()


class SharedWorld(World):
    """A backend whose one feed serves everybody; somebody is listening already."""

    def __init__(self, behind: World) -> None:
        super().__init__()
        self.behind = behind
        self.device = behind.device

    async def start(self) -> None:
        await self.stack.enter_async_context(self.behind.stack)
        await self.behind.start()

    def service(self) -> MonitoringService:
        shared = SharedService(self.behind.service())
        shared.subscribe([GLOBAL], Cursor())
        return shared

    async def publish(self, *events: Event) -> None:
        await self.behind.publish(*events)

    async def interrupt(self) -> None:
        await self.behind.interrupt()


def _embedded(request: pytest.FixtureRequest) -> EmbeddedSupabase:
    supabase: EmbeddedSupabase = request.getfixturevalue("embedded_supabase")
    return supabase


MAKERS: dict[str, Callable[[pytest.FixtureRequest], World]] = {
    "memory": lambda _: MemoryWorld(),
    "legacy": lambda _: LegacyWorld(),
    "plain": lambda _: PlainWorld(),
    "supabase-changes": lambda request: SupabaseWorld(_embedded(request), "changes"),
    "supabase-broadcast": lambda request: SupabaseWorld(_embedded(request), "broadcast"),
    "polling": lambda request: PollingWorld(_embedded(request), request.getfixturevalue("query_process")),
    "router-legacy": lambda request: RouterWorld(_embedded(request), Backend.LEGACY),
    "router-supabase": lambda request: RouterWorld(_embedded(request), Backend.SUPABASE),
    "shared-memory": lambda _: SharedWorld(MemoryWorld()),
    "shared-legacy": lambda _: SharedWorld(LegacyWorld()),
    "shared-supabase": lambda request: SharedWorld(SupabaseWorld(_embedded(request))),
    "gateway-legacy": lambda _: GatewayWorld(LegacyWorld()),
    "gateway-supabase": lambda request: GatewayWorld(SupabaseWorld(_embedded(request))),
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
