"""The shell around PostgreSQL: a pool, one transaction per request, and a schema cache kept up to date."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import orjson

from embedded.rest import errors
from embedded.rest.responses import Outcome
from embedded.rest.schema import CATALOG_QUERY, EMPTY_CACHE, SchemaCache, build_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from embedded.rest.auth import Caller
    from embedded.rest.responses import Answer
    from embedded.rest.statements import Statement

_logger = logging.getLogger(__name__)

_CHANNEL: Final = "pgrst"
_CONNECT_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 2.0
_RECONNECT_SECONDS: Final = 0.5
_HEALTH_SECONDS: Final = 2.0
_REFRESH_INTERVAL_SECONDS: Final = 0.5
_STATEMENT_CACHE_SIZE: Final = 256

# What PostgreSQL says, or what becomes of the socket, when the server is away or going away.
AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
# A name was resolved by an old cache: a newer one may give another statement.
_MAYBE_STALE: Final = frozenset({"42P01", "42703", "42704", "42883", "42804", "42725", "3F000"})


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """Where PostgreSQL is and what of it is exposed; `schemas` has the default one first."""

    host: str
    port: int
    database: str = "postgres"
    user: str = "authenticator"
    password: str | None = None
    schemas: tuple[str, ...] = ("public",)
    extra_search_path: tuple[str, ...] = ("public", "extensions")
    pool_size: int = 10
    acquire_timeout_seconds: float = 10.0

    def connect_arguments(self) -> dict[str, Any]:
        """Return the arguments of `asyncpg.connect`."""
        return {
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "user": self.user,
            "password": self.password,
            "timeout": _CONNECT_SECONDS,
            "ssl": False,
            "server_settings": {"application_name": "embedded_rest"},
        }


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What a transaction is told about its request."""

    caller: Caller
    schema: str
    method: str
    path: str
    headers: str
    cookies: str


class _Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg has no types
    """A connection that is not reset between requests: all that a request sets ends with its transaction."""

    def get_reset_query(self) -> str:
        return ""


