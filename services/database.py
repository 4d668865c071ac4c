"""The database of a service: its own pool, each query as the caller, quick to say that the database is away.

Every query runs in a transaction of its own with the caller's role and claims, as PostgREST does it (postgrest.org,
"Transactions"), so that row level security decides what is seen; it is read only unless it is a `change`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import asyncpg

from services.access import Caller
from services.problems import Kind, Problem

POOL_SIZE = 8
CONNECT_SECONDS = 2.0
"""How long a request waits for a connection."""
QUERY_SECONDS = 8.0
_ANSWER_SECONDS = 6
"""How long one query may take; what takes longer has asked for too much."""
_CLOSE_SECONDS = 3.0
_ATTEMPTS = 2

_REFUSALS: Mapping[str, Kind] = {
    "PT400": Kind.INVALID_REQUEST,
    "PT403": Kind.FORBIDDEN,
    "PT404": Kind.NOT_FOUND,
    "PT409": Kind.CONFLICT,
    "PT429": Kind.TOO_MANY,
}
"""What functions of ours raise: PostgREST makes a status of these codes, too."""

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, crashed, cancelled
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,  # its disk fails
    asyncpg.TransactionRollbackError,  # another came first, twice
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

_AGAIN = (asyncpg.PostgresConnectionError, asyncpg.TransactionRollbackError)
"""What is worth a second attempt at once: a connection that had died unnoticed, another transaction that came first."""

_log = logging.getLogger(__name__)


class Database:
    """A pool that connects when it is first needed, so that a service starts while its database is away.

    While the database does not answer one request at a time tries it; the others are told at once. ``name`` is what
    ``pg_stat_activity`` calls its connections.
    """

    def __init__(self, dsn: str, *, pool_size: int = POOL_SIZE, name: str = "crossfade-query") -> None:
        self._dsn = dsn
        self._name = name
        self._pool_size = pool_size
        self._pool: Any = None
        self._away: str | None = None
        self._trying = False

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=self._pool_size,
            max_inactive_connection_lifetime=60,
            statement_cache_size=0,  # poolers in transaction mode, as hosted projects have, know no named statements
            timeout=CONNECT_SECONDS,
            command_timeout=QUERY_SECONDS,
            server_settings={"application_name": self._name},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def answer(self, caller: Caller, sql: str, *arguments: object) -> str:
        """Return the one value of a query, run as the caller, as text.

        Raises Problem: FORBIDDEN when the database says so, INVALID_REQUEST for what it cannot take, TOO_MUCH for what
        takes longer than _ANSWER_SECONDS, DATABASE_AWAY, DATABASE_NOT_READY, and what a function of ours refuses.
        """
        return await self._as(caller, sql, arguments, readonly=True)

    async def change(self, caller: Caller, sql: str, *arguments: object) -> str:
        """Return the one value of a statement that may change something, run as the caller; raises Problem as `answer`.

        CONFLICT when there is one already. It runs once more when a connection has died or another transaction came first, so
        the statement has to be one that may be said twice.
        """
        return await self._as(caller, sql, arguments, readonly=False)

    async def _as(self, caller: Caller, sql: str, arguments: Sequence[object], *, readonly: bool) -> str:
        async def run(connection: Any) -> str:
            async with connection.transaction(readonly=readonly):
                await connection.execute(
                    "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true), "
                    f"set_config('statement_timeout', '{_ANSWER_SECONDS:g}s', true)",
                    caller.role,
                    caller.claims,
                )
                return str(await connection.fetchval(sql, *arguments))

        return await self._run(run)

    def pool(self) -> dict[str, int] | None:
        """Return how many connections are in use, idle, and allowed; None while it is not open."""
        if self._pool is None:
            return None
        size, idle = int(self._pool.get_size()), int(self._pool.get_idle_size())
        return {"in_use": size - idle, "idle": idle, "limit": self._pool_size}

    async def check(self) -> None:
        """Raise Problem unless the database answers and has the tables of Crossfade."""

        async def run(connection: Any) -> str:
            return str(
                await connection.fetchval(
                    "select to_regprocedure('public.cf_events_after(jsonb, text[], int)')"
                )
            )

        if await self._run(run) == "None":
            raise _not_ready()

    async def _run(self, query: Any) -> str:
        """Run a query on a connection of the pool; once more after what _AGAIN has."""
        trying = self._away is not None
        if trying:
            if self._trying:
                raise _away(str(self._away))
            self._trying = True
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    found = await self._once(query)
                except (*_AWAY, asyncpg.PostgresError) as error:
                    if (refusal := _refusal(error)) is not None:
                        raise refusal from error
                    if not isinstance(error, _AWAY):
                        raise
                    if attempt < _ATTEMPTS and isinstance(error, _AGAIN):
                        continue
                    raise self._gone(error) from error
                self._back()
                return found
            raise AssertionError("the last attempt returns or raises")
        finally:
            if trying:
                self._trying = False

    async def _once(self, query: Any) -> str:
        connection = await self._pool.acquire(timeout=CONNECT_SECONDS)
        try:
            return str(await query(connection))
        finally:
            await self._pool.release(connection, timeout=_CLOSE_SECONDS)

    def _gone(self, error: BaseException) -> Problem:
        reason = " ".join(str(error).split()) or "no answer in time"
        if self._away is None:
            _log.warning("the database is away: %s", reason)
        self._away = reason
        return _away(reason)

    def _back(self) -> None:
        if self._away is not None:
            _log.info("the database is back")
        self._away = None


def _sentence(error: asyncpg.PostgresError) -> str:
    hint = getattr(error, "hint", None)
    said = str(error.args[0]) if error.args else str(error)  # its own text has the hint on a second line
    return f"{said}; {hint[0].lower()}{hint[1:].rstrip('.')}" if hint else said


def _refusal(error: BaseException) -> Problem | None:  # noqa: PLR0911 - a table
    """Return the problem of a query that the database was there for, and refused; None for any other error."""
    match error:
        case asyncpg.PostgresError(sqlstate=str(code)) if code in _REFUSALS:
            return Problem(_REFUSALS[code], _sentence(error))
        case asyncpg.UndefinedFunctionError() | asyncpg.UndefinedTableError():
            return _not_ready()
        case asyncpg.InsufficientPrivilegeError():
            return Problem(Kind.FORBIDDEN, f"the database refuses: {error}")
        case asyncpg.UniqueViolationError():
            return Problem(Kind.CONFLICT, f"there is one already: {error}")
        case asyncpg.DataError() | asyncpg.CheckViolationError():
            said = _sentence(error)
            hinted = bool(getattr(error, "hint", None))
            return Problem(Kind.INVALID_REQUEST, said if hinted else f"the database cannot take it: {said}")
        case asyncpg.InterfaceError() if isinstance(error, ValueError):  # before anything is sent
            return Problem(Kind.INVALID_REQUEST, f"the database cannot take it: {error}")
        case asyncpg.QueryCanceledError():
            detail = (
                f"it took longer than {_ANSWER_SECONDS:g} s; ask for less: a shorter range, longer intervals, "
                "fewer streams"
            )
            return Problem(Kind.TOO_MUCH, detail, headers={"Retry-After": "10"})
        case _:
            return None


def _away(reason: str) -> Problem:
    return Problem(
        Kind.DATABASE_AWAY, f"the database does not answer: {reason}; try again", headers={"Retry-After": "1"}
    )


def _not_ready() -> Problem:
    return Problem(
        Kind.DATABASE_NOT_READY,
        "the database has no tables of Crossfade; apply supabase/migrations",
        headers={"Retry-After": "5"},
    )
