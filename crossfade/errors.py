"""The errors of the composition root; each is one sentence for a person: what happened, where, what next.

::

    CrossfadeError          exit status 1
    ├── UsageError          the command line or a setting cannot be meant (exit status 2)
    ├── DataDirError        the data directory cannot be used: read-only, full, not a directory
    ├── AlreadyRunning      another process holds this data directory
    ├── PortTaken           an address we need belongs to another process
    ├── NotRunning          what the command asks for is not running
    ├── ComparisonFailed    a comparison could not be made (exit status 2: 1 means that a difference was found)
    └── PartFailed          a part that the others need cannot be started
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def first_of(error: BaseException, kinds: tuple[type[Exception], ...]) -> Exception | None:
    """Return the first error of one of some kinds that an error is or, as a group of tasks' errors, holds.

    None when it holds anything else beside them: that is no sentence for a person, and its traceback is needed.
    """
    if isinstance(error, BaseExceptionGroup):
        found = [first_of(inner, kinds) for inner in error.exceptions]
        return found[0] if all(found) else None
    return error if isinstance(error, kinds) else None


def exit_status(name: str, run: Callable[[], object], kinds: tuple[type[Exception], ...]) -> int:
    """Run a process of ours and return its exit status: 0 after a stop.

    An error of one of some kinds is one line on standard error, and its own ``exit_code`` or 1; any other is raised.
    """
    try:
        run()
    except Exception as raised:
        error = first_of(raised, kinds)
        if error is None:
            raise
        sys.stderr.write(f"{name}: {error}\n")
        return int(getattr(error, "exit_code", 1))
    return 0


class CrossfadeError(Exception):
    """Base of every error of this package. ``exit_code`` is what the command ends with."""

    exit_code = 1


class UsageError(CrossfadeError):
    """Something the caller wrote cannot be meant."""

    exit_code = 2


class DataDirError(CrossfadeError):
    """The data directory cannot be used."""

    def __init__(self, path: Path, reason: str, hint: str) -> None:
        super().__init__(f"data directory {path}: {reason}; {hint}")
        self.path = path
        self.reason = reason


class AlreadyRunning(CrossfadeError):  # noqa: N818 - named for what it is
    """Another process runs on the same data directory. ``pid`` is None when it does not say."""

    def __init__(self, path: Path, pid: int | None, what: str, hint: str) -> None:
        holder = f"pid {pid}" if pid else "its pid is not known"
        super().__init__(f"{what} is already running on {path} ({holder}); {hint}")
        self.path = path
        self.pid = pid


class PortTaken(CrossfadeError):  # noqa: N818 - named for what it is
    """An address that a part has to listen on is taken. ``owner`` describes the process that has it."""

    def __init__(self, part: str, host: str, port: int, owner: str, option: str) -> None:
        super().__init__(
            f"{part} cannot listen on {host}:{port}: taken by {owner}; stop it or choose another port with {option} PORT"
        )
        self.part = part
        self.port = port
        self.owner = owner
        self.option = option


class NotRunning(CrossfadeError):  # noqa: N818 - named for what it is
    """What a command needs is not running."""


class PartFailed(CrossfadeError):  # noqa: N818 - named for what it is
    """A part that the others need cannot be started; trying again will not help."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason


class ComparisonFailed(CrossfadeError):  # noqa: N818 - named for what it is
    """A comparison could not be made."""

    exit_code = 2
