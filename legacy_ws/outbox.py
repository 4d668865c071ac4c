"""What waits for each connection, and writing it: one write per connection and tick of the loop.

A write is a system call of several microseconds; what is sent within a tick goes together in one. Under load a tick gets
longer: after a flush that took a while (there are many connections) the next one waits as long, so that more gathers.
What many are told waits once for all of them, in their `Group`; only for who is behind it is queued.

A client's live messages wait in a bounded queue; a client that lets it run full is given up as too slow, because the
alternatives are to keep everybody waiting or to leave out events unnoticed. It comes back and resumes.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from legacy_ws.frames import Framing, deflated_frame, text_frame
from legacy_ws.stats import Traffic

MOST_ANSWERS = 16
"""Answers that may wait for one client before its next request is read."""
_CHUNK_BYTES = 64 * 1024
"""Written at once; more waits until the transport has room again."""
_SHORTEST_REST_SECONDS = 0.001
_LONGEST_REST_SECONDS = 0.005


class Pipe(Protocol):
    """Where an outbox writes."""

    @property
    def open(self) -> bool:
        """Whether frames may still be written."""
        ...

    @property
    def blocked(self) -> bool:
        """Whether what was written has to be read first."""
        ...

    def write(self, frames: bytes) -> None:
        """Write whole frames, behind what was written before."""
        ...

    @property
    def descriptor(self) -> int:
        """The socket that frames may be written to past ``write`` while the pipe is ``clear``."""
        ...

    @property
    def clear(self) -> bool:
        """Whether nothing has to be written before; stays so until ``listen`` calls or ``write`` is called."""
        ...

    @property
    def deflates(self) -> bool:
        """Whether the peer reads compressed frames."""
        ...

    def listen(self, touched: Callable[[], None]) -> None:
        """Have ``touched`` called when somebody else has written or closed."""
        ...


class Flusher:
    """Flushes the groups and outboxes that were written to, once per tick or rest."""

    def __init__(self) -> None:
        self.progressed = asyncio.Event()
        """Set by every flush."""
        self.crowded: set[Outbox] = set()
        """Who is behind by more than half a queue."""
        self._dirty: list[Outbox | Group] = []
        self._rest_until = 0.0

    def add(self, waiting: Outbox | Group) -> None:
        """Have an outbox or a group flushed soon."""
        if not self._dirty:
            loop = asyncio.get_running_loop()
            rest = self._rest_until - loop.time()
            if rest < _SHORTEST_REST_SECONDS:
                loop.call_soon(self.flush)
            else:
                loop.call_later(rest, self.flush)
        self._dirty.append(waiting)

    def flush(self) -> None:
        """Write what waits, as far as the transports take it."""
        clock = asyncio.get_running_loop().time
        began = clock()
        dirty, self._dirty = self._dirty, []
        for waiting in dirty:
            waiting.flush()
        ended = clock()
        self._rest_until = ended + min(ended - began, _LONGEST_REST_SECONDS)
        self.progressed.set()


class Outbox:
    """The frames that wait for one connection: answers go first, then the replay, then live ones."""

    def __init__(
        self,
        pipe: Pipe,
        flusher: Flusher,
        traffic: Traffic,
        *,
        max_queue: int,
        deflated: Framing = deflated_frame,
    ) -> None:
        self.pipe = pipe
        self.frame: Framing = deflated if pipe.deflates else text_frame
        """How a message is framed for the peer."""
        self._flusher = flusher
        self._traffic = traffic
        self._max_queue = max_queue
        self._half_queue = max(1, max_queue // 2)
        self._answers: deque[bytes] = deque()
        self._replay: deque[Callable[[], bytes]] = deque()
        self._live: deque[bytes] = deque()
        self._scheduled = False
        self._held = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.group: Group | None = None
        """The one that it is in."""
        self.too_slow = asyncio.Event()
        """Set when the client is given up, because its queue ran full."""
        pipe.listen(self._hold)

    @property
    def clear(self) -> bool:
        """Whether what the group is told may go straight to the socket."""
        return self.pipe.clear and not (self._answers or self._replay or self._live)

    @property
    def waiting(self) -> int:
        """Messages that wait to be written, with those that wait in the group."""
        return (
            len(self._answers)
            + len(self._replay)
            + len(self._live)
            + (self.group.waiting if self.group is not None else 0)
        )

    def answer(self, message: bytes) -> None:
        """Queue the answer to a request."""
        self._answers.append(self.frame(message))
        if len(self._answers) >= MOST_ANSWERS:
            self._room.clear()
        self._schedule()

    def restart(self, message: bytes, replay: Iterable[Callable[[], bytes]]) -> None:
        """Answer a subscription: the replay takes the place of what was queued, which it includes.

        Its frames are made when they are written, so that a long one costs nothing before its turn.
        """
        if self.group is not None:
            self.group.join(self)  # what waits there is in the replay
        self._replay = deque(replay)
        self._live.clear()
        self.answer(message)

    def offer(self, frame: bytes) -> bool:
        """Queue a live message; returns False, without it, when the queue is full."""
        fits = self.queue([frame])
        self._schedule()
        return fits

    def queue(self, frames: Sequence[bytes]) -> bool:
        """Queue live messages, to be written by ``flush``; returns False, with those that fitted, when the queue is full."""
        live = self._live
        room = self._max_queue - len(live)
        live.extend(frames[:room])
        if len(live) > self._half_queue:
            self._flusher.crowded.add(self)
        return len(frames) <= room

    def flush(self) -> None:
        """Write until nothing waits or the transport has to be read from first; then `held` says so."""
        self._scheduled = False
        pipe = self.pipe
        while self._live or self._answers or self._replay:
            if not pipe.open:
                self._forget()
                break
            if pipe.blocked:
                self._held.set()
                return
            pipe.write(self._chunk())
        self._flusher.crowded.discard(self)

    async def held(self) -> None:
        """Wait until something waits that the transport did not take."""
        await self._held.wait()
        self._held.clear()

    def resume(self) -> None:
        """Go on after the transport had room again."""
        self.flush()
        self._flusher.progressed.set()

    async def room(self) -> None:
        """Wait until fewer answers wait; the next request is read only then."""
        await self._room.wait()

    def _forget(self) -> None:
        """Drop what waits: nobody will read it."""
        self._answers.clear()
        self._replay.clear()
        self._live.clear()
        self._room.set()

    def _hold(self) -> None:
        """Have the group wait for what has to go first."""
        if self.group is not None:
            self.group.hold(self)

    def _schedule(self) -> None:
        self._hold()
        if not self._scheduled:
            self._scheduled = True
            self._flusher.add(self)

    def _chunk(self) -> bytes:
        """Take out what is written next."""
        live = self._live
        frames: list[bytes] = []
        size = 0
        while size < _CHUNK_BYTES:
            if self._answers:
                frame = self._answers.popleft()
                self._room.set()
            elif self._replay:
                frame = self._replay.popleft()()
            elif live:
                frame = live.popleft()
            else:
                break
            frames.append(frame)
            size += len(frame)
        self._traffic.messages_sent += len(frames)
        self._traffic.bytes_sent += size
        return frames[0] if len(frames) == 1 else b"".join(frames)


class Group:
    """Outboxes that are told the same. ``give_up`` is called with each whose queue ran full.

    What is told waits here, once for all, until the tick ends or much has gathered; then it is one write to each that
    keeps up. Those are known by their sockets alone: with a thousand clients, looking at one object of each costs as much
    as a third of the write, for it has left the processor's cache. So who has something to write first says so (``hold``).
    """

    def __init__(
        self, flusher: Flusher, traffic: Traffic, give_up: Callable[[Outbox], None], *, max_queue: int
    ) -> None:
        self._flusher = flusher
        self._traffic = traffic
        self._give_up = give_up
        self._most_frames = max(1, max_queue // 2)
        self._clear: dict[int, Outbox] = {}
        self._others: set[Outbox] = set()
        self._frames: list[bytes] = []
        self._size = 0

    def __len__(self) -> int:
        return len(self._clear) + len(self._others)

    @property
    def waiting(self) -> int:
        """Messages that wait here."""
        return len(self._frames)

    def join(self, outbox: Outbox) -> None:
        """Take an outbox in, for what is told from now on; also one that is in, of which it forgets what waits here."""
        self._forget(outbox)
        self.flush()
        self._others.add(outbox)
        outbox.group = self

    def leave(self, outbox: Outbox) -> None:
        """Let an outbox go; what waits here is told to it by itself. Safe to call twice."""
        if outbox.group is self:
            self._forget(outbox)
            outbox.group = None
            outbox.queue(self._frames)
            outbox.flush()

    def hold(self, outbox: Outbox) -> None:
        """Write to an outbox only once it is clear again."""
        if outbox not in self._others:
            self._forget(outbox)
            self._others.add(outbox)

    def tell(self, frame: bytes) -> None:
        """Tell all of them a message."""
        if not self._frames:
            self._flusher.add(self)
        self._frames.append(frame)
        self._size += len(frame)
        if self._size >= _CHUNK_BYTES or len(self._frames) >= self._most_frames:
            self.flush()

    def flush(self) -> None:
        """Write what waits to all that are clear, and queue it for the others."""
        if not self._frames:
            return
        frames, self._frames, self._size = self._frames, [], 0
        for outbox in [other for other in self._others if other.clear]:
            self._others.discard(outbox)
            self._clear[outbox.pipe.descriptor] = outbox
        behind = [*self._others, *self._write(frames)]
        for outbox in behind:
            if outbox.queue(frames):
                outbox.flush()
            else:
                self._give_up(outbox)

    def _write(self, frames: list[bytes]) -> list[Outbox]:
        """Write to all that are clear; return those whose sockets took nothing."""
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        write, size = os.write, len(data)
        short: list[tuple[int, int]] = []
        for descriptor in self._clear:
            try:
                written = write(descriptor, data)
            except OSError:  # full or broken: the transport knows
                written = 0
            if written != size:
                short.append((descriptor, written))
        refused: list[Outbox] = []
        for descriptor, written in short:
            outbox = self._clear.pop(descriptor)
            self._others.add(outbox)
            if written:
                outbox.pipe.write(data[written:])
            else:
                refused.append(outbox)
        receivers = len(self._clear) + len(short) - len(refused)
        self._traffic.messages_sent += receivers * len(frames)
        self._traffic.bytes_sent += receivers * size
        return refused

    def _forget(self, outbox: Outbox) -> None:
        descriptor = outbox.pipe.descriptor
        if self._clear.get(descriptor) is outbox:
            del self._clear[descriptor]
        self._others.discard(outbox)
