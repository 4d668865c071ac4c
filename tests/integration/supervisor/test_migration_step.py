"""The step that applies migrations, while another session is in its way."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import asyncpg
import pytest

from crossfade import parts
from crossfade.errors import CrossfadeError
from crossfade.paths import DataDir
from crossfade.plan import Addresses, Plan
from crossfade.settings import Settings
from crossfade.supervisor.supervisor import Step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from embedded.postgres import Postgres
    from tests.conftest import EmbeddedSupabase

NAME = "29990101000000_step.sql"
HISTORY = "select 1 from supabase_migrations.schema_migrations where version = '29990101000000'"


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """Return a directory with one migration, which needs the table ``step_locked`` for itself."""
    directory = tmp_path / "migrations"
    directory.mkdir()
    (directory / NAME).write_text("select 1;\nalter table step_locked add column more int;\n")
    return directory


@contextlib.asynccontextmanager
async def locked(postgres: Postgres) -> AsyncIterator[asyncpg.Connection]:
    """Hold the table as a person in the middle of a transaction does."""
    connection = await asyncpg.connect(postgres.dsn())
    await connection.execute("create table if not exists step_locked (id int)")
    try:
        async with connection.transaction():
            await connection.execute("lock table step_locked in access share mode")
            yield connection
    finally:
        await connection.execute("drop table step_locked")
        await connection.close()


async def waits_for_the_lock(postgres: Postgres) -> None:
    """Wait until somebody waits for the table."""
    watching = await asyncpg.connect(postgres.dsn())
    try:
        async with asyncio.timeout(20):
            while not await watching.fetchval(
                "select 1 from pg_locks where relation = 'step_locked'::regclass and not granted"
            ):
                await asyncio.sleep(0.02)
    finally:
        await watching.close()


def migrating(postgres: Postgres, directory: Path) -> Step:
    """Return the step of a plan on a running PostgreSQL."""
    plan = Plan(
        data=DataDir.of(postgres.data_dir),
        addresses=Addresses("127.0.0.1", 1, postgres.port, 5, 3, 4),
        settings=Settings(_env_file=None),
        parts=("migrations",),
        flags=directory / "flags.yaml",
        migrations=(directory,),
    )
    return parts._migrations(plan, postgres)


async def test_a_lock_that_is_not_given_up_is_said_with_the_statement_and_what_to_do(
    embedded_supabase: EmbeddedSupabase, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_LOCK_SECONDS", 1)
    postgres = embedded_supabase.postgres
    async with locked(postgres) as connection:
        with pytest.raises(CrossfadeError, match=rf"{NAME}:2: waited 1 s for a lock .* end that session"):
            await migrating(postgres, migrations).run()
        assert await connection.fetchval(HISTORY) is None


async def test_a_migration_that_waits_ends_when_it_is_cancelled(
    embedded_supabase: EmbeddedSupabase, migrations: Path
) -> None:
    postgres = embedded_supabase.postgres
    async with locked(postgres) as connection:
        applying = asyncio.ensure_future(migrating(postgres, migrations).run())
        await waits_for_the_lock(postgres)
        applying.cancel()
        async with asyncio.timeout(3):
            with pytest.raises(asyncio.CancelledError):
                await applying
        assert await connection.fetchval(HISTORY) is None
