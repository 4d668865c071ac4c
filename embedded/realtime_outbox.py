"""Writing to many WebSocket connections: frames prepared once, one write per connection and loop tick.

A write is a system call of several microseconds per connection; eight frames in one write cost about as much as
one, so what is sent within a tick goes together. Under load ticks get longer than they need to: after a flush that took
a while (there are many connections) the next one waits as long, so that more gathers; a flush that took less than a
millisecond delays nothing. Frames bypass aiohttp's writer, which would copy and frame each anew, and the transport
too while it has nothing to write: handing one frame to it costs as much again as the system call.
"""

from __future__ import annotations

import asyncio
import os
import time
from itertools import repeat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MAX_BUFFER_BYTES: Final = 16 * 1024 * 1024
"""A client that is further behind than this is dropped; it comes back and reads what it missed."""
_SEVERAL: Final = 2
_NO_SOCKET: Final = -1
_WRITE_THROUGH_BYTES: Final = 256 * 1024
_CROWDED_PART: Final = 4
"""Whoever is behind by a quarter of its limit is waited for."""
_PROGRESS_PART: Final = 64
"""Reading less than this part of its limit in a second counts as not reading."""
_SHORTEST_REST_SECONDS: Final = 0.001
_LONGEST_REST_SECONDS: Final = 0.005
_LOOK_SECONDS: Final = 0.005
_STUCK_SECONDS: Final = 1.0
_LONGEST_RELIEF_SECONDS: Final = 10.0


