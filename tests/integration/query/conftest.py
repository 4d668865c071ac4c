"""Clients of the query service, and events in its database."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from embedded.keys import sign
from monitoring.events import Event, metric_type_of, to_json
from monitoring.flags.model import Flags
from services.evaluations import evaluations
from tests.conftest import EmbeddedSupabase
from tests.query_process import QueryProcess
from tests.service_process import ROOT

Publish = Callable[..., Awaitable[None]]
Token = Callable[..., str]


@pytest.fixture
def device() -> str:
    return f"dev-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def connection(embedded_supabase: EmbeddedSupabase) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(embedded_supabase.postgres.dsn())
    yield made
    await made.close()


async def append(connection: asyncpg.Connection, events: tuple[Event, ...]) -> None:
    """Put events into the database as their owner's writer does."""
    owner = uuid.UUID(int=7)
    for stream, epoch in sorted({(event.stream, event.epoch) for event in events}):
        await connection.fetchval("select cf_acquire_lease($1, $2, $3)", stream, owner, epoch)
    rows = [{**to_json(event), "metric_type": metric_type_of(event.stream)} for event in events]
    await connection.fetchval("select cf_append($1, $2)", owner, json.dumps(rows))


@pytest.fixture
def publish(connection: asyncpg.Connection) -> Publish:
    async def publish(*events: Event) -> None:
        await append(connection, events)

    return publish


@pytest.fixture
def token(embedded_supabase: EmbeddedSupabase) -> Token:
    """Sign a token; claims of None are left out."""

    def make(secret: str | None = None, **claims: Any) -> str:
        all_of_them: dict[str, Any] = {
            "role": "authenticated",
            "exp": int(time.time()) + 60,
            "app_metadata": {"crossfade_role": "viewer"},
        } | claims
        kept = {name: value for name, value in all_of_them.items() if value is not None}
        return sign(kept, secret or embedded_supabase.keys.jwt_secret)

    return make


@pytest.fixture
async def http(query_process: QueryProcess, token: Token) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a viewer."""
    headers = {"Authorization": f"Bearer {token()}"}
    async with httpx.AsyncClient(base_url=query_process.url, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
async def flags(query_process: QueryProcess, http: httpx.AsyncClient) -> AsyncIterator[Path]:
    """The flag file of the service; put back as it was, and in force again, at the end."""
    yield query_process.flags
    query_process.flags.write_text((ROOT / "flags.yaml").read_text())
    shipped = {"flags": evaluations(Flags(), "x"), "metadata": {}}
    asked = {"context": {"targetingKey": "x"}}
    async with asyncio.timeout(10):
        while (await http.post("/ofrep/v1/evaluate/flags", json=asked)).json() != shipped:
            await asyncio.sleep(0.02)
