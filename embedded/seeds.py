"""Fills a new database from a project's seed files, once, and records it the way the Supabase CLI does.

The CLI seeds on the first start, after the migrations, and keeps ``supabase_migrations.seed_files``. Which files those
are, ``supabase/config.toml`` says (``[db.seed]`` with ``enabled`` and ``sql_paths``); without it, ``supabase/seed.sql``.
"""

from __future__ import annotations

import glob
import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedded.errors import BadConfiguration, SeedFailed
from embedded.migrations import alone, execute

if TYPE_CHECKING:
    import asyncpg

CONFIGURATION = "config.toml"
_DEFAULT = "./seed.sql"
_TABLE = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.seed_files (path text not null primary key, hash text not null);
"""
_RECORD = "insert into supabase_migrations.seed_files (path, hash) values ($1, $2)"


@dataclass(frozen=True, slots=True)
class Seeds:
    """The files that a project wants to be seeded from, in order, and the patterns of its own that match none."""

    files: tuple[Path, ...]
    unmatched: tuple[str, ...] = ()


def find_seeds(project: Path) -> Seeds:
    """Return the seed files of a project's ``supabase`` directory. Raises BadConfiguration."""
    patterns = _patterns(project / CONFIGURATION)
    found: dict[Path, None] = {}
    unmatched = []
    for pattern in patterns:
        matches = sorted(glob.glob(pattern, root_dir=project, recursive=True))  # noqa: PTH207  # takes absolute ones too
        files = [project / match for match in matches if (project / match).is_file()]
        found.update(dict.fromkeys(files))
        if not files and pattern != _DEFAULT:  # config.toml names that one whether there is one or not
            unmatched.append(pattern)
    return Seeds(tuple(found), tuple(unmatched))


def _patterns(configuration: Path) -> list[str]:
    try:
        said = tomllib.loads(configuration.read_text("utf-8-sig"))
    except FileNotFoundError:
        return [_DEFAULT]
    except (OSError, ValueError) as error:  # not readable, not UTF-8, not TOML
        raise BadConfiguration(configuration, str(error)) from error
    database = said.get("db", {})
    seed = database.get("seed", {}) if isinstance(database, dict) else {}
    if not isinstance(seed, dict):
        raise BadConfiguration(configuration, "[db.seed] is not a table")
    patterns = seed.get("sql_paths", [_DEFAULT])
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise BadConfiguration(configuration, "sql_paths of [db.seed] is not a list of paths")
    return patterns if seed.get("enabled", True) else []


async def apply_seeds(conn: asyncpg.Connection, seeds: Seeds) -> list[str]:
    """Run the seed files unless the database was seeded before; return the names of the files run now.

    All of them are one transaction, so that after an error a corrected file begins again. Callers take turns with
    migrators. Raises SeedFailed.
    """
    if not seeds.files:
        return []
    async with alone(conn):
        await conn.execute(_TABLE)
        if await conn.fetchval("select exists (select from supabase_migrations.seed_files)"):
            return []
        async with conn.transaction():
            for file in seeds.files:
                await _apply(conn, file)
        await conn.execute("reset all")
    return [file.name for file in seeds.files]


async def _apply(conn: asyncpg.Connection, file: Path) -> None:
    text, digest = _read(file)
    await execute(conn, file, text, failed=SeedFailed)
    await conn.execute("reset role")
    await conn.execute(_RECORD, _named(file), digest)


def _read(file: Path) -> tuple[str, str]:
    try:
        content = file.read_bytes()
        return content.decode("utf-8-sig"), hashlib.sha256(content).hexdigest()
    except (OSError, UnicodeDecodeError) as error:
        raise SeedFailed(file, 1, f"the file cannot be read: {error}") from error


def _named(file: Path) -> str:
    """Return a file's name as the CLI has it, from the directory that has ``supabase`` in it."""
    try:
        return file.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return file.as_posix()
