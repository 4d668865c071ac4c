"""The embedded Supabase as a process of its own, and the official clients that know nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from embedded.keys import Keys, load_or_create, sign
from embedded.postgres import Postgres
from supabase import AsyncClient, AsyncClientOptions, acreate_client
from tests.node_packages import installed

ROOT = Path(__file__).parents[2]
JAVASCRIPT = Path(__file__).parent / "js"
PASSWORD = "correct horse battery"

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Project:
    """What somebody with the API settings page of a project has."""

    url: str
    keys: Keys
    dsn: str

    @property
    def realtime_url(self) -> str:
        return f"{self.url}/realtime/v1"

    def token(self, role: str = "authenticated", seconds: float = 3600, **claims: Any) -> str:
        return sign({"role": role, "exp": int(time.time() + seconds), **claims}, self.keys.jwt_secret)


def new_email() -> str:
    """Return an address that no other test has."""
    return f"someone-{os.getpid()}-{next(_numbers)}@example.com"


@contextlib.contextmanager
def served(postgres: Postgres, *options: str) -> Iterator[Project]:
    """Run a gateway for the time of the block."""
    keys_dir = postgres.data_dir / "supabase"
    command = [
        *(sys.executable, "-m", "embedded.gateway", "--port", "0", "--keys", str(keys_dir)),
        *("--pg-socket-dir", str(postgres.socket_dir), "--pg-port", str(postgres.port), *options),
    ]
    log = postgres.data_dir / "gateway.log"
    with log.open("ab") as errors:
        gateway = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
    assert gateway.stdout is not None
    try:
        line = gateway.stdout.readline()
        assert line.startswith("listening on "), log.read_text()
        yield Project(line.split()[-1], load_or_create(keys_dir), postgres.dsn())
    finally:
        gateway.terminate()
        gateway.wait(10)
        gateway.stdout.close()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """PostgreSQL with the tables of the outside suites."""
    postgres = Postgres(tmp_path_factory.mktemp("outside"), port=0, durable=False)
    postgres.start()

    async def prepare() -> None:
        connection = await asyncpg.connect(postgres.dsn())
        try:
            for file in sorted(Path(__file__).parent.glob("*.sql")):
                await connection.execute(file.read_text("utf-8"))
        finally:
            await connection.close()

    try:
        asyncio.run(prepare())
        yield postgres
    finally:
        postgres.stop()
        postgres.remove()


@pytest.fixture(scope="session")
def project(database: Postgres) -> Iterator[Project]:
    """The whole of it, with sign-up enabled."""
    with served(database, "--enable-signup") as running:
        yield running


@pytest.fixture
async def client(project: Project) -> AsyncIterator[AsyncClient]:
    """An application's client, signed in by nobody."""
    async with python_client(project) as made:
        yield made


@pytest.fixture
async def service(project: Project) -> AsyncIterator[AsyncClient]:
    """A server's client, with the secret key."""
    async with python_client(project, project.keys.secret_key) as made:
        yield made


@contextlib.asynccontextmanager
async def python_client(project: Project, key: str | None = None) -> AsyncIterator[AsyncClient]:
    # tests renew tokens when they mean to; a timer would outlive them
    options = AsyncClientOptions(auto_refresh_token=False)
    made = await acreate_client(project.url, key or project.keys.publishable_key, options)
    try:
        yield made
    finally:
        await made.remove_all_channels()
        if made.realtime.is_connected:
            await made.realtime.close()
        await made.postgrest.aclose()
        await made.auth.close()


@pytest.fixture
async def sql(project: Project) -> AsyncIterator[asyncpg.Connection]:
    """The database's owner."""
    connection = await asyncpg.connect(project.dsn)
    yield connection
    await connection.close()


async def until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JavaScript client and our programs for it, installed from the lock file into a directory of their own."""
    return installed(JAVASCRIPT, tmp_path_factory.mktemp("javascript"), "@supabase/supabase-js")
