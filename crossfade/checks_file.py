"""The file of checks: looked at while it runs; what is refused leaves the last good checks in force, also over a restart."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from collectors.checks.collector import CheckCollector
from collectors.checks.config import load_checks
from collectors.checks.document import MAX_CHARACTERS, InvalidChecks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collectors.checks.config import Check
    from collectors.schedule import Scheduler
    from crossfade.conditions import Conditions

_MOST_BYTES = 4 * MAX_CHARACTERS  # UTF-8
_NOT_THERE = b"\0"
_LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


def read_checks(path: Path) -> dict[str, Check]:
    """Return the checks of a file, none when there is no file; raises InvalidChecks."""
    return _loaded(_data(path))


def _data(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return _NOT_THERE
    except OSError as error:
        raise InvalidChecks(f"it cannot be read: {error.strerror or error}") from None


def _loaded(data: bytes) -> dict[str, Check]:
    if data == _NOT_THERE:
        return {}
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidChecks("not UTF-8 text", data.count(b"\n", 0, error.start) + 1) from None
    return load_checks(text, os.environ)


class ChecksFile:
    """The checks that are in force. ``kept`` is where the last good text is kept for the next start."""

    def __init__(self, path: Path, kept: Path) -> None:
        self.path = path
        self.checks: Mapping[str, Check] = {}
        self.problem: str | None = None
        """What is wrong with the file now, with the line; None when nothing is."""
        self._kept = kept
        self._seen: bytes | None = None

    def refresh(self) -> bool:
        """Look at the file, blocking for as long as that takes; tell whether other checks are in force now."""
        first = self._seen is None
        try:
            data = _data(self.path)
            if data == self._seen:
                return False
            self._seen = data
            found = _loaded(data)
        except InvalidChecks as error:
            return self._refused(str(error), first=first)
        if self.problem is not None:
            log.info("%s is good again", self.path)
        self.problem = None
        self._keep(data)
        changed, self.checks = found != self.checks, found
        return changed

    def _refused(self, reason: str, *, first: bool) -> bool:
        problem = f"{self.path}: {reason}; the last good checks stay in force"
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem
        if first:
            try:
                self.checks = read_checks(self._kept)
            except InvalidChecks as error:  # the environment lost a variable, for example
                log.error("%s: %s", self._kept, error)  # noqa: TRY400 - a line, not a bug
        return first and bool(self.checks)

    def _keep(self, data: bytes) -> None:
        try:
            if data == _NOT_THERE:
                self._kept.unlink(missing_ok=True)
                return
            # It may hold secrets, whatever we advise: readable by its owner alone, as mkstemp has it.
            descriptor, name = tempfile.mkstemp(prefix=f".{self._kept.name}.", dir=self._kept.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(name).replace(self._kept)
        except OSError as error:
            log.warning("the good checks cannot be kept: %s: %s", self._kept, error)


class Checking:
    """Keeps a scheduler's checks as the file has them."""

    def __init__(self, file: ChecksFile, scheduler: Scheduler, device: str, conditions: Conditions) -> None:
        self.file = file
        self._scheduler = scheduler
        self._device = device
        self._conditions = conditions
        self._scheduled: dict[str, Check] = {}

    async def look(self) -> None:
        """Look at the file, and schedule what it has. A check that was changed begins anew, its status kept in mind."""
        if not self.file.refresh():
            return
        wanted = self.file.checks
        for name, check in list(self._scheduled.items()):
            if wanted.get(name) != check:
                del self._scheduled[name]
                reason = "the check was changed" if name in wanted else "the check was removed"
                await self._scheduler.remove(f"check {name}", reason)
        for name, check in wanted.items():
            if name not in self._scheduled:
                collector = CheckCollector(name, check, self._device)
                self._scheduler.add(
                    collector, collector.pace, judge=collector.judge(self._conditions.remembered), remote=True
                )
                self._scheduled[name] = check

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)
