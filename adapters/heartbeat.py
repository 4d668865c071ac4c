"""The heartbeat of the Supabase path, and the mode in which it delivers: both are the database's, asked for from here.

Every owner asks for the beat over its own connection; the database sends one each interval, whoever comes first. So
it says that somebody can write, that the database commits, and that Realtime passes it on.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import asyncpg
import orjson

AGAIN_SECONDS = 60.0
"""After a beat failed for another reason than the connection's: the functions may be missing, or not ours to call."""
EMBEDDED_SECONDS = 2.0
"""Between beats on the embedded Supabase, where nobody pays for messages."""

log = logging.getLogger(__name__)


async def set_delivery(
    connection: asyncpg.Connection[Any],
    mode: Literal["changes", "broadcast"] | None = None,
    beat_seconds: float | None = None,
) -> dict[str, Any]:
    """Choose how events are delivered and how often the heart beats; None leaves it. Returns what holds now.

    Connected clients follow by themselves. Raises asyncpg.PostgresError; LockNotAvailableError after 10 s when
    somebody holds the feed.
    """
    answer = await connection.fetchval("select public.cf_set_mode($1, $2)", mode, beat_seconds)
    chosen: dict[str, Any] = orjson.loads(answer)
    return chosen


class Heartbeat:
    """Asks for the beat, over a connection that is somebody else's; what fails there is said and holds up nothing.

    ``mode`` and ``beat_seconds`` are set with the first beat; None leaves what the database has.
    """

    def __init__(
        self,
        mode: Literal["changes", "broadcast"] | None = None,
        beat_seconds: float | None = None,
    ) -> None:
        self._wish = (mode, beat_seconds)
        self.problem: str | None = None
        """Why the newest beat failed; None when it did not."""

    async def beat(self, connection: asyncpg.Connection[Any]) -> float:
        """Beat if it is due; return in how many seconds to call again. Raises only when the connection broke."""
        try:
            if self._wish != (None, None):
                chosen = await set_delivery(connection, *self._wish)
                self._wish = (None, None)
                log.info("database: events are delivered in %s mode", chosen["mode"])
            seconds = float(await connection.fetchval("select public.cf_beat()"))
        except (asyncpg.PostgresError, TimeoutError) as error:
            if connection.is_closed():
                raise
            problem = " ".join(str(error).split()) or type(error).__name__
            if problem != self.problem:
                log.warning("database: no heartbeat: %s; tried again in %g s", problem, AGAIN_SECONDS)
            self.problem = problem
            return AGAIN_SECONDS
        self.problem = None
        return seconds
