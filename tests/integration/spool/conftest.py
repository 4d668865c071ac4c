"""A real PostgreSQL with Crossfade's tables; each test gets a database of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from adapters.spool import Spool
from embedded.migrations import apply_bootstrap, apply_migrations
from embedded.postgres import Postgres

MIGRATIONS = Path(__file__).parents[3] / "supabase" / "migrations"

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("pg"), port=0, durable=False)
    server.start()
    try:
        asyncio.run(_migrate(server))
        yield server
    finally:
        server.remove()


async def _migrate(server: Postgres) -> None:
    connection = await asyncpg.connect(server.dsn())
    await connection.execute("create database crossfade")
    await connection.close()
    connection = await asyncpg.connect(server.dsn(database="crossfade"))
    await apply_bootstrap(connection)
    await apply_migrations(connection, MIGRATIONS)
    await connection.close()


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database, its address, and a connection to look into it."""

    server: Postgres
    name: str
    url: str
    connection: Any

    async def rows(self, stream: str) -> list[tuple[int, int, str]]:
        """Return (epoch, seq, kind) of a stream in the feed, in order."""
        found = await self.connection.fetch(
            "select epoch, seq, kind from public.cf_events where stream = $1 order by epoch, seq", stream
        )
        return [tuple(row) for row in found]


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[Database]:
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute(f"create database {name} template crossfade")
    connection = await asyncpg.connect(postgres.dsn(database=name))
    try:
        yield Database(postgres, name, postgres.url(database=name), connection)
    finally:
        await connection.close()
        await admin.execute(f"drop database {name} with (force)")
        await admin.close()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool.open(tmp_path / "spool.db") as opened:
        opened.set_enabled("legacy", enabled=False)
        yield opened
