"""What viewers of Supabase want of this collector, told by rows that expire: one connection that is called when they change.

Each kind of interest is a part of its own: container logs (`adapters.log_broadcast`), and which devices are watched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import asyncpg

from adapters.backoff import Backoff
from adapters.database_url import asyncpg_url
from monitoring.interest import DeviceNames

log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
"""How often the rows are read without being called: a pooler in between passes no notifications on, and rows expire."""
_CONNECT_SECONDS = 10.0
_FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
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
        self._url = asyncpg_url(database_url)
        self._parts = parts
        self._backoff = Backoff(cap=10.0)
        self._said = ""

    async def run(self) -> None:
        """Look for as long as the task lives; a database that is away is said once, and tried again."""
        own = asyncio.current_task()
        while True:
            try:
                # A task of its own, cancelled and awaited with this one: see LegacyLink.run.
                await asyncio.create_task(self._session())
            except* _FAILURES as errors:
                self._failed(errors)
            if own is not None and own.cancelling():
                raise asyncio.CancelledError
            await asyncio.sleep(self._backoff.next())

    def _failed(self, errors: BaseExceptionGroup[BaseException]) -> None:
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        reason = " ".join(str(error).split()) or type(error).__name__
        if reason != self._said:  # a database that stays away is said once
            log.warning("interest of viewers on Supabase: %s; trying again", reason)
        self._said = reason

    async def _session(self) -> None:
        connection = await asyncpg.connect(
            self._url,
            timeout=_CONNECT_SECONDS,
            command_timeout=_CONNECT_SECONDS,
            statement_cache_size=0,  # see PostgresWriter
            server_settings={"application_name": "crossfade interest"},
        )
        asking, called = Asking(connection), asyncio.Event()
        try:
            for part in self._parts:
                await connection.add_listener(part.channel, lambda *_: called.set())
            connection.add_termination_listener(lambda _: called.set())
            async with asyncio.TaskGroup() as group:
                while True:
                    called.clear()
                    for part in self._parts:
                        await part.look(asking, group)
                    self._said = ""
                    self._backoff.reset()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_SECONDS):
                            await called.wait()
        finally:
            for part in self._parts:
                part.cut()
            connection.terminate()


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
