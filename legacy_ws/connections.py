"""Connections: listening, and one client's conversation with a hub. The server and the gateway host clients alike."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, cast

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.protocol import State

from legacy_ws.admission import Allowance
from legacy_ws.errors import InvalidMount, PortTaken
from legacy_ws.frames import WINDOW_BITS
from legacy_ws.handshake import Handshake, select_subprotocol
from legacy_ws.hub import Client, Hub
from legacy_ws.mounts import Mount

log = structlog.get_logger("legacy_ws")

MAX_MESSAGE_BYTES = 1024 * 1024
"""A larger message closes the connection with 1009."""

TRY_AGAIN_LATER = 1013  # IANA's registry
_GOING_AWAY = 1001  # RFC 6455, 7.4.1
PING_SECONDS = 10.0
"""Between pings; a peer that is silent for as long again is given up."""
_CLOSE_SECONDS = 2.0
_DRAIN_SECONDS = 2.0
_PAUSE_SECONDS = 1.0
"""At most so long a source waits for clients that are behind, so that a burst closes only those that stand still."""
_UNREAD_MESSAGES = 4
"""Messages of a peer that are taken off the wire before they are read; the rest waits in its own socket."""

_DEFLATE = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
"""What is agreed with peers that offer it: no context, so that a frame is the same for all and none costs memory."""

# Port scanners and half-open handshakes are no errors of ours; what fails in our handlers we log ourselves.
_quiet = logging.getLogger("legacy_ws.websockets")
_quiet.setLevel(logging.CRITICAL)

Serve = Callable[["Connection", str], Awaitable[None]]
"""Serves a connection; the text is what is mounted at its path."""


class Listeners:
    """The sockets of one host of dialects. ``serve`` is run for each connection, until that ends."""

    def __init__(self, serve: Serve, handshake: Handshake, *, ping_seconds: float = PING_SECONDS) -> None:
        self._ping_seconds = ping_seconds
        self._serve = serve
        self._handshake = handshake
        self._servers: list[Server] = []

    async def open(self, host: str, port: int, paths: Mapping[str, str], what: str, option: str) -> int:
        """Serve paths at an address; returns the port that was bound. Raises PortTaken, which names the option."""
        try:
            server = await serve(
                partial(self._connection, paths),
                host,
                port,
                process_request=partial(self._handshake.answer, paths),
                select_subprotocol=select_subprotocol,
                compression=None,  # the library's own, for each connection anew
                extensions=[_DEFLATE],
                max_size=MAX_MESSAGE_BYTES,
                max_queue=_UNREAD_MESSAGES,
                ping_interval=self._ping_seconds,
                ping_timeout=self._ping_seconds,
                close_timeout=_CLOSE_SECONDS,
                server_header="crossfade-legacy",
                create_connection=Connection,
                logger=_quiet,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(host, port, what, option) from error
            raise
        self._servers.append(server)
        bound: int = next(iter(server.sockets)).getsockname()[1]
        return bound

    async def open_places(self, places: Mapping[tuple[str, int], dict[str, str]], option: str) -> list[int]:
        """Serve what `placed` returned; returns the ports that were bound. Raises PortTaken."""
        return [
            await self.open(
                host, port, paths, ", ".join(f"{name} at {path}" for path, name in paths.items()), option
            )
            for (host, port), paths in places.items()
        ]

    @property
    def connections(self) -> set[ServerConnection]:
        """Those that are open now."""
        return {connection for server in self._servers for connection in server.connections}

    def stop(self) -> None:
        """Take no more connections; those there are go on."""
        for server in self._servers:
            server.close(close_connections=False)

    async def close(self, drained: Callable[[], Awaitable[None]]) -> None:
        """Stop, wait a moment until clients have what is queued for them (``drained``), and close; safe to call twice."""
        self.stop()
        servers, self._servers = self._servers, []
        if not servers:
            return
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await drained()
        except TimeoutError:
            log.warning(
                "clients_left_behind", detail="some clients had not read everything when the server stopped"
            )
        for server in servers:
            await close_all(server.connections)
            await server.wait_closed()

    async def _connection(self, paths: Mapping[str, str], connection: ServerConnection) -> None:
        path = connection.request.path.partition("?")[0] if connection.request else ""
        try:
            await self._serve(cast("Connection", connection), paths[path])
        except* ConnectionClosed:
            pass  # the ordinary end of a connection
        except* Exception:
            log.exception("connection_failed", path=path, peer=connection.remote_address)
            raise


def placed(
    mounts: Iterable[Mount],
    host: str,
    known: Collection[str],
    taken: Mapping[tuple[str, int], dict[str, str]] | None = None,
) -> dict[tuple[str, int], dict[str, str]]:
    """Return what is served at each address; into ``taken`` mounts are added in place. Raises InvalidMount."""
    places: dict[tuple[str, int], dict[str, str]] = {}
    for mount in mounts:
        if mount.dialect not in known:
            raise InvalidMount(str(mount), f"{mount.dialect!r} is no dialect")
        place = (mount.host or host, mount.port)
        paths = (taken or {}).get(place) or places.setdefault(place, {})
        if paths.setdefault(mount.path, mount.dialect) != mount.dialect:
            raise InvalidMount(str(mount), f"{paths[mount.path]} is served there")
    return places


async def converse(
    connection: ServerConnection, hub: Hub, client: Client, *more: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Write to a client and read from it, until the connection ends; then the hub has forgotten it.

    ``more`` runs beside, and ends with it.
    """
    try:
        async with asyncio.TaskGroup() as group:
            # The first of them to end raises ConnectionClosed, and the group ends the others.
            group.create_task(_resume(connection, client))
            group.create_task(_close_when_slow(connection, client))
            group.create_task(_read(connection, hub, client))
            for run in more:
                group.create_task(run())
    finally:
        hub.detach(client)


