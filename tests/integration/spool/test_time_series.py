"""Roll-ups hold what plain SQL over all samples says, however late samples come and whenever housekeeping is stopped."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

STREAM = "web-1/system"
LEVELS = (1, 10, 60, 1440)

TRUTH = """
select path, date_bin(make_interval(mins => $1), at, '2000-01-03 00:00:00+00') as bucket, count(*) as n,
  sum(value) as total, min(value) as low, max(value) as high
from truth group by 1, 2 order by 1, 2
"""
ROLLED = """
select m.path, r.chunk + make_interval(mins => place * r.level) as bucket, n, total, low, high
from public.cf_rollups r join public.cf_metrics m on m.id = r.metric
cross join unnest(r.places, r.counts, r.sums, r.lows, r.highs) as b(place, n, total, low, high)
where r.level = $1 order by 1, 2
"""


class Owner:
    """Appends samples of one stream, and remembers each in a plain table."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.id = uuid4()
        self.seq = 0

    @classmethod
    async def of(cls, connection: Any) -> Owner:
        owner = cls(connection)
        await connection.execute("create table truth (path text, at timestamptz, value double precision)")
        await connection.fetchval("select public.cf_acquire_lease($1, $2, 1, 3600)", STREAM, owner.id)
        return owner

    def event(self, at: datetime, payload: dict[str, Any]) -> dict[str, Any]:
        self.seq += 1
        return {
            "id": str(uuid4()), "stream": STREAM, "epoch": 1, "seq": self.seq, "kind": "metric_collected",
            "occurred_at": at.isoformat(), "payload": payload, "metric_type": "system_metrics",
        }  # fmt: skip

    async def append(self, samples: list[tuple[datetime, int]], connection: Any = None) -> None:
        events = [
            self.event(at, {"cpu": value, "disks": [{"mount": "/", "used": -value}]}) for at, value in samples
        ]
        asked = connection or self.connection
        async with asked.transaction():
            await asked.fetchval("select public.cf_append($1, $2::jsonb, 3600)", self.id, json.dumps(events))
            await asked.executemany(
                "insert into truth values ('cpu', $1, $2), ('disks[/].used', $1, -$2::double precision)",
                [(at, float(value)) for at, value in samples],
            )


async def rolled_up(connection: Any) -> None:
    """Keep house until nothing that is over is pending."""
    due = "select count(*) from public.cf_rollup_pending where hour <= now() - interval '61 minutes'"
    async with asyncio.timeout(60):
        while await connection.fetchval(due):
            await connection.fetchval("select public.cf_maintain()")
    assert (
        await connection.fetchval("select count(*) from public.cf_rollup_pending where problem is not null")
        == 0
    )


async def equal_truth(connection: Any, levels: tuple[int, ...] = LEVELS) -> None:
    for level in levels:
        rolled = [tuple(row) for row in await connection.fetch(ROLLED, level)]
        truth = [tuple(row) for row in await connection.fetch(TRUTH, level)]
        assert rolled == truth, level


def some_times(chance: random.Random, count: int, days: float) -> list[datetime]:
    last = datetime.now(UTC) - timedelta(hours=2, minutes=5)
    moments = {int(chance.uniform(0, days * 86_400_000)) for _ in range(count)}
    return [last - timedelta(milliseconds=moment) for moment in moments]


