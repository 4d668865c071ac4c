"""One connection to PostgreSQL over its unix socket: simple queries, then the replication stream."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from embedded.errors import ConnectionLost, ProtocolError, WalError
from embedded.wal import messages
from embedded.wal.messages import Frames, Keepalive, XLogData

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_QUEUE_BYTES = 4 << 20  # beyond this the socket is not read until half of it is taken
_BATCH_MESSAGES = 500  # then the event loop gets its turn
_OPEN_SECONDS = 10.0
_MESSAGE_OVERHEAD_BYTES = 100

# What makes values print the same way everywhere; embedded.wal.values depends on it
_PRINTING = {
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}


class Connection(asyncio.Protocol):
    """A connection that its opener must ``close``. Not for concurrent use.

    Everything it awaits raises ConnectionLost when the connection is gone, ServerError for PostgreSQL's errors.
    ``flushed`` is the WAL position reported as dealt with; it is reported each ``status_seconds`` whether ``receive`` is
    called or not, so that a slow consumer is not taken for a dead one.
    """

    def __init__(self, status_seconds: float = 1.0) -> None:
        self.flushed = 0
        self._received = 0
        self._status_seconds = status_seconds
        self._frames = Frames()
        self._queue: deque[tuple[int, bytes]] = deque()
        self._queued_bytes = 0
        self._paused = False
        self._failure: WalError | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(
        cls,
        socket_dir: Path,
        port: int,
        *,
        user: str,
        database: str,
        replication: bool = False,
        status_seconds: float = 1.0,
    ) -> Connection:
        """Connect and log in without a password. Raises ConnectionLost, ServerError, ProtocolError."""
        path = str(socket_dir / f".s.PGSQL.{port}")
        connection = cls(status_seconds)
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                loop = asyncio.get_running_loop()
                await loop.create_unix_connection(lambda: connection, path)
                await connection._log_in(user, database, replication=replication)
        except TimeoutError:
            connection.close()
            raise ConnectionLost(f"PostgreSQL at {path} did not answer within {_OPEN_SECONDS:g} s.") from None
        except OSError as error:
            connection.close()
            raise ConnectionLost(
                f"PostgreSQL at {path} cannot be reached: {error.strerror or error}."
            ) from error
        except BaseException:
            connection.close()
            raise
        return connection

    async def _log_in(self, user: str, database: str, *, replication: bool) -> None:
        parameters: Mapping[str, str] = {"user": user, "database": database, **_PRINTING}
        if replication:
            parameters = {**parameters, "replication": "database", "application_name": "crossfade realtime"}
        self._send(messages.startup(parameters))
        while True:
            tag, payload = await self._next()
            if tag == messages.READY:
                return
            if tag == messages.AUTHENTICATION and messages.parse_authentication(payload) != 0:
                raise ProtocolError(
                    "PostgreSQL asks for a password on its unix socket; pg_hba.conf must say trust."
                )

    async def query(self, sql: str) -> list[tuple[str | None, ...]]:
        """Run one statement or replication command and return its rows as text."""
        self._send(messages.query(sql))
        rows: list[tuple[str | None, ...]] = []
        while True:
            tag, payload = await self._next()
            if tag == messages.DATA_ROW:
                rows.append(messages.parse_row(payload))
            elif tag == messages.READY:
                return rows

    async def start_stream(self, command: str) -> None:
        """Run START_REPLICATION; from now on only ``receive`` and ``send_status`` may be used."""
        self._send(messages.query(command))
        while True:
            tag, _payload = await self._next()
            if tag == messages.COPY_BOTH:
                self._tick()
                return
            if tag == messages.READY:
                raise ProtocolError("PostgreSQL did not start the replication stream.")

    async def receive(self) -> list[XLogData | Keepalive]:
        """Return the next few messages of the stream, at least one, in order."""
        first = await self._next()
        taken = [first]
        while self._queue and self._queue[0][0] == messages.COPY_DATA and len(taken) < _BATCH_MESSAGES:
            taken.append(self._take())
        if self._queue:
            await asyncio.sleep(0)  # a long backlog must not starve the rest of the process
        stream = []
        for tag, payload in taken:
            if tag == messages.COPY_DATA:
                message = messages.parse_copy_data(payload)
                self._received = max(self._received, message.wal_end)
                stream.append(message)
            elif tag == messages.COPY_DONE:
                raise ConnectionLost("PostgreSQL ended the replication stream.")
        return stream

    def send_status(self) -> None:
        """Tell PostgreSQL how far we are. Does nothing on a connection that is gone."""
        if self._failure is None:
            received = max(self._received, self.flushed)
            self._send(messages.standby_status(received, self.flushed, datetime.now(UTC)))

    def close(self) -> None:
        """End the connection, after a last report when it streamed. Idempotent."""
        if self._timer is not None:
            self.send_status()
            self._timer.cancel()
            self._timer = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(messages.terminate())
            self._transport.close()
        self._fail(ConnectionLost("The connection to PostgreSQL was closed by us."))

    # ---- queue between the socket and the consumer ----

    async def _next(self) -> tuple[int, bytes]:
        """Return the next message; raises what ended the connection once all before it were taken."""
        while True:
            while not self._queue:
                if self._failure is not None:
                    raise self._failure
                self._wakeup = asyncio.get_running_loop().create_future()
                await self._wakeup
            tag, payload = self._take()
            if tag == messages.ERROR:
                raise messages.parse_error(payload)
            return tag, payload

    def _take(self) -> tuple[int, bytes]:
        message = self._queue.popleft()
        self._queued_bytes -= len(message[1]) + _MESSAGE_OVERHEAD_BYTES
        if self._paused and self._queued_bytes < _QUEUE_BYTES // 2 and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return message

    def _send(self, data: bytes) -> None:
        if self._failure is not None:
            raise self._failure
        if self._transport is not None:
            self._transport.write(data)

    def _tick(self) -> None:
        self.send_status()
        self._timer = asyncio.get_running_loop().call_later(self._status_seconds, self._tick)

    def _fail(self, failure: WalError) -> None:
        if self._failure is None:
            self._failure = failure
        self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        """Queue what is complete, and stop reading while the queue is full."""
        try:
            arrived = self._frames.feed(data)
        except ProtocolError as error:
            self._fail(error)
            if self._transport is not None:
                self._transport.abort()
            return
        for message in arrived:
            self._queue.append(message)
            self._queued_bytes += len(message[1]) + _MESSAGE_OVERHEAD_BYTES
        if self._queued_bytes > _QUEUE_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits; what had arrived is still delivered first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fail(ConnectionLost(f"The connection to PostgreSQL broke: {exc or 'closed by the server'}."))
