"""The spool's file: its lock, its schema, how it is made, opened and found damaged, and what its errors mean.

::

    SpoolError
    ├── SpoolInUse         another process writes it
    ├── SpoolCorrupt       the file is damaged or not a spool; never recreated without the user's word
    ├── SpoolFull          too many events, or bytes of them, wait; nothing was taken
    ├── SpoolUnwritable    the disk is full, read-only or broken; nothing was taken
    ├── StreamNotOpen      the stream has no epoch here, or its lease was lost or let go
    └── StaleEpoch         the epoch to open is not a new one
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

from adapters.errors import AdapterError

APPLICATION_ID = 0x43465350
"""``CFSP``, in the header of every spool (PRAGMA application_id)."""

VERSION = 1
"""The layout of the tables (PRAGMA user_version)."""

_SCHEMA = """
create table meta (key text primary key, value text not null) without rowid;
create table streams (stream text primary key, epoch integer not null, seq integer not null) without rowid;
create table paths (path text primary key, acknowledged integer not null, enabled integer not null) without rowid;
-- autoincrement: a position is never given twice, even when every event was acknowledged and deleted
create table events (position integer primary key autoincrement, body blob not null);
"""

_BUSY_SECONDS = 2.0
"""How long a statement waits for another process that reads or checkpoints."""

_CORRUPT = ("SQLITE_CORRUPT", "SQLITE_NOTADB")

_REASONS = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "the disk or the file is read-only",
    "SQLITE_IOERR": "the disk reports an I/O error",
    "SQLITE_CANTOPEN": "the file cannot be opened",
    "SQLITE_BUSY": "another program holds it locked",
    "SQLITE_LOCKED": "another program holds it locked",
    "SQLITE_PERM": "access is denied",
}
"""SQLite's primary result codes (sqlite.org/rescode.html) in words, where the system gives no better reason."""


class SpoolError(AdapterError):
    """Base of the spool's errors."""


class SpoolInUse(SpoolError):  # noqa: N818 - named for what it is, like the others of the tree
    """Another process has the spool open for writing; ``pid`` is None when it could not be read."""

    def __init__(self, path: Path, pid: int | None) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"spool {path} is in use by {who}: stop it first, or use another data directory")
        self.path = path
        self.pid = pid


class SpoolCorrupt(SpoolError):  # noqa: N818
    """The file is damaged, or is not a spool."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"spool {path} is damaged: {reason}. It may hold events that no path has yet; it is never replaced by "
            f"itself. Keep it for inspection and start anew with: mkdir {path}.damaged && mv {path}* {path}.damaged/"
        )
        self.path = path
        self.reason = reason


class SpoolFull(SpoolError):  # noqa: N818
    """So many events wait for a path that no more are taken; ``limit`` is in words: events, or bytes."""

    def __init__(self, path: Path, waiting: int, limit: str) -> None:
        super().__init__(
            f"spool {path} is full: {waiting} events wait for a path, the limit is {limit}. "
            "Bring the path back, or switch it off"
        )
        self.path = path
        self.waiting = waiting
        self.limit = limit


class SpoolUnwritable(SpoolError):  # noqa: N818
    """The system refuses to write; ``reason`` says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"spool {path} cannot be written: {reason}. Free space or change the rights; it is tried again"
        )
        self.path = path
        self.reason = reason


class StreamNotOpen(SpoolError):  # noqa: N818
    """The stream has no epoch to write in."""

    def __init__(self, stream: str, why: str) -> None:
        super().__init__(f"stream {stream} cannot be written: {why}; a lease from the database opens it")
        self.stream = stream
        self.why = why


class StaleEpoch(SpoolError):  # noqa: N818
    """An epoch that is not newer than the one the stream has."""

    def __init__(self, stream: str, epoch: int, current: int) -> None:
        super().__init__(f"stream {stream} is in epoch {current}; epoch {epoch} cannot be opened after it")
        self.stream = stream
        self.epoch = epoch
        self.current = current


