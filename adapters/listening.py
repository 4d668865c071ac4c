"""Doing something whenever the database says that there is something to do, and every few seconds all the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import asyncpg

from adapters.backoff import Backoff
from adapters.errors import DATABASE_AWAY

_CONNECT_SECONDS = 10.0
_COMMAND_SECONDS = 10.0

log = logging.getLogger(__name__)

Session = Callable[[Any, AsyncIterator[None]], Awaitable[None]]
"""What is done with one connection: something each time that its second argument gives, which does not end by itself."""


@dataclass(frozen=True, slots=True)
class Listening:
    """One connection to ``database_url``, kept up for as long as it runs.

    ``channels`` are those of the notifications, ``look_seconds`` how often it is looked without one: a pooler in between
    passes none on. ``name`` is what PostgreSQL knows the connection by, ``trouble`` what is said, once and with the
    reason, when it cannot be done for now.
    """

    database_url: str
    channels: Sequence[str]
    look_seconds: float
    name: str
    trouble: str

    async def run(self, session: Session) -> NoReturn:
        """Run a session on each connection, until cancelled, over whatever happens to the database."""
        own = asyncio.current_task()
        backoff = Backoff(cap=10.0)
        said = ""

        def worked() -> None:
            nonlocal said
            said = ""
            backoff.reset()

        while True:
            try:
                await self._session(session, worked)
            except* DATABASE_AWAY as errors:
                reason = _reason(errors)
                if reason != said:
                    log.warning("%s: %s; trying again", self.trouble, reason)
                said = reason
            if own is not None and own.cancelling():  # a task group can end with its error instead
                raise asyncio.CancelledError
            await asyncio.sleep(backoff.next())

    async def _session(self, session: Session, worked: Callable[[], None]) -> None:
        connection = await asyncpg.connect(
            self.database_url,
            timeout=_CONNECT_SECONDS,
            command_timeout=_COMMAND_SECONDS,
            statement_cache_size=0,  # see PostgresWriter
            server_settings={"application_name": self.name},
        )
        try:
            await session(connection, self._calls(connection, worked))
        finally:
            await asyncio.shield(_closed(connection))

    async def _calls(self, connection: Any, worked: Callable[[], None]) -> AsyncIterator[None]:
        called = asyncio.Event()
        for channel in self.channels:
            await connection.add_listener(channel, lambda *_: called.set())
        connection.add_termination_listener(lambda _: called.set())
        while True:
            called.clear()
            yield
            worked()
            try:
                async with asyncio.timeout(self.look_seconds):
                    await called.wait()
            except TimeoutError:
                continue


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(str(error).split()) or type(error).__name__


async def _closed(connection: Any) -> None:
    try:
        await connection.close(timeout=2)
    except DATABASE_AWAY:
        connection.terminate()