class Database:
    """Runs statements as the caller's role; keeps the schema cache.

    Use as an async context manager, and run `listen` as a task of the owner's.
    """

    def __init__(self, options: DatabaseOptions) -> None:
        self._options = options
        self._pool: Any = None
        self._cache = EMPTY_CACHE
        self._refreshing = asyncio.Lock()
        self._refreshed_at = float("-inf")

    @property
    def cache(self) -> SchemaCache:
        """Return the newest schema cache."""
        return self._cache

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            **self._options.connect_arguments(),
            min_size=0,
            max_size=self._options.pool_size,
            connection_class=_Connection,
            statement_cache_size=_STATEMENT_CACHE_SIZE,
            init=_pass_json_through,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        pool, self._pool = self._pool, None
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    # -- requests --------------------------------------------------------------------------------------

    async def run(
        self, context: RequestContext, statement: Statement, finish: Callable[[Outcome], Answer]
    ) -> Answer:
        """Run a statement in a transaction of its own and return what `finish` makes of its row.

        `finish` is called before the commit, so that an error it raises undoes everything. Raises `RestError`;
        `StaleStatement` when a newer schema cache may help.
        """
        for attempt in (1, 2):
            progress = _Progress()
            try:
                return await self._transaction(context, statement, finish, progress)
            except (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError) as error:
                # asyncpg has dropped what it had cached; nothing was executed
                if attempt == 2:  # noqa: PLR2004 - the second of two
                    raise self._translated(error, context) from error
            except asyncpg.DataError as error:
                raise self._translated(error, context) from error
            except AWAY as error:
                if progress.connected and not progress.sent and attempt == 1:
                    continue  # a pooled connection had died unnoticed; nothing was executed
                raise errors.DatabaseAway(_one_line(error)) from error
            except asyncpg.PostgresError as error:
                raise self._translated(error, context) from error
        raise errors.DatabaseAway("the connection was lost twice")

    async def _transaction(
        self,
        context: RequestContext,
        statement: Statement,
        finish: Callable[[Outcome], Answer],
        progress: _Progress,
    ) -> Answer:
        settings = self._settings(context)
        pairs = ", ".join(
            f"pg_catalog.set_config(${at}, ${at + 1}, true)" for at in range(1, len(settings), 2)
        )
        try:
            connection = await self._pool.acquire(timeout=self._options.acquire_timeout_seconds)
        except TimeoutError:
            raise errors.pool_exhausted() from None
        progress.connected = True
        try:
            async with connection.transaction(readonly=statement.read_only):
                await connection.execute(f"SELECT {pairs}", *settings)
                progress.sent = True
                row = await connection.fetchrow(statement.sql, *statement.parameters)
                return finish(Outcome(*row))
        finally:
            await self._pool.release(connection, timeout=_CLOSE_SECONDS)

    def _settings(self, context: RequestContext) -> list[str]:
        """Return names and values of the transaction's settings, the role's own ones first (PreQuery.hs)."""
        caller = context.caller
        path = dict.fromkeys((context.schema, *self._options.extra_search_path))
        settings = {
            **self._cache.role_settings.get(caller.role, {}),
            "search_path": ", ".join('"' + name.replace('"', '""') + '"' for name in path),
            "role": caller.role,
            "request.jwt.claims": caller.claims,
            "request.method": context.method,
            "request.path": context.path,
            "request.headers": context.headers,
            "request.cookies": context.cookies,
        }
        return [text for pair in settings.items() for text in pair]

    @staticmethod
    def _translated(
        error: asyncpg.PostgresError | asyncpg.DataError, context: RequestContext
    ) -> errors.RestError:
        report = errors.DatabaseReport(
            getattr(error, "sqlstate", None) or "22P02",
            getattr(error, "message", None) or _one_line(error),
            getattr(error, "detail", None),
            getattr(error, "hint", None),
        )
        answer = errors.from_database(report, anonymous=context.caller.anonymous)
        return errors.StaleStatement(answer) if report.sqlstate in _MAYBE_STALE else answer

    # -- schema cache ------------------------------------------------------------------------------------

    async def refresh(self, seen: SchemaCache, *, wait: bool = True) -> bool:
        """Read the catalog unless somebody has since `seen`; return whether there is a newer cache now.

        Reads are at least half a second apart: with `wait` the caller waits for its turn (together with all the
        others), without it gives up at once. An unreachable database leaves the old cache.
        """
        async with self._refreshing:
            if self._cache is not seen:
                return True
            pause = self._refreshed_at + _REFRESH_INTERVAL_SECONDS - time.monotonic()
            if pause > 0:
                if not wait:
                    return False
                await asyncio.sleep(pause)
            self._refreshed_at = time.monotonic()
            try:
                await self._read_catalog()
            except AWAY as error:
                raise errors.DatabaseAway(_one_line(error)) from error
            return True

    async def _read_catalog(self) -> None:
        options = self._options
        async with self._pool.acquire(timeout=options.acquire_timeout_seconds) as connection:
            document = await connection.fetchval(
                CATALOG_QUERY, list(options.schemas), list(options.extra_search_path)
            )
        self._cache = build_cache(orjson.loads(document), (*options.schemas, *options.extra_search_path))

    async def listen(self) -> None:
        """Refresh the cache on `NOTIFY pgrst`, and after each reconnect, until cancelled."""
        said = False
        while True:
            try:
                await self._listen_once()
            except (*AWAY, asyncpg.PostgresError, errors.RestError) as error:
                if not said:
                    _logger.warning("REST has lost PostgreSQL and keeps trying: %s", _one_line(error))
                said = True
            else:
                said = False
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen_once(self) -> None:
        """Listen on a connection of its own until that is gone."""
        wake = asyncio.Event()

        def on_notify(_connection: object, _pid: int, _channel: str, payload: str) -> None:
            if payload in {"", "reload schema"}:
                wake.set()

        connection = await asyncpg.connect(**self._options.connect_arguments())
        try:
            connection.add_termination_listener(lambda _: wake.set())
            await connection.add_listener(_CHANNEL, on_notify)
            wake.set()  # whatever was changed before we listened
            while True:
                await wake.wait()
                wake.clear()
                if connection.is_closed():
                    return
                await self.refresh(self._cache)
        finally:
            connection.terminate()

    # -- health ------------------------------------------------------------------------------------------

    async def health(self) -> Mapping[str, object]:
        """Return whether PostgreSQL answers now, and what of it is exposed."""
        try:
            async with asyncio.timeout(_HEALTH_SECONDS), self._pool.acquire() as connection:
                await connection.fetchval("SELECT 1")
        except (*AWAY, asyncpg.PostgresError) as error:
            return {"status": "away", "reason": _one_line(error)}
        return {
            "status": "ok",
            "schemas": list(self._options.schemas),
            "relations": len(self._cache.relations),
            "functions": len(self._cache.functions),
        }


@dataclass(slots=True)
class _Progress:
    """How far a transaction got: what was not sent can be tried again."""

    connected: bool = False
    sent: bool = False


async def _pass_json_through(connection: Any) -> None:
    """Exchange JSON with PostgreSQL as bytes, neither parsed nor decoded."""
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary"
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
