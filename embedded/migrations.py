"""Applies bootstrap.sql and a project's migrations, recorded the way the Supabase CLI records them.

The CLI keeps ``supabase_migrations.schema_migrations``; a database that one of the two migrated, the other one takes
over where it stands.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from embedded.errors import BadMigrationName, MigrationError, MigrationFailed
from embedded.postgres_cluster import BOOTSTRAP_FILE
from embedded.sql_statements import Statement, split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

_FILE_NAME = re.compile(r"(?P<version>[0-9]+)_(?P<name>.+)\.sql")
_LOCK_KEY = 0x63665F6D69677261  # "cf_migra": one migrator at a time
_HISTORY = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
  version text not null primary key, statements text[], name text
);
alter table supabase_migrations.schema_migrations add column if not exists statements text[];
alter table supabase_migrations.schema_migrations add column if not exists name text;
"""
_RECORD = "insert into supabase_migrations.schema_migrations (version, statements, name) values ($1, $2, $3)"
_EXTENSION_HINT = "the embedded PostgreSQL does not have this extension; gen_random_uuid() and uuid_generate_v4() are there without"
_EXTENSION_STATES = frozenset({"0A000", "58P01"})


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration file."""

    version: str
    name: str
    file: Path


async def apply_bootstrap(conn: asyncpg.Connection) -> None:
    """Bring a database to what every Supabase project has; for databases not made by Postgres.prepare(). Idempotent.

    ``conn`` must be a superuser's. Raises MigrationFailed.
    """
    async with conn.transaction():
        await execute(conn, BOOTSTRAP_FILE, BOOTSTRAP_FILE.read_text("utf-8"))


def find_migrations(paths: Iterable[Path]) -> list[Migration]:
    """Return the migrations among ``paths``, in the order of their versions. Pure.

    Files that do not end in ``.sql`` and hidden ones are not migrations. Raises BadMigrationName.
    """
    found: dict[str, Migration] = {}
    for path in sorted(paths, key=lambda path: path.name):
        if path.suffix != ".sql" or path.name.startswith("."):
            continue
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise BadMigrationName(path, "is not named <version>_<name>.sql")
        version = match["version"]
        if version in found:
            raise BadMigrationName(path, f"has the same version as {found[version].file.name}")
        found[version] = Migration(version, match["name"], path)
    return list(found.values())


async def apply_migrations(conn: asyncpg.Connection, directory: Path) -> list[str]:
    """Apply what is in ``directory`` and not yet recorded, in order; return the names of the files applied now.

    Each file is one transaction together with its record; ``begin`` and ``commit`` inside it are passed over. Two
    callers at once take turns. Raises BadMigrationName before anything is applied, MigrationFailed, MigrationError.
    """
    try:
        migrations = find_migrations(directory.iterdir())  # noqa: ASYNC240 - a directory of a few files, at start-up
    except OSError as error:
        raise MigrationError(
            f"The migrations in {directory} cannot be read: {error.strerror or error}."
        ) from error
    async with alone(conn):
        await conn.execute(_HISTORY)
        rows = await conn.fetch("select version from supabase_migrations.schema_migrations")
        recorded = {row["version"] for row in rows}
        applied = []
        for migration in migrations:
            if migration.version not in recorded:
                await _apply(conn, migration)
                applied.append(migration.file.name)
        return applied


@contextlib.asynccontextmanager
async def alone(conn: asyncpg.Connection) -> AsyncIterator[None]:
    """Let nobody else migrate or seed the database meanwhile."""
    await conn.execute("select pg_advisory_lock($1)", _LOCK_KEY)
    try:
        yield
    finally:
        await conn.execute("select pg_advisory_unlock($1)", _LOCK_KEY)


async def _apply(conn: asyncpg.Connection, migration: Migration) -> None:
    try:
        sql = migration.file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MigrationFailed(migration.file, 1, f"the file cannot be read: {error}") from error
    async with conn.transaction():
        statements = await execute(conn, migration.file, sql)
        await conn.execute("reset role")
        await conn.execute(_RECORD, migration.version, statements, migration.name)
    await conn.execute("reset all")  # what one file sets for its session is not the next one's


async def execute(
    conn: asyncpg.Connection, file: Path, sql: str, *, failed: type[MigrationFailed] = MigrationFailed
) -> list[str]:
    """Run the statements of one file and return them; the caller has begun a transaction. Raises `failed`."""
    executed = []
    for statement in split(sql):
        if _is_transaction_control(statement, file, failed):
            continue
        try:
            await conn.execute(statement.text)
        except asyncpg.PostgresError as error:
            raise _failure(file, statement, error, failed) from error
        executed.append(statement.text)
    return executed


def _is_transaction_control(statement: Statement, file: Path, failed: type[MigrationFailed]) -> bool:
    words = statement.first_words
    if words[:1] in (("begin",), ("commit",), ("end",)) or words[:2] == ("start", "transaction"):
        return True
    if words[:1] in (("rollback",), ("abort",)) and "to" not in words:
        raise failed(file, statement.line, "such a file cannot roll itself back", "remove the statement")
    return False


def _failure(
    file: Path, statement: Statement, error: asyncpg.PostgresError, failed: type[MigrationFailed]
) -> MigrationFailed:
    """Say where it failed: PostgreSQL counts characters from the statement's beginning, or says nothing."""
    position = getattr(error, "position", None)
    line = statement.line
    if position and str(position).isdigit():
        line += statement.text.count("\n", 0, int(position) - 1)
    hint = getattr(error, "hint", None) or getattr(error, "detail", None)
    if error.sqlstate in _EXTENSION_STATES and "extension" in statement.first_words:
        hint = _EXTENSION_HINT
    return failed(file, line, getattr(error, "message", None) or str(error), hint)
