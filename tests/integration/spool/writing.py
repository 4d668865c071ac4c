"""A writer at work in a test, and what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.backoff import Backoff
from adapters.postgres_writer import PostgresWriter
from adapters.spool import Spool
from monitoring.events import Draft, Kind, StreamId

SYSTEM = StreamId("web-1/system")
CONTAINERS = StreamId("web-1/containers")
STREAMS = (SYSTEM, CONTAINERS)


@asynccontextmanager
async def writing(spool: Spool, url: str, *, ttl_seconds: int = 30) -> AsyncIterator[PostgresWriter]:
    writer = PostgresWriter(
        spool, url, STREAMS, ttl_seconds=ttl_seconds, backoff=Backoff(first=0.02, cap=0.2)
    )
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()


async def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"{what}: not within {seconds} s")


def drafts(count: int, stream: StreamId = SYSTEM, **payload: Any) -> list[Draft]:
    return [
        Draft(stream, Kind.METRIC_COLLECTED, datetime.now(UTC), {"n": n, "hostname": "web-1", **payload})
        for n in range(count)
    ]


def delivered(spool: Spool) -> Callable[[], bool]:
    return lambda: spool.acknowledged("supabase") == spool.position
