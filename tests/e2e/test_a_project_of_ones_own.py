"""`crossfade init` and `uninit` on a database that is not ours: Debian's PostgreSQL, made a Supabase project.

Its `postgres` is no superuser, as on hosted Supabase; Realtime, REST and auth in front of it are the embedded ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from embedded.keys import Keys, load_or_create
from tests.e2e.installation import ROOT, Installation, clean_environment, events
from tests.fakes.debian_postgres import DebianPostgres, debian_postgres, make_supabase

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-own")]

ASKED = ["SUPABASE_URL", "SUPABASE_KEY", "DATABASE_URL"]
OURS = "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relname ^@ 'cf_'"


@dataclass(frozen=True)
class Project:
    """Somebody else's Supabase."""

    database: DebianPostgres
    keys: Keys
    url: str

    def environment(self, **changed: str) -> dict[str, str]:
        given = {
            "SUPABASE_URL": self.url,
            "SUPABASE_KEY": self.keys.service_role_key,
            "DATABASE_URL": self.database.url("postgres"),
        }
        return clean_environment(**{**given, **changed})

    def sql(self, query: str, *values: Any, user: str = "postgres") -> Any:
        async def ask() -> Any:
            async with connected(self.database.url(user)) as connection:
                return await connection.fetchval(query, *values)

        return asyncio.run(ask())


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def prepare(database: DebianPostgres) -> None:
    async with connected(database.url()) as connection:
        await connection.execute("create role postgres login createdb createrole replication bypassrls")
        await make_supabase(connection)
        # As on hosted Supabase, where the project's owner is not a superuser.
        await connection.execute(
            "grant all on schema public to postgres; alter publication supabase_realtime owner to postgres"
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    directory = tmp_path_factory.mktemp("project")
    with debian_postgres("supabase_admin", {"wal_level": "logical"}) as database:
        asyncio.run(prepare(database))
        keys = load_or_create(directory)
        command = [
            *(sys.executable, "-m", "embedded.gateway", "--port", "0", "--keys", str(directory)),
            *("--pg-socket-dir", str(database.directory), "--pg-port", str(database.port)),
        ]
        with (directory / "gateway.log").open("w") as log:
            gateway = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
        assert gateway.stdout is not None
        with gateway.stdout:
            try:
                line = gateway.stdout.readline()
                assert line.startswith("listening on "), (directory / "gateway.log").read_text()
                yield Project(database, keys, line.removeprefix("listening on ").strip())
            finally:
                gateway.terminate()
                gateway.wait(15)


@pytest.fixture
def made(project: Project, tmp_path: Path) -> Iterator[Installation]:
    """A directory of somebody who has the project's keys in the environment; whatever is installed is removed after."""
    installation = Installation(tmp_path, project.environment())
    yield installation
    installation.remove()
    installation.environment = project.environment()
    assert installation.run("uninit", "--yes", "--force").returncode == 0


def checks(made: Installation) -> dict[str, dict[str, Any]]:
    """Ask `crossfade doctor`."""
    report = json.loads(made.run("doctor", "--format", "json").stdout)
    return {check["name"]: check for check in report["checks"]}


def test_a_project_is_moved_into_used_and_left_as_it_was(project: Project, made: Installation) -> None:
    project.sql("create table if not exists towns (name text)")
    looked = made.run("init", "--dry-run")
    assert looked.returncode == 0, looked.stderr
    assert "will apply to postgres" in looked.stdout
    assert project.sql(OURS) == 0
    assert not (made.directory / ".env").exists()

    before = checks(made)
    assert before["publication"]["ok"]
    assert (before["migrations"]["ok"], before["migrations"]["advice"]) == (False, "run crossfade init")

    done = made.run("init", "--yes", "--user", "viewer=ann@example.com", seconds=120)
    assert done.returncode == 0, done.stderr
    assert "proved: an event was written, read by a viewer, and hidden from everybody else" in done.stdout
    assert "proved: Realtime is live" in done.stdout
    env = made.directory / ".env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    password = done.stdout.partition("viewer ann@example.com: password ")[2].split()[0]
    signed_in = httpx.post(
        f"{project.url}/auth/v1/token?grant_type=password",
        headers={"apikey": project.keys.anon_key},
        json={"email": "ann@example.com", "password": password},
    ).json()
    assert signed_in["user"]["app_metadata"]["crossfade_role"] == "viewer"

    made.environment = clean_environment()  # from here on the .env file says where
    assert made.run("users", "list").stdout.startswith("ann@example.com  viewer")
    after = checks(made)
    assert all(
        after[name]["ok"] for name in ("PostgreSQL", "migrations", "events", "supabase", "realtime")
    ), after
    again = made.run("init", "--yes")
    assert again.returncode == 0, again.stderr
    assert "every migration is applied already" in again.stdout
    assert "wrote" not in again.stdout

    made.start("--without", "dashboard", "--no-docker")
    watched = made.run("watch", "--backend", "supabase", "--verify", "--for", "5s")
    assert watched.returncode == 0, watched.stderr
    assert any(event["stream"].startswith("e2e/") for event in events(watched.stdout))

    busy = made.run("uninit", "--yes")
    assert busy.returncode == 1
    assert "nothing was removed: somebody still writes" in busy.stderr
    assert "e2e/system" in busy.stderr
    made.stop()

    shown = made.run("uninit", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "cf_events with all its rows" in shown.stdout
    assert project.sql(OURS) > 0
    gone = made.run("uninit", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert "users deleted: ann@example.com" in gone.stdout
    assert project.sql(OURS) == 0
    assert project.sql("select count(*) from pg_proc where proname ^@ 'cf_'") == 0
    assert project.sql("select count(*) from pg_policy where polname ^@ 'cf_'") == 0
    assert project.sql("select count(*) from supabase_migrations.schema_migrations") == 0
    assert project.sql("select count(*) from auth.users", user="supabase_admin") == 0
    assert project.sql("select to_regclass('public.towns') is not null")
    assert not any(name in env.read_text() for name in ASKED)


def test_what_cannot_be_done_is_said_and_not_half_done(project: Project, made: Installation) -> None:
    made.environment = project.environment(SUPABASE_KEY=project.keys.anon_key)
    weak = made.run("init", "--yes", "--no-env", "--user", "admin=bob@example.com")
    assert weak.returncode == 1
    assert "SUPABASE_KEY alone may not read" in weak.stderr
    made.environment = project.environment()
    project.sql("create view my_hosts as select device from cf_devices_latest")
    try:
        refused = made.run("uninit", "--yes", "--force")
        assert refused.returncode == 1
        assert "nothing was removed" in refused.stderr
        assert "view my_hosts depends on table cf_devices_latest" in refused.stderr
        assert project.sql("select count(*) from pg_policy where polname ^@ 'cf_'") > 0
    finally:
        project.sql("drop view my_hosts")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"DATABASE_URL": "postgresql://nobody@127.0.0.1:{port}/postgres"},
            "refuses the user or the password",
        ),
        ({"DATABASE_URL": "postgresql://postgres@127.0.0.1:1/postgres"}, "127.0.0.1:1 cannot be reached"),
        ({"DATABASE_URL": "postgresql://postgres@127.0.0.1:{port}/other"}, 'database "other" does not exist'),
        (
            {"DATABASE_URL": "postgresql://postgres@127.0.0.1:{port}/template1"},
            "nothing was changed: correct what is BAD",
        ),
        ({"SUPABASE_KEY": ""}, "SUPABASE_KEY not set"),
    ],
    ids=["user", "address", "database", "no Supabase", "no key"],
)
def test_bad_settings_are_named_and_change_nothing(
    project: Project, tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    given = {name: value.format(port=project.database.port) for name, value in changed.items()}
    done = Installation(tmp_path, project.environment(**given)).run("init", "--yes")
    assert done.returncode != 0
    assert said in done.stderr
    assert not list(tmp_path.iterdir())
    assert project.sql(OURS) == 0
