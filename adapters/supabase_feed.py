"""What one connection to Realtime has brought and nobody has taken yet: bounded, and never in the way of its reader.

The official client calls `row`, `message` and `beat` from its receive loop, so they neither wait nor raise: one bad
frame must not end the connection. What does not fit is dropped, but how far its stream went is kept: the reader
reads it back from history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from adapters.supabase_errors import Mode
from monitoring.cursor import Cursor
from monitoring.errors import InvalidCursor, InvalidEvent, Refused, Unreachable
from monitoring.events import BEGINNING, Event, Position, StreamId, from_json
from monitoring.topics import Topic, selects

log = structlog.get_logger(__name__)

MAX_EVENTS = 20_000
MAX_BYTES = 16 * 1024 * 1024
"""Of payloads as JSON; in memory they are several times as large."""
_MAX_REMEMBERED = 50_000
"""Streams of which it is remembered whether the topics select them."""


@dataclass(frozen=True, slots=True)
class Beat:
    """The newest heartbeat: the mode that holds, its number, and when the next one is to be expected."""

    mode: Mode
    number: int
    seconds: float


class Feed:
    """The events of one connection, as they arrived: unordered against history, possibly double, possibly with holes."""

    def __init__(
        self,
        mode: Mode,
        topics: Collection[Topic],
        *,
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.mode = mode
        self.topics = topics
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: list[Event] = []
        self._bytes = 0
        self._selected: dict[StreamId, bool] = {}
        self._newest: Any = None
        self._changed = asyncio.Event()
        self.heads: dict[StreamId, Position] = {}
        """How far streams are known to be, from heartbeats and from what was dropped. The reader removes what it has."""
        self.newest_beat: Beat | None = None
        self.heard = 0
        """Frames of any kind: while this rises the feed is alive."""
        self.received = 0
        """Events, the dropped ones included."""
        self.dropped = 0
        """Events dropped because the reader was too far behind."""
        self.unreadable = 0
        """Rows and messages that were not ours, or cut short on their way."""
        self.failure: Unreachable | Refused | None = None
        """Why the connection is of no more use; None while it is."""

    def take(self) -> list[Event]:
        """Return what has arrived since the last call."""
        events, self._events = self._events, []
        self._bytes = 0
        self._changed.clear()
        return events

    async def wait(self, seconds: float) -> bool:
        """Wait until something arrived or the connection ended; False when nothing did in that time."""
        if self._changed.is_set():
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def end(self, failure: Unreachable | Refused) -> None:
        """Note that the connection is of no more use; the first reason counts."""
        if self.failure is None:
            self.failure = failure
        self._changed.set()

    # -- called by the client

    def row(self, payload: Any) -> None:
        """Take one row of the feed. The client passes a row that several of our filters match once for each."""
        if payload is self._newest:
            return
        self._newest = payload
        self.heard += 1
        data = payload.get("data")
        self._arrived(data.get("record") if isinstance(data, dict) else None)
        self._changed.set()

    def message(self, payload: Any) -> None:
        """Take one message: many events, as text, and the heads of those that were too large for it."""
        self.heard += 1
        body = payload.get("payload")
        try:
            events = orjson.loads(body["events"])
        except (KeyError, TypeError, ValueError):
            self._unreadable("a message without events", payload)
        else:
            for event in events if isinstance(events, list) else ():
                self._arrived(event)
            self._learn(body.get("heads"))
        self._changed.set()

    def beat(self, payload: Any) -> None:
        """Take a heartbeat, in the form of either mode."""
        self.heard += 1
        data = payload.get("data")
        body: Any = data.get("record") if isinstance(data, dict) else payload.get("payload")
        try:
            self.newest_beat = Beat(Mode(body["mode"]), int(body["beat"]), float(body["beat_seconds"]))
        except (KeyError, TypeError, ValueError):
            self._unreadable("a heartbeat", payload)
        else:
            self._learn(body.get("heads"))
        self._changed.set()

    def _arrived(self, value: Any) -> None:
        try:
            event = from_json(value)
        except InvalidEvent as error:
            self._unreadable(str(error), value)
            self._learn_of_row(value)
            return
        if not self._wanted(event.stream):
            return
        self.received += 1
        size = _size(event.payload)
        if len(self._events) < self._max_events and self._bytes + size <= self._max_bytes:
            self._bytes += size
            self._events.append(event)
        else:
            self.dropped += 1
            self._known(event.stream, event.position)

    def _wanted(self, stream: StreamId) -> bool:
        wanted = self._selected.get(stream)
        if wanted is None:
            if len(self._selected) >= _MAX_REMEMBERED:
                self._selected.clear()
            wanted = self._selected[stream] = selects(self.topics, stream)
        return wanted

    def _known(self, stream: StreamId, position: Position) -> None:
        if position > self.heads.get(stream, BEGINNING):
            self.heads[stream] = position

    def _learn(self, heads: Any) -> None:
        """Take note of heads; null says nothing (they were too many to send)."""
        if heads is None:
            return
        try:
            cursor = Cursor.from_json(heads)
        except InvalidCursor as error:
            self._unreadable(str(error), heads)
            return
        for stream, position in cursor.items():
            if self._wanted(stream):
                self._known(stream, position)

    def _learn_of_row(self, value: Any) -> None:
        """Of a row that cannot be read, take where it stood: Realtime cuts long values and keeps short ones."""
        if isinstance(value, dict) and isinstance(value.get("stream"), str):
            self._learn({value["stream"]: [value.get("epoch"), value.get("seq")]})

    def _unreadable(self, what: str, value: Any) -> None:
        self.unreadable += 1
        if self.unreadable == 1:  # said once a connection; the counter says how often
            log.warning("supabase.unreadable", what=what, begins=repr(value)[:200])


def _size(payload: Any) -> int:
    try:
        return len(orjson.dumps(payload))
    except TypeError:  # an integer beyond 64 bits
        return len(repr(payload))
