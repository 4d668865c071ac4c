"""Doing something whenever the database says that there is something to do, and every few seconds all the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import asyncpg

from adapters.backoff import Backoff

_AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listening:
    """One connection to ``database_url``, kept up for as long as it runs.

    ``channel`` is that of the notifications, ``look_seconds`` how often it is looked without one, ``name`` what PostgreSQL
    knows the connection by, ``trouble`` what is said, with the reason, when it cannot be done for now.
    """

    database_url: str
    channel: str
    look_seconds: float
    name: str
    trouble: str

    async def run(self, work: Callable[[Any], Awaitable[None]]) -> NoReturn:
        """Call ``work`` with the connection each time, until cancelled, over whatever happens to the database."""
        backoff = Backoff()
        said = ""
        while True:
            try:
                connection = await asyncpg.connect(
                    self.database_url,
                    timeout=5,
                    command_timeout=10,
                    statement_cache_size=0,
                    server_settings={"application_name": self.name},
                )
                try:
                    await self._listen(connection, work, backoff)
                finally:
                    await asyncio.shield(_closed(connection))
            except _AWAY as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                if reason != said:
                    log.warning("%s: %s", self.trouble, reason)
                said = reason
            await asyncio.sleep(backoff.next())

    async def _listen(
        self, connection: Any, work: Callable[[Any], Awaitable[None]], backoff: Backoff
    ) -> NoReturn:
        changed = asyncio.Event()
        await connection.add_listener(self.channel, lambda *_: changed.set())
        while True:
            changed.clear()
            await work(connection)
            backoff.reset()
            try:
                async with asyncio.timeout(self.look_seconds):
                    await changed.wait()
            except TimeoutError:
                continue


async def _closed(connection: Any) -> None:
    try:
        await connection.close(timeout=2)
    except _AWAY:
        connection.terminate()
