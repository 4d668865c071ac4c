"""The lock of a data directory: held by the process that runs its parts, and released by the kernel when it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from crossfade.errors import AlreadyRunning
from crossfade.paths import unusable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crossfade.paths import DataDir


@contextlib.contextmanager
def hold(data: DataDir, what: str, hint: str) -> Iterator[None]:
    """Hold the data directory's lock for the length of the block; raises AlreadyRunning, DataDirError.

    ``what`` is the command that runs, for the next one that comes; ``hint`` says what that one's caller can do.
    """
    try:
        handle = os.open(data.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(data.root, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, holder = _read(handle)
            raise AlreadyRunning(data.root, pid, holder or "another crossfade", hint) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n{what}\n".encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(
            handle
        )  # gives up the lock; the file stays, because unlinking it would race with the next holder


def holder(data: DataDir) -> tuple[int, str] | None:
    """Return pid and command of the process that runs on the data directory; None when none does."""
    try:
        handle = os.open(data.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid, what = _read(handle)
        return (pid, what) if pid else None
    else:
        return None
    finally:
        os.close(handle)


def _read(handle: int) -> tuple[int | None, str]:
    """Return what the lock file says: pid and command."""
    pid, _, what = os.pread(handle, 200, 0).decode(errors="replace").partition("\n")
    return (int(pid) if pid.isdigit() else None), what.strip()
