"""Several spools of one machine read as one record: the collectors', and that of what applications pushed.

Their streams are different ones, so between them any order will do. A place in the record is a place in each spool, as
one number: with each event one of them grows, and none ever falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from adapters.spool import SpoolReader
from monitoring.cursor import Cursor
from monitoring.events import Event

_BITS = 48
"""Of one spool's place: events that it will never have had."""


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


def _joined(places: Sequence[int]) -> int:
    return sum(place << index * _BITS for index, place in enumerate(places))


def _split(place: int, count: int) -> list[int]:
    return [place >> index * _BITS & (1 << _BITS) - 1 for index in range(count)]
