"""Seed files fill a new database, once, and are recorded as the Supabase CLI records them."""

import asyncio
import hashlib

import asyncpg
import pytest

from embedded.errors import SeedFailed
from embedded.migrations import apply_migrations
from embedded.seeds import Seeds, apply_seeds, find_seeds

RECORDED = "select path, hash from supabase_migrations.seed_files order by path"


@pytest.fixture
async def project(database, tmp_path):
    """A project with a table, migrated."""
    migrations = tmp_path / "supabase" / "migrations"
    migrations.mkdir(parents=True)
    (migrations / "20260101000000_towns.sql").write_text(
        "create table towns (id int primary key, name text);"
    )
    await apply_migrations(database, migrations)
    return tmp_path / "supabase"


async def towns(database):
    return [row["name"] for row in await database.fetch("select name from towns order by id")]


async def test_a_database_is_seeded_once(database, project, monkeypatch):
    monkeypatch.chdir(project.parent)
    text = "begin;\ninsert into towns values (1, 'a;b'), (2, 'ü');\ncommit;\nset search_path to 'nowhere';\n"
    (project / "seed.sql").write_text(text)
    assert await apply_seeds(database, find_seeds(project)) == ["seed.sql"]
    assert await towns(database) == ["a;b", "ü"]
    recorded = [tuple(row) for row in await database.fetch(RECORDED)]
    assert recorded == [("supabase/seed.sql", hashlib.sha256(text.encode()).hexdigest())]
    (project / "seed.sql").write_text("insert into towns values (3, 'later');")
    assert await apply_seeds(database, find_seeds(project)) == []
    assert await towns(database) == ["a;b", "ü"]


async def test_a_failing_statement_is_said_with_its_line_and_nothing_is_left(database, project):
    first, second = project / "1.sql", project / "2.sql"
    first.write_text("insert into towns values (1, 'a');")
    second.write_text("insert into towns values (2, 'b');\n\ninsert into towns\n  values (1, 'again');")
    seeds = Seeds((first, second))
    with pytest.raises(SeedFailed, match=r"2\.sql:3: duplicate key.*Nothing was seeded"):
        await apply_seeds(database, seeds)
    assert await towns(database) == []
    second.write_text("insert into towns values (2, 'b');")
    assert await apply_seeds(database, seeds) == ["1.sql", "2.sql"]
    assert await towns(database) == ["a", "b"]


async def test_a_file_that_cannot_be_read_is_named(database, project):
    (project / "seed.sql").write_bytes(b"select '\xff';")
    with pytest.raises(SeedFailed, match=r"seed\.sql:1: the file cannot be read"):
        await apply_seeds(database, find_seeds(project))


async def test_two_that_start_at_once_seed_once(database, shared_postgres, project):
    (project / "seed.sql").write_text("insert into towns values (1, 'a');")
    name = await database.fetchval("select current_database()")
    other = await asyncpg.connect(shared_postgres.dsn(database=name))
    try:
        done = await asyncio.gather(*(apply_seeds(c, find_seeds(project)) for c in (database, other)))
    finally:
        await other.close()
    assert sorted(done) == [[], ["seed.sql"]]
    assert await towns(database) == ["a"]
