"""One container's log over whichever of several sources can be read, and on from there over another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

from monitoring.logs import LogCursor, LogLine, LogSource, LogsUnavailable

_MOST_LINES = 1_000
_AGAIN_SECONDS = 0.5
PATIENCE_SECONDS = 30.0
"""So long a log that was being read may be out of reach of every source."""
_ANCHOR = 8
"""Lines that have to agree for a place to be recognised."""
_MILLISECOND = 1_000_000

_Key = tuple[int, str]


class Told:
    """The last lines that were told, by what every source tells of them: the millisecond, and the text."""

    def __init__(self) -> None:
        self._keys: deque[_Key] = deque(maxlen=_MOST_LINES)

    def note(self, lines: Iterable[LogLine]) -> None:
        """Note that lines were told."""
        self._keys.extend(map(_key, lines))

    def news(self, last: Sequence[LogLine]) -> Sequence[LogLine]:
        """Return what of a log's last lines comes after what was told.

        Where none of it is recognised, more was written meanwhile than a source tells, and all that is later is news.
        """
        if not self._keys:
            return last
        keys = [_key(line) for line in last]
        told = list(self._keys)
        for size in range(min(_ANCHOR, len(told)), 0, -1):
            anchor = told[-size:]
            for end in range(len(keys), size - 1, -1):
                if keys[end - size : end] == anchor:
                    return last[end:]
        newest = max(stamp for stamp, _ in told)
        return [line for line, (stamp, _) in zip(last, keys, strict=True) if stamp > newest]


class EitherLogs(LogSource):
    """The first of ``sources`` that can be read; whichever it is, each line is told once."""

    def __init__(self, sources: Sequence[LogSource], *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._sources = tuple(sources)
        self._patience_seconds = patience_seconds

    async def follow(
        self,
        device: str,
        container: str,
        lines: int,
        after: LogCursor | None = None,  # noqa: ARG002 - of the sources none has a cursor
    ) -> AsyncGenerator[Sequence[LogLine]]:
        """Follow as the port says."""
        told = Told()
        begun = False
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        while True:
            reasons: list[str] = []
            for source in self._sources:
                wanted = _MOST_LINES if begun else lines
                try:
                    async with aclosing(source.follow(device, container, wanted)) as batches:
                        resumes = begun
                        async for batch in batches:
                            fresh = told.news(batch) if resumes else batch
                            resumes = False
                            told.note(fresh)
                            if fresh or not begun:
                                begun = True
                                yield fresh
                            told_at = loop.time()
                except LogsUnavailable as error:
                    reasons.append(error.reason)
            if not begun or loop.time() - told_at > self._patience_seconds:
                raise LogsUnavailable(
                    "; ".join(dict.fromkeys(reasons)) or "there is no source of container logs"
                )
            await asyncio.sleep(_AGAIN_SECONDS)


def _key(line: LogLine) -> _Key:
    return line.stamp // _MILLISECOND, line.shown
