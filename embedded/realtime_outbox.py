"""Writing to many WebSocket connections: frames prepared once, one write per connection and loop tick.

A write is a system call of several microseconds per connection; eight frames in one write cost about as much as
one, so what is sent within a tick is joined. Frames bypass aiohttp's writer, which would copy and frame each anew.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BUFFER_BYTES: Final = 16 * 1024 * 1024
"""A client that is further behind than this is dropped; it comes back and reads what it missed."""
_WRITE_THROUGH_BYTES: Final = 256 * 1024


class Flusher:
    """Flushes the outboxes that were written to, once per loop tick, and then says which position is done."""

    def __init__(self) -> None:
        self._dirty: list[Outbox] = []
        self._scheduled = False
        self._done: tuple[Callable[[int], None], int] | None = None

    def add(self, outbox: Outbox) -> None:
        """Have the outbox flushed at the end of this tick."""
        self._dirty.append(outbox)
        self._schedule()

    def then(self, acknowledge: Callable[[int], None], lsn: int) -> None:
        """Call `acknowledge(lsn)` after the next flush; of several positions only the last counts."""
        self._done = (acknowledge, lsn)
        self._schedule()

    def flush(self) -> None:
        """Hand over everything now."""
        self._scheduled = False
        dirty, self._dirty = self._dirty, []
        for outbox in dirty:
            outbox.flush()
        if self._done is not None:
            (acknowledge, lsn), self._done = self._done, None
            acknowledge(lsn)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)


class Outbox:
    """The frames that wait to be written to one connection.

    `overflow` is called once, when the transport's buffer exceeds `limit` bytes; nothing is written after that.
    """

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        flusher: Flusher,
        overflow: Callable[[int], None],
        *,
        limit: int = MAX_BUFFER_BYTES,
    ) -> None:
        self._transport = transport
        self._flusher = flusher
        self._overflow = overflow
        self._limit = limit
        self._frames: list[bytes] = []
        self._size = 0
        self._closed = False

    def write(self, frame: bytes) -> None:
        """Send a complete WebSocket frame at the end of this tick, or now if much has gathered."""
        if self._closed:
            return
        if not self._frames:
            self._flusher.add(self)
        self._frames.append(frame)
        self._size += len(frame)
        if self._size >= _WRITE_THROUGH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what has gathered to the transport."""
        if not self._frames:
            return
        frames, self._frames, self._size = self._frames, [], 0
        if self._closed or self._transport.is_closing():
            self._closed = True
            return
        self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        waiting = self._transport.get_write_buffer_size()
        if waiting > self._limit:
            self._closed = True
            self._overflow(waiting)

    def close(self) -> None:
        """Write what has gathered and take no more."""
        self.flush()
        self._closed = True
