from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from adapters.backoff import Backoff
from adapters.postgres_writer import PostgresWriter
from adapters.spool import Spool
from adapters.spool_file import StreamNotOpen
from monitoring.events import Draft, Kind, Position, StreamId

SYSTEM = StreamId("web-1/system")
CONTAINERS = StreamId("web-1/containers")
STREAMS = (SYSTEM, CONTAINERS)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool.open(tmp_path / "spool.db") as opened:
        opened.set_enabled("legacy", enabled=False)
        yield opened


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


async def test_every_event_arrives_once_and_as_it_was(database: Any, spool: Spool) -> None:
    async with writing(spool, database.url) as writer:
        await writer.opened()
        assert spool.heads() == {SYSTEM: Position(1, 1), CONTAINERS: Position(1, 1)}
        spool.append(drafts(3) + drafts(2, CONTAINERS))
        await until(delivered(spool), "delivery")
    assert await database.rows(SYSTEM) == [
        (1, 1, "stream_opened"),
        *((1, n, "metric_collected") for n in (2, 3, 4)),
    ]
    rows = await database.connection.fetch(
        "select id, occurred_at, metric_type from public.cf_events order by id"
    )
    events = sorted((event for _, event in spool.read(0, 100)), key=lambda event: event.id)
    assert [(row["id"], row["occurred_at"]) for row in rows] == [
        (event.id, event.occurred_at) for event in events
    ]
    assert {row["metric_type"] for row in rows} == {"system_metrics", "container"}
    assert writer.status.events == 7


async def test_a_backlog_goes_out_in_batches_in_order(database: Any, spool: Spool) -> None:
    for stream in STREAMS:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    for _ in range(13):
        spool.append(drafts(100))
    async with writing(spool, database.url):
        await until(delivered(spool), "delivery")
    assert [seq for _, seq, _ in await database.rows(SYSTEM)] == list(range(1, 1302))
    transactions = await database.connection.fetch("select count(*) as n from public.cf_events group by xmin")
    assert max(row["n"] for row in transactions) <= 500


async def test_a_restart_goes_on_in_the_same_epoch(database: Any, spool: Spool) -> None:
    async with writing(spool, database.url) as writer:
        await writer.opened()
        spool.append(drafts(1))
        await until(delivered(spool), "delivery")
    spool.append(drafts(1))
    async with writing(spool, database.url) as writer:
        await writer.opened()
        spool.append(drafts(1))
        await until(delivered(spool), "delivery")
    assert [(epoch, seq) for epoch, seq, _ in await database.rows(SYSTEM)] == [(1, 1), (1, 2), (1, 3), (1, 4)]


async def test_what_the_database_has_already_is_no_double(database: Any, spool: Spool) -> None:
    """The answer to a commit was lost: the same batch is sent again."""
    async with writing(spool, database.url) as writer:
        await writer.opened()
        spool.append(drafts(5))
        await until(delivered(spool), "delivery")
    spool._acknowledged["supabase"] = 0
    async with writing(spool, database.url) as writer:
        await until(delivered(spool), "delivery")
    assert writer.status.events == 0
    assert writer.status.duplicates == 7
    assert len(await database.rows(SYSTEM)) == 6


async def test_a_rejected_event_becomes_a_tombstone_in_its_place(database: Any, spool: Spool) -> None:
    for stream in STREAMS:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    spool.append([*drafts(20), *drafts(1, text="a\0b"), *drafts(25), *drafts(1, cpu_usage="much")])
    async with writing(spool, database.url) as writer:
        await until(delivered(spool), "delivery")
    rows = await database.rows(SYSTEM)
    assert [seq for _, seq, _ in rows] == list(range(1, 49))
    assert [seq for _, seq, kind in rows if kind == "tombstone"] == [22, 48]
    assert writer.status.tombstones == 2
    buried = await database.connection.fetchrow("select id, payload from public.cf_events where seq = 22")
    assert "rejected" in buried["payload"]
    assert buried["id"] == next(event.id for _, event in spool.read(0, 100) if event.seq == 22)


