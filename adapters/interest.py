"""What viewers of Supabase want of this collector, told by rows that expire: one connection that is called when they change.

Each kind of interest is a part of its own: container logs (`adapters.log_broadcast`), and which devices are watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

import asyncpg

from adapters.database_url import asyncpg_url
from adapters.listening import Listening
from monitoring.interest import DeviceNames

_LOOK_SECONDS = 5.0
"""How often the rows are read without being called: a pooler in between passes no notifications on, and rows expire."""
_DEVICES = "select distinct device from public.cf_device_interest where expires_at > clock_timestamp()"


class Asking:
    """The connection, used by several tasks in turn."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()

    async def fetch(self, query: str, *arguments: Any) -> Sequence[Any]:
        """Return rows; raises what asyncpg raises."""
        async with self._turn:
            rows: Sequence[Any] = await self._connection.fetch(query, *arguments)
        return rows

    async def execute(self, query: str, *arguments: Any) -> None:
        """Run a statement; raises what asyncpg raises."""
        async with self._turn:
            await self._connection.execute(query, *arguments)


class InterestPart(Protocol):
    """One kind of interest."""

    channel: str
    """Whose notifications say that something changed."""

    async def look(self, asking: Asking, group: asyncio.TaskGroup) -> None:
        """Read what is wanted now and do it; tasks of ``group`` end with the connection."""
        ...

    def cut(self) -> None:
        """Take that the connection has gone."""
        ...


class InterestListener:
    """Looks for what viewers want; one connection to the database."""

    def __init__(self, database_url: str, parts: Sequence[InterestPart]) -> None:
        """Raises InvalidDatabaseUrl."""
        self._parts = parts
        self._listening = Listening(
            asyncpg_url(database_url),
            [part.channel for part in parts],
            _LOOK_SECONDS,
            name="crossfade interest",
            trouble="what viewers on Supabase want is not known for now",
        )

    async def run(self) -> None:
        """Look for as long as the task lives, over whatever happens to the database."""
        await self._listening.run(self._session)

    async def _session(self, connection: asyncpg.Connection[Any], calls: AsyncIterator[None]) -> None:
        # A task of its own, cancelled and awaited with this one: see LegacyLink.run.
        await asyncio.create_task(self._look(Asking(connection), calls))

    async def _look(self, asking: Asking, calls: AsyncIterator[None]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                async for _ in calls:
                    for part in self._parts:
                        await part.look(asking, group)
        finally:
            for part in self._parts:
                part.cut()


class WatchedDevices(InterestPart):
    """Which devices are watched by name."""

    channel = "cf_device_interest"

    def __init__(self, watched: Callable[[DeviceNames], None]) -> None:
        """``watched`` is told all of them after each look, and none without a connection."""
        self._watched = watched

    async def look(self, asking: Asking, group: asyncio.TaskGroup) -> None:  # noqa: ARG002 - there is nothing to go on with
        """Read the rows."""
        self._watched(frozenset(row["device"] for row in await asking.fetch(_DEVICES)))

    def cut(self) -> None:
        """Say that nobody is known to watch."""
        self._watched(frozenset())
