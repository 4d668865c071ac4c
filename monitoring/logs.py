"""Lines of container logs: where each stands, how reading goes on after an interruption, and the port they come from.

Docker numbers no lines, it stamps them, and several may have one stamp. So a line's place is (container, stamp, position
among the lines with that stamp), which is the same however often the log is read, and over every path.

Reading resumes at a stamp, not at a byte, and stamps are not quite in order: Docker takes them from stdout and stderr apart,
before it writes either. A `LogPlace` therefore remembers how many lines it has seen of each stamp of the last 50 ms; a
`Rereading` begins there, counts the same way, and passes over as many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from monitoring.errors import MonitoringError

_OVERLAP_NS = 50_000_000
"""How far out of order two stamps may be."""
_MOST_SEEN = 1000
"""Stamps that are remembered; a log that writes more within the overlap is remembered for less long."""
_SECOND_NS = 1_000_000_000


class LogsUnavailable(MonitoringError):  # noqa: N818 - named for what it is
    """A container's log cannot be read; ``reason`` is short enough to be sent to a client."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Mark(StrEnum):
    """What happened between two lines."""

    STOPPED = "stopped"
    RESTARTED = "restarted"
    RECREATED = "recreated"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line, without its line end; with a ``mark`` the text says what happened, and nobody wrote it.

    ``stamp`` is in nanoseconds since 1970, UTC; ``container`` the 12 digits of its id.
    """

    stamp: int
    text: str
    container: str = ""
    position: int = 0
    mark: Mark | None = None

    @property
    def shown(self) -> str:
        """The line as people are shown it: a mark stands out from what was written."""
        return f"--- container {self.mark}: {self.text} ---" if self.mark else self.text

    @property
    def at(self) -> datetime:
        """The stamp, cut to microseconds."""
        return datetime.fromtimestamp(self.stamp // _SECOND_NS, UTC).replace(
            microsecond=self.stamp % _SECOND_NS // 1000
        )


@dataclass(frozen=True, slots=True)
class LogCursor:
    """How far a reader has come: go on at ``since`` and pass over as many lines of each stamp as ``seen`` says."""

    container: str
    since: int = 0
    seen: tuple[tuple[int, int], ...] = ()


class LogSource(Protocol):
    """Where logs come from."""

    def follow(
        self, device: str, container: str, lines: int, after: LogCursor | None = None
    ) -> AsyncGenerator[Sequence[LogLine]]:
        """Yield the last ``lines`` lines first, even when there are none, and then new ones as they come.

        With ``after`` yield what came after it in the place of the last lines. Nothing is left out or told twice in
        between, over restarts and recreations of the container of this name, which are marked. Raises LogsUnavailable
        when it cannot begin, or can go on no more. Closing the iterator ends the reading.
        """
        ...


class LogPlace:
    """How far one container's log was read."""

    def __init__(self, container: str) -> None:
        self.container = container
        self._since = 0
        self._newest = 0
        self._seen: dict[int, int] = {}

    @classmethod
    def at(cls, cursor: LogCursor) -> LogPlace:
        """Return the place that a cursor says."""
        place = cls(cursor.container)
        place._since = cursor.since
        place._seen = dict(cursor.seen)
        place._newest = max(place._seen, default=0)
        return place

    @property
    def cursor(self) -> LogCursor:
        """Where to go on."""
        self._forget()
        return LogCursor(self.container, self._since, tuple(sorted(self._seen.items())))

    def begin(self, stamp: int) -> None:
        """Note that nothing before a stamp is wanted: the last lines begin there."""
        self._since = max(self._since, stamp)

    def passed(self, line: LogLine) -> None:
        """Note that a line was read; one of another container begins anew, and marks stand nowhere."""
        if line.mark is not None:
            return
        if line.container != self.container:
            self.container, self._since, self._newest, self._seen = line.container, 0, 0, {}
        self._seen[line.stamp] = max(self._seen.get(line.stamp, 0), line.position + 1)
        self._newest = max(self._newest, line.stamp)
        if len(self._seen) > 2 * _MOST_SEEN:
            self._forget()

    def _forget(self) -> None:
        """Let go of what no reading comes back to."""
        since = max(self._since, self._newest - _OVERLAP_NS)
        kept = sorted(stamp for stamp in self._seen if stamp >= since)
        if len(kept) > _MOST_SEEN:
            kept = kept[-_MOST_SEEN:]
            since = kept[0]
        self._since = since
        self._seen = {stamp: self._seen[stamp] for stamp in kept}

    def reread(self) -> Rereading:
        """Return what to pass a reading through that begins at ``since`` of the cursor."""
        return Rereading(self)


class Rereading:
    """One reading of a log, from a place on: gives lines their position and passes over those that were read before."""

    def __init__(self, place: LogPlace) -> None:
        cursor = place.cursor
        self.since = cursor.since
        """Where the reading has to begin, in nanoseconds; 0 is the log's beginning."""
        self._place = place
        self._before: Mapping[int, int] = dict(cursor.seen)
        self._counts: dict[int, int] = {}

    def take(self, stamp: int, text: str) -> LogLine | None:
        """Return the next line of the log at its place, or None when it was read before."""
        if stamp < self.since:
            return None
        position = self._counts.get(stamp, 0)
        if len(self._counts) > 2 * _MOST_SEEN:
            self._counts = dict(sorted(self._counts.items())[-_MOST_SEEN:])
        self._counts[stamp] = position + 1
        if position < self._before.get(stamp, 0):
            return None
        line = LogLine(stamp, text, self._place.container, position)
        self._place.passed(line)
        return line


class Tail:
    """The newest lines of a log, bounded in number and in characters."""

    def __init__(self, most_lines: int, most_characters: int = 1_000_000) -> None:
        self._most_lines = most_lines
        self._most_characters = most_characters
        self._lines: deque[LogLine] = deque()
        self._characters = 0

    def extend(self, lines: Iterable[LogLine]) -> None:
        """Take lines; the oldest make room, but never the newest."""
        for line in lines:
            self._lines.append(line)
            self._characters += len(line.text)
            while len(self._lines) > 1 and (
                len(self._lines) > self._most_lines or self._characters > self._most_characters
            ):
                self._characters -= len(self._lines.popleft().text)

    def last(self, count: int) -> Sequence[LogLine]:
        """Return the last so many lines, oldest first."""
        return list(self._lines)[-count:] if count > 0 else []


def format_stamp(stamp: int) -> str:
    """Return a stamp as Docker writes it, for example ``2026-11-26T19:00:00.123456789Z``: texts sort as times."""
    seconds, nanoseconds = divmod(stamp, _SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def parse_stamp(text: str) -> int:
    """Read what ``format_stamp`` writes; raises ValueError."""
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp()) * _SECOND_NS + int(
        fraction.ljust(9, "0")
    )