@pytest.mark.parametrize("seed", range(5))
async def test_roll_ups_equal_plain_sql_over_all_samples(database: Any, seed: int) -> None:
    """In any order, late by days, over samples that were dropped, and with housekeeping undone half-way at random."""
    chance = random.Random(seed)
    connection = database.connection
    owner = await Owner.of(connection)
    for days in (9, *chance.choices([0.2, 1, 9], k=5), 9):
        samples = [(at, chance.randint(-1000, 1000)) for at in some_times(chance, 60, days)]
        for start in range(0, len(samples), 20):
            await owner.append(samples[start : start + 20])
        for _ in range(chance.randint(1, 5)):
            step = connection.transaction()
            await step.start()
            await connection.fetchval("select public.cf_maintain()")
            await (step.rollback() if chance.random() < 0.4 else step.commit())
    await rolled_up(connection)
    await equal_truth(connection)
    dropped = await connection.fetchval("select raw_from > current_date - 9 from public.cf_storage")
    assert dropped, "some samples came after their day had been dropped"
    await connection.execute("insert into public.cf_rollup_pending select $1, h from generate_series("
        "date_trunc('hour', now()) - interval '30 hours', now() - interval '2 hours', '1 hour') as h"
        " on conflict do nothing", STREAM)  # fmt: skip
    await rolled_up(connection)
    await equal_truth(connection)


async def test_an_hour_to_which_somebody_just_adds_is_not_taken_for_whole(database: Any) -> None:
    """A late sample is in a transaction that is not over while its hour is rolled up."""
    connection = database.connection
    owner = await Owner.of(connection)
    at = datetime.now(UTC) - timedelta(hours=3)
    await owner.append([(at, 1)])
    other = await asyncpg.connect(database.url)
    try:
        async with other.transaction():
            await owner.append([(at + timedelta(milliseconds=1), 5)], other)
            for _ in range(4):
                await connection.fetchval("select public.cf_maintain()")
    finally:
        await other.close()
    await rolled_up(connection)
    await equal_truth(connection)


async def test_what_cannot_be_rolled_up_holds_up_nothing_else(database: Any) -> None:
    connection = database.connection
    owner = await Owner.of(connection)
    at = datetime.now(UTC) - timedelta(hours=3)
    for payload in (
        {"n": 1e308},
        {"deep": [[[[[[[[1]]]]]]]]},
        {"name": {"": 1, 'a"b': 2}},
        {"x": [{"name": 'q"]\\'}]},
    ):
        at += timedelta(seconds=1)
        event = owner.event(at, payload)
        await connection.fetchval("select public.cf_append($1, $2::jsonb)", owner.id, json.dumps([event]))
    await owner.append([(at + timedelta(seconds=9), 3)])
    await rolled_up(connection)
    paths = json.loads(await connection.fetchval("select public.cf_fields($1)", STREAM))
    assert {"cpu", "disks[/].used", "name.", 'name.a"b'} <= set(paths)
    for path in paths:
        answer = await series(connection, path, at - timedelta(minutes=30), at + timedelta(minutes=30), 60)
        assert answer["points"], path


async def series(connection: Any, field: str, start: datetime, end: datetime, points: int) -> dict[str, Any]:
    text = await connection.fetchval(
        "select public.cf_series($1, $2, $3, $4, $5)", STREAM, field, start, end, points
    )
    answer: dict[str, Any] = json.loads(text)
    return answer


@pytest.mark.parametrize(
    ("hours", "points", "level"),
    [
        (1, 600, "raw"),
        (6, 200, "1m"),
        (24, 100, "10m"),
        (24 * 30, 300, "1h"),
        (24 * 300, 200, "1d"),
        (24, 2000, "raw"),
    ],
)
async def test_any_range_is_answered_from_the_level_that_fits(
    database: Any, hours: int, points: int, level: str
) -> None:
    """With samples of this hour, which no roll-up has, and before and after everything was rolled up."""
    connection = database.connection
    owner = await Owner.of(connection)
    chance = random.Random(hours)
    now = datetime.now(UTC)
    recent = [(now - timedelta(seconds=s), chance.randint(0, 100)) for s in range(1, 5400, 97)]
    await owner.append([(at, chance.randint(0, 100)) for at in some_times(chance, 300, 1.5)] + recent)
    start = now - timedelta(hours=hours)
    for _ in range(2):
        answer = await series(connection, "disks[/].used", start, now, points)
        assert answer["level"] == level
        assert len(answer["points"]) <= points + 1
        expected = await connection.fetch(
            """
            select extract(epoch from bucket)::float8, total / n, low, high, n from (
              select date_bin($1, at, '2000-01-03 00:00:00+00') as bucket, count(*) as n, sum(value) as total,
                min(value) as low, max(value) as high from truth where path = 'disks[/].used' and at < $3 group by 1) as t
            where bucket >= date_bin($1, $2, '2000-01-03 00:00:00+00') order by 1
            """,
            timedelta(seconds=answer["step_seconds"]), start, now,
        )  # fmt: skip
        inside = [tuple(row) for row in expected if row[0] > start.timestamp()]
        assert [tuple(p) for p in answer["points"] if p[0] > start.timestamp()] == [
            pytest.approx(row) for row in inside
        ]
        await rolled_up(connection)