async def test_a_cut_connection_loses_nothing(database: Any, spool: Spool) -> None:
    async with writing(spool, database.url) as writer:
        await writer.opened()
        spool.append(drafts(2))
        await until(delivered(spool), "delivery")
        await database.connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'crossfade collect'"
        )
        spool.append(drafts(2))
        await until(delivered(spool), "delivery after a cut")
        assert writer.status.connects == 2
    assert [seq for _, seq, _ in await database.rows(SYSTEM)] == [1, 2, 3, 4, 5]


async def test_a_taken_lease_stops_its_stream_only_and_comes_back_as_a_new_epoch(
    database: Any, spool: Spool
) -> None:
    async with writing(spool, database.url, ttl_seconds=1) as writer:
        await writer.opened()
        spool.append(drafts(1) + drafts(1, CONTAINERS))
        await until(delivered(spool), "delivery")
        thief = uuid4()
        await database.connection.execute(
            "update public.cf_leases set owner = $1, epoch = 2, expires_at = now() + interval '3 s' where stream = $2",
            thief, SYSTEM,
        )  # fmt: skip
        spool.append(drafts(1) + drafts(1, CONTAINERS))
        await until(lambda: SYSTEM in writer.status.lost, "fencing")
        await until(delivered(spool), "delivery of the other stream")
        assert len(await database.rows(CONTAINERS)) == 3
        with pytest.raises(StreamNotOpen):
            spool.append(drafts(1))
        await until(lambda: spool.is_open(SYSTEM), "the lease that came free")
        assert spool.epoch_of(SYSTEM) == 3
        spool.append(drafts(1))
        await until(delivered(spool), "delivery in the new epoch")
    rows = await database.rows(SYSTEM)
    assert rows[-2:] == [(3, 1, "stream_opened"), (3, 2, "metric_collected")]
    opened = next(
        event for _, event in spool.read(0, 100) if event.stream == SYSTEM and event.position == (3, 1)
    )
    assert opened.previous == Position(1, 3)


async def test_a_lease_that_another_owner_holds_is_waited_for(database: Any, spool: Spool) -> None:
    await database.connection.fetchval("select public.cf_acquire_lease($1, $2, null, 2)", SYSTEM, uuid4())
    async with writing(spool, database.url, ttl_seconds=1) as writer:
        await writer.opened()
        assert writer.status.lost == {SYSTEM}
        assert spool.is_open(CONTAINERS)
        await until(lambda: spool.is_open(SYSTEM), "the lease that came free")
        assert spool.epoch_of(SYSTEM) == 2


async def test_the_spool_goes_on_without_the_database(tmp_path: Path, spool: Spool) -> None:
    for stream in STREAMS:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    async with writing(spool, "postgresql+asyncpg://u:p@127.0.0.1:1/d") as writer:
        async with asyncio.timeout(5):
            await writer.opened()
        spool.append(drafts(3))
        await until(lambda: "away" in writer.status.detail, "the reason")
        assert not writer.status.connected
    assert spool.state().waiting == {"supabase": 5}


async def test_a_database_without_the_tables_says_what_to_do(postgres: Any, spool: Spool) -> None:
    async with writing(spool, postgres.url()) as writer:
        await until(lambda: writer.status.last_error, "the reason")
    assert "apply supabase/migrations" in writer.status.detail


async def test_a_wrong_password_says_what_to_check_and_never_shows_it(postgres: Any, spool: Spool) -> None:
    async with writing(
        spool, f"postgresql://postgres:wrong-secret@127.0.0.1:{postgres.port}/postgres"
    ) as writer:
        await until(lambda: writer.status.last_error, "the reason")
    assert "check user, password" in writer.status.detail
    assert "wrong-secret" not in writer.status.detail
