"""The record of moves: one JSON line for each decision to move a client, or to give a move up.

Every process of a data directory appends to the same file. A line is one write to a file opened for appending, so that
lines of several processes do not mix; a file that has grown is set aside once, which bounds what is kept.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from monitoring.events import format_time
from monitoring.service import MoveAbandoned, Moved

_LINE_BYTES = 600
"""More than most records take."""
MAX_BYTES = 2_000_000
"""A file of this size is set aside; the one set aside before is dropped."""

_log = logging.getLogger(__name__)


class MoveLog:
    """Appends to one file. A place that cannot be written is said once, and costs the client nothing."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._said = False

    def record(self, client_id: str, item: Moved | MoveAbandoned) -> None:
        """Keep the record of one decision."""
        line = orjson.dumps(to_json(client_id, item)) + b"\n"
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line)
                written = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            # Only the one that is still there: another process may have set it aside in this moment.
            if written.st_size > self._max_bytes and self._path.stat().st_ino == written.st_ino:
                self._path.replace(_aside(self._path))
        except OSError as error:
            if not self._said:
                _log.warning("moves are not recorded: %s: %s", self._path, error.strerror or error)
            self._said = True


def to_json(client_id: str, item: Moved | MoveAbandoned) -> dict[str, Any]:
    """Return the record of one decision: from, to, why, when, and for a move what it took and dropped."""
    record: dict[str, Any] = {
        "at": format_time(item.at),
        "client": client_id,
        "outcome": "moved" if isinstance(item, Moved) else "abandoned",
        "from": item.from_backend,
        "to": item.to_backend,
        "reason": item.reason,
    }
    if isinstance(item, Moved):
        record |= {
            "seconds": item.seconds,
            "overlap_seconds": item.overlap_seconds,
            "duplicates_dropped": item.duplicates_dropped,
            "polled": sorted(item.polled),
        }
    return record


def newest(path: Path, most: int) -> list[Mapping[str, Any]]:
    """Return the newest records that are kept, newest first; reads no more than the end of the files."""
    found: list[Mapping[str, Any]] = []
    for each in (path, _aside(path)):
        if (missing := most - len(found)) > 0:
            found += reversed(list(_records(_lines(each, missing * _LINE_BYTES))))
    return found[:most]


def read(path: Path) -> Iterator[Mapping[str, Any]]:
    """Give the records that are kept, oldest first; lines that are none are passed over."""
    for each in (_aside(path), path):
        yield from _records(_lines(each))


def _lines(path: Path, last_bytes: int | None = None) -> Sequence[bytes]:
    """Return the lines of a file, or of its last bytes, of which the first may be the rest of one."""
    try:
        with path.open("rb") as file:
            if last_bytes is not None:
                file.seek(max(0, path.stat().st_size - last_bytes))
            return file.read().splitlines()
    except FileNotFoundError:
        return ()


def _records(lines: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        try:
            record = orjson.loads(line)
        except ValueError:
            continue  # cut short by a full disk, or by where reading began
        if isinstance(record, dict):
            yield record


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".1")
