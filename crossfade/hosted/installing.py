"""Moving in: the migrations, and the proof that what they made works, by doing it."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg

from crossfade import packaged
from crossfade.errors import CrossfadeError
from embedded.errors import EmbeddedError
from embedded.migrations import apply_migrations, find_migrations

if TYPE_CHECKING:
    from embedded.migrations import Migration

_STREAM = "crossfade-init/probe"
_READER = json.dumps(
    {"role": "authenticated", "sub": str(uuid.UUID(int=0)), "app_metadata": {"crossfade_role": "viewer"}}
)
_STRANGER = json.dumps({"role": "authenticated", "sub": str(uuid.UUID(int=0)), "app_metadata": {}})


def ours() -> list[Migration]:
    """Return the migrations that come with this version, in order."""
    return find_migrations(packaged.migrations().iterdir())


async def install(connection: asyncpg.Connection) -> list[str]:
    """Apply what is missing and return the names of the files; each is a transaction. Raises CrossfadeError."""
    try:
        return await apply_migrations(connection, packaged.migrations())
    except EmbeddedError as error:
        raise CrossfadeError(
            f"{error} Files before it are applied and recorded; correct it and run this again."
        ) from error


async def prove(connection: asyncpg.Connection) -> str:
    """Write an event and read it as a viewer would, as a stranger and as nobody; nothing of it stays.

    Returns what was seen in a few words; raises CrossfadeError that says which of it failed.
    """
    trial = connection.transaction()
    await trial.start()
    try:
        await _write(connection)
        seen = {
            who: await _count(connection, role, claims)
            for who, role, claims in (
                ("a viewer", "authenticated", _READER),
                ("a user without a role", "authenticated", _STRANGER),
                ("nobody", "anon", "{}"),
            )
        }
    except asyncpg.PostgresError as error:
        raise CrossfadeError(
            f"the tables are there and do not work: {' '.join(str(error).split())}; crossfade doctor shows what is missing"
        ) from error
    finally:
        await trial.rollback()
    if seen != {"a viewer": 1, "a user without a role": 0, "nobody": 0}:
        told = ", ".join(f"{who} sees {count}" for who, count in seen.items())
        raise CrossfadeError(
            f"row level security does not hold: of one event {told}; look at the policies and grants of cf_events"
        )
    return "an event was written, read by a viewer, and hidden from everybody else"


async def _write(connection: asyncpg.Connection) -> None:
    owner = uuid.uuid4()
    lease = json.loads(
        await connection.fetchval("select public.cf_acquire_lease($1, $2)::text", _STREAM, owner)
    )
    event = {
        "stream": _STREAM, "epoch": lease["epoch"], "seq": 1, "id": str(uuid.uuid4()), "kind": "stream_opened",
        "metric_type": "probe", "occurred_at": datetime.now(UTC).isoformat(), "payload": {},
    }  # fmt: skip
    await connection.fetchval("select public.cf_append($1, $2::jsonb)", owner, json.dumps([event]))


async def _count(connection: asyncpg.Connection, role: str, claims: str) -> int:
    """Return how many of the trial's events a role sees; one that is refused sees none."""
    inner = connection.transaction()
    await inner.start()
    try:
        await connection.execute(f"set local role {role}")
        await connection.execute("select pg_catalog.set_config('request.jwt.claims', $1, true)", claims)
        return int(
            await connection.fetchval("select count(*) from public.cf_events where stream = $1", _STREAM)
        )
    except asyncpg.InsufficientPrivilegeError:
        return 0
    finally:
        await inner.rollback()
