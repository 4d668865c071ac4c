"""Keeping house in the database: partitions, roll-ups, what is too old or too much (``cf_maintain``).

Over a connection that is somebody else's, in steps of about a tenth of a second. Every owner asks; the database lets one
at a time do it, whoever comes first. What fails is said and tried again, and holds up nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import asyncpg
import orjson

EVERY_SECONDS = 60.0
AGAIN_SECONDS = 60.0
"""After it failed."""
EXPIRED = 5_000
"""Expired events deleted a step: with the pause between steps no transaction is too large for Realtime."""
PAUSE_SECONDS = 0.25
"""Between steps while something is left to do."""

log = logging.getLogger(__name__)


class Housekeeping:
    """One owner's part in it.

    ``keep`` (level -> interval, as PostgreSQL reads it) and ``limit_bytes`` are set with the first step; None leaves what
    the database has.
    """

    def __init__(self, keep: Mapping[str, str] | None = None, limit_bytes: int | None = None) -> None:
        self._wish = (keep, limit_bytes)
        self.expired = 0
        """Events that were deleted from the feed."""
        self.storage: Mapping[str, Any] | None = None
        """What the newest step said of the store: a row of cf_storage, and what was done."""
        self.problem: str | None = None
        """Why the newest step failed, or what it could not do; None when there is nothing to say."""

    async def step(self, connection: asyncpg.Connection[Any]) -> float:
        """Keep house, one step; return in how many seconds to do so again. Raises only when the connection broke."""
        try:
            if self._wish != (None, None):
                keep, limit = self._wish
                await connection.execute(
                    "select public.cf_set_keep($1, $2)", orjson.dumps(keep or {}).decode(), limit
                )
                self._wish = (None, None)
            answer = orjson.loads(
                await connection.fetchval("select public.cf_maintain(p_limit => $1)", EXPIRED)
            )
            others = await self._others(connection)
        except (asyncpg.PostgresError, TimeoutError) as error:
            if connection.is_closed():
                raise
            problem = f"housekeeping failed: {' '.join(str(error).split()) or type(error).__name__}"
            if problem != self.problem:
                log.warning("database: %s; tried again in %g s", problem, AGAIN_SECONDS)
            self.problem = problem
            return AGAIN_SECONDS
        deleted, stuck = int(answer["events_deleted"]), int(answer.get("problems", 0))
        self.expired += deleted
        self.storage = answer
        self.problem = others
        if stuck:
            self.problem = f"{stuck} hours of history cannot be rolled up; cf_rollup_pending says why"
        return PAUSE_SECONDS if deleted == EXPIRED or answer["hours_left"] else EVERY_SECONDS

    @staticmethod
    async def _others(connection: asyncpg.Connection[Any]) -> str | None:
        """Return what is wrong with somebody else keeping house here; None when nothing is."""
        try:
            told = orjson.loads(await connection.fetchval("select public.cf_other_housekeepers()"))
        except asyncpg.UndefinedFunctionError:  # a database without the newest migration
            return None
        tables = told["partman_has"]
        if not tables:
            return None
        return (
            f"pg_partman was told to keep {', '.join(tables)}, which Crossfade keeps by itself: delete "
            f"{'that row' if len(tables) == 1 else 'those rows'} of part_config"
        )
