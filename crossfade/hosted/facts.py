"""What a database says of itself: all that decides whether Crossfade can be installed there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg

from adapters.errors import DATABASE_AWAY
from crossfade.errors import CrossfadeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

ROLES = ("anon", "authenticated", "service_role")
FUNCTIONS = (
    "auth.jwt()",
    "realtime.topic()",
    "realtime.send(jsonb,text,text,boolean)",
)
PUBLICATION = "supabase_realtime"
_CONNECT_SECONDS = 10
_TRANSACTION_POOLER_PORT = 6543
"""Where Supabase's pooler gives a connection for a transaction, not for a session."""

_FACTS = """
select
  pg_catalog.current_setting('server_version_num')::int / 10000 as version,
  pg_catalog.current_database() as database,
  current_user as "user",
  pg_catalog.current_setting('wal_level') as wal_level,
  pg_catalog.has_schema_privilege('public', 'CREATE') as may_create,
  array(select name from pg_catalog.unnest($1::text[]) name
        where not exists (select from pg_catalog.pg_roles where rolname = name)) as missing_roles,
  array(select name from pg_catalog.unnest($2::text[]) name
        where pg_catalog.to_regprocedure(name) is null) as missing_functions,
  exists (select from pg_catalog.pg_publication where pubname = $3) as publication,
  coalesce((select pg_catalog.pg_has_role(pubowner, 'USAGE')
            from pg_catalog.pg_publication where pubname = $3), false) as may_publish,
  coalesce((select puballtables from pg_catalog.pg_publication where pubname = $3), false) as publishes_all,
  coalesce((select pg_catalog.pg_has_role(relowner, 'USAGE') from pg_catalog.pg_class
            where oid = pg_catalog.to_regclass('realtime.messages')), false) as may_police,
  pg_catalog.to_regclass('realtime.messages') is not null as messages,
  (select rolbypassrls or rolsuper from pg_catalog.pg_roles where rolname = current_user) as bypasses_rls,
  (select pg_catalog.count(*) from pg_catalog.pg_class
   where relnamespace = 'public'::pg_catalog.regnamespace and relkind in ('r', 'p') and relname ^@ 'cf_')::int as tables
"""
_HISTORY = "select pg_catalog.to_regclass('supabase_migrations.schema_migrations') is not null"


@dataclass(frozen=True, slots=True)
class Facts:
    """A database as it was found. ``applied`` are the versions of the migrations that are recorded there."""

    version: int
    database: str
    user: str
    wal_level: str
    may_create: bool
    missing_roles: tuple[str, ...]
    missing_functions: tuple[str, ...]
    publication: bool
    may_publish: bool
    publishes_all: bool
    messages: bool
    may_police: bool
    bypasses_rls: bool
    tables: int
    """Tables of Crossfade's that are there."""
    applied: frozenset[str]
    session: bool
    """Whether a connection keeps its session between two transactions."""


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect to a database for the length of the block.

    Raises CrossfadeError that names what to correct and never shows the password.
    """
    connection = await _connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def _connect(url: str) -> asyncpg.Connection:
    at = urlsplit(url)
    place = f"{at.hostname or 'the local socket'}:{at.port or 5432}"
    try:
        return await asyncpg.connect(url, timeout=_CONNECT_SECONDS, statement_cache_size=0)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise CrossfadeError(
            f"DATABASE_URL: the database at {place} refuses the user or the password: {_line(error)}; correct it, the "
            "password is on the project's database settings page"
        ) from None
    except asyncpg.InvalidCatalogNameError as error:
        raise CrossfadeError(
            f"DATABASE_URL: {_line(error)} at {place}; a project's is called postgres"
        ) from None
    except TimeoutError:
        raise CrossfadeError(
            f"DATABASE_URL: no answer from {place} within {_CONNECT_SECONDS} s; a project's direct address is IPv6 only, its "
            "session pooler (port 5432) has IPv4 too"
        ) from None
    except (*DATABASE_AWAY, ValueError) as error:
        raise CrossfadeError(f"DATABASE_URL: {place} cannot be reached: {_line(error)}") from None


async def find(connection: asyncpg.Connection, url: str) -> Facts:
    """Ask the database at a URL for its facts; raises CrossfadeError when it may not even be asked."""
    try:
        row = await connection.fetchrow(_FACTS, ROLES, FUNCTIONS, PUBLICATION)
        versions: Sequence[str] = ()
        if await connection.fetchval(_HISTORY):
            rows = await connection.fetch("select version from supabase_migrations.schema_migrations")
            versions = [row["version"] for row in rows]
    except asyncpg.PostgresError as error:
        raise CrossfadeError(
            f"the database does not let itself be looked at: {_line(error)}; DATABASE_URL has to be its owner's, which is "
            "postgres on Supabase"
        ) from None
    assert row is not None  # noqa: S101 - a select without a table has one row
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
    }
    return Facts(**known, applied=frozenset(versions), session=await _keeps_session(connection, url))


async def _keeps_session(connection: asyncpg.Connection, url: str) -> bool:
    """Whether the connection is one session: a pooler that gives out connections by the transaction is none."""
    if urlsplit(url).port == _TRANSACTION_POOLER_PORT:
        return False
    await connection.execute("select pg_catalog.set_config('crossfade.session', 'kept', false)")
    kept = await connection.fetchval("select pg_catalog.current_setting('crossfade.session', true)")
    return bool(kept == "kept")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
