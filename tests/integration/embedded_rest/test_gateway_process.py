"""The gateway as a process: how it starts, what it survives, how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from embedded.gateway import EXIT_NO_DATABASE, EXIT_PORT_TAKEN, EXIT_USAGE
from embedded.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEADLINE_SECONDS = 30


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A PostgreSQL of this test's own."""
    server = Postgres(tmp_path, port=0, durable=False)
    server.start()
    yield server
    server.remove()


async def until_status(client: httpx.AsyncClient, path: str, status: int) -> httpx.Response:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (got := await client.get(path)).status_code != status:
        assert time.monotonic() < deadline, got.text
        await asyncio.sleep(0.05)
    return got


async def test_postgresql_may_go_away_and_come_back(postgres: Postgres, launch: Callable[..., Any]) -> None:
    gateway = launch(postgres)
    async with httpx.AsyncClient(base_url=gateway.url, headers=gateway.headers()) as client:
        assert (await client.get("/rest/v1/rpc/nope")).json()["code"] == "PGRST202"
        for _ in range(2):
            postgres.stop()
            away = await client.get("/rest/v1/nope")
            assert away.status_code == 503
            assert away.json()["code"] == "PGRST001"
            assert "reconnects by itself" in away.json()["hint"]
            assert (await until_status(client, "/health", 503)).json()["database"]["status"] == "away"
            postgres.start()
            await until_status(client, "/rest/v1/nope", 404)
            assert (await client.get("/health")).json()["database"]["status"] == "ok"


async def test_all_parts_become_healthy_again_after_an_outage(
    postgres: Postgres, launch: Callable[..., Any]
) -> None:
    gateway = launch(postgres)
    async with httpx.AsyncClient(base_url=gateway.url, headers=gateway.headers()) as client:
        for _ in range(2):
            healthy = await until_status(client, "/health", 200)
            assert healthy.json()["status"] == "ok"
            assert healthy.json()["feed"]["live"]
            postgres.stop()
            degraded = await until_status(client, "/health", 503)
            assert degraded.json()["status"] == "degraded"
            postgres.start()


async def test_a_killed_backend_costs_no_later_request(
    postgres: Postgres, launch: Callable[..., Any]
) -> None:
    gateway = launch(postgres)
    await gateway.sql("create table t (id int); grant all on t to service_role")
    async with httpx.AsyncClient(base_url=gateway.url, headers=gateway.headers()) as client:
        await until_status(client, "/rest/v1/t", 200)
        for _ in range(5):
            kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'embedded_rest'"
            await gateway.sql(kill)
            await until_status(client, "/rest/v1/t", 200)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_asked(
    postgres: Postgres, launch: Callable[..., Any], number: signal.Signals
) -> None:
    gateway = launch(postgres)
    gateway.process.send_signal(number)
    assert gateway.process.wait(10) == 0


def test_a_taken_port_is_said_in_one_line(postgres: Postgres, run: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run(postgres.socket_dir, postgres.port, "--port", str(port))
    assert ended.returncode == EXIT_PORT_TAKEN
    assert ended.stderr == (
        f"Cannot listen on 127.0.0.1:{port}: another program listens there."
        " Stop it or choose another port with --port.\n"
    )


def test_an_unreachable_postgresql_is_said_in_one_line(tmp_path: Path, run: Callable[..., Any]) -> None:
    ended = run(tmp_path, 1, "--port", "0", "--wait-seconds", "0.2")
    assert ended.returncode == EXIT_NO_DATABASE
    assert ended.stderr.startswith(f"PostgreSQL does not answer at {tmp_path}/.s.PGSQL.1: ")
    assert ended.stderr.count("\n") == 1


def test_unusable_keys_are_said_in_one_line(tmp_path: Path, run: Callable[..., Any]) -> None:
    (tmp_path / "keys.json").write_text("{")
    ended = run(tmp_path, 1, "--port", "0")
    assert ended.returncode == EXIT_USAGE
    assert "keys.json" in ended.stderr
    assert ended.stderr.count("\n") == 1
