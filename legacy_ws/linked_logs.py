"""Container logs from the collectors' links: a `LogSource` whose readings outlive the link that brings them.

A log is asked for over the link that offered its device's. When that link goes, the reading waits for the next one and
goes on after the last line it had.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence

import structlog

from legacy_ws.protocol.link_logs import (
    LOG_WINDOW,
    EndLog,
    FollowLog,
    LogFailed,
    LogLines,
    LogMessage,
    LogTaken,
)
from monitoring.logs import LogCursor, LogLine, LogPlace, LogSource, LogsUnavailable

log = structlog.get_logger("legacy_ws")

_PATIENCE_SECONDS = 30.0
"""How long a reading that has begun waits for a collector to come back."""

_Item = LogLines | LogFailed | None


class LogLink:
    """One link: what is asked of it, and who waits for its answers. ``asks`` is what its connection is to send."""

    def __init__(self) -> None:
        self.asks: asyncio.Queue[LogMessage] = asyncio.Queue()
        self._readings: dict[int, asyncio.Queue[_Item]] = {}

    def ask(self, message: FollowLog) -> asyncio.Queue[_Item]:
        """Begin a reading; its queue has None when the link has gone."""
        # The link may have LOG_WINDOW frames on their way, and then say why there are no more, or go.
        queue: asyncio.Queue[_Item] = asyncio.Queue(LOG_WINDOW + 2)
        self._readings[message.request] = queue
        self.asks.put_nowait(message)
        return queue

    def end(self, request: int) -> None:
        """End a reading; safe to call twice."""
        if self._readings.pop(request, None) is not None:
            self.asks.put_nowait(EndLog(request))

    def answered(self, message: LogLines | LogFailed) -> None:
        """Hand an answer to who waits for it; what comes after the end of a reading is nobody's."""
        queue = self._readings.get(message.request)
        if queue is None:
            return
        try:
            queue.put_nowait(message)
        except asyncio.QueueFull:
            log.warning("log_window_broken", request=message.request)
            self.end(message.request)
            _end(queue)

    def gone(self) -> None:
        """Tell everybody who waits."""
        for queue in self._readings.values():
            _end(queue)
        self._readings = {}


def _end(queue: asyncio.Queue[_Item]) -> None:
    if queue.full():
        queue.get_nowait()  # it is asked for again
    queue.put_nowait(None)


class LinkedLogs(LogSource):
    """The logs of every device whose collector is linked."""

    def __init__(self, *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._links: dict[str, LogLink] = {}
        self._numbers = itertools.count(1)
        self._news = asyncio.Event()

    def offered(self, device: str, link: LogLink) -> None:
        """Note whose link has a device's logs: the newest."""
        self._links[device] = link
        news, self._news = self._news, asyncio.Event()
        news.set()

    def gone(self, link: LogLink) -> None:
        """Note that a link went away."""
        self._links = {device: other for device, other in self._links.items() if other is not link}
        link.gone()

    async def follow(
        self, device: str, container: str, lines: int, after: LogCursor | None = None
    ) -> AsyncGenerator[Sequence[LogLine]]:
        """Follow as the port says."""
        place = LogPlace.at(after) if after is not None else None
        while True:
            link = await self._link(device, begun=place is not None)
            cursor = place.cursor if place is not None else None
            ask = FollowLog(next(self._numbers), device, container, lines, cursor)
            queue = link.ask(ask)
            try:
                while (batch := await _batch(link, ask.request, queue)) is not None:
                    if place is None:
                        place = _begun(batch)
                    for line in batch:
                        place.passed(line)
                    yield batch
            finally:
                link.end(ask.request)

    async def _link(self, device: str, *, begun: bool) -> LogLink:
        if device not in self._links and not begun:
            raise LogsUnavailable(f"no collector that has the container logs of {device[:100]} is connected")
        try:
            async with asyncio.timeout(self._patience_seconds):
                while device not in self._links:
                    await self._news.wait()
        except TimeoutError:
            raise LogsUnavailable(
                f"the collector of {device[:100]} has been away for {self._patience_seconds:g} s"
            ) from None
        return self._links[device]


def _begun(batch: Sequence[LogLine]) -> LogPlace:
    """Return the place of a reading whose last lines are these: nothing before them is wanted."""
    place = LogPlace(batch[0].container if batch else "")
    if batch:
        place.begin(batch[0].stamp)
    return place


async def _batch(link: LogLink, request: int, queue: asyncio.Queue[_Item]) -> list[LogLine] | None:
    """Return the next batch, whole; None when the link has gone. Raises LogsUnavailable."""
    batch: list[LogLine] = []
    while True:
        match await queue.get():
            case LogLines(_, lines, more):
                link.asks.put_nowait(LogTaken(request))
                batch += lines
                if not more:
                    return batch
            case LogFailed(_, reason):
                raise LogsUnavailable(reason)
            case None:
                return None
