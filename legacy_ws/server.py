"""The server: one port, ``/ws`` for dashboards, ``/link`` for the collector, ``GET /health`` for whoever supervises.

A thin shell over `legacy_ws.hub`. Whatever one peer sends or fails to read concerns that peer alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import logging
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import orjson
import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from legacy_ws.errors import MalformedMessage, PortTaken
from legacy_ws.hub import Client, Hub
from legacy_ws.protocol import dashboard, link

log = structlog.get_logger("legacy_ws")

MAX_MESSAGE_BYTES = 1024 * 1024
"""A larger message closes the connection with 1009."""
DASHBOARD, LINK, HEALTH = "/ws", "/link", "/health"

_GOING_AWAY, _TRY_AGAIN_LATER = 1001, 1013  # RFC 6455, 7.4.1; 1013: IANA's registry
_PING_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_DRAIN_SECONDS = 2.0
_PAUSE_SECONDS = 1.0
"""At most so long the link waits for clients that are behind, so that a burst closes only those that stand still."""

# Port scanners and half-open handshakes are no errors of ours; what fails in our handlers we log ourselves.
_quiet = logging.getLogger("legacy_ws.websockets")
_quiet.setLevel(logging.CRITICAL)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LegacyServer:
    """The legacy monitoring server. Use as ``async with``; ``port`` is the bound one when 0 was asked for.

    ``token`` is the secret of ``/link``. At most ``max_events`` are retained for replay, and ``max_queue`` events wait
    for one client. For ``fill_seconds`` after the start requests for history wait for the collector's link to bring
    it; "from now on", answered before that, would soon mean "from the beginning". Web pages may connect from this
    machine, from the server's own address, and from the ``origins`` (``https://host[:port]``, or ``null`` for files);
    programs send no Origin.
    Raises PortTaken on entry.
    """

    def __init__(
        self,
        *,
        token: str,
        host: str = "127.0.0.1",
        port: int = 8001,
        max_events: int = 20_000,
        max_queue: int = 1_000,
        fill_seconds: float = 0.0,
        origins: Collection[str] = (),
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.hub = Hub(
            now=now,
            max_events=max_events,
            max_queue=max_queue,
            clock_started=now(),
            await_history=fill_seconds > 0,
        )
        self._fill_seconds = fill_seconds
        self._origins = frozenset(origins)
        self._fill_deadline: asyncio.TimerHandle | None = None
        self._token = token.encode()
        self._host = host
        self._port = port
        self._links: set[ServerConnection] = set()
        self._server: Server | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port

    @property
    def url(self) -> str:
        """The address of the dashboards' endpoint."""
        return f"ws://{self._authority}{DASHBOARD}"

    @property
    def link_url(self) -> str:
        """The address of the collector's endpoint."""
        return f"ws://{self._authority}{LINK}"

    @property
    def _authority(self) -> str:
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        try:
            self._server = await serve(
                self._connection,
                self._host,
                self._port,
                process_request=self._request,
                compression=None,  # would cost more than the network it saves on a local link
                max_size=MAX_MESSAGE_BYTES,
                ping_interval=_PING_SECONDS,
                ping_timeout=_PING_SECONDS,
                close_timeout=_CLOSE_SECONDS,
                server_header="crossfade-legacy",
                logger=_quiet,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(self._host, self._port) from error
            raise
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        if self._fill_seconds > 0:
            self._fill_deadline = asyncio.get_running_loop().call_later(self._fill_seconds, self.hub.filled)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()

    async def drain(self) -> None:
        """Stop listening, stop the links, let clients have what is queued for them, and close; safe to call twice."""
        if self._server is None:
            return
        server, self._server = self._server, None
        if self._fill_deadline:
            self._fill_deadline.cancel()
        server.close(close_connections=False)
        await _close_all(self._links)
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self.hub.drained()
        except TimeoutError:
            log.warning(
                "clients_left_behind", detail="some clients had not read everything when the server stopped"
            )
        await _close_all(set(server.connections))
        await server.wait_closed()

    # Handshake

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        match request.path.partition("?")[0]:
            case "/ws":
                return self._admit(connection, request)
            case "/link":
                return self._authorize(connection, request)
            case "/health":
                return _response(HTTPStatus.OK, "application/json", orjson.dumps(self.hub.health()))
            case path:
                line = f"no {path[:100]!r} here: {DASHBOARD} for dashboards, {LINK} for the collector, {HEALTH}\n"
                return _response(
                    HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", line.encode(errors="replace")
                )

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse pages of strangers: a browser lets any page open a WebSocket to this machine (RFC 6455, 10.2)."""
        origin = request.headers.get("Origin")
        if origin is None or origin in self._origins:
            return None
        host = urlsplit(origin).hostname or ""
        own = urlsplit(f"//{request.headers.get('Host', '')}").hostname
        # A name that equals our own proves nothing: its owner can point it here (DNS rebinding). An address does.
        address = _address(host)
        if host == "localhost" or (address is not None and (address.is_loopback or host == own)):
            return None
        log.warning("origin_refused", peer=connection.remote_address, origin=origin[:200])
        line = f"pages from {origin[:100]!r} may not connect; start the server with --origin to let them\n"
        return _response(HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", line.encode(errors="replace"))

    def _authorize(self, connection: ServerConnection, request: Request) -> Response | None:
        given = request.headers.get_all("Authorization")
        wanted = b"Bearer " + self._token
        if len(given) == 1 and hmac.compare_digest(given[0].encode(errors="surrogateescape"), wanted):
            return None
        log.warning("link_refused", peer=connection.remote_address, detail="missing or wrong token")
        line = b"the link needs 'Authorization: Bearer TOKEN' with the token of legacy/link.token\n"
        return _response(HTTPStatus.UNAUTHORIZED, "text/plain; charset=utf-8", line)

    async def _connection(self, connection: ServerConnection) -> None:
        path = connection.request.path.partition("?")[0] if connection.request else ""
        try:
            await (self._serve_link(connection) if path == LINK else self._serve_dashboard(connection))
        except* ConnectionClosed:
            pass  # the ordinary end of a connection
        except* Exception:
            log.exception("connection_failed", path=path, peer=connection.remote_address)
            raise

    # Dashboards

    async def _serve_dashboard(self, connection: ServerConnection) -> None:
        client = self.hub.attach()
        try:
            async with asyncio.TaskGroup() as group:
                # The first of them to end raises ConnectionClosed, and the group ends the others.
                group.create_task(self._write(connection, client))
                group.create_task(self._close_when_slow(connection, client))
                group.create_task(self._read(connection, client))
        finally:
            self.hub.detach(client)

    async def _write(self, connection: ServerConnection, client: Client) -> None:
        traffic = self.hub.measured.traffic
        while True:
            message = await client.outgoing()
            await connection.send(message, text=True)
            traffic.messages_sent += 1
            traffic.bytes_sent += len(message)

    async def _close_when_slow(self, connection: ServerConnection, client: Client) -> None:
        await client.too_slow.wait()
        log.warning("slow_client_closed", peer=connection.remote_address, waiting=client.waiting)
        await connection.close(
            _TRY_AGAIN_LATER, "too slow: the queue of events ran full; reconnect and resume"
        )

    async def _read(self, connection: ServerConnection, client: Client) -> None:
        while True:
            data = await connection.recv()
            self.hub.measured.traffic.messages_received += 1
            if isinstance(data, bytes):
                self.hub.refuse(client, "binary message; this server understands JSON text")
            else:
                try:
                    self.hub.handle(client, dashboard.decode_client(data))
                except MalformedMessage as error:
                    self.hub.refuse(client, error.reason)
            await client.room()

    # The link

    async def _serve_link(self, connection: ServerConnection) -> None:
        self._links.add(connection)
        self.hub.links += 1
        self.hub.measured.traffic.links += 1
        log.info("link_connected", peer=connection.remote_address)
        try:
            await connection.send(link.encode(link.Heads(self.hub.ring.heads())), text=True)
            while True:
                answer = await self._take_frame(await connection.recv())
                await connection.send(link.encode(answer), text=True)
        finally:
            self._links.discard(connection)
            self.hub.links -= 1
            log.info("link_gone", peer=connection.remote_address)

    async def _take_frame(self, data: str | bytes) -> link.LinkMessage:
        try:
            frame = link.decode(data)
        except MalformedMessage as error:
            log.warning("link_frame_refused", reason=error.reason)
            return link.LinkError(error.reason)
        if not isinstance(frame, link.Events):
            return link.LinkError(f"a link sends events, not {type(frame).__name__.lower()}")
        traffic = self.hub.measured.traffic
        before = traffic.rejected_events
        traffic.rejected_events += len(frame.rejected)
        for start in range(0, len(frame.events), link.MAX_EVENTS):
            self.hub.take(frame.events[start : start + link.MAX_EVENTS], history=frame.history)
            await self._let_clients_read()
        if traffic.rejected_events > before:
            log.error(
                "events_rejected",
                position=frame.position,
                count=traffic.rejected_events - before,
                reason=frame.rejected[0] if frame.rejected else "nested too deeply for a message",
            )
        if not frame.more:
            self.hub.filled(frame.heads)
        return link.Ack(frame.position)

    async def _let_clients_read(self) -> None:
        await asyncio.sleep(0)  # every client that reads empties its queue in this one turn of the loop
        with contextlib.suppress(TimeoutError):  # who has still not read runs full, and is closed for it
            async with asyncio.timeout(_PAUSE_SECONDS):
                await self.hub.caught_up()


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _response(status: HTTPStatus, content_type: str, body: bytes) -> Response:
    headers = Headers(
        {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Cache-Control": "no-store",
        }
    )
    return Response(status.value, status.phrase, headers, body)


async def _close_all(connections: set[ServerConnection]) -> None:
    async with asyncio.TaskGroup() as group:
        for connection in list(connections):
            group.create_task(connection.close(_GOING_AWAY, "the server is stopping"))
