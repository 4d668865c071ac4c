"""From what PostgreSQL wrote before it ended to the error that says what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from embedded.errors import (
    AlreadyRunning,
    DataDirectoryUnusable,
    DiskFull,
    OldBackendsRunning,
    PortTaken,
    PostgresError,
    StartFailed,
    WrongMajorVersion,
)

if TYPE_CHECKING:
    from pathlib import Path

_OTHER_POSTMASTER = re.compile(r"(?:postmaster|postgres) \(PID (\d+)\)")
_OTHER_VERSION = re.compile(r"initialized by PostgreSQL version (\S+),.*version (\d+)")
_LAST_WORD = re.compile(r"(?:FATAL|PANIC|ERROR|could not|initdb: error):?.*")


def diagnose(log: str, *, pgdata: Path, host: str, port: int) -> PostgresError:  # noqa: PLR0911 - one return for each cause, as in a table
    """Return the error for a ``postgres`` that ended with ``log`` on its standard error."""
    if "No space left on device" in log:
        return DiskFull(pgdata)
    if "pre-existing shared memory block" in log:
        return OldBackendsRunning(pgdata)
    if "could not create any TCP/IP sockets" in log and "Address already in use" in log:
        return PortTaken(host, port)
    if ("lock file" in log and "already exists" in log) or "is in use" in log:
        found = _OTHER_POSTMASTER.search(log)
        return AlreadyRunning(pgdata, int(found.group(1)) if found else None)
    incompatible = _OTHER_VERSION.search(log)
    if incompatible:
        return WrongMajorVersion(pgdata, incompatible.group(1), incompatible.group(2))
    if "Read-only file system" in log:
        return DataDirectoryUnusable(pgdata, "its file system is read-only")
    if "wrong ownership" in log or "Permission denied" in log:
        return DataDirectoryUnusable(pgdata, f"permissions: {_last_word(log)}")
    return StartFailed(pgdata, _last_word(log))


def _last_word(log: str) -> str:
    """The most telling line: the last one that PostgreSQL itself calls an error, else the last at all."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for line in reversed(lines):
        found = _LAST_WORD.search(line)
        if found:
            return found.group(0)
    return lines[-1] if lines else "it said nothing"
