"""Flags from a file on disk: watched by polling, written atomically.

A change is seen by inode, size, times and, when any of these differs, by content; polling because file notifications
do not work on every file system and mount. A file that is refused leaves the last good flags in force, also for a
program that starts meanwhile: with ``kept`` the last text that was accepted is kept beside the state of what runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import tempfile
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from adapters.errors import AdapterError
from monitoring.errors import InvalidFlags
from monitoring.flags.loading import MAX_CHARACTERS, load
from monitoring.flags.model import UNLIMITED, Ceiling, Flags, overridden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from adapters.rollout_journal import CeilingFile

POLL_SECONDS = 0.25

_MAX_BYTES = 4 * MAX_CHARACTERS  # UTF-8
_RACY_NANOSECONDS = 2_000_000_000
"""A file changed this recently is read again although its times look the same: clocks of file systems are coarse."""

_log = logging.getLogger(__name__)

_Signature = tuple[int, int, int, int]


class FlagFileError(AdapterError):
    """Base of what can go wrong with writing a flag file; ``path`` names it."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class FlagFileConflict(FlagFileError):  # noqa: N818 - named for what it is, like the port's errors
    """Somebody else changed the file since it was read; nothing was written."""


class FlagFileUnusable(FlagFileError):  # noqa: N818
    """The file cannot be read or written."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at the file found."""

    signature: _Signature | None
    digest: bytes
    flags: Flags | None
    problem: str | None
    settled: bool  # the signature alone will show the next change
    kept: Flags | None = None  # those that were good in the end, when this program has seen none yet


