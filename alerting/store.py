"""The state of the alerts on disk: what is pending, told, silenced or waiting to go out survives a kill -9.

SQLite in WAL mode. What changed is written in one transaction together with the cursor it was made from, so that after a
restart the stream goes on exactly there: nothing is seen twice and nothing is missed. A row that another version wrote and
this one cannot read is left out and said; the rest stays.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from pydantic import TypeAdapter, ValidationError

from alerting.engine import Memory, Presence
from alerting.errors import StoreUnusable
from alerting.lifecycle import Alert, Key
from alerting.notices import Backlog, Line
from alerting.silences import Silence
from alerting.windows import Window
from monitoring.cursor import Cursor
from monitoring.errors import InvalidCursor

MOST_EVENTS = 10_000
"""Events that wait to be taken by the spool; past that the oldest go, for the newest say how things are."""

_SCHEMA = """
create table if not exists alerts (rule text, device text, item text, alert blob, window blob,
  primary key (rule, device, item)) without rowid;
create table if not exists kept (name text primary key, value blob) without rowid;
create table if not exists events (number integer primary key autoincrement, event blob);
pragma user_version = 1;
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is small and written whole each time."""

    silences: dict[str, Silence]
    groups: dict[str, datetime]
    seen: dict[str, dict[str, Presence]]
    backlogs: dict[str, tuple[Backlog, list[Line]]]
    """The lines apart: their keys are no keys of JSON."""


@lru_cache(maxsize=8)
def _adapter(of: type) -> TypeAdapter[Any]:
    return TypeAdapter(of)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that is to be put on the spool."""

    number: int
    event: Mapping[str, Any]


class Store:
    """The one writer of its file. Belongs to one thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int) -> None:
        self._path = path
        self._db = connection
        self._lock = lock
        self.dropped = 0
        """Events that were let go because too many waited."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, made when there is none; raises StoreUnusable."""
        lock = -1
        try:
            lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            connection.executescript(_SCHEMA)
        except BlockingIOError:
            os.close(lock)
            raise StoreUnusable(f"{path} is in use by another process") from None
        except (OSError, sqlite3.Error) as error:
            if lock >= 0:
                os.close(lock)
            raise StoreUnusable(
                f"{path} cannot be used: {error}; free some space, or move the file away"
            ) from error
        return cls(path, connection, lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        os.close(self._lock)

    def load(self) -> tuple[Memory, Cursor | None]:
        """Return what was kept, and where in the stream that was; no cursor on the first start."""
        memory = Memory()
        unread = 0
        try:
            rows = self._db.execute("select rule, device, item, alert, window from alerts").fetchall()
            kept = {name: bytes(value) for name, value in self._db.execute("select name, value from kept")}
        except sqlite3.Error as error:
            raise self._broken(error) from error
        for rule, device, item, alert, window in rows:
            key = Key(rule, device, item)
            try:
                memory.alerts[key] = _adapter(Alert).validate_json(alert)
                if window is not None:
                    memory.windows[key] = _adapter(Window).validate_json(window)
            except ValidationError:
                unread += 1
        if "rest" in kept:
            try:
                _restore(memory, _adapter(_Rest).validate_json(kept["rest"]))
            except ValidationError:
                unread += 1
        if unread:
            _log.warning("%s: %d entries cannot be read by this version and are left out", self._path, unread)
        try:
            cursor = Cursor.from_json(orjson.loads(kept["cursor"])) if "cursor" in kept else None
        except (InvalidCursor, ValueError):
            cursor = None
        return memory, cursor

    def save(
        self, memory: Memory, dirty: Iterable[Key], cursor: Cursor | None, events: Sequence[Mapping[str, Any]]
    ) -> None:
        """Keep what changed, the cursor it was made from, and events to be put on the spool: all or nothing.

        Raises StoreUnusable.
        """
        rows, gone = [], []
        for key in dirty:
            alert = memory.alerts.get(key)
            if alert is None:
                gone.append(tuple(key))
                continue
            window = memory.windows.get(key)
            rows.append(
                (
                    *key,
                    _adapter(Alert).dump_json(alert),
                    None if window is None else _adapter(Window).dump_json(window),
                )
            )
        kept = [("rest", _adapter(_Rest).dump_json(_rest(memory)))]
        if cursor is not None:
            kept.append(("cursor", orjson.dumps(cursor.to_json())))
        try:
            self._db.execute("begin immediate")
            self._db.executemany("delete from alerts where rule = ? and device = ? and item = ?", gone)
            self._db.executemany("insert or replace into alerts values (?, ?, ?, ?, ?)", rows)
            self._db.executemany("insert or replace into kept values (?, ?)", kept)
            self._db.executemany(
                "insert into events (event) values (?)", [(orjson.dumps(each),) for each in events]
            )
            self.dropped += self._db.execute(
                "delete from events where number <= (select max(number) from events) - ?", (MOST_EVENTS,)
            ).rowcount
            self._db.execute("commit")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("rollback")
            raise self._broken(error) from error

    def waiting(self, limit: int = 200) -> Sequence[Waiting]:
        """Return the oldest events that are still to be put on the spool; raises StoreUnusable."""
        try:
            rows = self._db.execute(
                "select number, event from events order by number limit ?", (limit,)
            ).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from error
        return [Waiting(number, orjson.loads(event)) for number, event in rows]

    def taken(self, numbers: Iterable[int]) -> None:
        """Forget events that the spool has; raises StoreUnusable."""
        try:
            self._db.executemany("delete from events where number = ?", [(number,) for number in numbers])
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> StoreUnusable:
        return StoreUnusable(
            f"{self._path} cannot be used: {error}; free some space, or move the file away: alerts then begin anew"
        )


def _rest(memory: Memory) -> _Rest:
    seen: dict[str, dict[str, Presence]] = {}
    for (device, category), at in memory.seen.items():
        seen.setdefault(device, {})[category] = at
    backlogs = {
        name: (replace(backlog, lines={}), list(backlog.lines.values()))
        for name, backlog in memory.backlogs.items()
    }
    return _Rest(memory.silences, memory.groups, seen, backlogs)


def _restore(memory: Memory, rest: _Rest) -> None:
    memory.silences, memory.groups = rest.silences, rest.groups
    memory.seen = {
        (device, category): at for device, each in rest.seen.items() for category, at in each.items()
    }
    for name, (backlog, lines) in rest.backlogs.items():
        memory.backlogs[name] = replace(backlog, lines={line.key: line for line in lines})
