"""The journal of a rollout: one JSON line a decision, with the state after it; synced before anybody acts on it.

::

    {"n": 7, "at": "2026-11-26T19:00:00Z", "by": "controller", "action": "advance", "cohort": "default", "before": ...,
     "after": ..., "reason": ..., "gates": [...], "state": {...}}

The last whole line is the truth: what a kill -9 left half-written is passed over by readers and cut off by the next
writer. Writers hold a lock for as long as they read, decide and append, so a person's command and the controller's
decision never overwrite each other. Every process that routes clients reads the ceiling from here, without a database.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from adapters.errors import AdapterError
from monitoring.errors import InvalidRollout
from monitoring.events import format_time
from monitoring.flags.model import UNLIMITED, Ceiling
from monitoring.flags.stages import Extent, Stage
from monitoring.rollout.observations import Decision
from monitoring.rollout.state import NONE, Rollout

_TAIL_BYTES = 65_536
"""An entry is a few kilobytes; a longer one is found by reading everything."""

SAFE = Ceiling(default=Extent(Stage.OFF), reason="the rollout's journal cannot be read")
"""What holds for a process that has never been able to read a journal that is there: nobody leaves the legacy server."""

_log = logging.getLogger(__name__)


class JournalUnusable(AdapterError):  # noqa: N818 - named for what it is, like its neighbours
    """The journal cannot be read or written; nothing was decided."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


@dataclass(frozen=True, slots=True)
class Entry:
    """The newest whole entry: its number and the state after it. Number 0 is a journal that has none yet."""

    number: int
    state: Rollout


EMPTY = Entry(0, NONE)


class Journal:
    """The journal of one installation."""

    def __init__(self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = path
        self._now = now

    def read(self) -> Entry:
        """Return the newest entry; raises JournalUnusable."""
        try:
            with self.path.open("rb") as file:
                return _newest(self.path, file.fileno())
        except FileNotFoundError:
            return EMPTY
        except OSError as error:
            raise JournalUnusable(self.path, f"cannot be read: {error.strerror or error}") from error

    def entries(self) -> Iterator[dict[str, Any]]:
        """Give every whole entry, oldest first; raises JournalUnusable."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise JournalUnusable(self.path, f"cannot be read: {error.strerror or error}") from error
        for line in data.splitlines(keepends=True):
            if line.endswith(b"\n") and isinstance(found := _parsed(line), dict):
                yield found

    def decide(
        self, by: str, decide: Callable[[Rollout], tuple[Rollout, Sequence[Decision]]]
    ) -> tuple[Entry, Sequence[Decision]]:
        """Let ``decide`` make decisions from the newest state, and keep them; they are on the disk when this returns.

        Nobody else writes meanwhile. Nothing is written when nothing was decided; the state returned is the one after
        it all the same. Raises JournalUnusable and what ``decide`` raises.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self.path) as descriptor:
                found = _newest(self.path, descriptor)
                state, decisions = decide(found.state)
                if not decisions:
                    return Entry(found.number, state), ()
                lines = b"".join(
                    self._line(found.number + 1 + index, by, decision, state)
                    for index, decision in enumerate(decisions)
                )
                _append(descriptor, lines)
        except OSError as error:
            raise JournalUnusable(self.path, f"cannot be written: {error.strerror or error}") from error
        return Entry(found.number + len(decisions), state), decisions

    def _line(self, number: int, by: str, decision: Decision, state: Rollout) -> bytes:
        entry = {
            "n": number,
            "at": format_time(self._now()),
            "by": by,
            **decision_json(decision),
            "state": state.to_json(),
        }
        return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)


class CeilingFile:
    """The ceiling as the journal has it, for a process that routes clients: read again when the file changes.

    A journal that cannot be read leaves the last ceiling in force; a process that never saw a good one keeps everybody
    on the legacy server. ``look`` may block for a moment.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self._signature: tuple[int, int, int] | None = None
        self._ceiling: Ceiling | None = None
        self.problem: str | None = None

    def look(self) -> Ceiling:
        """Return the ceiling in force now."""
        try:
            stat = self._journal.path.stat()
            signature = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if signature != self._signature:
                self._ceiling = self._journal.read().state.ceiling()
                self._signature = signature
            self._said(None)
        except FileNotFoundError:
            if self._ceiling is None:
                return UNLIMITED  # no rollout was ever started
            self._said(None if self._ceiling == UNLIMITED else f"{self._journal.path} is not there any more")
        except (OSError, JournalUnusable) as error:
            self._said(str(error))
        return self._ceiling or SAFE

    def _said(self, problem: str | None) -> None:
        if problem and problem != self.problem:
            kept = "the last ceiling stays in force" if self._ceiling else "everybody is on the legacy server"
            _log.warning("rollout: %s; %s", problem, kept)
        self.problem = problem


def decision_json(decision: Decision) -> dict[str, Any]:
    """Return a decision as plain JSON."""
    return {
        "action": decision.action,
        "cohort": decision.cohort,
        "before": str(decision.before),
        "after": str(decision.after),
        "reason": decision.reason,
        "gates": [
            {"name": gate.name, "answer": str(gate.answer), "reason": gate.reason} for gate in decision.gates
        ],
    }


def _newest(path: Path, descriptor: int) -> Entry:
    size = os.fstat(descriptor).st_size
    for length in (min(size, _TAIL_BYTES), size):
        data = os.pread(descriptor, length, size - length)
        whole = data[: data.rfind(b"\n") + 1].splitlines()
        if length < size:
            whole = whole[1:]  # the first one may have begun before
        if whole:
            return _entry(path, whole[-1])
    return EMPTY


def _entry(path: Path, line: bytes) -> Entry:
    found = _parsed(line)
    try:
        return Entry(int(found["n"]), Rollout.from_json(found["state"]))
    except (InvalidRollout, KeyError, TypeError, ValueError) as error:
        raise JournalUnusable(
            path,
            f"its last line cannot be understood ({error}); put an earlier copy back, or remove that line",
        ) from error


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        return None


def _append(descriptor: int, lines: bytes) -> None:
    """Append whole lines and sync them; what a killed writer left half-written is cut off first."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, min(size, _TAIL_BYTES), max(0, size - _TAIL_BYTES))
    if tail and not tail.endswith(b"\n"):
        torn = len(tail) - (tail.rfind(b"\n") + 1)
        size -= torn
        os.ftruncate(descriptor, size)
    try:
        written = 0
        while written < len(lines):
            written += os.pwrite(descriptor, lines[written:], size + written)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)  # a full disk: all of the decisions, or none
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
        if new:
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
    finally:
        os.close(descriptor)
