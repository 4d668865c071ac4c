"""The spool: the owner's log of what happened, on disk, before either path sees it.

Every event is given its identity and kept in one transaction, so a process that is killed at any point leaves a spool
whose seqs have neither holes nor doubles. Both forwarders read the same rows and acknowledge by position. What both
have acknowledged is deleted, except the newest ``retain_events``, from which a legacy server that came back empty is
refilled. An error refuses the whole batch before any seq is taken. It is bounded twice: by the events that wait, and by
the bytes of its file.

SQLite is called on the caller's thread: an append of one event takes about a quarter of a millisecond, of a hundred
about four (2 kB each, with the disk flush), so a thread of its own would buy nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from adapters.outbox import Outbox, PathName
from adapters.spool_drafts import MAX_EVENT_BYTES, check_kind, encode, identify
from adapters.spool_file import (
    SpoolCorrupt,
    SpoolError,
    SpoolFull,
    StaleEpoch,
    StreamNotOpen,
    WriteLock,
    explain,
    open_for_writing,
    owner_of,
)
from adapters.spool_reader import read_events
from monitoring.cursor import Cursor
from monitoring.errors import InvalidEvent
from monitoring.events import Draft, Event, Position, StreamId, stream_opened

PATHS: tuple[PathName, ...] = ("supabase", "legacy")

_DELETE_ROWS = 5_000
"""Rows deleted with one acknowledgement, so that switching a path off does not stop the process for a second."""


@dataclass(frozen=True, slots=True)
class SpoolState:
    """How full the spool is: events waiting per enabled path, and what was refused since it was opened.

    At most ``limit`` events may wait for any one path, and the file may have ``limit_bytes``; from there on events are
    refused for all (ADR 5).
    """

    position: int
    retained: int
    waiting: Mapping[str, int]
    refused: Mapping[str, int]
    limit: int
    used_bytes: int
    limit_bytes: int


class Spool(Outbox):
    """The one writer of a spool file. Not thread-safe: use it on the thread (and event loop) that opened it."""

    def __init__(
        self,
        path: Path,
        lock: WriteLock,
        connection: sqlite3.Connection,
        *,
        max_events: int,
        max_bytes: int,
        max_event_bytes: int,
        retain_events: int,
    ) -> None:
        self._path = path
        self._lock = lock
        self._db = connection
        self._closed = False
        self._max_events = max_events
        self._page_bytes: int = connection.execute("pragma page_size").fetchone()[0]
        self._max_bytes = max_bytes
        self._max_event_bytes = max_event_bytes
        self._retain_events = retain_events
        self._owner = owner_of(connection)
        self._positions = {
            StreamId(stream): Position(epoch, seq)
            for stream, epoch, seq in connection.execute("select stream, epoch, seq from streams")
        }
        released = connection.execute("select value from meta where key like 'released %'").fetchall()
        self._released = {StreamId(stream) for (stream,) in released}
        self._lost: set[StreamId] = set()
        given = connection.execute("select seq from sqlite_sequence where name = 'events'").fetchone()
        self._position: int = given[0] if given else 0
        # Of what an earlier process wrote it is only known that it is not after this.
        self._last = dict.fromkeys(self._positions, self._position)
        oldest = connection.execute("select min(position) from events").fetchone()[0]
        self._oldest: int = oldest or self._position + 1
        rows = connection.execute("select path, acknowledged, enabled from paths").fetchall()
        self._acknowledged: dict[str, int] = {name: acknowledged for name, acknowledged, _ in rows}
        self._enabled: set[str] = {name for name, _, enabled in rows if enabled}
        self._waiters: set[asyncio.Future[None]] = set()
        self.refused: Counter[str] = Counter()
        """Events that were refused since the spool was opened, by the name of the error."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        max_events: int = 200_000,
        max_bytes: int = 1_000_000_000,
        max_event_bytes: int = MAX_EVENT_BYTES,
        retain_events: int = 5_000,
    ) -> Self:
        """Open the spool, made when there is none.

        At most ``max_events`` may wait for an enabled path, in a file of about ``max_bytes``; of what no path waits
        for, the newest ``retain_events`` stay while there is room. One event has at most ``max_event_bytes``. Raises SpoolInUse, SpoolCorrupt or SpoolUnwritable.
        """
        lock = WriteLock.acquire(path)
        try:
            connection = open_for_writing(path)
            try:
                return cls(
                    path,
                    lock,
                    connection,
                    max_events=max_events,
                    max_bytes=max_bytes,
                    max_event_bytes=max_event_bytes,
                    retain_events=retain_events,
                )
            except sqlite3.Error as error:
                connection.close()
                raise explain(path, error) from error
        except BaseException:
            lock.release()
            raise

    @property
    def owner(self) -> UUID:
        """Who writes; made once and kept in the file."""
        return self._owner

    @property
    def position(self) -> int:
        """The position of the newest event; 0 before the first."""
        return self._position

    def heads(self) -> Cursor:
        """Return the last event of every stream."""
        return Cursor(self._positions)

    def epoch_of(self, stream: StreamId) -> int | None:
        """Return the epoch the stream is written in; None when it was never opened here."""
        position = self._positions.get(stream)
        return position.epoch if position else None

    def is_open(self, stream: StreamId) -> bool:
        """Tell whether events of the stream are taken."""
        return stream in self._positions and stream not in self._lost and stream not in self._released

    def open_stream(
        self, stream: StreamId, epoch: int, previous: Position | None, at: datetime, *, drained: bool = True
    ) -> Event:
        """Begin an epoch with its ``stream_opened`` event, which names the later of ``previous`` and our own last.

        ``drained`` is whether the owner before let go of the lease with nothing left. Our own last epoch, when no
        other came between, goes out of this spool first, and so needs no such word. Taken by a full spool too: it is
        one small row a lease, and refusing it would keep the way out shut. Raises StaleEpoch unless the epoch is newer
        than the stream's, and else what ``append`` raises.
        """
        current = self._positions.get(stream)
        if current and epoch <= current.epoch:
            raise StaleEpoch(stream, epoch, current.epoch)
        last = max((place for place in (previous, current) if place), default=None)
        whole = drained or (current is not None and epoch == current.epoch + 1)
        draft = stream_opened(stream, at=at, owner=str(self._owner), previous=last, drained=whole)
        event = self._write([draft], {stream: Position(epoch, 0)})[0]
        self.resume_stream(stream)
        return event

    def close_stream(self, stream: StreamId) -> None:
        """Refuse further events of the stream until it is opened or resumed. Forgotten when the spool is closed."""
        self._lost.add(stream)

    def release_stream(self, stream: StreamId) -> None:
        """Refuse further events of the stream, also of a later process, until it is opened or resumed.

        Another owner may begin an epoch that says that ours is complete. Raises SpoolUnwritable or SpoolCorrupt.
        """
        try:
            self._db.execute("insert or replace into meta values (?, ?)", (f"released {stream}", stream))
        except sqlite3.Error as error:
            self._roll_back()
            raise explain(self._path, error) from error
        self._released.add(stream)

    def resume_stream(self, stream: StreamId) -> None:
        """Take events of a closed or released stream again, in the epoch it has: its lease is ours."""
        self._lost.discard(stream)
        if stream in self._released:
            self._released.discard(stream)
            try:
                self._db.execute("delete from meta where key = ?", (f"released {stream}",))
            except sqlite3.Error as error:
                self._keep_going(error)

    def drained(self, stream: StreamId) -> bool:
        """Tell whether every enabled path has acknowledged all of a stream's events; never true too early."""
        return self._last.get(stream, 0) < self._needed()

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Give each draft its identity and keep it: all of them, or none.

        Raises, with nothing taken and the drafts counted in ``refused``: StreamNotOpen, InvalidEvent (not JSON, larger
        than ``max_event_bytes``, a kind of our own, a time without a zone), SpoolFull, SpoolUnwritable, SpoolCorrupt.
        """
        if not drafts:
            return []
        try:
            for draft in drafts:
                self._admit(draft)
            self._make_room(len(drafts))
        except (SpoolError, InvalidEvent) as error:
            self.refused[type(error).__name__] += len(drafts)
            raise
        return self._write(drafts, {})

    def _admit(self, draft: Draft) -> None:
        if not self.is_open(draft.stream):
            raise StreamNotOpen(draft.stream, self._why_closed(draft.stream))
        check_kind(draft.kind)

    def _why_closed(self, stream: StreamId) -> str:
        if stream in self._lost:
            return "its lease is another owner's"
        return "its lease was let go" if stream in self._released else "it was never opened"

    def _make_room(self, events: int) -> None:
        """Raise SpoolFull unless so many more events may wait; what is only retained goes first."""
        waiting = max(self._waiting().values(), default=0)
        if waiting + events > self._max_events:
            raise SpoolFull(self._path, waiting, f"{self._max_events} events")
        if self._used_bytes() >= self._max_bytes:
            self._trim(self._needed())
            if self._used_bytes() >= self._max_bytes:
                raise SpoolFull(self._path, waiting, f"{self._max_bytes} bytes")

    def _used_bytes(self) -> int:
        """Return the bytes of the file that hold something."""
        try:
            pages, free = self._db.execute(
                "select page_count, freelist_count from pragma_page_count, pragma_freelist_count"
            ).fetchone()
        except sqlite3.Error as error:
            raise explain(self._path, error) from error
        return int(pages - free) * self._page_bytes

    def _write(self, drafts: Sequence[Draft], opened: Mapping[StreamId, Position]) -> list[Event]:
        heads: dict[StreamId, Position] = dict(opened)
        events: list[Event] = []
        bodies: list[tuple[bytes]] = []
        try:
            for draft in drafts:
                epoch, seq = heads.get(draft.stream) or self._positions[draft.stream]
                heads[draft.stream] = Position(epoch, seq + 1)
                event = identify(draft, heads[draft.stream])
                events.append(event)
                bodies.append((encode(event, self._max_event_bytes),))
        except InvalidEvent:
            self.refused[InvalidEvent.__name__] += len(drafts)
            raise
        try:
            self._db.execute("begin immediate")
            self._db.executemany("insert into events (body) values (?)", bodies)
            self._db.executemany(
                "insert into streams values (?, ?, ?) on conflict (stream) "
                "do update set epoch = excluded.epoch, seq = excluded.seq",
                [(stream, epoch, seq) for stream, (epoch, seq) in heads.items()],
            )
            self._db.execute("commit")
        except sqlite3.Error as error:
            self._roll_back()
            ours = explain(self._path, error)
            self.refused[type(ours).__name__] += len(drafts)
            raise ours from error
        except BaseException:
            self._roll_back()
            raise
        self._positions.update(heads)
        for event in events:
            self._position += 1
            self._last[event.stream] = self._position
        self._trim_if_unneeded()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        return events

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # SQLite itself rolls back on some errors
            self._db.execute("rollback")

    def read(self, after: int, limit: int) -> list[tuple[int, Event]]:
        """Return at most ``limit`` kept events after a position, in order, with their positions.

        Fewer come when there are no more, or when they are large. Position 0 begins at the oldest retained event.
        """
        return read_events(self._path, self._db, after, limit, None)

    def acknowledge(self, path: PathName, position: int) -> None:
        """Note that everything up to a position has arrived; never moves backwards.

        When the disk refuses it, it is kept in memory only: after a restart the path is offered again what it has
        already, and drops it by its identity.
        """
        position = min(position, self._position)
        if position <= self._acknowledged[path]:
            return
        self._acknowledged[path] = position
        self._store_acknowledged(path)
        self._trim_if_unneeded()

    def acknowledged(self, path: PathName) -> int:
        """Return up to where a path has acknowledged."""
        return self._acknowledged[path]

    def enabled(self, path: PathName) -> bool:
        """Tell whether events are kept for a path until it acknowledges them."""
        return path in self._enabled

    def set_enabled(self, path: PathName, *, enabled: bool) -> None:
        """Keep events for a path, or no longer; remembered in the file.

        A path that is enabled again goes on from what it acknowledged, or from the oldest retained event.
        """
        if enabled:
            self._enabled.add(path)
        else:
            self._enabled.discard(path)
        self._store_acknowledged(path)
        self._trim_if_unneeded()

    def state(self) -> SpoolState:
        """Return how full the spool is."""
        retained = self._position - self._oldest + 1
        return SpoolState(
            self._position,
            retained,
            self._waiting(),
            dict(self.refused),
            self._max_events,
            self._used_bytes(),
            self._max_bytes,
        )

    def waiting_since(self, path: PathName) -> datetime | None:
        """Return when the oldest event that waits for a path happened; None when none waits. Raises as ``read``."""
        if path not in self._enabled:
            return None
        rows = self.read(self._acknowledged[path], 1)
        return rows[0][1].occurred_at if rows else None

    async def appended(self, after: int) -> None:
        """Wait until there is an event after the position; returns at once when there is one."""
        while self._position <= after:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def close(self) -> None:
        """Close the file and let another process write it; safe to call twice. Waiters go on waiting."""
        if not self._closed:
            self._closed = True
            self._db.close()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _waiting(self) -> dict[str, int]:
        """Count the events each enabled path has yet to acknowledge: positions have no holes."""
        return {path: self._position - self._acknowledged[path] for path in self._enabled}

    def _store_acknowledged(self, path: PathName) -> None:
        try:
            self._db.execute(
                "update paths set acknowledged = ?, enabled = ? where path = ?",
                (self._acknowledged[path], int(path in self._enabled), path),
            )
        except sqlite3.Error as error:
            self._keep_going(error)

    def _needed(self) -> int:
        """Return the position of the first event that some enabled path has not acknowledged."""
        return min((self._acknowledged[path] for path in self._enabled), default=self._position) + 1

    def _trim_if_unneeded(self) -> None:
        """Delete what every enabled path has and the refill does not need, in few large steps."""
        keep_from = min(self._needed(), self._position - self._retain_events + 1)
        # Rows go in lots: each commit is a disk flush, and one for every event would double the cost of appending.
        if keep_from - self._oldest >= max(1, min(100, self._retain_events // 10)):
            self._trim(keep_from)

    def _trim(self, keep_from: int) -> None:
        upto = min(keep_from, self._oldest + _DELETE_ROWS)
        try:
            self._db.execute("delete from events where position < ?", (upto,))
            self._oldest = max(self._oldest, upto)
        except sqlite3.Error as error:
            self._keep_going(error)

    def _keep_going(self, error: sqlite3.Error) -> None:
        """Count a disk error in housekeeping, which loses nothing and is tried again; damage is raised."""
        self._roll_back()
        ours = explain(self._path, error)
        if isinstance(ours, SpoolCorrupt):
            raise ours from error
        self.refused["housekeeping"] += 1
