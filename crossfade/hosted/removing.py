"""Moving out: everything of ours in a database, found by name, taken away in one transaction, nothing of anybody else's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from crossfade.errors import CrossfadeError

if TYPE_CHECKING:
    from collections.abc import Sequence

_OURS = """
select kind, name from (
  select 1 as place, 'policy' as kind, pg_catalog.format('%I on %I.%I', polname, nspname, relname) as name
  from pg_catalog.pg_policy
  join pg_catalog.pg_class c on c.oid = polrelid join pg_catalog.pg_namespace n on n.oid = relnamespace
  where polname ^@ 'cf_' and (nspname = 'realtime' or nspname = 'public' and relname ^@ 'cf_')
  union all
  select 2, 'trigger', pg_catalog.format('%I on public.%I', tgname, relname)
  from pg_catalog.pg_trigger join pg_catalog.pg_class c on c.oid = tgrelid
  where relnamespace = 'public'::pg_catalog.regnamespace and relname ^@ 'cf_' and not tgisinternal and tgparentid = 0
  union all
  select 3, 'view', oid::pg_catalog.regclass::text
  from pg_catalog.pg_class
  where relnamespace = 'public'::pg_catalog.regnamespace and relname ^@ 'cf_' and relkind in ('v', 'm')
  union all
  select 4, case prokind when 'p' then 'procedure' else 'function' end, oid::pg_catalog.regprocedure::text
  from pg_catalog.pg_proc where pronamespace = 'public'::pg_catalog.regnamespace and proname ^@ 'cf_'
  union all
  select 5, 'table', oid::pg_catalog.regclass::text
  from pg_catalog.pg_class
  where relnamespace = 'public'::pg_catalog.regnamespace and relname ^@ 'cf_' and relkind in ('r', 'p')
    and not relispartition
  union all
  select 6, 'type', t.oid::pg_catalog.regtype::text
  from pg_catalog.pg_type t left join pg_catalog.pg_class c on c.oid = typrelid
  where typnamespace = 'public'::pg_catalog.regnamespace and typname ^@ 'cf_'
    and (typtype in ('e', 'd') or typtype = 'c' and relkind = 'c')
) as ours order by place, name
"""
_HOLDERS = """
select stream from public.cf_leases where expires_at > pg_catalog.clock_timestamp() and not released order by stream limit 3
"""
_LOCK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Thing:
    """Something of ours in a database: a ``kind`` as SQL calls it, and its name, quoted where it must be."""

    kind: str
    name: str


async def find(connection: asyncpg.Connection) -> list[Thing]:
    """Return all that is ours, in the order in which it can go."""
    return [Thing(row["kind"], row["name"]) for row in await connection.fetch(_OURS)]


async def writers(connection: asyncpg.Connection) -> list[str]:
    """Return up to three streams that somebody writes at this moment."""
    if not await connection.fetchval("select pg_catalog.to_regclass('public.cf_leases') is not null"):
        return []
    return [row["stream"] for row in await connection.fetch(_HOLDERS)]


async def remove(connection: asyncpg.Connection, things: Sequence[Thing], versions: Sequence[str]) -> None:
    """Drop the things and forget the migrations of ``versions``, all or nothing.

    Raises CrossfadeError when something of somebody else's depends on them, or a table stays locked.
    """
    try:
        async with connection.transaction():
            await connection.execute(f"set local lock_timeout = '{_LOCK_SECONDS}s'")
            for statement in _statements(things):
                await connection.execute(statement)
            if await connection.fetchval(
                "select pg_catalog.to_regclass('supabase_migrations.schema_migrations') is not null"
            ):
                await connection.execute(
                    "delete from supabase_migrations.schema_migrations where version = any ($1)",
                    list(versions),
                )
    except asyncpg.DependentObjectsStillExistError as error:
        raise CrossfadeError(
            f"nothing was removed: {error}; {' '.join(str(error.detail or '').split())}; drop what is yours of it first"
        ) from error
    except asyncpg.LockNotAvailableError as error:
        raise CrossfadeError(
            f"nothing was removed: a table is in use and stayed locked for {_LOCK_SECONDS} s; stop what uses it"
        ) from error
    except asyncpg.PostgresError as error:
        raise CrossfadeError(f"nothing was removed: {' '.join(str(error).split())}") from error


def _statements(things: Sequence[Thing]) -> list[str]:
    """Return the statements: those of one kind may need each other, so they go together where SQL can do that."""
    statements = [
        f"drop {thing.kind} {thing.name}" for thing in things if thing.kind in {"policy", "trigger"}
    ]
    together = {
        kind: ", ".join(thing.name for thing in things if thing.kind == kind)
        for kind in ("view", "function", "procedure", "table", "type")
    }
    return statements + [f"drop {kind} {names}" for kind, names in together.items() if names]
