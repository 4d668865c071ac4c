"""An application that pushes, and what of it is in the database."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.conftest import EmbeddedSupabase


@pytest.fixture
def device() -> str:
    return f"app-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def connection(embedded_supabase: EmbeddedSupabase) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(embedded_supabase.postgres.dsn())
    yield made
    await made.close()


async def stored(connection: asyncpg.Connection, stream: str, count: int, seconds: float = 30) -> list[Any]:
    """Wait until so many events of a stream, the openings aside, are in the feed; return their payloads in order."""
    rows: list[Any] = []
    async with asyncio.timeout(seconds):
        while True:
            rows = await connection.fetch(
                "select payload from cf_events where stream = $1 and kind <> 'stream_opened' order by epoch, seq",
                stream,
            )
            if len(rows) >= count:
                return [json.loads(row["payload"]) for row in rows]
            await asyncio.sleep(0.02)