@dataclass(frozen=True, slots=True)
class WriteLock:
    """An exclusive lock beside the file, held until ``release`` or the end of the process, however it ends."""

    descriptor: int

    @classmethod
    def acquire(cls, path: Path) -> Self:
        """Lock ``path``.lock and leave our pid in it; raises SpoolInUse or SpoolUnwritable."""
        lock = path.with_name(path.name + ".lock")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolUnwritable(path, f"{lock}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 20, 0).strip()
            os.close(descriptor)
            raise SpoolInUse(path, int(pid) if pid.isdigit() else None) from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise SpoolUnwritable(path, f"{lock}: {error.strerror}") from error
        return cls(descriptor)

    def release(self) -> None:
        """Let the next one in. The file stays: removing it would let two in."""
        os.close(self.descriptor)


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the spool, made complete first when there is none; the caller holds the lock.

    Raises SpoolCorrupt or SpoolUnwritable.
    """
    if not path.exists():
        if path.with_name(path.name + "-wal").exists():
            raise SpoolCorrupt(path, "its write-ahead log is there, but the file itself is gone")
        _create(path)
    if path.stat().st_size == 0:
        raise SpoolCorrupt(path, "the file is empty")
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
    try:
        check(path, connection, thorough=True)
        connection.execute("pragma journal_mode = wal")
        # Each append is on the disk when it returns: a seq that was given is never given again, even after a power cut.
        connection.execute("pragma synchronous = full")
        connection.execute("pragma journal_size_limit = 16777216")
        connection.execute("insert or replace into meta values ('opened_by', ?)", (str(os.getpid()),))
    except sqlite3.Error as error:
        connection.close()
        raise explain(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open an existing spool of another process; raises SpoolCorrupt or SpoolUnwritable (it is not there)."""
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=_BUSY_SECONDS,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise explain(path, error) from error
    try:
        check(path, connection)
    except sqlite3.Error as error:
        connection.close()
        raise explain(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def check(path: Path, connection: sqlite3.Connection, *, thorough: bool = False) -> None:
    """Raise SpoolCorrupt unless the file is a spool of this version; ``thorough`` reads all of its pages."""
    if connection.execute("pragma application_id").fetchone()[0] != APPLICATION_ID:
        raise SpoolCorrupt(path, "it is a SQLite file, but not a spool")
    if (version := connection.execute("pragma user_version").fetchone()[0]) != VERSION:
        raise SpoolCorrupt(path, f"it has layout {version}, this program knows {VERSION}")
    if thorough and (found := connection.execute("pragma quick_check(1)").fetchone()[0]) != "ok":
        raise SpoolCorrupt(path, str(found))


def owner_of(connection: sqlite3.Connection) -> UUID:
    """Return who the spool writes as."""
    return UUID(connection.execute("select value from meta where key = 'owner'").fetchone()[0])


def _create(path: Path) -> None:
    """Make a new spool beside its place and move it there whole, so that a half-made one is never met."""
    making = path.with_name(path.name + ".new")
    try:
        making.unlink(missing_ok=True)
        connection = sqlite3.connect(making, isolation_level=None)
        try:
            connection.execute(f"pragma application_id = {APPLICATION_ID}")
            connection.execute(f"pragma user_version = {VERSION}")
            connection.execute("begin")
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("insert into meta values ('owner', ?)", (str(uuid4()),))
            connection.executemany("insert into paths values (?, 0, 1)", [("supabase",), ("legacy",)])
            connection.execute("commit")
        finally:
            connection.close()
        making.chmod(0o600)
        making.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SpoolUnwritable(path, error.strerror or str(error)) from error
    except sqlite3.Error as error:
        raise explain(path, error) from error


def explain(path: Path, error: sqlite3.Error) -> SpoolError:
    """Return SQLite's error as ours."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(_CORRUPT):
        return SpoolCorrupt(path, str(error))
    said = next((reason for code, reason in _REASONS.items() if name.startswith(code)), None)
    return SpoolUnwritable(path, f"{said or 'SQLite says'} ({error})")
