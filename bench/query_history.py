"""History for the query service's bench: so many samples of many devices, raw and rolled up, written in SQL.

Each device has one sample every 5 s, of two gauges and a counter. Raw rows are written a day at a time into tables without
an index, which become partitions; roll-ups are written from the same formulas, not made from the samples. Nothing is in the
write-ahead log: what is measured only reads.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

EVERY_SECONDS = 5
FIELDS = ("cpu_usage", "memory_usage", "rx_bytes")
_VALUES = {
    "cpu_usage": "round((50 + 40 * sin(extract(epoch from {at}) / 3600 + {device}))::numeric, 2)::float8",
    "memory_usage": "round((40 + {device} % 50)::numeric, 2)::float8",
    "rx_bytes": "trunc(extract(epoch from {at}) * (1000 + {device}))",
}


def span(samples: int, devices: int) -> timedelta:
    """Return how long so many samples take."""
    return timedelta(seconds=samples / devices * EVERY_SECONDS)


async def write(connection: Any, samples: int, devices: int, raw: timedelta) -> int:
    """Write the history, the newest ``raw`` of it as samples too; returns how many rows of samples there are."""
    end = datetime.now(UTC)
    begin = end - span(samples, devices)
    days = span(samples, devices).days + 2
    keep = f'{{"raw": "{days} days", "1m": "{days} days"}}'
    await connection.execute("select cf_set_keep($1, 100000000000)", keep)
    await connection.execute(
        "insert into cf_metrics (stream, path, selector) select 'host-' || d || '/system', path, ('$.' || path)::jsonpath"
        " from generate_series(1, $1::int) d, unnest($2::text[]) path",
        devices,
        list(FIELDS),
    )
    await connection.execute(
        "insert into cf_devices_latest (device, sampled_at) select 'host-' || d, $2 from generate_series(1, $1::int) d",
        devices,
        end,
    )
    rows = 0
    day = max(begin, end - raw).replace(hour=0, minute=0, second=0, microsecond=0)
    while day < end:
        rows += await _day(connection, day, max(begin, end - raw), end, devices)
        day += timedelta(days=1)
    for level in (1, 10, 60, 1440):
        await _roll_up(connection, level, begin, end)
    await connection.execute("vacuum analyze")
    return rows


async def _day(connection: Any, day: datetime, begin: datetime, end: datetime, devices: int) -> int:
    name = f"cf_samples_{day:%Y%m%d}"
    first, last = max(day, begin), min(day + timedelta(days=1), end)
    metrics = ", ".join(f"'{path}', {sql.format(at='at', device='d')}" for path, sql in _VALUES.items())
    await connection.execute(f"drop table if exists public.{name}")
    await connection.execute(
        f"create unlogged table public.{name} (like public.cf_samples including storage including compression)"
    )
    done = await connection.execute(
        f"insert into public.{name} select 'host-' || d || '/system', at, jsonb_build_object({metrics})"  # noqa: S608
        f" from generate_series(1, {devices}) d,"
        f" generate_series('{first}'::timestamptz, '{last - timedelta(seconds=1)}', interval '{EVERY_SECONDS} s') at",
        timeout=7200,
    )
    await connection.execute(f"alter table public.{name} enable row level security")
    await connection.execute(
        f"alter table public.cf_samples attach partition public.{name}"
        f" for values from ('{day:%Y-%m-%d} 00:00:00+00') to ('{day + timedelta(days=1):%Y-%m-%d} 00:00:00+00')",
        timeout=7200,
    )
    return int(done.split()[-1])


async def _roll_up(connection: Any, level: int, begin: datetime, end: datetime) -> None:
    """Write the buckets of a level; a bucket's lowest and highest are those of its ends."""
    chunk = await connection.fetchval("select chunk from cf_levels where level = $1", level)
    seconds = int(chunk.total_seconds())
    await connection.execute(
        f"select cf_level_partition({level}, at) from generate_series("  # noqa: S608
        f"cf_bin('{seconds} s', '{begin}'), '{end}'::timestamptz + interval '1 day', interval '1 day') at"
    )
    value = " ".join(f"when '{path}' then {sql}" for path, sql in _VALUES.items())
    device = "substring(m.stream from 6 for position('/' in m.stream) - 6)::int"
    low = value.format(at="bucket", device=device)
    high = value.format(at=f"(bucket + interval '{level * 60 - EVERY_SECONDS} s')", device=device)
    n = level * 60 // EVERY_SECONDS
    await connection.execute(
        f"""
        insert into cf_rollups
        select {level}, m.id, at, b.places, b.counts, b.sums, b.lows, b.highs
        from cf_metrics m, generate_series(cf_bin('{seconds} s', '{begin}'), '{end}', interval '{seconds} s') at
        cross join lateral (
          select array_agg(p), array_agg({n}), array_agg((low + high) / 2 * {n}), array_agg(least(low, high)),
            array_agg(greatest(low, high))
          from (
            select p, case m.path {low} end as low, case m.path {high} end as high
            from generate_series(0, {seconds // 60 // level} - 1) p
            cross join lateral (select at + make_interval(mins => p * {level}) as bucket) as t
            where bucket >= '{begin}' and bucket < '{end}') as made
        ) as b(places, counts, sums, lows, highs) where b.places is not null
        """,  # noqa: S608 - numbers of our own
        timeout=7200,
    )
