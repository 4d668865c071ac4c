"""A database with data is brought to time series, also on PostgreSQL 15, the oldest that Supabase runs."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from embedded.migrations import apply_migrations
from embedded.postgres import Postgres
from tests.fakes.debian_postgres import debian_postgres, make_supabase
from tests.integration.spool.conftest import MIGRATIONS

BEFORE = "20261126210000"
STREAMS = ("web-1/system", "web-1/containers")


@pytest.fixture
def fifteen() -> Iterator[str]:
    with debian_postgres() as server:
        yield server.url()


def older(tmp_path: Path) -> Path:
    folder = tmp_path / "older"
    folder.mkdir()
    for file in MIGRATIONS.glob("*.sql"):
        if file.name < BEFORE:
            shutil.copy(file, folder)
    return folder


async def test_history_of_before_goes_on(postgres: Postgres, tmp_path: Path) -> None:
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute("create database upgraded")
    await admin.close()
    await upgraded(postgres.dsn(database="upgraded"), tmp_path)


async def test_history_of_before_goes_on_in_postgresql_15(fifteen: str, tmp_path: Path) -> None:
    await upgraded(fifteen, tmp_path)


async def upgraded(dsn: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await make_supabase(connection)
        await apply_migrations(connection, older(tmp_path))
        owner, now = uuid4(), datetime.now(UTC)
        for stream in STREAMS:
            await connection.fetchval("select public.cf_acquire_lease($1, $2, 1, 3600)", stream, owner)
        ages = [timedelta(days=days, minutes=3) for days in (9, 1, 0)]
        await append(connection, owner, 1, [now - age for age in ages])
        await apply_migrations(connection, MIGRATIONS)
        await append(connection, owner, 4, [now - timedelta(days=9), now])
        async with asyncio.timeout(60):
            while await connection.fetchval(
                "select exists (select from public.cf_rollup_pending where hour <= now() - interval '61 minutes')"
            ):
                await connection.fetchval("select public.cf_maintain()")
        for stream, field in zip(STREAMS, ("cpu_usage", "containers[api].cpu_percent"), strict=True):
            answer = json.loads(
                await connection.fetchval(
                    "select public.cf_series($1, $2, $3, $4, 20)", stream, field, now - timedelta(days=20), now
                    + timedelta(seconds=1),
                )
            )  # fmt: skip
            assert answer["level"] == "1d", stream
            assert sum(count for *_, count in answer["points"]) == 5, stream
            assert {point[1] for point in answer["points"]} == {5.0}
        assert await connection.fetchval("select count(*) from public.cf_events") == 10
        old = "select count(*) from pg_class where relname ~ '^cf_old' "
        assert await connection.fetchval(old) == 0
    finally:
        await connection.close()


async def append(connection: Any, owner: Any, first: int, times: list[datetime]) -> None:
    container = {"id": "a", "name": "api", "status": "running", "running": True, "cpu_percent": 5}
    payloads = {
        "web-1/system": ("metric_collected", {"hostname": "web-1", "cpu_usage": 5, "memory_usage": 5}),
        "web-1/containers": ("containers_collected", {"available": True, "containers": [container]}),
    }
    events = [
        {
            "id": str(uuid4()), "stream": stream, "epoch": 1, "seq": seq, "kind": kind, "payload": payload,
            "occurred_at": at.isoformat(), "metric_type": "m",
        }
        for stream, (kind, payload) in payloads.items()
        for seq, at in enumerate(times, start=first)
    ]  # fmt: skip
    await connection.fetchval("select public.cf_append($1, $2::jsonb)", owner, json.dumps(events))
