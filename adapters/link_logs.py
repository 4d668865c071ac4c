"""The link's other direction: container logs, while the legacy server asks for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing

from websockets.asyncio.client import ClientConnection

from adapters.legacy_dialect import CONNECTION_ERRORS
from legacy_ws.protocol import link
from legacy_ws.protocol.link_logs import (
    LOG_WINDOW,
    EndLog,
    FollowLog,
    LogFailed,
    LogMessage,
    LogTaken,
    OfferLogs,
    pack_lines,
)
from monitoring.logs import LogSource, LogsUnavailable

log = logging.getLogger(__name__)


class _Reading:
    """One request: its task, and room for frames that the server has not taken."""

    def __init__(self) -> None:
        self.room = asyncio.Semaphore(LOG_WINDOW)
        self.task: asyncio.Task[None] | None = None


class LinkLogs:
    """Answers one connection's requests for logs. Its tasks belong to ``group``, and end with it."""

    def __init__(
        self, sources: Mapping[str, LogSource], connection: ClientConnection, group: asyncio.TaskGroup
    ) -> None:
        """``sources`` are by device."""
        self._sources = sources
        self._connection = connection
        self._group = group
        self._readings: dict[int, _Reading] = {}

    async def offer(self) -> None:
        """Say whose logs there are."""
        for device in self._sources:
            await self._send(OfferLogs(device))

    def take(self, message: LogMessage) -> bool:
        """Do what the server asks; False for what no server asks."""
        match message:
            case FollowLog():
                reading = self._readings[message.request] = _Reading()
                reading.task = self._group.create_task(self._follow(message, reading))
            case EndLog(request):
                ended = self._readings.pop(request, None)
                if ended is not None and ended.task is not None:
                    ended.task.cancel()
            case LogTaken(request):
                if (taken := self._readings.get(request)) is not None:
                    taken.room.release()
            case _:
                return False
        return True

    async def _follow(self, ask: FollowLog, reading: _Reading) -> None:
        reason = "its log has ended"
        try:
            source = self._sources[ask.device]  # no server asks for what was not offered
            async with aclosing(source.follow(ask.device, ask.container, ask.lines, ask.after)) as batches:
                async for lines in batches:
                    for part in pack_lines(ask.request, lines):
                        await reading.room.acquire()
                        await self._send(part)
        except LogsUnavailable as error:
            reason = error.reason
        except CONNECTION_ERRORS:
            raise
        except Exception:
            # A source that errs ends its own reading; raised, it would end the link.
            log.exception("link: reading the log of %s failed", ask.container)
            reason = "reading it failed"
        self._readings.pop(ask.request, None)
        await self._send(LogFailed(ask.request, reason))

    async def _send(self, message: LogMessage) -> None:
        await self._connection.send(link.encode(message), text=True)
