from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import asyncpg
import pytest

from adapters.backoff import Backoff
from adapters.postgres_writer import PostgresWriter
from adapters.spool import Spool
from adapters.spool_file import SpoolFull, SpoolUnwritable, StreamNotOpen
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


OLD_AND_NEW = (
    timedelta(days=-365 * 30),
    timedelta(days=-400),
    timedelta(days=-15),
    timedelta(days=-14),
    timedelta(days=-10),
    timedelta(days=-2),
    timedelta(),
    timedelta(days=3),
    timedelta(days=4),
    timedelta(days=10),
    timedelta(days=365 * 1000),
)
"""Around the edges of what history keeps: 14 days back, 3 ahead."""


async def test_events_of_any_time_arrive_and_history_keeps_those_of_its_days(
    database: Any, spool: Spool
) -> None:
    for stream in STREAMS:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    container = {"name": "api", "id": "a", "status": "running", "running": True}
    for age in OLD_AND_NEW:
        payload = {"available": True, "containers": [container]}
        spool.append(
            [
                Draft(SYSTEM, Kind.METRIC_COLLECTED, noon + age, {"hostname": "web-1"}),
                Draft(CONTAINERS, Kind.CONTAINERS_COLLECTED, noon + age, payload),
            ]
        )
    async with writing(spool, database.url) as writer:
        await until(delivered(spool), "delivery")
    assert writer.status.tombstones == 0
    for stream in STREAMS:
        rows = await database.rows(stream)
        assert [seq for _, seq, _ in rows] == list(range(1, len(OLD_AND_NEW) + 2))
        assert "tombstone" not in {kind for _, _, kind in rows}
    samples = await database.connection.fetch("select * from public.cf_samples order by category, sampled_at")
    kept = [noon + timedelta(days=days) for days in (-14, -10, -2, 0, 3)]
    assert [(row["target"], row["sampled_at"]) for row in samples] == [
        *(("api", at) for at in kept),
        *(("web-1", at) for at in kept),
    ]


async def test_what_history_cannot_keep_is_left_out_alone(database: Any, spool: Spool) -> None:
    """A container without a name has no row in history; its event, and every other sample, is there."""
    for stream in STREAMS:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    nameless = {"available": False, "containers": [{"running": True}]}
    spool.append(drafts(2))
    spool.append([Draft(CONTAINERS, Kind.CONTAINERS_COLLECTED, datetime.now(UTC), nameless)])
    spool.append(drafts(2))
    async with writing(spool, database.url) as writer:
        await until(delivered(spool), "delivery")
    assert writer.status.tombstones == 0
    assert await database.connection.fetchval("select count(*) from public.cf_samples") == 4


async def test_what_expired_is_deleted_in_steps_and_partitions_come_and_go(
    database: Any, spool: Spool
) -> None:
    today = datetime.now(UTC).date()
    expired = today - timedelta(days=15)
    await database.connection.execute(
        """
        insert into public.cf_events
          (stream, epoch, seq, id, device, category, metric_type, kind, occurred_at, payload, recorded_at)
        select 'gone/system', 1, n, gen_random_uuid(), 'gone', 'system', 'm', 'k', now(), '{}',
          now() - interval '7 hours' from generate_series(1, 12000) as n
        """
    )
    await database.connection.fetchval(
        "select public.cf_make_partitions($1)", [expired, expired + timedelta(days=1)]
    )
    await database.connection.execute(f"drop table public.cf_samples_{today + timedelta(days=3):%Y%m%d}")
    async with writing(spool, database.url) as writer:
        await until(lambda: writer.status.expired == 12_000, "the last step")
        spool.append(drafts(1))
        await until(delivered(spool), "delivery")
    assert writer.status.housekeeping_error is None
    assert await database.rows("gone/system") == []
    assert await partitions(database) == [today + timedelta(days=days) for days in (-14, -1, 0, 1, 2, 3)]


async def partitions(database: Any) -> list[date]:
    rows = await database.connection.fetch(
        "select right(inhrelid::regclass::text, 8) from pg_inherits "
        "where inhparent = 'public.cf_samples'::regclass order by 1"
    )
    return [datetime.strptime(row[0], "%Y%m%d").replace(tzinfo=UTC).date() for row in rows]


async def test_a_partition_keeps_what_others_may_not_read(database: Any) -> None:
    rows = await database.connection.fetch(
        """
        select c.relrowsecurity, has_table_privilege('anon', c.oid, 'select') as anon,
          has_table_privilege('authenticated', c.oid, 'select') as authenticated
        from pg_inherits join pg_class c on c.oid = inhrelid where inhparent = 'public.cf_samples'::regclass
        """
    )
    assert rows
    assert {tuple(row) for row in rows} == {(True, False, False)}


async def test_housekeeping_that_fails_holds_up_no_event(database: Any, spool: Spool) -> None:
    await database.connection.execute(
        "create or replace function public.cf_ensure_partitions(p_days_ahead int default 3) returns int "
        "language plpgsql as $$ begin raise exception 'no space'; end $$"
    )
    async with writing(spool, database.url) as writer:
        await writer.opened()
        spool.append(drafts(2))
        await until(delivered(spool), "delivery")
        assert writer.status.connected
        assert writer.status.housekeeping_error == "housekeeping failed: no space"


