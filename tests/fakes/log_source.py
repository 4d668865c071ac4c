"""A source of container logs that a test writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime

from monitoring.logs import LogCursor, LogLine, LogsUnavailable

_START = int(datetime(2025, 11, 25, 22, 52, 30, tzinfo=UTC).timestamp()) * 1_000_000_000 + 123_000_000
_SECOND = 1_000_000_000


class ScriptedLogs:
    """Logs by container; ``write`` appends lines, ``fail`` ends a container's log with a reason."""

    def __init__(self) -> None:
        self.logs: dict[tuple[str, str], list[LogLine]] = {}
        self.reading: set[tuple[str, str]] = set()
        """Containers that are read now."""
        self.broken: set[tuple[str, str]] = set()
        """Containers whose reading fails as no source should; seen at their next line."""
        self._failed: dict[tuple[str, str], str] = {}
        self._news = asyncio.Event()

    def write(self, device: str, container: str, *texts: str) -> None:
        lines = self.logs.setdefault((device, container), [])
        lines += [
            LogLine(_START + (len(lines) + n) * _SECOND, text, container) for n, text in enumerate(texts)
        ]
        self._wake()

    def fail(self, device: str, container: str, reason: str) -> None:
        self._failed[device, container] = reason
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def follow(
        self, device: str, container: str, lines: int, after: LogCursor | None = None
    ) -> AsyncGenerator[Sequence[LogLine]]:
        key = (device, container)
        log = self.logs.setdefault(key, [])
        position = len(log)
        first = log[-lines:] if lines else []
        if after is not None:
            seen = dict(after.seen)
            first = [line for line in log if line.stamp >= after.since and line.stamp not in seen]
        self.reading.add(key)
        try:
            yield first
            while True:
                news = self._news
                if position < len(log):
                    fresh, position = log[position:], len(log)
                    yield fresh
                if key in self.broken:
                    raise ZeroDivisionError
                if key in self._failed:
                    raise LogsUnavailable(self._failed[key])
                await news.wait()
        finally:
            self.reading.discard(key)
