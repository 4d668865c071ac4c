"""A PostgreSQL with the project's tables, for as long as a fixture needs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from embedded.migrations import apply_migrations
from embedded.postgres import Postgres

_MIGRATIONS = Path(__file__).parent.parent / "supabase" / "migrations"


@contextlib.contextmanager
def migrated_postgres(directory: Path) -> Iterator[Postgres]:
    """Start one in a directory and migrate it; of it nothing is left."""
    postgres = Postgres(directory, port=0, durable=False)
    postgres.prepare()
    postgres.start()

    async def migrate() -> None:
        connection = await asyncpg.connect(postgres.dsn())
        try:
            await apply_migrations(connection, _MIGRATIONS)
        finally:
            await connection.close()

    try:
        asyncio.run(migrate())
        yield postgres
    finally:
        postgres.stop()
        postgres.remove()