async def _resume(connection: ServerConnection, client: Client) -> None:
    """Go on writing whenever a transport that was full has room again."""
    while True:
        await client.outbox.held()
        await connection.drain()
        client.outbox.resume()


async def _close_when_slow(connection: ServerConnection, client: Client) -> None:
    await client.outbox.too_slow.wait()
    log.warning("slow_client_closed", peer=connection.remote_address, waiting=client.outbox.waiting)
    await close(connection, TRY_AGAIN_LATER, "too slow: the queue of events ran full; reconnect and resume")


async def _read(connection: ServerConnection, hub: Hub, client: Client) -> None:
    clock = asyncio.get_running_loop().time
    allowance = Allowance(clock())
    while True:
        hub.received(client, await connection.recv())
        await client.outbox.room()
        if pause := allowance.spend(clock()):
            await _pause(connection, pause)


async def _pause(connection: ServerConnection, seconds: float) -> None:
    """Wait; raises ConnectionClosed when the connection is lost, which may still hold thousands of a flood's messages."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await connection.wait_closed()
        raise connection.protocol.close_exc


async def let_clients_read(hub: Hub) -> None:
    """Wait, a second at most, until no client is far behind; for whoever feeds the hub, between batches."""
    await asyncio.sleep(0)  # every client that reads empties its queue in this one turn of the loop
    with contextlib.suppress(TimeoutError):  # who has still not read runs full, and is closed for it
        async with asyncio.timeout(_PAUSE_SECONDS):
            await hub.caught_up()


class Connection(ServerConnection):
    """A connection that tells when the library writes to its transport, or has lost it."""

    touched: Callable[[], None] | None = None

    def send_data(self) -> None:
        """Write what the library has to say: pings, pongs, the closing handshake."""
        try:
            super().send_data()
        finally:
            if self.touched is not None:
                self.touched()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the transport, which closes its socket only after this."""
        if self.touched is not None:
            self.touched()
        super().connection_lost(exc)


class SocketPipe:
    """A connection's transport, written to with whole frames past the library, which would frame each anew."""

    def __init__(self, connection: Connection) -> None:
        transport = connection.transport
        self._connection = connection
        self._transport = transport
        self.descriptor: int = transport.get_extra_info("socket").fileno()
        self.write = transport.write
        self.deflates = any(
            isinstance(each, PerMessageDeflate) and each.local_max_window_bits >= WINDOW_BITS
            for each in connection.protocol.extensions
        )

    @property
    def open(self) -> bool:
        """Whether the closing handshake has not begun; nothing may follow it (RFC 6455, 5.5.1)."""
        return self._connection.protocol.state is State.OPEN

    @property
    def blocked(self) -> bool:
        """Whether the transport's buffer is over its limit."""
        return self._connection.paused

    @property
    def clear(self) -> bool:
        """Whether frames may go to the socket directly: it is open, and nothing waits in the transport."""
        return self.open and not self._transport.get_write_buffer_size() and not self._transport.is_closing()

    def listen(self, touched: Callable[[], None]) -> None:
        """Have ``touched`` called when the library has written to the transport, or lost it."""
        self._connection.touched = touched


def authority(host: str, port: int) -> str:
    """Return host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def close(connection: ServerConnection, code: int, reason: str) -> None:
    """Close a connection; one whose peer reads nothing is cut off, for the library would wait without end to tell it."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await connection.close(code, reason)
    except TimeoutError:
        connection.transport.abort()


async def close_all(connections: Iterable[ServerConnection]) -> None:
    """Close connections with 1001."""
    async with asyncio.TaskGroup() as group:
        for connection in list(connections):
            group.create_task(close(connection, _GOING_AWAY, "the server is stopping"))
