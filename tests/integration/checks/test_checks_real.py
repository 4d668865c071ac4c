"""Checks against real servers: HTTP with and without TLS, PostgreSQL of both kinds, Redis."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from collectors.checks.config import HttpCheck, PostgresCheck, RedisCheck
from collectors.checks.http import HttpProbe
from collectors.checks.postgres import PostgresProbe
from collectors.checks.redis import RedisProbe
from collectors.checks.result import Result
from embedded.ports import free_port
from embedded.postgres import Postgres
from monitoring.device_status import Outcome
from tests.fakes.debian_postgres import debian_postgres
from tests.fakes.missing_parts import missing

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def certificate(directory: Path, days: float) -> ssl.SSLContext:
    """Write a certificate of ``localhost`` that signs itself; return the server's side of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "ca.pem", directory / "key.pem")
    return context


async def fine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.05)
    body = b'{"status": "ok"}'
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
    await writer.drain()


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await writer.drain()


@contextlib.asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client had enough
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if tls else 'http'}://localhost:{port}/"
    finally:
        server.close()
        await server.wait_closed()


async def http(url: str, **keys: Any) -> Result:
    return await HttpProbe(HttpCheck.model_validate({"http": url, **keys}))()


async def test_a_server_is_asked_and_its_phases_add_up() -> None:
    async with serving(fine) as url:
        result = await http(url, json={"status": "ok"})
    assert (result.outcome, result.reason) == (Outcome.WHOLE, "it answers 200")
    phases = result.details["phases_ms"]
    assert phases["tls"] is None
    assert phases["first_byte"] >= 50
    assert phases["dns"] + phases["connect"] + phases["first_byte"] <= phases["total"]


async def test_tls_is_verified_timed_and_its_end_is_known(tmp_path: Path) -> None:
    async with serving(fine, certificate(tmp_path, 30.5)) as url:
        trusted = await http(url, ca_file=str(tmp_path / "ca.pem"))
        soon = await http(url, ca_file=str(tmp_path / "ca.pem"), certificate="40d")
        strange = await http(url)
    assert trusted.outcome == Outcome.WHOLE
    assert trusted.details["phases_ms"]["tls"] > 0
    expires = datetime.fromisoformat(trusted.details["certificate_expires"])
    assert timedelta(days=30) < expires - datetime.now(UTC) < timedelta(days=31)
    assert soon.outcome == Outcome.PARTIAL
    assert "the certificate ends in 30.5 days" in soon.reason
    assert strange.outcome == Outcome.REFUSED
    assert "its certificate is not accepted: self-signed certificate" in strange.reason


async def test_a_certificate_that_has_ended_is_refused(tmp_path: Path) -> None:
    async with serving(fine, certificate(tmp_path, -1)) as url:
        result = await http(url, ca_file=str(tmp_path / "ca.pem"))
    assert (result.outcome, result.reason) == (
        Outcome.REFUSED,
        "its certificate is not accepted: certificate has expired",
    )


async def test_a_server_that_hangs_one_that_is_none_and_a_closed_port_are_told_apart() -> None:
    async with serving(hangs) as url:
        silent = await http(url, timeout="200ms")
    assert (silent.outcome, silent.reason) == (Outcome.SILENT, "no answer within 0.2 s")
    async with serving(no_http) as url:
        garbled = await http(url)
    assert garbled.outcome == Outcome.SILENT
    assert "no whole answer" in garbled.reason
    refused = await http(f"http://127.0.0.1:{free_port('127.0.0.1')}/")
    assert (refused.outcome, refused.reason) == (
        Outcome.REFUSED,
        "the connection is refused; nothing listens there",
    )
    async with serving(fine) as url:
        plain = await http(url.replace("http:", "https:"), timeout="300ms")
    assert plain.outcome == Outcome.SILENT


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Postgres(tmp_path_factory.mktemp("pg"), port=0, durable=False)
    server.start()
    try:
        yield server.url()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def debian() -> Iterator[str]:
    """Debian's own PostgreSQL, with pg_stat_statements."""
    with debian_postgres(settings={"shared_preload_libraries": "pg_stat_statements"}) as server:
        yield server.url()


async def database(url: str, **keys: Any) -> Result:
    return await PostgresProbe(PostgresCheck.model_validate({"postgres": url, **keys}))()


