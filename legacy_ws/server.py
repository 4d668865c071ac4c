"""The server: dialects for clients, ``/link`` for the collector, ``GET /health`` for whoever supervises.

A thin shell over `legacy_ws.hub`. Whatever one peer sends or fails to read concerns that peer alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog
from prometheus_client import Metric
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from legacy_ws import metrics
from legacy_ws.connections import (
    PING_SECONDS,
    Connection,
    Listeners,
    SocketPipe,
    authority,
    close_all,
    converse,
    let_clients_read,
    placed,
)
from legacy_ws.errors import ExportFailed, MalformedMessage
from legacy_ws.exports import ExportDesk
from legacy_ws.handshake import LINK, LINK_PATH, Handshake
from legacy_ws.hub import Client, Hub, Room
from legacy_ws.linked_interest import LinkedInterest
from legacy_ws.linked_logs import LinkedLogs, LogLink
from legacy_ws.logs import LogDesk
from legacy_ws.mounts import Mount
from legacy_ws.protocol import link
from legacy_ws.protocol.catalogue import catalogue
from legacy_ws.protocol.dialect import AskExport, AskLogs, EndLogs
from legacy_ws.protocol.link_logs import LogFailed, LogLines, OfferLogs
from legacy_ws.ring import MAX_BYTES, MAX_EVENTS
from monitoring.logs import LogSource

log = structlog.get_logger("legacy_ws")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LegacyServer:
    """The legacy monitoring server. Use as ``async with``; ``port`` is the bound one when 0 was asked for.

    Every dialect is served on ``port`` under its own path, and wherever ``mounts`` puts it besides. ``token`` is the secret
    of ``/link``, ``stream_token`` that of dialects that want one. At most ``max_events`` are retained for replay, with
    payloads of ``max_bytes`` as JSON, and ``max_queue`` messages wait for one client. For ``fill_seconds`` after the start requests for history wait for so many
    ``links`` (of collectors, of what applications push, of alerts) to bring it; "from now on", answered before that, would
    soon mean "from the beginning". Web pages may connect from this machine, from the server's own address, and from the
    ``origins`` (``https://host[:port]``, or ``null`` for files); programs send no Origin. A peer that is silent for
    ``ping_seconds`` after a ping is given up. Container logs come from the links, unless ``logs`` is another source of
    them. Without ``export_dir`` there are no exports. ``polling_report`` is the collecting process's status file, for
    ``GET /health/polling``. Raises PortTaken and InvalidMount on entry.
    """

    def __init__(
        self,
        *,
        token: str,
        host: str = "127.0.0.1",
        port: int = 8001,
        mounts: Sequence[Mount] = (),
        stream_token: str | None = None,
        container_prefix: str = "",
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
        max_queue: int = 1_000,
        max_clients: int = 10_000,
        fill_seconds: float = 0.0,
        links: int = 1,
        origins: Collection[str] = (),
        export_dir: Path | None = None,
        logs: LogSource | None = None,
        ping_seconds: float = PING_SECONDS,
        polling_report: Path | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.hub = Hub(
            [make() for make in catalogue(container_prefix).values()],
            now=now,
            max_events=max_events,
            max_bytes=max_bytes,
            max_queue=max_queue,
            clock_started=now(),
            await_history=fill_seconds > 0,
        )
        self.hub.on_export = self._export
        self.hub.on_logs = self._logs
        self.name = "legacy"
        self.polling_report = polling_report
        self.host = host
        self.port = port
        self.mounts = tuple(mounts)
        self._fill_seconds = fill_seconds
        self._links_to_fill = links
        self._max_queue = max_queue
        self._now = now
        self._exports = ExportDesk(export_dir)
        self._handshake = Handshake(
            self,
            self._exports,
            link_token=token,
            stream_token=stream_token,
            origins=origins,
            max_clients=max_clients,
        )
        self._linked_interest = LinkedInterest(self.hub.watchers)
        self._linked_logs = LinkedLogs()
        self._log_source = logs or self._linked_logs
        self._desk: LogDesk | None = None
        self._exporting: set[Client] = set()
        self._links: set[ServerConnection] = set()
        self._refilled: set[ServerConnection] = set()
        """The links that have sent all they retain."""
        self._listeners = Listeners(self._serve, self._handshake, ping_seconds=ping_seconds)
        self._running: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def url(self) -> str:
        """The address of the dashboards' endpoint."""
        return self.url_of("/ws")

    @property
    def link_url(self) -> str:
        """The address of the collector's endpoint."""
        return self.url_of(LINK_PATH)

    def url_of(self, path: str) -> str:
        """Return the address of a path on the server's own port."""
        return f"ws://{authority(self.host, self.port)}{path}"

    @property
    def clients(self) -> int:
        """Clients connected now."""
        return self.hub.clients

    def needs_token(self, dialect: str) -> bool:
        """Tell whether a dialect's peers have to show a token."""
        return self.hub.needs_token(dialect)

    def health(self) -> Mapping[str, Any]:
        """Return how the server is doing, for ``GET /health``."""
        return self.hub.health()

    async def metrics(self) -> Iterable[Metric]:
        """Return the same for ``GET /metrics``."""
        return metrics.of_server(self.hub.health())

    async def __aenter__(self) -> Self:
        ready = asyncio.Event()
        self._running = asyncio.create_task(self._run(ready))  # awaited by drain
        await ready.wait()
        try:
            await self._listen_everywhere()
        except BaseException:
            await self.drain()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()

    async def _run(self, ready: asyncio.Event) -> None:
        """Own every task that belongs to no connection, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            self._desk = LogDesk(self._log_source, group, self.hub.give_up)
            for room in self.hub.rooms.values():
                if room.dialect.tick_seconds is not None:
                    group.create_task(self._tick(room, room.dialect.tick_seconds))
            if self._fill_seconds > 0:
                group.create_task(self._fill_in_time())
            ready.set()
            await asyncio.Event().wait()

    async def _tick(self, room: Room, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        while True:
            await asyncio.sleep(due - loop.time())
            try:
                self.hub.tick(room)
            except Exception:  # one dialect's error must not stop the others' clocks
                log.exception("tick_failed", dialect=room.dialect.name)
            due = max(due + seconds, loop.time())  # after a stall once, not as often as was missed

    async def _fill_in_time(self) -> None:
        await asyncio.sleep(self._fill_seconds)
        self.hub.filled()

    # Listening

    async def _listen_everywhere(self) -> None:
        own = {room.dialect.path: name for name, room in self.hub.rooms.items()} | {LINK_PATH: LINK}
        elsewhere = placed(self.mounts, self.host, self.hub.rooms, {(self.host, self.port): own})
        self.port = await self._listeners.open(self.host, self.port, own, "the legacy server", "--port")
        await self._listeners.open_places(elsewhere, "--mount")

    async def drain(self) -> None:
        """Stop listening, stop the links, let clients have what is queued for them, and close; safe to call twice."""
        self._listeners.stop()
        await close_all(self._links)
        await self._listeners.close(self.hub.drained)
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait({running})

    async def _serve(self, connection: Connection, what: str) -> None:
        await (self._serve_link(connection) if what == LINK else self._serve_client(connection, what))

    # Clients

    async def _serve_client(self, connection: Connection, dialect: str) -> None:
        client = self.hub.attach(dialect, SocketPipe(connection))
        try:
            await converse(connection, self.hub, client)
        finally:
            self._exporting.discard(client)
            if self._desk is not None:
                self._desk.forget(client)

    def _logs(self, client: Client, ask: AskLogs | EndLogs) -> None:
        if self._desk is None:
            return
        match ask:
            case AskLogs():
                self._desk.subscribe(client, ask)
            case EndLogs(container):
                self._desk.unsubscribe(client, container)

    # Exports

    def _export(self, client: Client, ask: AskExport) -> None:
        if client in self._exporting:
            client.outbox.answer(ask.failed("your last export is still being written"))
        elif self._tasks is not None:
            self._exporting.add(client)
            self._tasks.create_task(self._write_export(client, ask))

    async def _write_export(self, client: Client, ask: AskExport) -> None:
        try:
            message = ask.write(await self._exports.write(self.hub.events(ask), self._now()))
        except ExportFailed as error:
            message = ask.failed(error.reason)
        except Exception:  # as above: the task is one of a group
            log.exception("export_failed")
            message = ask.failed("the export failed")
        finally:
            self._exporting.discard(client)
        client.outbox.answer(message)

    # The link

    async def _serve_link(self, connection: ServerConnection) -> None:
        self._links.add(connection)
        self.hub.links += 1
        self.hub.measured.traffic.link_connections += 1
        log.info("link_connected", peer=connection.remote_address)
        logs = LogLink()
        asking = [asyncio.create_task(self._ask_for_logs(connection, logs))]  # awaited below
        try:
            await connection.send(link.encode(link.Heads(self.hub.ring.heads())), text=True)
            while True:
                answer = await self._take_frame(connection, await connection.recv(), logs, asking)
                if answer is not None:
                    await connection.send(link.encode(answer), text=True)
        finally:
            self._links.discard(connection)
            self._refilled.discard(connection)
            self.hub.links -= 1
            self.hub.link_figures.pop(connection, None)
            self._linked_logs.gone(logs)
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
            log.info("link_gone", peer=connection.remote_address)

    @staticmethod
    async def _ask_for_logs(connection: ServerConnection, logs: LogLink) -> None:
        with contextlib.suppress(ConnectionClosed):  # the reading side says so
            while True:
                await connection.send(link.encode(await logs.asks.get()), text=True)

    async def _tell_watched(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):  # as above
            await self._linked_interest.tell(connection)

    async def _take_frame(
        self,
        connection: ServerConnection,
        data: str | bytes,
        logs: LogLink,
        tasks: list[asyncio.Task[None]],
    ) -> link.LinkMessage | None:
        """Take what a link sends; return the answer, if there is one. ``tasks`` end with the link."""
        try:
            frame = link.decode(data)
        except MalformedMessage as error:
            log.warning("link_frame_refused", reason=error.reason)
            return link.LinkError(error.reason)
        match frame:
            case link.Events():
                if frame.figures is not None:
                    self.hub.link_figures[connection] = frame.figures
                return await self._take_events(connection, frame)
            case OfferLogs(device):
                self._linked_logs.offered(device, logs)
            case LogLines() | LogFailed():
                logs.answered(frame)
            case link.AskWatched() if len(tasks) == 1:
                tasks.append(asyncio.create_task(self._tell_watched(connection)))
            case _:
                return link.LinkError(f"a link sends events and logs, not {type(frame).__name__.lower()}")
        return None

    async def _take_events(self, connection: ServerConnection, frame: link.Events) -> link.Ack:
        traffic = self.hub.measured.traffic
        before = traffic.rejected_events
        traffic.rejected_events += len(frame.rejected)
        at_once = max(1, min(link.MAX_EVENTS, self._max_queue // 2))
        for start in range(0, len(frame.events), at_once):
            self.hub.take(frame.events[start : start + at_once], history=frame.history)
            await let_clients_read(self.hub)
        if traffic.rejected_events > before:
            log.error(
                "events_rejected",
                position=frame.position,
                count=traffic.rejected_events - before,
                reason=frame.rejected[0] if frame.rejected else "nested too deeply for a message",
            )
        if not frame.more:
            self._refilled.add(connection)
            if len(self._refilled) >= self._links_to_fill:
                self.hub.filled(frame.heads)
            elif frame.heads is not None:
                self.hub.ring.adopt(frame.heads)
        return link.Ack(frame.position)
