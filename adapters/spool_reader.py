"""What spools hold, read: by the writer of one, and by other processes while it is written.

Several spools of one machine are read as one record: the collectors', and that of what applications pushed. Their
streams are different ones, so between them any order will do. A place in the record is a place in each spool, as one
number: with each event one of them grows, and none ever falls.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from adapters.spool_file import explain, open_for_reading, owner_of
from monitoring.cursor import Cursor
from monitoring.events import Event, Position, StreamId, from_json

_READ_BYTES = 4_000_000
"""A read ends after so much JSON, at least one event: what goes out as one transaction or frame stays bounded."""

_BITS = 48
"""Of one spool's place: events that it will never have had."""


class SpoolReader:
    """A read-only view for another process; each call sees the newest committed state, whatever the writer does."""

    def __init__(self, path: Path) -> None:
        """Open the file; raises SpoolCorrupt, or SpoolUnwritable when it is not there or may not be read."""
        self._path = path
        self._db = open_for_reading(path)
        self.owner = owner_of(self._db)

    def heads(self) -> Cursor:
        """Return the last event of every stream."""
        rows = self._rows("select stream, epoch, seq from streams")
        return Cursor({StreamId(stream): Position(epoch, seq) for stream, epoch, seq in rows})

    def position(self) -> int:
        """Return the position of the newest event; 0 before the first."""
        rows = self._rows("select seq from sqlite_sequence where name = 'events'")
        return int(rows[0][0]) if rows else 0

    def acknowledged(self) -> dict[str, int]:
        """Return up to where each path has acknowledged."""
        return dict(self._rows("select path, acknowledged from paths"))

    def read(self, after: int, limit: int, upto: int | None = None) -> list[tuple[int, Event]]:
        """Return at most ``limit`` retained events with ``after`` < position <= ``upto``, in order."""
        return read_events(self._path, self._db, after, limit, upto)

    def close(self) -> None:
        """Close the view; safe to call twice."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rows(self, sql: str) -> list[Any]:
        try:
            return self._db.execute(sql).fetchall()
        except sqlite3.Error as error:
            raise explain(self._path, error) from error


class SpoolReaders:
    """A read-only view of several spools, as `SpoolReader` is of one.

    The first has to be there; of the others each is read from when it is. Not for more than one thread.
    """

    def __init__(self, first: Path, *others: Path) -> None:
        """Open them; raises SpoolCorrupt, or SpoolUnwritable when the first is not there or one may not be read."""
        self._paths = (first, *others)
        self._open: dict[Path, SpoolReader] = {first: SpoolReader(first)}

    def heads(self) -> Cursor:
        """Return the last event of every stream of all of them."""
        return Cursor(
            {name: at for reader in self._readers() if reader for name, at in reader.heads().items()}
        )

    def position(self) -> int:
        """Return the place of the newest events."""
        return _joined([reader.position() if reader else 0 for reader in self._readers()])

    def read(self, after: int, limit: int, upto: int | None = None) -> list[tuple[int, Event]]:
        """Return at most ``limit`` retained events with ``after`` < place <= ``upto``, with their places."""
        readers = self._readers()
        at = _split(after, len(readers))
        ends = [None] * len(readers) if upto is None else _split(upto, len(readers))
        found: list[tuple[int, Event]] = []
        for index, reader in enumerate(readers):
            if reader is None:
                continue
            for place, event in reader.read(at[index], limit - len(found), ends[index]):
                at[index] = place
                found.append((_joined(at), event))
            if len(found) == limit:
                break
        return found

    def close(self) -> None:
        """Close the views; safe to call twice."""
        for reader in self._open.values():
            reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _readers(self) -> Sequence[SpoolReader | None]:
        for path in self._paths:
            if path not in self._open and path.exists():
                self._open[path] = SpoolReader(path)
        return [self._open.get(path) for path in self._paths]


def read_events(
    path: Path, connection: sqlite3.Connection, after: int, limit: int, upto: int | None
) -> list[tuple[int, Event]]:
    """Return events with ``after`` < position <= ``upto`` and their positions, at most ``limit`` and 4 MB of JSON.

    One event comes at least, however large. Raises as ``explain`` says.
    """
    found: list[tuple[int, Event]] = []
    size = 0
    try:
        rows = connection.execute(
            "select position, body from events where position > ? and position <= ? order by position limit ?",
            (after, upto if upto is not None else 2**62, limit),
        )
        for position, body in rows:
            size += len(body)
            if found and size > _READ_BYTES:
                break
            found.append((position, from_json(orjson.loads(body))))
        rows.close()
    except sqlite3.Error as error:
        raise explain(path, error) from error
    return found


def _joined(places: Sequence[int]) -> int:
    return sum(place << index * _BITS for index, place in enumerate(places))


def _split(place: int, count: int) -> list[int]:
    return [place >> index * _BITS & (1 << _BITS) - 1 for index in range(count)]
