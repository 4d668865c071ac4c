"""Who writes also beats, sets the mode it was told, and goes on writing when it may do neither."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.heartbeat import Heartbeat
from adapters.postgres_writer import PostgresWriter
from adapters.spool import Spool
from monitoring.events import StreamId
from tests.integration.supabase.conftest import Database


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool.open(tmp_path / "spool.db") as opened:
        opened.set_enabled("legacy", enabled=False)
        yield opened


async def test_a_writer_beats_and_sets_the_mode_it_was_told(
    database: Database, spool: Spool, device: str
) -> None:
    await database.mode("changes", 15)
    before = await database.call("select beat from cf_delivery")
    heartbeat = Heartbeat("broadcast", 0.5)
    writer = PostgresWriter(
        spool, database.postgres.url(), [StreamId(f"{device}/system")], heartbeat=heartbeat
    )
    task = asyncio.create_task(writer.run())
    try:
        async with asyncio.timeout(20):
            while await database.call("select beat from cf_delivery") < before + 4:
                await asyncio.sleep(0.05)
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert await database.call("select mode from cf_delivery") == "broadcast"
    assert heartbeat.problem is None


async def test_a_database_without_the_functions_is_written_to_all_the_same(
    database: Database, spool: Spool, device: str
) -> None:
    stream = StreamId(f"{device}/system")
    await database.call("alter function cf_beat() rename to cf_beat_away")
    heartbeat = Heartbeat()
    writer = PostgresWriter(spool, database.postgres.url(), [stream], heartbeat=heartbeat)
    task = asyncio.create_task(writer.run())
    try:
        async with asyncio.timeout(20):
            while not await database.call("select exists (select from cf_events where stream = $1)", stream):
                await asyncio.sleep(0.05)
        assert heartbeat.problem is not None
        assert "cf_beat" in heartbeat.problem
    finally:
        task.cancel()
        await asyncio.wait({task})
        await database.call("alter function cf_beat_away() rename to cf_beat")
