"""Which paths an owner of streams publishes to: asked of the database, obeyed, acknowledged.

The stages of the migration decide it (``cf_paths``). An owner says which revision it acts by; the last step of the
migration waits until each has said so. An owner that cannot ask goes on as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import orjson

EVERY_SECONDS = 2.0
_AGAIN_SECONDS = 60.0
"""After a question failed for another reason than the connection's: the functions may be missing, or not ours to call."""

log = logging.getLogger(__name__)


class PathOrders:
    """Asks over a connection that is somebody else's. ``obey(legacy)`` switches the legacy path, and returns when it has."""

    def __init__(self, name: str, obey: Callable[[bool], Awaitable[None]]) -> None:
        self._name = name
        self._obey = obey
        self._revision = 0
        self._problem: str | None = None

    async def hear(self, connection: asyncpg.Connection[Any], owner: UUID) -> float:
        """Ask and obey; return in how many seconds to ask again. Raises only when the connection broke."""
        try:
            orders = await self._ask(connection, owner)
            if orders["revision"] != self._revision:
                await self._obey(orders["legacy"])
                self._revision = orders["revision"]
                await self._ask(connection, owner)  # acknowledges it
        except (asyncpg.PostgresError, TimeoutError) as error:
            if connection.is_closed():
                raise
            problem = " ".join(str(error).split()) or type(error).__name__
            if problem != self._problem:
                log.warning("database: the stage's paths are not known: %s; both are published to", problem)
            self._problem = problem
            return _AGAIN_SECONDS
        self._problem = None
        return EVERY_SECONDS

    async def _ask(self, connection: asyncpg.Connection[Any], owner: UUID) -> dict[str, Any]:
        answer = await connection.fetchval(
            "select public.cf_hear($1, $2, $3)", owner, self._revision, self._name
        )
        orders: dict[str, Any] = orjson.loads(answer)
        return orders
