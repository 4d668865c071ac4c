"""Who changed the flags: one JSON line for each change, on the disk before anything else is told of it.

A change by an editor has no author but the file's owner: whoever watches the file records it.
"""

from __future__ import annotations

import fcntl
import getpass
import logging
import os
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from monitoring.events import format_time

_log = logging.getLogger(__name__)


def record(path: Path, file: Path, changes: Sequence[str], why: str, who: str | None = None) -> None:
    """Append a change of a flag file. One that cannot be recorded is said: the file has been changed already."""
    if not changes:
        return
    entry = {
        "id": str(uuid.uuid4()),
        "at": format_time(datetime.now(UTC)),
        "who": who or me(),
        "file": str(file),
        "changes": list(changes),
        "why": why,
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _append(descriptor, orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        _log.warning("the change of %s is not recorded: %s: %s", file, path, error.strerror or error)


def _append(descriptor: int, line: bytes) -> None:
    """Write one line alone: while another program writes, the file's size passes through the middle of its line."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        os.write(descriptor, line if _whole(descriptor) else b"\n" + line)
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _whole(descriptor: int) -> bool:
    """Tell whether the file ends with a line's end; what a full disk cut short must not take the next one with it."""
    size = os.fstat(descriptor).st_size
    return not size or os.pread(descriptor, 1, size - 1) == b"\n"


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Give the changes that are kept, oldest first; lines that are none are passed over."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            entry = orjson.loads(line)
        except ValueError:
            continue  # cut short by a full disk
        if isinstance(entry, dict) and {"id", "at", "who", "file", "changes", "why"} <= entry.keys():
            yield entry


def me() -> str:
    """Return who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an id without a name, in a container
        return str(os.getuid())
