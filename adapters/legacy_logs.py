"""Container logs as a client of the legacy server has them: its ``/ws/containers``, one connection for each log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta, timezone

from websockets.asyncio.client import connect

from adapters.legacy_dialect import CONNECTION_ERRORS, explain
from legacy_ws.protocol import containers
from legacy_ws.protocol.records import encode
from monitoring.logs import LogCursor, LogLine, LogSource, LogsUnavailable

_OPEN_SECONDS = 10.0
_CLOSE_SECONDS = 1.0
_MOST_BYTES = 16 * 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - the one for stamps
_MICROSECOND = timedelta(microseconds=1)


class LegacyLogs(LogSource):
    """Logs over the legacy server at ``url`` (``ws://HOST:PORT/ws/containers``).

    The dialect tells stamps in milliseconds, and marks as lines. It has no cursor: ``after`` is answered with the last
    lines, of which `adapters.either_logs` passes over what is known.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    async def follow(
        self,
        device: str,
        container: str,
        lines: int,
        after: LogCursor | None = None,  # noqa: ARG002 - see the class
    ) -> AsyncGenerator[Sequence[LogLine]]:
        """Follow as the port says."""
        name = f"{device}/{container}"
        try:
            async with connect(
                self._url,
                proxy=None,
                open_timeout=_OPEN_SECONDS,
                close_timeout=_CLOSE_SECONDS,
                max_size=_MOST_BYTES,
            ) as socket:
                await socket.send(encode(containers.SubscribeLogs(name, lines)), text=True)
                async for text in socket:
                    match containers.SERVER.read(text):
                        case containers.LogSnapshot(_, logs) | containers.NewLogs(_, logs):
                            yield [line for told in logs if (line := _line(told)) is not None]
                        case containers.ErrorMessage(reason):
                            raise LogsUnavailable(reason)
        except CONNECTION_ERRORS as error:
            raise LogsUnavailable(explain(self._url, error).reason) from error
        raise LogsUnavailable("the legacy server closed the connection")


def _line(told: str) -> LogLine | None:
    """Return a line as the dialect tells it, its time in front; None for what is none."""
    stamp, space, text = told.partition(" ")
    try:
        at = datetime.fromisoformat(stamp)
        return LogLine((at - _EPOCH) // _MICROSECOND * 1_000, text) if space else None
    except (ValueError, TypeError):
        return None
