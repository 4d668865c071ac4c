"""The gateway: old clients of any dialect, each fed by a `MonitoringService` of its own and moved with it unknowingly.

Each connection has a hub of its own, for each may stand on another backend. What the legacy server's ring answers is
asked of the service here: its history reaches further, and it is the same wherever the client stands.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from prometheus_client import Metric
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers

from legacy_ws import metrics
from legacy_ws.arrivals import Arrivals
from legacy_ws.connections import (
    Connection,
    Listeners,
    SocketPipe,
    converse,
    placed,
)
from legacy_ws.exports import ExportDesk
from legacy_ws.gateway_feed import Feed
from legacy_ws.handshake import Handshake
from legacy_ws.hub import Client, Hub
from legacy_ws.logs import LogDesk
from legacy_ws.mounts import Mount
from legacy_ws.protocol.catalogue import catalogue
from legacy_ws.protocol.dialect import AskLogs, EndLogs
from legacy_ws.stats import Throughput, Traffic
from monitoring.events import format_time
from monitoring.flags.model import CLIENT_ID
from monitoring.logs import LogSource
from monitoring.service import MonitoringService

Connect = Callable[[str], AbstractAsyncContextManager[MonitoringService]]
"""Opens the service of a client by its id."""

_KEPT_EVENTS = 200
"""Superseded events that a connection keeps, for ``recent_events``."""


class Gateway:
    """Speaks dialects at mounts. Use as ``async with``; ``ports`` are the bound ones, in the order of the addresses.

    ``backends`` returns what the connection to each backend counts, for ``GET /metrics``; ``logs`` is where container logs
    come from, each read once for all clients. The other parameters are those of `LegacyServer`. Raises PortTaken and InvalidMount on entry.
    """

    def __init__(
        self,
        connect: Connect,
        mounts: Sequence[Mount],
        *,
        host: str = "127.0.0.1",
        stream_token: str | None = None,
        container_prefix: str = "",
        max_queue: int = 1_000,
        max_clients: int = 10_000,
        origins: Collection[str] = (),
        export_dir: Path | None = None,
        backends: Callable[[], Awaitable[Mapping[str, Mapping[str, int]]]] | None = None,
        logs: LogSource | None = None,
        polling_report: Path | None = None,
    ) -> None:
        self.name = "gateway"
        self.polling_report = polling_report
        self._connect = connect
        self._mounts = tuple(mounts)
        self._host = host
        self._dialects = catalogue(container_prefix)
        self._behind_token = {name for name, make in self._dialects.items() if make().needs_token}
        self._max_queue = max_queue
        self._exports = ExportDesk(export_dir)
        self._feeds: set[Feed] = set()
        self._counts: Counter[str] = Counter()
        self._gone = Traffic()
        """What connections that have ended had sent and received."""
        self._shared = Arrivals(_utc_now)
        self._started_at = _utc_now()
        self._throughput = Throughput(self._started_at)
        self._backends = backends
        handshake = Handshake(
            self, self._exports, stream_token=stream_token, origins=origins, max_clients=max_clients
        )
        self._listeners = Listeners(self._serve, handshake)
        self._log_source = logs
        self._desk: LogDesk | None = None
        self._reading: asyncio.Task[None] | None = None
        self.ports: list[int] = []

    @property
    def clients(self) -> int:
        """Clients connected now."""
        return len(self._feeds)

    def needs_token(self, dialect: str) -> bool:
        """Tell whether a dialect's peers have to show a token."""
        return dialect in self._behind_token

    def health(self) -> Mapping[str, Any]:
        """Return how the gateway is doing, for ``GET /health``, and in every client's ``websocket_health.gateway``."""
        now = _utc_now()
        traffic = replace(self._gone)
        for feed in self._feeds:
            traffic.add(feed.hub.measured.traffic)
        waiting = [client.outbox.waiting for feed in self._feeds for client in feed.clients]
        return {
            "status": "ok",
            "started_at": format_time(self._started_at),
            "uptime_seconds": round((now - self._started_at).total_seconds(), 3),
            "clients": self.clients,
            "clients_by_dialect": Counter(name for feed in self._feeds for name in feed.hub.rooms),
            "clients_by_backend": Counter(str(feed.service.backend) for feed in self._feeds),
            **{name: self._counts[name] for name in ("moves", "moves_abandoned", "gaps")},
            "waiting_messages": sum(waiting),
            "longest_queue": max(waiting, default=0),
            "messages_per_second": round(self._throughput.per_second(traffic.messages_sent, now), 3),
            **asdict(traffic),
        }

    async def metrics(self) -> Iterable[Metric]:
        """Return the same for ``GET /metrics``, with what the backends' adapters count."""
        return metrics.of_gateway(self.health(), await self._backends() if self._backends else {})

    async def __aenter__(self) -> Self:
        try:
            if self._log_source is not None:
                ready = asyncio.Event()
                self._reading = asyncio.create_task(
                    self._read_logs(self._log_source, ready)
                )  # ended by `drain`
                await ready.wait()
            places = placed(self._mounts, self._host, self._dialects)
            self.ports = await self._listeners.open_places(places, "--mount")
        except BaseException:
            await self.drain()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()

    async def drain(self) -> None:
        """Stop listening, let clients have what is queued for them, and close; safe to call twice."""
        await self._listeners.close(self._drained)
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait({reading})

    async def _read_logs(self, source: LogSource, ready: asyncio.Event) -> None:
        """Own the reading of logs, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._desk = LogDesk(source, group, self._too_slow)
            ready.set()
            await asyncio.Event().wait()

    def _too_slow(self, client: Client) -> None:
        for feed in self._feeds:
            if client in feed.clients:
                feed.hub.give_up(client)
                return

    def _logs(self, client: Client, ask: AskLogs | EndLogs) -> None:
        if self._desk is None:
            return
        match ask:
            case AskLogs():
                self._desk.subscribe(client, ask)
            case EndLogs(container):
                self._desk.unsubscribe(client, container)

    async def _drained(self) -> None:
        for feed in tuple(self._feeds):
            await feed.hub.drained()

    async def _serve(self, connection: Connection, dialect: str) -> None:
        async with self._connect(client_id(connection)) as service:
            hub = Hub(
                [self._dialects[dialect]()],
                now=_utc_now,
                max_events=_KEPT_EVENTS,
                max_queue=self._max_queue,
                clock_started=_utc_now(),
                await_history=True,
                shared=self._shared,
            )
            feed = Feed(service, hub, self._exports, self._counts, at_once=max(1, self._max_queue // 2))
            if self._desk is not None:
                hub.on_logs = self._logs
            hub.on_health = lambda: {"gateway": self.health()}
            self._feeds.add(feed)
            try:
                await feed.begin()
                client = hub.attach(dialect, SocketPipe(connection))
                try:
                    await converse(connection, hub, client, partial(feed.run, connection), feed.tick)
                finally:
                    if self._desk is not None:
                        self._desk.forget(client)
            finally:
                self._feeds.discard(feed)
                self._gone.add(hub.measured.traffic)


def client_id(connection: ServerConnection) -> str:
    """Return what the flags know a connection by.

    The query's ``client`` or ``client_id``, or the header ``X-Client-Id``; else an id made of address and user agent,
    the same each time the client comes back.
    """
    request = connection.request
    headers, path = (request.headers, request.path) if request else (Headers(), "")
    query = parse_qs(urlsplit(path).query)
    given = [*query.get("client", ()), *query.get("client_id", ()), *headers.get_all("X-Client-Id")]
    if given and CLIENT_ID.match(given[0]):
        return str(given[0])
    what = f"{connection.remote_address[0]}\n{headers.get_all('User-Agent')}"
    return f"gw-{hashlib.blake2b(what.encode(errors='replace'), digest_size=8).hexdigest()}"


def _utc_now() -> datetime:
    return datetime.now(UTC)
