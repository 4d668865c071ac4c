"""Log lines of several parts as one stream: merged by their time, filtered, followed over files that are turned over."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TIME = re.compile(r'(?:^|"timestamp":\s*")(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2})(?:[.,](\d+))?')
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a part. ``time`` sorts as text; a line without one, as of a traceback, has that of the line before it."""

    part: str
    time: str
    text: str


def time_of(text: str) -> str | None:
    """Return when a line was written, as text that sorts; None when it does not say. Offsets are not looked at."""
    found = _TIME.search(text[:2000])
    return f"{found[1]}T{found[2]}.{(found[3] or '0'):0<6.6}" if found else None


def merged(lines: Iterable[Sequence[LogLine]]) -> list[LogLine]:
    """Return the lines of several parts in the order of their times; those of one part keep theirs."""
    return sorted((line for each in lines for line in each), key=lambda line: line.time)


@dataclass(slots=True)
class LogTail:
    """The newest lines of one part's file, then what is added; goes on in the new file when it is turned over."""

    part: str
    path: Path
    _place: tuple[int, int] = (0, 0)
    """Inode, and bytes read of it."""
    _rest: bytes = b""
    _time: str = field(default="")

    def last(self, count: int) -> list[LogLine]:
        """Return the newest lines, and stand at the end of the file."""
        return list(deque(self._read(), maxlen=count))

    def added(self) -> list[LogLine]:
        """Return the lines that were completed since the last call."""
        return list(self._read())

    def _read(self) -> Iterator[LogLine]:
        inode, place = self._place
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != inode or stat.st_size < place:
                    yield from self._rest_of_turned(inode, place)
                    place = 0
                file.seek(place)
                while data := file.read(_CHUNK_BYTES):
                    place += len(data)
                    yield from self._lines(data)
                self._place = (stat.st_ino, place)
        except OSError:
            return  # it has said nothing yet

    def _rest_of_turned(self, inode: int, place: int) -> Iterator[LogLine]:
        turned = self.path.with_name(self.path.name + ".1")
        try:
            with turned.open("rb") as file:
                if os.fstat(file.fileno()).st_ino == inode:
                    file.seek(place)
                    yield from self._lines(file.read())
        except OSError:
            return
        self._rest = b""

    def _lines(self, data: bytes) -> Iterator[LogLine]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        for raw in whole:
            text = raw.decode(errors="replace")
            self._time = time_of(text) or self._time
            yield LogLine(self.part, self._time, text)
