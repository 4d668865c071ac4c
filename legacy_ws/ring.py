"""The ring: the newest events of every stream, within one bound, and their replay after a cursor.

Pure. What follows what, across epochs too, is decided by `monitoring.sequencer`, the same code that the clients use,
so that server and client cannot disagree about a hole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Generic, TypeVar

from monitoring.cursor import Cursor
from monitoring.events import BEGINNING, Event, Position, StreamId
from monitoring.sequencer import Sequencer
from monitoring.service import Gap
from monitoring.topics import Topic, selects

M = TypeVar("M")
"""What an event is kept as, for whoever replays it."""

MAX_EVENTS = 20_000
MAX_BYTES = 32_000_000
"""Of payloads as JSON. As Python has them they take about five times as much."""

_KINDS_KEPT = 64
"""Kinds per stream whose latest event is kept; a peer that invents kinds cannot grow the server."""


class Taken(StrEnum):
    """What became of an event that was offered to the ring."""

    NEW = "new"
    DUPLICATE = "duplicate"
    STALE = "stale"
    """From an owner whose epoch has ended."""


@dataclass(frozen=True, slots=True)
class Retained(Generic[M]):
    """An event with what it was broadcast as."""

    event: Event
    message: M
    size: int = 0
    """Bytes of its payload's JSON."""


@dataclass(frozen=True, slots=True)
class Replay(Generic[M]):
    """The answer to a cursor: retained events, per stream in order; what is gone; and where the streams stand.

    Every stream that is ahead of the cursor either has its head among ``events`` or a gap that ends at its head.
    """

    heads: Cursor
    events: tuple[Retained[M], ...] = ()
    gaps: tuple[Gap, ...] = ()


@dataclass(slots=True)
class _Stream(Generic[M]):
    head: Position = BEGINNING
    events: deque[Retained[M]] = field(default_factory=deque)
    latest: dict[str, Event] = field(default_factory=dict)


class Ring(Generic[M]):
    """At most ``max_events`` superseded events over all streams, and always the newest of each. Not thread-safe.

    Together they have at most ``max_bytes``, as told to ``take``; only the newest of each stream may go beyond that. When it is
    full the event that came first goes, whatever its stream.
    """

    def __init__(self, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._streams: dict[StreamId, _Stream[M]] = {}
        self._superseded: deque[StreamId] = (
            deque()
        )  # one entry for each event that has a newer one in its stream
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.size = 0
        """Bytes of all that is kept."""
        self.evicted = 0
        """Events dropped because the ring was full."""

    def __len__(self) -> int:
        return sum(len(stream.events) for stream in self._streams.values())

    @property
    def streams(self) -> Collection[StreamId]:
        """The streams that are known."""
        return self._streams.keys()

    def judge(self, event: Event) -> Taken:
        """Tell what taking the event would do."""
        known = self._streams.get(event.stream)
        head = known.head if known else BEGINNING
        if event.position > head:
            return Taken.NEW
        return Taken.STALE if event.epoch < head.epoch else Taken.DUPLICATE

    def take(self, event: Event, message: M, size: int = 0) -> None:
        """Keep a new event, whose payload has so many bytes; the caller has asked ``judge``."""
        stream = self._streams.setdefault(event.stream, _Stream())
        if stream.events:
            self._superseded.append(event.stream)
        stream.events.append(Retained(event, message, size))
        self.size += size
        stream.head = event.position
        stream.latest.pop(event.kind, None)  # the dict's order is that of the last change
        stream.latest[event.kind] = event
        if len(stream.latest) > _KINDS_KEPT:
            del stream.latest[next(iter(stream.latest))]
        while len(self._superseded) > self._max_events or (self._superseded and self.size > self._max_bytes):
            self.size -= self._streams[self._superseded.popleft()].events.popleft().size
            self.evicted += 1

    def adopt(self, heads: Mapping[StreamId, Position]) -> None:
        """Learn where streams stand of which no event is retained anywhere any more.

        Of a stream with events here only its own next event moves the head.
        """
        for name, position in heads.items():
            stream = self._streams.get(name)
            if stream is None and position > BEGINNING:
                self._streams[name] = _Stream(position)
            elif stream is not None and not stream.events:
                stream.head = max(stream.head, position)

    def heads(self, topics: Collection[Topic] | None = None) -> Cursor:
        """Return the last known position of each stream, of the topics or of all."""
        return Cursor({name: stream.head for name, stream in self._select(topics)})

    def latest(self, topics: Collection[Topic]) -> tuple[Event, ...]:
        """Return the newest event of each (stream, kind) of the topics."""
        return tuple(event for _, stream in self._select(topics) for event in stream.latest.values())

    def recent(self, count: int) -> list[Retained[M]]:
        """Return the newest events of all streams by the time they happened, oldest first."""
        newest = [
            kept for stream in self._streams.values() for kept in islice(reversed(stream.events), count)
        ]
        newest.sort(key=lambda kept: (kept.event.occurred_at, kept.event.position))
        return newest[-count:]

    def replay(self, topics: Collection[Topic], cursor: Cursor | None) -> Replay[M]:
        """Return everything retained after the cursor; with None nothing, only where the streams stand."""
        heads = self.heads(topics)
        if cursor is None:
            return Replay(heads)
        events: list[Retained[M]] = []
        gaps: list[Gap] = []
        for name, stream in self._select(topics):
            position = cursor.get(name)
            missed = list(_after(stream.events, position or BEGINNING))
            events += missed
            gaps += _missing(name, position, [kept.event for kept in missed], stream.head)
        return Replay(heads, tuple(events), tuple(gaps))

    def _select(self, topics: Collection[Topic] | None) -> Iterator[tuple[StreamId, _Stream[M]]]:
        for name, stream in self._streams.items():
            if topics is None or selects(topics, name):
                yield name, stream


def _after(events: deque[Retained[M]], position: Position) -> Iterator[Retained[M]]:
    """Yield the events after a position, in order; its cost is that of what was missed."""
    missed: list[Retained[M]] = []
    for kept in reversed(events):
        if kept.event.position <= position:
            break
        missed.append(kept)
    return reversed(missed)


def _missing(stream: StreamId, position: Position | None, events: list[Event], head: Position) -> list[Gap]:
    """Name what is gone between a client's position and the head."""
    sequencer = Sequencer({stream: position} if position else None)
    gaps = [item for item in sequencer.fill(stream, events, upto=head) if isinstance(item, Gap)]
    if position is None and not events:
        # All of a stream that is new to the client is gone: no gap to its consumer, but its adapter has to know that
        # nothing will come.
        gaps.append(Gap(stream, head.epoch, 1, head.seq))
    return gaps