async def test_a_store_that_is_full_gives_up_its_finest_and_oldest_first(database: Any) -> None:
    connection = database.connection
    owner = await Owner.of(connection)
    now = datetime.now(UTC)
    await connection.execute("update public.cf_levels set keep = '13 days' where level = 0")
    blob = "".join(random.Random(1).choices("abcdefghijklmnop", k=6000))
    for day in range(12, -1, -1):
        at = (now - timedelta(days=day)).replace(hour=0, minute=10)
        events = [
            owner.event(min(at, now) + timedelta(milliseconds=n), {"n": n, "blob": blob}) for n in range(200)
        ]
        await connection.fetchval("select public.cf_append($1, $2::jsonb)", owner.id, json.dumps(events))
    await rolled_up(connection)
    await connection.execute("truncate public.cf_events")
    used = await connection.fetchval("select public.cf_used_bytes()")
    await connection.execute("alter table public.cf_storage drop constraint cf_storage_limit_bytes_check")
    await connection.execute("update public.cf_storage set limit_bytes = $1", used * 2 // 3)
    answer = json.loads(await connection.fetchval("select public.cf_maintain()"))
    assert answer["used_bytes"] <= answer["limit_bytes"] < used
    assert 1 <= answer["trims"] <= 8
    assert answer["trimmed"].startswith("cf_samples_")
    left = await connection.fetch("select from_day from public.cf_partitions() where level = 0 order by 1")
    oldest = (now - timedelta(days=12)).date()
    assert left[0][0] == oldest + timedelta(days=answer["trims"])
    counted = await connection.fetchval(
        "select sum(n) from public.cf_rollups, unnest(counts) as n where level = 1440 and metric = 1"
    )
    assert counted >= 12 * 200, "days outlive their samples"


async def test_after_a_long_sleep_partitions_are_made_before_they_are_needed(database: Any) -> None:
    connection = database.connection
    for row in await connection.fetch("select name from public.cf_partitions() where level = 0"):
        await connection.execute(f"drop table public.{row[0]}")
    owner = await Owner.of(connection)
    await owner.append([(datetime.now(UTC), 1)])
    await connection.fetchval("select public.cf_maintain()")
    days = await connection.fetch("select from_day from public.cf_partitions() where level = 0 order by 1")
    today = datetime.now(UTC).date()
    assert [row[0] for row in days] == [today + timedelta(days=n) for n in (-1, 0, 1, 2, 3)]


async def test_how_long_is_kept_is_chosen_by_level(database: Any) -> None:
    connection = database.connection
    await connection.execute(
        "select public.cf_set_keep($1::jsonb, $2)", '{"1m": "7 days", "events": "1 hour"}', 10**9
    )
    assert await connection.fetchval("select keep from public.cf_levels where name = '1m'") == timedelta(
        days=7
    )
    row = await connection.fetchrow("select keep_events, limit_bytes from public.cf_storage")
    assert tuple(row) == (timedelta(hours=1), 10**9)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="there is no level 5m"):
        await connection.execute('select public.cf_set_keep(\'{"5m": "7 days"}\')')
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute('select public.cf_set_keep(\'{"raw": "1 hour"}\')')
