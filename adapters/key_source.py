"""Keeps a service's keys as the database has them: told of each change, and looked at every few seconds all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from adapters.listening import Listening

_LOOK_SECONDS = 5.0
_SQL = """
select id, name, prefix, hash, application, extract(epoch from expires_at)::float8 as expires_at
from public.cf_api_keys where revoked_at is null and (expires_at is null or expires_at > now())
"""

Row = tuple[UUID, str, str, bytes, str | None, float | None]
"""Id, name, prefix, hash, application, and when it ends in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class KeySource:
    """Reads the keys for as long as it runs. ``used`` returns the ids of those that were shown since the last time."""

    database_url: str
    hold: Callable[[Sequence[Row]], None]
    used: Callable[[], set[UUID]]

    async def run(self) -> None:
        """Work until cancelled, over whatever happens to the database: meanwhile the keys are as they were."""
        listening = Listening(
            self.database_url,
            ["cf_keys"],
            _LOOK_SECONDS,
            name="crossfade-keys",
            trouble="the keys cannot be read for now, and stay as they were",
        )
        await listening.run(self._session)

    async def _session(self, connection: Any, calls: AsyncIterator[None]) -> None:
        async for _ in calls:
            await self._work(connection)

    async def _work(self, connection: Any) -> None:
        self.hold([tuple(row) for row in await connection.fetch(_SQL)])
        if used := self.used():
            await connection.execute(
                "update public.cf_api_keys set used_at = now() where id = any($1)", list(used)
            )
