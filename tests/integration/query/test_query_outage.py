"""The database away, stalled and back: said quickly, and never pretended."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from embedded.keys import load_or_create, sign
from embedded.migrations import apply_migrations
from embedded.postgres import Postgres
from tests.integration.query.test_query_refusals import problem
from tests.query_process import QueryProcess
from tests.service_process import ROOT


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A database of its own, without anything that pushes, and without our tables yet."""
    made = Postgres(tmp_path / "data", port=0, durable=False)
    made.prepare()
    made.start()
    try:
        yield made
    finally:
        made.stop()
        made.remove()


@pytest.fixture
def query(postgres: Postgres, tmp_path: Path) -> Iterator[QueryProcess]:
    flags = tmp_path / "flags.yaml"
    flags.write_text((ROOT / "flags.yaml").read_text())
    made = QueryProcess(postgres.data_dir, postgres.dsn("authenticator"), flags)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def client(postgres: Postgres, query: QueryProcess) -> Iterator[httpx.Client]:
    keys = load_or_create(postgres.data_dir / "supabase")
    claims = {"role": "authenticated", "exp": time.time() + 600, "app_metadata": {"crossfade_role": "viewer"}}
    headers = {"Authorization": f"Bearer {sign(claims, keys.jwt_secret)}"}
    with httpx.Client(base_url=query.url, headers=headers, timeout=30) as made:
        yield made


def migrate(postgres: Postgres) -> None:
    async def apply() -> None:
        connection = await asyncpg.connect(postgres.dsn())
        await apply_migrations(connection, ROOT / "supabase" / "migrations")
        await connection.close()

    asyncio.run(apply())


def until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + 20
    while client.get("/ready").status_code != 200:
        assert time.monotonic() < deadline, client.get("/ready").text
        time.sleep(0.05)


def test_an_outage_is_told_at_once_and_over_by_itself(
    client: httpx.Client, postgres: Postgres, query: QueryProcess
) -> None:
    assert client.get("/health").json()["status"] == "live"
    assert "apply supabase/migrations" in problem(client.get("/ready"), 503, "database-not-ready")["detail"]
    problem(client.get("/api/heads"), 503, "database-not-ready")
    migrate(postgres)
    assert client.get("/ready").json()["status"] == "ready"
    assert client.get("/api/heads").json() == {}
    postgres.stop()
    for path in ("/api/heads", "/ready", "/api/snapshot"):
        began = time.monotonic()
        away = client.get(path)
        assert time.monotonic() - began < 1, path
        assert "does not answer" in problem(away, 503, "database-away")["detail"]
        assert away.headers["retry-after"] == "1"
    # What needs no database goes on.
    assert client.get("/health").status_code == 200
    asked = {"context": {"targetingKey": "web-1"}}
    assert client.post("/ofrep/v1/evaluate/flags/live", json=asked).json()["value"] == "legacy"
    assert client.get("/api/connection").status_code == 200
    postgres.start()
    until_ready(client)
    assert client.get("/api/heads").json() == {}
    assert query.log.read_text().count("the database is away") == 1


def test_a_stalled_database_holds_up_one_request_at_a_time(client: httpx.Client, postgres: Postgres) -> None:
    migrate(postgres)
    assert client.get("/api/heads").status_code == 200
    assert postgres.pid is not None
    server = psutil.Process(postgres.pid)
    stalled = [server, *server.children(recursive=True)]
    try:
        for process in stalled:
            os.kill(process.pid, signal.SIGSTOP)
        problem(client.get("/api/heads"), 503, "database-away")

        async def crowd() -> list[float]:
            async with httpx.AsyncClient(
                base_url=client.base_url, headers=client.headers, timeout=30
            ) as many:

                async def one() -> float:
                    began = time.monotonic()
                    assert (await many.get("/api/heads")).status_code == 503
                    return time.monotonic() - began

                return sorted(await asyncio.gather(*(one() for _ in range(20))))

        waited = asyncio.run(crowd())
        assert waited[18] < 1.5, waited  # all but the one that tries
        assert waited[19] < 15, waited
    finally:
        for process in stalled:
            os.kill(process.pid, signal.SIGCONT)
    until_ready(client)


@pytest.mark.parametrize("code", ["40P01", "40001", "58030", "53100"])
def test_a_deadlock_and_a_disk_that_fails_are_told_as_the_database_being_away(
    client: httpx.Client, postgres: Postgres, code: str
) -> None:
    migrate(postgres)
    ill = f"create or replace function public.cf_heads(text[]) returns jsonb language plpgsql as $$ begin raise sqlstate '{code}'; end $$"
    well = "create or replace function public.cf_heads(text[]) returns jsonb language sql as $$ select '{}'::jsonb $$"

    async def make(function: str) -> None:
        connection = await asyncpg.connect(postgres.dsn())
        await connection.execute("drop function public.cf_heads(text[])")
        await connection.execute(function)
        await connection.close()

    asyncio.run(make(ill))
    answer = client.get("/api/heads")
    problem(answer, 503, "database-away")
    assert answer.headers["retry-after"] == "1"
    asyncio.run(make(well))
    assert client.get("/api/heads").status_code == 200


def test_a_restart_costs_no_request(client: httpx.Client, postgres: Postgres) -> None:
    migrate(postgres)
    for _ in range(3):
        assert client.get("/api/heads").status_code == 200
        postgres.stop()
        postgres.start()


def test_it_ends_in_order_when_told(query: QueryProcess, client: httpx.Client) -> None:
    assert client.get("/health").status_code == 200
    assert query.stop() == 0
    assert "Traceback" not in query.log.read_text()
