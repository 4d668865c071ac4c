"""What history keeps of events, by day, and its housekeeping."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg

from adapters.spool import Spool
from monitoring.events import Draft, Kind
from tests.integration.spool.writing import CONTAINERS, STREAMS, SYSTEM, delivered, drafts, until, writing

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
    samples = await database.connection.fetch("select * from public.cf_samples order by stream, sampled_at")
    # What is older than samples are kept was rolled up, and went with its day.
    kept = [noon + timedelta(days=days) for days in (-14, -10, -2, 0, 3)]
    assert {(row["stream"], row["sampled_at"]) for row in samples} <= {
        (s, at) for s in STREAMS for at in kept
    }
    assert {(row["stream"], row["sampled_at"]) for row in samples} >= {
        (s, at) for s in STREAMS for at in kept[3:]
    }


async def test_what_history_cannot_keep_is_left_out_alone(database: Any, spool: Spool) -> None:
    """Of a container without a name no row can be made; its event, and every sample, is there."""
    for stream in STREAMS:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    nameless = {"available": False, "containers": [{"running": True}]}
    spool.append(drafts(2))
    spool.append([Draft(CONTAINERS, Kind.CONTAINERS_COLLECTED, datetime.now(UTC), nameless)])
    spool.append(drafts(2))
    async with writing(spool, database.url) as writer:
        await until(delivered(spool), "delivery")
    assert writer.status.tombstones == 0
    assert await database.connection.fetchval("select count(*) from public.cf_samples") == 5
    assert await database.connection.fetchval("select count(*) from public.cf_containers_latest") == 0


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
    assert await partitions(database) == [today + timedelta(days=days) for days in (-1, 0, 1, 2, 3)]


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
                    "occurred_at": at.isoformat(), "payload": {"n": 1}, "metric_type": "system_metrics",
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
    for _ in range(owners * len(days)):  # what is claimed by one step is rolled up by the next
        answer = json.loads(await database.connection.fetchval("select public.cf_maintain()"))
        pending = await database.connection.fetchval("select count(*) from public.cf_rollup_pending")
        if not answer.get("busy") and not pending:
            break
    assert not pending
    counted = "select sum(n) from public.cf_rollups, unnest(counts) as n where level = $1"
    for level in (60, 1440):
        assert await database.connection.fetchval(counted, level) == owners * len(days)
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


LATE = "web-9/system"


def six_days_ago() -> datetime:
    """Return an hour of a day that housekeeping drops as soon as it is rolled up."""
    return (datetime.now(UTC) - timedelta(days=6)).replace(minute=0, second=0, microsecond=0)


def late_sample(at: datetime, seq: int) -> str:
    event = {
        "id": str(uuid4()), "stream": LATE, "epoch": 1, "seq": seq, "kind": "metric_collected",
        "occurred_at": (at + timedelta(seconds=seq)).isoformat(), "payload": {"cpu_usage": seq}, "metric_type": "system",
    }  # fmt: skip
    return json.dumps([event])


@asynccontextmanager
async def late_appends(database: Any, at: datetime) -> AsyncIterator[tuple[str, Any, Any]]:
    """Yield an owner that has appended a late sample, its connection, and one that keeps house."""
    owner = str(uuid4())
    writer, keeper = [await asyncpg.connect(database.url) for _ in range(2)]
    try:
        await writer.fetchval("select public.cf_acquire_lease($1, $2, 1)", LATE, owner)
        await writer.fetchval("select public.cf_append($1, $2)", owner, late_sample(at, 1))
        yield owner, writer, keeper
    finally:
        writer.terminate()
        keeper.terminate()


async def test_a_late_sample_waits_for_the_housekeeping_that_drops_its_day(database: Any) -> None:
    at = six_days_ago()
    async with late_appends(database, at) as (owner, writer, keeper):
        async with asyncio.timeout(20):
            while await keeper.fetchval("select public.cf_roll_up()"):  # what is not rolled up is not dropped
                pass
        dropping = keeper.transaction()
        await dropping.start()
        assert json.loads(await keeper.fetchval("select public.cf_maintain()"))["partitions_dropped"] >= 1
        appending = asyncio.create_task(
            writer.fetchval("select public.cf_append($1, $2)", owner, late_sample(at, 2))
        )
        async with asyncio.timeout(20):
            while not await keeper.fetchval("select exists (select from pg_locks where not granted)"):
                await asyncio.sleep(0.01)
        await dropping.commit()
        assert await appending == 1
        kept = await keeper.fetchval("select max(sampled_at) from public.cf_samples where stream = $1", LATE)
        assert kept == at + timedelta(seconds=2)


async def test_an_append_of_late_samples_that_takes_long_holds_up_only_the_dropping(database: Any) -> None:
    at = six_days_ago()
    async with late_appends(database, at) as (owner, writer, keeper):
        recent = datetime.now(UTC) - timedelta(hours=30)
        await writer.fetchval("select public.cf_append($1, $2)", owner, late_sample(recent, 2))
        appending = writer.transaction()
        await appending.start()
        await writer.fetchval("select public.cf_append($1, $2)", owner, late_sample(at, 3))
        async with asyncio.timeout(60):
            done = json.loads(await keeper.fetchval("select public.cf_maintain()"))
            while await keeper.fetchval(
                "select exists (select from public.cf_rollup_pending where hour > $1)", at
            ):
                done = json.loads(await keeper.fetchval("select public.cf_maintain()"))
        assert (done["partitions_dropped"], done["partitions_made"]) == (0, 0)
        await appending.commit()
        async with asyncio.timeout(60):
            while not done["partitions_dropped"]:
                done = json.loads(await keeper.fetchval("select public.cf_maintain()"))
