"""What every Supabase project has, and the migrations on top of it."""

import json

import asyncpg
import pytest

from embedded.errors import BadMigrationName, MigrationFailed
from embedded.migrations import apply_bootstrap, apply_migrations

USER = "11111111-1111-4111-8111-111111111111"


async def test_the_api_roles_are_as_in_a_supabase_project(database):
    rows = await database.fetch("select rolname, rolcanlogin, rolbypassrls, rolinherit from pg_roles")
    roles = {row["rolname"]: tuple(row)[1:] for row in rows}
    assert roles["anon"] == roles["authenticated"] == (False, False, False)
    assert roles["service_role"] == (False, True, False)
    assert roles["authenticator"] == (True, False, False)
    assert "supabase_realtime_admin" in roles
    await database.execute("set session authorization authenticator")
    for role in ("anon", "authenticated", "service_role"):
        await database.execute(f"set role {role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.execute("set role postgres")


async def test_claims_decide_who_sees_what(database):
    await database.execute(
        """
        create table notes (id int primary key, owner uuid default auth.uid(), token uuid default uuid_generate_v4());
        alter table notes enable row level security;
        create policy own on notes to authenticated using (auth.uid() = owner);
        insert into notes values (1, '11111111-1111-4111-8111-111111111111'), (2, gen_random_uuid());
        create function double(n int) returns int language sql as 'select n * 2';
        """
    )
    claims = json.dumps({"sub": USER, "role": "authenticated", "email": "a@b.c", "app_metadata": {"x": 1}})
    for role, seen in (("authenticated", [1]), ("anon", []), ("service_role", [1, 2])):
        async with database.transaction():
            await database.execute("select set_config('request.jwt.claims', $1, true)", claims)
            await database.execute(f"set local role {role}")
            assert [row["id"] for row in await database.fetch("select id from notes order by id")] == seen
            assert await database.fetchval("select double(21)") == 42
            assert await database.fetchval("select auth.role()") == "authenticated"
            assert await database.fetchval("select auth.email()") == "a@b.c"
            assert json.loads(await database.fetchval("select auth.jwt()"))["app_metadata"] == {"x": 1}
    assert await database.fetchval("select auth.uid()") is None


async def test_bootstrap_can_be_repeated(database):
    await apply_bootstrap(database)
    await apply_bootstrap(database)
    assert (
        await database.fetchval("select count(*) from pg_publication where pubname = 'supabase_realtime'")
        == 1
    )


async def test_migrations_are_applied_once_and_recorded_like_the_cli(database, tmp_path):
    (tmp_path / "20260101000000_first.sql").write_text(
        "-- a table; and more\nbegin;\ncreate table a (id int);\n"
        "create function f() returns text language plpgsql as $$ begin return ';'; end $$;\ncommit;\n"
    )
    (tmp_path / "20260102000000_second_one.sql").write_text(
        "set search_path to ''; insert into public.a values (1);"
    )
    (tmp_path / "README.md").write_text("not a migration")
    assert await apply_migrations(database, tmp_path) == [
        "20260101000000_first.sql",
        "20260102000000_second_one.sql",
    ]
    assert await apply_migrations(database, tmp_path) == []
    rows = await database.fetch("select * from supabase_migrations.schema_migrations order by version")
    assert [(row["version"], row["name"], len(row["statements"])) for row in rows] == [
        ("20260101000000", "first", 2),
        ("20260102000000", "second_one", 2),
    ]
    assert await database.fetchval("select count(*) from a") == 1


@pytest.mark.parametrize(
    ("sql", "line", "says"),
    [
        ("create table b (id int);\n\nselect 1,\n  nope\nfrom b;", 4, 'column "nope" does not exist'),
        ("create table b (id int);\n\n/* c */ create table b (id int);", 3, 'relation "b" already exists'),
        ("create table b (id int);\nselec 1;", 2, "syntax error"),
        ("create table b (id int);\nrollback;", 2, "cannot roll itself back"),
        (
            "create table b (id int);\ncreate index concurrently on b (id);",
            2,
            "cannot run inside a transaction",
        ),
        ('create table b (id int);\ncreate extension "uuid-ossp";', 2, "does not have this extension"),
    ],
)
async def test_a_failing_migration_says_where_and_leaves_nothing(database, tmp_path, sql, line, says):
    (tmp_path / "1_good.sql").write_text("create table good (id int)")
    (tmp_path / "2_bad.sql").write_text(sql)
    with pytest.raises(MigrationFailed) as caught:
        await apply_migrations(database, tmp_path)
    assert (caught.value.file.name, caught.value.line) == ("2_bad.sql", line)
    assert says in str(caught.value)
    assert await database.fetchval("select to_regclass('b')") is None
    assert await database.fetchval(
        "select array_agg(version) from supabase_migrations.schema_migrations"
    ) == ["1"]


async def test_a_bad_name_stops_everything_before_it_starts(database, tmp_path):
    (tmp_path / "1_good.sql").write_text("create table good (id int)")
    (tmp_path / "oops.sql").write_text("select 1")
    with pytest.raises(BadMigrationName, match="oops"):
        await apply_migrations(database, tmp_path)
    assert await database.fetchval("select to_regclass('good')") is None
