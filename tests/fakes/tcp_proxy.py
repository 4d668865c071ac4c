"""A TCP proxy that misbehaves on command, for tests and measurements: what networks do, one fault at a time.

======================  =====================================================================================
``delay``               everything arrives later, by a fixed time and a random one; the order is kept
``stall``               neither direction passes, nobody is told; new connections are accepted and not forwarded
``halve``               half-open: one direction passes, the other is as in ``stall``
``duplicate_frames``    every WebSocket message of the server arrives twice: valid, and at least once
``garble``              the next bytes of one direction arrive twice: a protocol error, since TCP has no messages
``close`` / ``reset``   the connections of this moment end, with FIN / with RST on both sides; new ones are welcome
``refuse``              RST, and nobody listens any more (ECONNREFUSED)
``resume``              everything passes again; what was held back arrives late, not lost
======================  =====================================================================================

Buffers are bounded: a reader that does not keep up is felt by the writer behind the proxy, as without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from random import Random
from types import TracebackType
from typing import Self

from tests.fakes.websocket_frames import Duplicator

CHUNK_BYTES = 16 * 1024
BUFFER_BYTES = 256 * 1024
"""What a delayed direction may hold back."""
_CONNECT_SECONDS = 5.0
_RST = struct.pack("ii", 1, 0)


class Direction(StrEnum):
    """Which way bytes flow."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


class _Pipe:
    """One direction of one connection: bytes with the moment from which they may be written."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.held: deque[tuple[float, bytes]] = deque()
        self.held_bytes = 0
        self.duplicator = Duplicator()
        self.ended = False
        """The source has said that it is done."""
        self.changed = asyncio.Event()


class _Link:
    """A client's connection and, once there is one, the connection to the server that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.writers = [client]
        self.task: asyncio.Task[None] | None = None

    def end(self, *, rst: bool) -> None:
        for writer in self.writers:
            if rst:
                with contextlib.suppress(OSError):  # it is closed already
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
                writer.transport.abort()
            else:
                writer.close()
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()


class TcpProxy:
    """Listens on 127.0.0.1:``port`` and forwards to ``target``, which may change; an async context manager.

    Port 0 takes a free one, which stays the same however often the proxy refuses. Faults hold for connections there
    are and for new ones, until ``resume``. ``random`` draws the jitter, from [0, 1).
    """

    def __init__(
        self, target: tuple[str, int], *, port: int = 0, random: Callable[[], float] | None = None
    ) -> None:
        self.target = target
        self.port = port
        self.accepted = 0
        """Connections that clients have made."""
        self._random = random or Random(7).random
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._passes = {direction: asyncio.Event() for direction in Direction}
        self._delay_seconds = self._jitter_seconds = 0.0
        self._twice = False
        self._garble: set[Direction] = set()
        for passes in self._passes.values():
            passes.set()

    @property
    def connections(self) -> int:
        """Connections of clients that are open."""
        return len(self._links)

    def url(self, scheme: str = "http") -> str:
        """Return the proxy's address."""
        return f"{scheme}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [link.task for link in self._links if link.task is not None]
        await self.refuse()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- faults

    def delay(self, seconds: float, jitter_seconds: float = 0.0) -> None:
        """Let everything that comes from now on arrive later, in both directions."""
        self._delay_seconds, self._jitter_seconds = seconds, jitter_seconds

    def stall(self) -> None:
        """Let nothing pass and say nothing."""
        for passes in self._passes.values():
            passes.clear()

    def halve(self, passing: Direction) -> None:
        """Let one direction pass only."""
        for direction, passes in self._passes.items():
            if direction is passing:
                passes.set()
            else:
                passes.clear()

    def duplicate_frames(self) -> None:
        """Send every WebSocket message of the server twice; what is not a WebSocket passes as it is."""
        self._twice = True

    def garble(self, direction: Direction) -> None:
        """Send the next bytes that come in one direction twice, once."""
        self._garble.add(direction)

    def close(self) -> None:
        """End the connections of this moment, politely."""
        self._end(rst=False)

    def reset(self) -> None:
        """Reset the connections of this moment."""
        self._end(rst=True)

    async def refuse(self) -> None:
        """Reset every connection and stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._end(rst=True)
        await asyncio.sleep(0)  # what was being accepted is now a link, or refused

    async def resume(self) -> None:
        """Let everything pass again, and listen."""
        self._delay_seconds = self._jitter_seconds = 0.0
        self._twice = False
        self._garble.clear()
        if self._server is None:
            await self._listen()
        for passes in self._passes.values():
            passes.set()

    # -- carrying

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=CHUNK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    def _end(self, *, rst: bool) -> None:
        for link in tuple(self._links):
            link.end(rst=rst)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        link.task = asyncio.current_task()
        self._links.add(link)
        self.accepted += 1
        try:
            if self._server is None:  # it came just before we stopped listening
                return link.end(rst=True)
            await self._passes[Direction.TO_SERVER].wait()
            await self._carry(link, reader)
        except (OSError, TimeoutError):
            link.end(rst=True)  # a server that is away refuses the client, as without us
        except asyncio.CancelledError:
            pass  # ended by `_end`; the task is asyncio's, and nobody awaits its cancellation
        finally:
            self._links.discard(link)
            for each in link.writers:
                each.close()

    async def _carry(self, link: _Link, client: asyncio.StreamReader) -> None:
        async with asyncio.timeout(_CONNECT_SECONDS):
            server, to_server = await asyncio.open_connection(*self.target, limit=CHUNK_BYTES)
        link.writers.append(to_server)
        up, down = _Pipe(client, to_server), _Pipe(server, link.writers[0])
        tasks = [
            asyncio.ensure_future(each)  # owned: ended below
            for each in (
                self._read(up, Direction.TO_SERVER),
                self._read(down, Direction.TO_CLIENT),
                self._write(up, Direction.TO_SERVER),
                self._write(down, Direction.TO_CLIENT),
            )
        ]
        try:
            # A direction that ended leaves the other its time to end; an error ends both at once.
            for done in asyncio.as_completed(tasks):
                await done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, pipe: _Pipe, direction: Direction) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        while not pipe.ended:
            # Not read while stalled, so that the writer behind us feels it.
            await self._passes[direction].wait()
            data = await pipe.reader.read(CHUNK_BYTES)
            pipe.ended = not data
            if direction is Direction.TO_CLIENT:
                data = pipe.duplicator.receive(data, twice=self._twice)
            if data and direction in self._garble:
                self._garble.discard(direction)
                data += data
            wait = self._delay_seconds + self._jitter_seconds * self._random()
            due = max(due, loop.time() + wait)
            pipe.held.append((due, data))
            pipe.held_bytes += len(data)
            pipe.changed.set()
            while pipe.held_bytes > BUFFER_BYTES:
                pipe.changed.clear()
                await pipe.changed.wait()

    async def _write(self, pipe: _Pipe, direction: Direction) -> None:
        loop = asyncio.get_running_loop()
        while pipe.held or not pipe.ended:
            if not pipe.held:
                pipe.changed.clear()
                await pipe.changed.wait()
                continue
            due, data = pipe.held[0]
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self._passes[direction].wait()
            pipe.held.popleft()
            pipe.held_bytes -= len(data)
            pipe.changed.set()
            pipe.writer.write(data)
            await pipe.writer.drain()
        if pipe.writer.can_write_eof():
            pipe.writer.write_eof()
