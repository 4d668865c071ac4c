"""The gateway over the real backends: the legacy server and the embedded Supabase, with a flag file between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from adapters.client_reports import ClientReports
from adapters.flag_file import FlagFile
from crossfade.gateway import counted
from crossfade.lending import lender
from crossfade.wiring import FlagRoutes
from legacy_ws.gateway import Gateway
from legacy_ws.mounts import Mount
from legacy_ws.protocol.catalogue import catalogue
from monitoring.events import Event
from monitoring.pacing import Pacer
from monitoring.router import Router
from monitoring.service import Backend, MonitoringService
from monitoring.sharing import SharedService
from tests.conftest import EmbeddedSupabase
from tests.contract.conftest import LegacyWorld, SupabaseWorld

STREAM_TOKEN = "gateway-tests"


@dataclass
class Played:
    """Both backends playing the same, and the gateway in front of them."""

    legacy: LegacyWorld
    supabase: SupabaseWorld
    flags: FlagFile
    services: dict[Backend, MonitoringService]
    gateway: Gateway
    moved: list[str] = field(default_factory=list)

    @property
    def device(self) -> str:
        return self.legacy.device

    def url(self, dialect: str = "dashboard") -> str:
        return f"ws://127.0.0.1:{self.gateway.ports[0]}/{dialect}"

    async def publish(self, *events: Event) -> None:
        await self.legacy.publish(*events)
        await self.supabase.publish(*events)

    def route(self, live_percent: int, allow: str = "") -> None:
        self.flags.path.write_text(
            f"version: 1\nkill: false\nlive:\n  percent: {live_percent}\n  allow: [{allow}]\n  deny: []\nend: true\n"
        )

    async def standing_on(self, backend: Backend) -> None:
        """Wait until every client is fed by a backend."""
        await until(lambda: self.gateway.health()["clients_by_backend"] == {backend: self.gateway.clients})


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def played(embedded_supabase: EmbeddedSupabase, tmp_path: Path) -> AsyncIterator[Played]:
    legacy, supabase = LegacyWorld(), SupabaseWorld(embedded_supabase)
    async with legacy.stack, supabase.stack:
        await legacy.start()
        await supabase.start()
        # A gateway's client follows everything: streams of other tests, which the legacy server here never had, would
        # keep it from ever going back there.
        await supabase.connection.execute("truncate cf_events, cf_stream_heads, cf_stream_latest")
        flags = FlagFile(tmp_path / "flags.yaml", poll_seconds=0.05)
        services: dict[Backend, MonitoringService] = {
            Backend.LEGACY: SharedService(legacy.service()),
            Backend.SUPABASE: SharedService(supabase.service()),
        }
        routes, pacer, moved = FlagRoutes(flags), Pacer(), list[str]()

        def router(lent: Any, client: str, witness: Any) -> Router:
            return Router(
                lent, routes, client, now=lambda: datetime.now(UTC), pacer=pacer, witness=witness,
                record=lambda who, _item: moved.append(who),
            )  # fmt: skip

        mounts = [Mount(0, f"/{name}", name) for name in catalogue()]
        gateway = Gateway(
            lender(services, router, ClientReports(tmp_path)),
            mounts,
            stream_token=STREAM_TOKEN,
            export_dir=tmp_path / "exports",
            backends=partial(counted, services),
        )
        made = Played(legacy, supabase, flags, services, gateway, moved)
        made.route(0)
        flags.refresh()
        watching = asyncio.create_task(flags.run())
        try:
            async with gateway:
                yield made
        finally:
            watching.cancel()
            await asyncio.wait({watching})
            for service in services.values():
                await service.close()


class Talk:
    """A client that knows only JSON."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def next(self, *kinds: str) -> dict[str, Any]:
        """Return the next message of a type; others are passed over."""
        async with asyncio.timeout(30):
            while True:
                message: dict[str, Any] = json.loads(await self.socket.recv())
                if message["type"] in kinds:
                    return message

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))


@contextlib.asynccontextmanager
async def talk(url: str, **options: Any) -> AsyncIterator[Talk]:
    async with connect(url, proxy=None, **options) as socket:
        yield Talk(socket)
