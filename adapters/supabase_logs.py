"""Container logs as a client of Supabase has them: interest by ``cf_follow_logs``, lines by broadcast.

Broadcasts are not replayed, and lines may come before the snapshot that they follow on: so each is known by its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from adapters.supabase_connection import Project, hearing
from adapters.supabase_history import SupabaseHistory
from monitoring.errors import MonitoringError, Refused, Unreachable
from monitoring.logs import LogCursor, LogLine, LogSource, LogsUnavailable, Mark, parse_stamp

_RENEW_SECONDS = 10.0
"""Interest ends 30 s after it was last shown."""
_SNAPSHOT_SECONDS = 15.0
"""So long a collector may take to answer: it looks at who is interested every 5 s without being called."""
_MOST_WAITING = 1_000
_Said = tuple[str, Any]


class SupabaseLogs(LogSource):
    """Logs over one project, read as one viewer. ``after`` is answered with the last lines, as `LegacyLogs` does."""

    def __init__(self, project: Project) -> None:
        self._project = project

    async def follow(
        self,
        device: str,
        container: str,
        lines: int,
        after: LogCursor | None = None,  # noqa: ARG002 - see the class
    ) -> AsyncGenerator[Sequence[LogLine]]:
        """Follow as the port says."""
        viewer = str(uuid4())
        said: asyncio.Queue[_Said] = asyncio.Queue(_MOST_WAITING)

        def say(event: str, value: Any) -> None:
            if said.full():  # the reader is too slow for broadcasts: what is left out is read again
                said.get_nowait()
                event, value = "ended", "the log is written faster than it can be read"
            said.put_nowait((event, value))

        def end(error: Unreachable | Refused) -> None:
            say("ended", str(error))

        hears = {
            event: lambda message, event=event: say(event, message.get("payload"))
            for event in ("log_snapshot", "log_lines", "log_failed")
        }
        history = SupabaseHistory(self._project)
        try:
            async with hearing(self._project, f"logs:{device}/{container}", hears, end):
                await history.follow_logs(viewer, device, container, lines)
                renewing = asyncio.ensure_future(
                    self._renew(history, viewer, device, container, lines)
                )  # ended below
                try:
                    async for batch in _batches(said, viewer):
                        yield batch
                finally:
                    renewing.cancel()
                    await asyncio.wait({renewing})
                    with suppress(MonitoringError):  # it expires by itself
                        await history.end_logs(viewer, device, container)
        except (Unreachable, Refused) as error:
            raise LogsUnavailable(str(error)) from error
        finally:
            await history.close()

    @staticmethod
    async def _renew(history: SupabaseHistory, viewer: str, device: str, container: str, lines: int) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            with suppress(
                MonitoringError
            ):  # tried again before it ends; a connection that is gone is told by itself
                await history.follow_logs(viewer, device, container, lines)


async def _batches(said: asyncio.Queue[_Said], viewer: str) -> AsyncGenerator[Sequence[LogLine]]:
    """Give the snapshot, and then what is new; raises LogsUnavailable."""
    snapshot: list[LogLine] = []
    early: list[LogLine] = []
    try:
        async with asyncio.timeout(_SNAPSHOT_SECONDS):
            while True:
                event, value = await said.get()
                if event == "log_snapshot" and value["viewer"] == viewer:
                    snapshot += map(_line, value["lines"])
                    if not value["more"]:
                        break
                elif event == "log_lines":
                    early += map(_line, value["lines"])
                elif event in {"log_failed", "ended"}:
                    raise LogsUnavailable(value if event == "ended" else str(value["reason"]))
    except TimeoutError:
        raise LogsUnavailable("no collector answered over Supabase") from None
    known = set(snapshot)
    last = max((line.stamp for line in snapshot), default=0)
    # What came before the snapshot is in it, unless it was sent while the snapshot was made.
    yield [*snapshot, *(line for line in early if line not in known and line.stamp >= last)]
    while True:
        event, value = await said.get()
        if event == "log_lines":
            yield [line for line in map(_line, value["lines"]) if line not in known]
        elif event in {"log_failed", "ended"}:
            raise LogsUnavailable(value if event == "ended" else str(value["reason"]))


def _line(told: Sequence[Any]) -> LogLine:
    container, stamp, position, text, mark = told
    return LogLine(parse_stamp(stamp), text, container, position, Mark(mark) if mark else None)
