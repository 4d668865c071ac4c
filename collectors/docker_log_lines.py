"""Docker's log stream, bytes to stamped lines: pure.

Without a terminal the stream is made of frames: eight bytes of header (1 stdout, 2 stderr; length, big-endian) and a
message (moby, pkg/stdcopy). With one it is raw. Each message begins with its stamp, asked for by ``timestamps=1``, and one
that does not end in a newline is a part of a line: Docker cuts lines after 16 KiB, and gives every part the stamp of the
first (moby, daemon/logger/copier.go).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

MAX_LINE_BYTES = 65_536
"""Of a longer line the rest is cut, and said so."""
_MAX_FRAME_BYTES = 1024 * 1024
_HEADER_BYTES = 8
_STREAMS = (0, 1, 2)
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)(?: |\Z)")
_TERMINAL = -1


class NotALog(Exception):  # noqa: N818 - named for what it is
    """Bytes that no Docker sends as a log."""


@dataclass(slots=True)
class _Line:
    """A line whose end has not come yet."""

    stamp: int
    content: bytearray = field(default_factory=bytearray)
    cut: int = 0

    def add(self, content: bytes) -> None:
        room = MAX_LINE_BYTES - len(self.content)
        self.content += content[:room]
        self.cut += max(0, len(content) - room)

    def text(self) -> str:
        told = self.content.rstrip(b"\r").decode(errors="replace").replace("\0", "\ufffd")
        return f"{told} ... ({self.cut} bytes more)" if self.cut else told


class LogLines:
    """Turns what is read of one log stream into (stamp in nanoseconds, text); ``rest`` gives the unfinished ones."""

    def __init__(self, *, terminal: bool) -> None:
        self.messages = 0
        """What Docker counts as lines: the parts of a long one, each."""
        self._terminal = terminal
        self._buffer = bytearray()
        self._open: dict[int, _Line] = {}
        self._newest = 0

    def feed(self, data: bytes) -> list[tuple[int, str]]:
        """Take bytes, however they were cut, and return the lines they end; raises NotALog."""
        self._buffer += data
        return list(self._raw() if self._terminal else self._framed())

    def rest(self) -> list[tuple[int, str]]:
        """Return the lines that the end of the stream ends."""
        lines = list(self._message(_TERMINAL, bytes(self._buffer))) if self._terminal else []
        self._buffer.clear()
        lines += [(line.stamp, line.text()) for line in self._open.values()]
        self._open = {}
        return lines

    def _framed(self) -> Iterator[tuple[int, str]]:
        start = 0
        try:
            while len(self._buffer) - start >= _HEADER_BYTES:
                stream = self._buffer[start]
                size = int.from_bytes(self._buffer[start + 4 : start + 8], "big")
                if (
                    stream not in _STREAMS
                    or any(self._buffer[start + 1 : start + 4])
                    or size > _MAX_FRAME_BYTES
                ):
                    raise NotALog(f"no frame begins with {bytes(self._buffer[start : start + 8]).hex(' ')}")
                end = start + _HEADER_BYTES + size
                if len(self._buffer) < end:
                    return
                message = bytes(self._buffer[start + _HEADER_BYTES : end])
                start = end
                yield from self._message(stream, message)
        finally:
            del self._buffer[:start]

    def _raw(self) -> Iterator[tuple[int, str]]:
        whole, newline, rest = self._buffer.rpartition(b"\n")
        if not newline:
            # Nothing tells the parts of a long line apart here, but each begins with the stamp of the first.
            if len(self._buffer) > 2 * MAX_LINE_BYTES:
                whole, rest = self._buffer, bytearray()
            else:
                return
        self._buffer = bytearray(rest)
        yield from self._message(_TERMINAL, bytes(whole + newline))

    def _message(self, stream: int, message: bytes) -> Iterator[tuple[int, str]]:
        for piece in _lines_of(message):
            self.messages += 1
            match = _STAMP.match(piece)
            stamp = _nanoseconds(*match.groups()) if match is not None else self._newest
            content = piece[match.end() :] if match is not None else piece
            line = self._open.get(stream)
            if (
                line is not None and line.stamp != stamp
            ):  # its end was never written: its container was killed
                yield line.stamp, line.text()
                line = None
            if line is None:
                line = self._open[stream] = _Line(stamp)
                self._newest = stamp
            if self._terminal and match is not None:
                content = content.replace(match.group(), b"")
            line.add(content.removesuffix(b"\n"))
            if piece.endswith(b"\n"):
                del self._open[stream]
                yield line.stamp, line.text()


def stamp_of(text: str) -> int:
    """Return a time of Docker's in nanoseconds since 1970; its zero time, or what is no time, is 0."""
    match = _STAMP.match(text.encode())
    return max(0, _nanoseconds(*match.groups())) if match is not None else 0


def _lines_of(message: bytes) -> Iterator[bytes]:
    """Split at newlines alone: a carriage return redraws a progress bar and ends no line."""
    start = 0
    while start < len(message):
        end = message.find(b"\n", start) + 1 or len(message)
        yield message[start:end]
        start = end


def _nanoseconds(second: bytes, fraction: bytes | None, zone: bytes) -> int:
    return _seconds(second, zone) * 1_000_000_000 + int((fraction or b"0").ljust(9, b"0"))


@lru_cache(maxsize=4)
def _seconds(second: bytes, zone: bytes) -> int:
    return int(datetime.fromisoformat((second + zone).decode()).timestamp())
