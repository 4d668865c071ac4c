"""A real PostgreSQL, and the gateway in front of it, as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest

from embedded.keys import Keys, load_or_create
from embedded.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@dataclass(slots=True)
class Gateway:
    """A running gateway."""

    url: str
    keys: Keys
    postgres: Postgres
    process: subprocess.Popen[str]

    def headers(self, key: str | None = None) -> dict[str, str]:
        key = key or self.keys.service_role_key
        return {"apikey": key, "Authorization": f"Bearer {key}"}


def gateway_command(socket_dir: Path, port: int, keys_dir: Path, *more: str) -> list[str]:
    options = ["--keys", str(keys_dir), "--pg-socket-dir", str(socket_dir), "--pg-port", str(port)]
    return [sys.executable, "-m", "embedded.gateway", *options, *more]


def start_gateway(command: list[str]) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening on "), line
    return process, line.removeprefix("listening on ").strip()


def stop_gateway(process: subprocess.Popen[str]) -> int:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    data_dir = tmp_path_factory.mktemp("rest")
    postgres = Postgres(data_dir, port=0, durable=False)
    postgres.start()
    try:
        keys_dir = data_dir / "supabase"
        asyncio.run(run_sql(postgres, (Path(__file__).parent / "schema.sql").read_text("utf-8")))
        process, url = start_gateway(
            gateway_command(postgres.socket_dir, postgres.port, keys_dir, "--port", "0")
        )
        try:
            yield Gateway(url, load_or_create(keys_dir), postgres, process)
        finally:
            assert stop_gateway(process) == 0
    finally:
        postgres.remove()


async def run_sql(postgres: Postgres, sql: str) -> None:
    connection = await asyncpg.connect(postgres.dsn())
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@dataclass(slots=True)
class Launched(Gateway):
    """A gateway for one test, in front of that test's PostgreSQL."""

    async def sql(self, text: str) -> None:
        await run_sql(self.postgres, text)


@pytest.fixture
def launch() -> Iterator[Callable[[Postgres], Launched]]:
    """Start gateways that are ended with the test."""
    started: list[Launched] = []

    def start(postgres: Postgres) -> Launched:
        keys_dir = postgres.data_dir / "supabase"
        process, url = start_gateway(
            gateway_command(postgres.socket_dir, postgres.port, keys_dir, "--port", "0")
        )
        started.append(Launched(url, load_or_create(keys_dir), postgres, process))
        return started[-1]

    yield start
    for launched in started:
        stop_gateway(launched.process)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a gateway that is expected to end by itself."""

    def once(socket_dir: Path, port: int, *more: str) -> subprocess.CompletedProcess[str]:
        command = gateway_command(socket_dir, port, tmp_path, *more)
        return subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT, env=ENVIRONMENT
        )

    return once


@pytest.fixture
async def admin(gateway: Gateway) -> AsyncIterator[asyncpg.Connection]:
    """The database's owner."""
    connection = await asyncpg.connect(gateway.postgres.dsn())
    yield connection
    await connection.close()


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client as service_role."""
    async with httpx.AsyncClient(base_url=gateway.url, headers=gateway.headers()) as client:
        yield client