async def test_a_reader_of_history_holds_up_neither_new_days_nor_events(database: Any, spool: Spool) -> None:
    """Somebody reads all of history for long, while a new day begins and an old one expires."""
    today = datetime.now(UTC).date()
    await database.connection.fetchval("select public.cf_make_partitions($1)", [today - timedelta(days=20)])
    reader = await asyncpg.connect(database.url)
    try:
        async with reader.transaction():
            await reader.fetch("select * from public.cf_samples")
            for stream in STREAMS:
                spool.open_stream(stream, 1, None, datetime.now(UTC))
            at = datetime.now(UTC) - timedelta(days=5)
            spool.append([Draft(SYSTEM, Kind.METRIC_COLLECTED, at, {"hostname": "web-1"})])
            async with writing(spool, database.url) as writer:
                await until(delivered(spool), "delivery")
                assert writer.status.housekeeping_error is None
            assert today - timedelta(days=20) in await partitions(database)
    finally:
        await reader.close()
    assert await database.connection.fetchval("select count(*) from public.cf_samples") == 1
    await database.connection.fetchval("select public.cf_maintain()")
    assert today - timedelta(days=20) not in await partitions(database)


async def test_owners_that_meet_new_days_at_once_do_not_lock_each_other(database: Any) -> None:
    """Many owners across many midnights, with housekeeping between: no deadlock, no sample lost."""
    days = [datetime.now(UTC) - timedelta(days=days) for days in range(2, 14)]
    owners = 4

    async def own(number: int) -> None:
        connection = await asyncpg.connect(database.url)
        try:
            owner, stream = uuid4(), f"host-{number}/system"
            await connection.fetchval("select public.cf_acquire_lease($1, $2)", stream, owner)
            for seq, at in enumerate(days, start=1):
                event = {
                    "id": str(uuid4()), "stream": stream, "epoch": 1, "seq": seq, "kind": "metric_collected",
                    "occurred_at": at.isoformat(), "payload": {}, "metric_type": "system_metrics",
                }  # fmt: skip
                await connection.fetchval(
                    "select public.cf_append($1, $2::jsonb)", owner, json.dumps([event])
                )
                await connection.fetchval("select public.cf_maintain()")
        finally:
            await connection.close()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(owners):
            group.create_task(own(number))
    assert await database.connection.fetchval("select count(*) from public.cf_samples") == owners * len(days)
    assert await database.connection.fetchval("select count(*) from public.cf_events") == owners * len(days)


async def test_the_service_role_appends_across_days(database: Any) -> None:
    """Not the tables' owner: partitions are made with the owner's rights."""
    await database.connection.execute("set role service_role")
    owner = uuid4()
    await database.connection.fetchval("select public.cf_acquire_lease('web-1/system', $1)", owner)
    for seq, days in enumerate((-9, 0, 99), start=1):
        event = {
            "id": str(uuid4()), "stream": SYSTEM, "epoch": 1, "seq": seq, "kind": "metric_collected",
            "occurred_at": (datetime.now(UTC) + timedelta(days=days)).isoformat(), "payload": {},
            "metric_type": "system_metrics",
        }  # fmt: skip
        sent = json.dumps([event])
        assert await database.connection.fetchval("select public.cf_append($1, $2::jsonb)", owner, sent) == 1
    assert await database.connection.fetchval("select count(*) from public.cf_samples") == 2
    await database.connection.execute("reset role")


async def test_a_full_spool_drains_into_a_database_that_lost_the_leases(
    database: Any, tmp_path: Path
) -> None:
    """The new epoch's first event is taken by a full spool: without it nothing would ever go out."""
    with Spool.open(tmp_path / "full.db", max_events=20, retain_events=0) as full:
        full.set_enabled("legacy", enabled=False)
        full.open_stream(SYSTEM, 1, None, datetime.now(UTC))
        full.append(drafts(19))
        with pytest.raises(SpoolFull):
            full.append(drafts(1))
        async with writing(full, database.url):
            await until(lambda: delivered(full)() and full.is_open(CONTAINERS), "delivery")
            full.append(drafts(1))
            await until(delivered(full), "delivery of what came then")
    assert len(await database.rows(SYSTEM)) == 21


async def test_a_stream_that_cannot_be_opened_holds_up_no_other(database: Any, spool: Spool) -> None:
    spool.open_stream(SYSTEM, 5, None, datetime.now(UTC))
    spool.append(drafts(3))
    await database.connection.execute(  # the database is behind the spool in this stream: its epoch is a stale one
        "insert into public.cf_leases (stream, owner, epoch, expires_at) values ($1, $2, 3, now() - interval '1 s')",
        CONTAINERS, uuid4(),
    )  # fmt: skip
    refusing = RefusingSpool(spool)
    async with writing(cast("Spool", refusing), database.url) as writer:
        await until(delivered(spool), "delivery of the other stream")
        assert writer.status.connected
        assert "web-1/containers cannot be opened yet" in str(writer.status.last_error)
    assert len(await database.rows(SYSTEM)) == 4


class RefusingSpool:
    """A spool whose disk has no room for a new stream."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spool, name)

    def open_stream(self, stream: StreamId, epoch: int, previous: Position | None, at: datetime) -> Any:
        raise SpoolUnwritable(Path("spool.db"), f"the disk is full ({stream} {epoch} {previous} {at})")


async def test_an_error_of_the_driver_does_not_swallow_the_cancellation(spool: Spool) -> None:
    """The connection breaks in the moment in which the writer is cancelled."""

    class Breaking(PostgresWriter):
        async def _session(self) -> None:
            try:
                started.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionResetError("cut") from None

    started = asyncio.Event()
    task = asyncio.create_task(Breaking(spool, "postgresql://u:p@127.0.0.1:1/d", STREAMS).run())
    await started.wait()
    task.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait({task})
    assert task.cancelled()
