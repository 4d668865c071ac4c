"""A part's log file: what the part said, as bytes, in a file that is turned over at a size."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LAST_LINE_BYTES = 4096


class LogFile:
    """Append-only bytes; at ``max_bytes`` the file becomes ``NAME.1`` and a new one begins.

    A disk that is full costs log lines, never the part: what cannot be written is dropped and counted in ``dropped_bytes``.
    """

    def __init__(self, path: Path, *, max_bytes: int = 5_000_000) -> None:
        self.path = path
        self.dropped_bytes = 0
        self._max_bytes = max_bytes
        self._tail = b""
        self._handle: int | None = None
        self._size = 0

    @property
    def last_line(self) -> str:
        """The last line that says something, without colours."""
        text = _ANSI.sub("", self._tail.decode(errors="replace"))
        lines = [line.strip() for line in text.splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def write(self, data: bytes) -> None:
        """Append what a part said."""
        self._tail = (self._tail + data)[-_LAST_LINE_BYTES:]
        try:
            if self._size >= self._max_bytes:
                self._turn()
            if self._handle is None:
                self._handle = os.open(
                    self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
                )
                self._size = os.fstat(self._handle).st_size
            self._size += os.write(self._handle, data)
        except OSError:
            self.dropped_bytes += len(data)

    def _turn(self) -> None:
        self.close()
        self.path.replace(self.path.with_name(self.path.name + ".1"))
        self._size = 0

    def forget(self) -> None:
        """Forget the last line: a new process begins."""
        self._tail = b""

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