@pytest.mark.parametrize("which", ["embedded", "debian"])
async def test_a_database_tells_connections_locks_replication_and_size(
    which: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(which)
    holder, waiter = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        await holder.execute("create table if not exists held (n int)")
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("lock table held in access exclusive mode")
        waiting = asyncio.ensure_future(waiter.execute("select * from held"))
        result = await database(url)
        async with asyncio.timeout(20):
            while not result.details["locks"]["waiting"]:
                result = await database(url)
        await transaction.rollback()
        await waiting
        size = await holder.fetchval("select pg_database_size(current_database())")
    finally:
        await holder.close()
        await waiter.close()
    assert (result.outcome, result.reason) == (Outcome.WHOLE, "it answers")
    details = result.details
    assert details["connections"]["used"] >= 3
    assert details["connections"]["waiting_for_lock"] == 1
    assert details["connections"]["idle_in_transaction"] == 1
    assert details["locks"]["waiting"] == 1
    assert abs(details["size_bytes"] - size) < 10 * 2**20
    assert details["replication"] == {"replica": False, "lag_seconds": None, "replicas": [], "slots": []}
    assert details["slow_queries"] is None
    assert details["unavailable"] == {
        "slow_queries": "the extension pg_stat_statements is not in this database"
    }
    assert details["connect_ms"] > 0


async def test_slow_queries_are_told_where_the_extension_is(debian: str) -> None:
    connection = await asyncpg.connect(debian)
    try:
        await connection.execute("create schema if not exists extensions")
        await connection.execute("create extension pg_stat_statements schema extensions")
        await connection.fetch("select pg_sleep(0.2), 'a secret constant'")
        result = await database(debian, slow_queries=3)
        await connection.execute("drop extension pg_stat_statements")
    finally:
        await connection.close()
    slowest = result.details["slow_queries"][0]
    assert "pg_sleep" in slowest["query"]
    assert "secret" not in slowest["query"]
    assert slowest["mean_ms"] >= 200
    assert len(result.details["slow_queries"]) <= 3
    assert result.details["unavailable"] == {}


async def test_a_user_who_may_see_little_gets_what_there_is(debian: str) -> None:
    connection = await asyncpg.connect(debian)
    await connection.execute("create role little login")
    await connection.close()
    result = await database(debian.replace("postgres@", "little@"))
    assert result.outcome == Outcome.WHOLE
    assert result.details["size_bytes"] > 0


async def test_a_database_that_refuses_hangs_or_is_not_there_is_told_apart(debian: str) -> None:
    wrong = await database(debian.replace("postgres@", "nobody@"))
    assert wrong.outcome == Outcome.REFUSED
    assert 'role "nobody" does not exist' in wrong.reason
    async with serving(hangs) as url:
        port = url.rstrip("/").rpartition(":")[2]
        silent = await database(f"postgresql://u:hidden@127.0.0.1:{port}/d", timeout="300ms")
    assert silent.outcome == Outcome.SILENT
    closed = await database(f"postgresql://u@127.0.0.1:{free_port('127.0.0.1')}/d")
    assert closed.outcome == Outcome.REFUSED


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        missing("redis-server", "apt-get install -y redis-server")
        raise AssertionError
    port = free_port("127.0.0.1")
    with tempfile.TemporaryDirectory() as directory:
        command = [
            program,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--requirepass",
            "hidden",
            "--dir",
            directory,
        ]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield f"redis://:hidden@127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(10)


async def redis(url: str, **keys: Any) -> Result:
    return await RedisProbe(RedisCheck.model_validate({"redis": url, **keys}))()


async def test_a_redis_tells_what_info_says(redis_url: str) -> None:
    async with asyncio.timeout(20):
        while (result := await redis(redis_url)).outcome != Outcome.WHOLE:
            await asyncio.sleep(0.05)
    details = result.details
    assert details["role"] == "master"
    assert details["clients"] >= 1
    assert details["memory_used_bytes"] > 0
    assert details["memory_limit_bytes"] is None
    assert details["primary_link"] is None
    assert details["keys"] == {}
    assert 0 < details["ping_ms"] < 5000
    port = redis_url.rpartition(":")[2]
    said = subprocess.run(
        ["redis-cli", "-p", port.partition("/")[0], "-a", "hidden", "--no-auth-warning", "info", "server"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"redis_version:{details['version']}" in said


async def test_a_redis_that_refuses_hangs_or_is_not_there_is_told_apart(redis_url: str) -> None:
    wrong = await redis(redis_url.replace("hidden", "guessed"))
    assert wrong.outcome == Outcome.REFUSED
    assert "guessed" not in wrong.reason
    closed = await redis(f"redis://127.0.0.1:{free_port('127.0.0.1')}")
    assert (closed.outcome, closed.reason) == (
        Outcome.REFUSED,
        "the connection is refused; nothing listens there",
    )
    async with serving(hangs) as url:
        port = url.rstrip("/").rpartition(":")[2]
        silent = await redis(f"redis://127.0.0.1:{port}", timeout="300ms")
    assert silent.outcome == Outcome.SILENT
    async with serving(no_http) as url:
        port = url.rstrip("/").rpartition(":")[2]
        garbled = await redis(f"redis://127.0.0.1:{port}")
    assert garbled.outcome != Outcome.WHOLE