class Flusher:
    """Flushes the outboxes that were written to, once per loop tick or rest, and then says which position is done."""

    def __init__(self) -> None:
        self._dirty: list[Outbox] = []
        self._common: tuple[Sequence[Outbox], bytes] | None = None
        """What many are sent, and nobody anything else, in this tick."""
        self._scheduled = False
        self._done: tuple[Callable[[int], None], int] | None = None
        self._crowded: set[Outbox] = set()
        self._resting_until = 0.0

    def send(self, outboxes: Sequence[Outbox], frames: bytes) -> None:
        """Write complete frames to several, as `write` of each does; `outboxes` must not change any more.

        Something for everybody that is alone in its tick, as messages are that come one at a time, is kept as it is and
        need not go through each one's list.
        """
        if self._dirty or self._common is not None or len(outboxes) < _SEVERAL:
            for outbox in outboxes:
                outbox.write(frames)
            return
        self._common = outboxes, frames
        if not self._scheduled:
            self._schedule()

    def spread(self) -> None:
        """Put what is kept for many into each one's list, because something else follows."""
        if self._common is not None:
            (outboxes, frames), self._common = self._common, None
            for outbox in outboxes:
                outbox.write(frames)

    def add(self, outbox: Outbox) -> None:
        """Have the outbox flushed at the end of this tick."""
        self.spread()
        self._dirty.append(outbox)
        if not self._scheduled:
            self._schedule()

    def then(self, acknowledge: Callable[[int], None], lsn: int) -> None:
        """Call `acknowledge(lsn)` after the next flush; of several positions only the last counts."""
        self._done = (acknowledge, lsn)
        if not self._scheduled:
            self._schedule()

    def flush(self) -> None:
        """Hand over everything now."""
        began = time.monotonic()
        self._scheduled = False
        if self._common is not None:
            (outboxes, frames), self._common = self._common, None
            _write_each(zip(outboxes, repeat(frames)))
        dirty, self._dirty = self._dirty, []
        _write_each(_single_frames(dirty))
        for outbox in dirty:
            outbox.flush()
        ended = time.monotonic()
        self._resting_until = ended + min(ended - began, _LONGEST_REST_SECONDS)
        if self._done is not None:
            (acknowledge, lsn), self._done = self._done, None
            acknowledge(lsn)

    def crowd(self, outbox: Outbox) -> None:
        """Have `relief` wait for the outbox."""
        self._crowded.add(outbox)

    async def relief(self) -> None:
        """Let transports write, and wait until no client is far behind that still reads.

        So whoever sends much sends as fast as it is read. One that takes next to nothing for a second is not waited
        for again until it has caught up, nor is anyone for longer than ten seconds: it will exceed its limit and be
        dropped.
        """
        await asyncio.sleep(0)
        watched, self._crowded = self._crowded, set()
        if not watched:
            return
        clock = asyncio.get_running_loop().time
        end, look = clock() + _LONGEST_RELIEF_SECONDS, clock() + _STUCK_SECONDS
        before = {outbox: outbox.waiting for outbox in watched}
        while watched := {outbox for outbox in watched if outbox.crowded and not outbox.stuck}:
            await asyncio.sleep(_LOOK_SECONDS)
            now = clock()
            if now < look:
                continue
            look = now + _STUCK_SECONDS
            for outbox in watched:
                outbox.stuck = now > end or before[outbox] - outbox.waiting < outbox.limit // _PROGRESS_PART
                before[outbox] = outbox.waiting

    def _schedule(self) -> None:
        self._scheduled = True
        loop = asyncio.get_running_loop()
        rest = self._resting_until - time.monotonic()
        if rest < _SHORTEST_REST_SECONDS:
            loop.call_soon(self.flush)
        else:
            loop.call_later(rest, self.flush)


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
        socket = transport.get_extra_info("socket")
        self._descriptor: int = _NO_SOCKET if socket is None else socket.fileno()
        # looked up once, not for each message and receiver
        self._is_closing = transport.is_closing
        self._buffered = transport.get_write_buffer_size
        self._flusher = flusher
        self._overflow = overflow
        self.limit = limit
        self.stuck = False
        """It did not read when it was waited for, and did not catch up since."""
        self._frames: list[bytes] = []
        self._size = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many bytes the transport could not hand over yet."""
        return 0 if self._closed else self._buffered()

    @property
    def crowded(self) -> bool:
        """Whether the client is far behind."""
        return self.waiting > self.limit // _CROWDED_PART

    def write(self, frame: bytes) -> None:
        """Send complete WebSocket frames, one or several, at the end of this tick, or now if much has gathered."""
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
        frames, size, self._frames, self._size = self._frames, self._size, [], 0
        self._hand_over(frames, size)

    def _hand_over(self, frames: list[bytes], size: int) -> None:
        if self._closed or self._is_closing():
            self._closed = True
            return
        if self._descriptor >= 0 and not self._buffered():
            frames = _written(self._descriptor, frames, size)
            if not frames:
                self.stuck = False
                return
        self._transport.writelines(frames)  # uvloop gathers them in one system call, without joining them
        waiting = self._buffered()
        if waiting > self.limit:
            self._closed = True
            self._overflow(waiting)
        elif waiting <= self.limit // _CROWDED_PART:
            self.stuck = False
        elif not self.stuck:
            self._flusher.crowd(self)

    def close(self) -> None:
        """Write what has gathered and take no more."""
        self._flusher.spread()
        self.flush()
        self._closed = True


def _single_frames(outboxes: Iterable[Outbox]) -> list[tuple[Outbox, bytes]]:
    """Take what has gathered from those that it is one piece for."""
    taken: list[tuple[Outbox, bytes]] = []
    for outbox in outboxes:
        if len(outbox._frames) == 1:  # noqa: SLF001  # of the same module
            outbox._size = 0  # noqa: SLF001
            taken.append((outbox, outbox._frames.pop()))  # noqa: SLF001
    return taken


def _write_each(pairs: Iterable[tuple[Outbox, bytes]]) -> None:
    """Hand frames to each outbox; nothing may have gathered in any of them.

    What a message costs each receiver beyond the system call is spent here, so the usual case, a client that keeps
    up, is dealt with in place. A descriptor is only written to while its transport is open: afterwards it may be
    another connection's.
    """
    write = os.write
    for outbox, frames in pairs:
        if (
            outbox._descriptor < 0  # noqa: SLF001  # of the same module, and in its hottest loop
            or outbox._closed  # noqa: SLF001
            or outbox.stuck
            or outbox._is_closing()  # noqa: SLF001
            or outbox._buffered()  # noqa: SLF001
        ):
            written = 0
        else:
            try:
                written = write(outbox._descriptor, frames)  # noqa: SLF001
            except OSError:
                written = 0  # full or broken: the transport knows
        if written != len(frames):
            outbox._hand_over([frames[written:]], len(frames) - written)  # noqa: SLF001


def _written(descriptor: int, frames: list[bytes], size: int) -> list[bytes]:
    """Write what the socket takes now, and return the rest; `size` is that of all frames.

    Of a socket that is full, broken or given more frames than one call takes, all is the rest: the transport knows.
    """
    try:
        written = os.write(descriptor, frames[0]) if len(frames) == 1 else os.writev(descriptor, frames)
    except OSError:
        return frames
    if written == size:
        return []
    first = 0
    while written >= len(frames[first]):
        written -= len(frames[first])
        first += 1
    return [frames[first][written:], *frames[first + 1 :]]