class FlagFile:
    """The flags of a file, kept up to date by ``run``.

    Until the first look, and while there has never been a good file, everybody is served by the legacy server.
    ``kept`` is where the last good text is kept for whoever looks first when the file is broken; without it such a
    program begins with the legacy server. ``environment`` are switches that win over the file's, ``ceiling`` is the
    rollout's limit, which counts as a change of the flags. Belongs to one event loop; ``refresh`` alone serves programs
    without one.
    """

    def __init__(
        self,
        path: Path,
        *,
        kept: Path | None = None,
        environment: Mapping[str, bool] | None = None,
        ceiling: CeilingFile | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.path = path
        self._ceiling = ceiling
        self._kept = kept
        self._environment = environment or {}
        self._poll_seconds = poll_seconds
        self._wish = Flags()
        self._limit = UNLIMITED
        self._flags = self._effective()
        self._problem: str | None = None
        self._last: _Look | None = None
        self._revision = 0
        self._loaded = False
        self._changed = asyncio.Event()
        self._listeners: set[Callable[[], None]] = set()

    def current(self) -> Flags:
        """Return the last good flags."""
        return self._flags

    def problem(self) -> str | None:
        """Return what is wrong with the file now, with the line, in one sentence; None when nothing is."""
        return self._problem

    @property
    def has_good(self) -> bool:
        """Whether the flags in force come from a good file; if not, they are the defaults."""
        return self._loaded

    @property
    def revision(self) -> int:
        """How many times flags that differ were accepted; 0 before the first."""
        return self._revision

    def refresh(self) -> Flags:
        """Look at the file now, blocking, and return the flags in force."""
        self._accept(*self._look_at_both())
        return self._flags

    async def run(self) -> NoReturn:
        """Watch the file until cancelled; reading and parsing happen in a thread."""
        while True:
            self._accept(*await asyncio.to_thread(self._look_at_both))
            await asyncio.sleep(self._poll_seconds)

    async def changes(self, after_revision: int) -> int:
        """Wait until a revision later than ``after_revision`` is in force and return its number."""
        while self._revision <= after_revision:
            await self._changed.wait()
        return self._revision

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called each time other flags come into force; returns what ends that."""
        self._listeners.add(wake)
        return lambda: self._listeners.discard(wake)

    def _look_at_both(self) -> tuple[_Look | None, Ceiling]:
        return self._look(), UNLIMITED if self._ceiling is None else self._ceiling.look()

    def _look(self) -> _Look | None:
        """Read the file if it may have changed; None when it has not."""
        last = self._last
        try:
            signature = _signature(self.path.stat())
            if last is not None and last.settled and last.signature == signature:
                return None
            data = _read(self.path)
        except FileNotFoundError:
            return self._refused(None, b"missing", f"{self.path} is not there", settled=True)
        except OSError as error:
            reason = f"{self.path} cannot be read: {error.strerror or error}"
            return self._refused(None, reason.encode(), reason, settled=False)
        settled = time.time_ns() - max(signature[2], signature[3]) > _RACY_NANOSECONDS
        digest = hashlib.sha256(data).digest()
        if last is not None and last.digest == digest:
            return _Look(signature, digest, last.flags, last.problem, settled)
        try:
            flags = load(_decoded(data))
        except InvalidFlags as error:
            return self._refused(signature, digest, f"{self.path}: {error}", settled=settled)
        self._keep(data)
        return _Look(signature, digest, flags, None, settled)

    def _refused(self, signature: _Signature | None, digest: bytes, problem: str, *, settled: bool) -> _Look:
        kept = None if self._loaded else self._recall()
        return _Look(signature, digest, None, problem, settled, kept)

    def _recall(self) -> Flags | None:
        """Return the flags that an earlier program accepted last; None when there are none that can be read."""
        if self._kept is None:
            return None
        try:
            return load(_decoded(_read(self._kept)))
        except FileNotFoundError:
            return None
        except (OSError, InvalidFlags) as error:
            _log.warning("the last good flags cannot be read: %s: %s", self._kept, error)
            return None

    def _keep(self, data: bytes) -> None:
        """Keep an accepted text for programs that start while the file is broken."""
        if self._kept is None:
            return
        try:
            if not (self._kept.exists() and _read(self._kept) == data):
                _replace(self._kept, data)
        except OSError as error:  # another user's directory, or none yet: whoever runs there keeps its own
            _log.debug("the good flags cannot be kept: %s: %s", self._kept, error)

    def _accept(self, look: _Look | None, ceiling: Ceiling) -> None:
        self._limit = ceiling
        known = look is None or (self._last is not None and self._last.digest == look.digest)
        if look is not None:
            self._last = look
            if not known:
                self._take(look)
        if self._effective() != self._flags:
            self._enforce()

    def _take(self, look: _Look) -> None:
        """Take over what a file says that was not known."""
        if look.flags is None:
            if look.kept is not None and not self._loaded:
                self._good(look.kept)
            kept = (
                "the last good flags stay in force" if self._loaded else "everybody is on the legacy server"
            )
            self._problem = f"{look.problem}; {kept}"
            _log.warning("flags refused: %s", self._problem)
            return
        if self._problem is not None:
            _log.info("flags are good again: %s", self.path)
        self._problem = None
        self._good(look.flags)

    def _good(self, wish: Flags) -> None:
        first, self._loaded = not self._loaded, True
        self._wish = wish
        if first:
            self._enforce()

    def _effective(self) -> Flags:
        return replace(overridden(self._wish, self._environment), ceiling=self._limit)

    def _enforce(self) -> None:
        self._flags = self._effective()
        self._revision += 1
        self._changed.set()
        self._changed = asyncio.Event()
        for wake in tuple(self._listeners):
            wake()


def read(path: Path) -> str:
    """Return the text of a flag file; raises FlagFileUnusable, or InvalidFlags when it is not UTF-8 text."""
    try:
        return _decoded(_read(path))
    except FileNotFoundError as error:
        raise FlagFileUnusable(
            path, "is not there; crossfade up writes one with the defaults, --flags names another"
        ) from error
    except OSError as error:
        raise FlagFileUnusable(path, f"cannot be read: {error.strerror or error}") from error


def write(path: Path, new_text: str, *, expected: str | None) -> None:
    """Replace a flag file as a whole, or not at all, keeping its mode and owner.

    ``expected`` is the text that ``new_text`` was made from, None when there was no file; FlagFileConflict when the
    file says something else by now. A text that would be refused raises InvalidFlags, and a place that cannot be
    written FlagFileUnusable. Programs that write through here wait for each other.
    """
    load(new_text)
    target = path.resolve()  # a symbolic link stays one
    try:
        with _locked(target.parent):
            try:
                found = _decoded(_read(target))
            except FileNotFoundError:
                found = None
            if found != expected:
                raise FlagFileConflict(
                    path, "was changed by somebody else in the meantime; look at it and try again"
                )
            _replace(target, new_text.encode())
    except OSError as error:
        raise FlagFileUnusable(path, f"cannot be written: {error.strerror or error}") from error


def _replace(target: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - it is a descriptor
            file.write(data)
            file.flush()
            try:
                before = target.stat()
            except FileNotFoundError:
                os.fchmod(descriptor, 0o644)
            else:
                os.fchmod(descriptor, before.st_mode & 0o7777)
                with contextlib.suppress(PermissionError):  # only root may give files away
                    os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fsync(descriptor)
        os.replace(temporary, target)  # noqa: PTH105 - the temporary name is text
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108
        raise


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, then make a rename in it durable. The directory is locked to leave no lock file."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _signature(stat: os.stat_result) -> _Signature:
    """Name a state of a file. The change time too: unlike the modification time nobody can set it back."""
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES + 1)


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidFlags("not UTF-8 text", line=line) from None
