"""A year of history: how much disk it takes, and how long any range takes to be asked, beside plain raw rows.

    python bench/history_year.py [--hosts N]

Simulated: the roll-ups of a year (14 days of 1m, 60 of 10m, 365 of 1h and 1d, 20 numbers a host) are written in SQL, with
random values, not made from samples; samples are written for the two days that they are kept, one every 30 s. Beside it
one host's year of samples every 30 s is a plain table with an index on (stream, time), asked the same question. Sizes are
those of 50 hosts, scaled from N. Times are the median of 9, warm.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from embedded.migrations import apply_bootstrap, apply_migrations
from embedded.postgres import Postgres

MIGRATIONS = Path(__file__).parents[1] / "supabase" / "migrations"
METRICS = 20
RANGES = {"1 h": "1 hour", "1 d": "1 day", "30 d": "30 days", "1 y": "365 days"}
DAYS = {1: 14, 10: 60, 60: 365, 1440: 365}
PAYLOAD = "(select jsonb_object_agg('m' || k, round((random() * 100 + n * 0)::numeric, 2)) from generate_series(1, 20) k)"
ASK = """
select date_bin($2::interval / 300, at, '2000-01-03'), avg(v), min(v), max(v), count(*) from (
  select at, (metrics ->> 'm7')::float8 as v from plain where stream = $1 and at >= now() - $2::interval) as t group by 1
"""


async def fill(connection: Any, hosts: int) -> None:
    """Write what a year leaves."""
    await connection.execute(
        "insert into cf_metrics (stream, path, selector) select 'host-' || h || '/system', 'm' || k, ('$.m' || k)::jsonpath "  # noqa: S608
        f"from generate_series(1, {hosts}) h, generate_series(1, {METRICS}) k"
    )
    for level, days in DAYS.items():
        chunk = await connection.fetchval("select chunk from cf_levels where level = $1", level)
        first = f"cf_bin('{chunk.total_seconds()} s', now() - interval '{days} days')"
        await connection.execute(
            f"select cf_level_partition({level}, at) from generate_series({first}, now(), interval '1 day') at"  # noqa: S608
        )
        buckets = int(chunk.total_seconds() // 60 // level)
        await connection.execute(
            f"""
            insert into cf_rollups
            select {level}, m.id, at, b.places, b.counts, b.sums, b.lows, b.highs
            from generate_series({first}, now(), interval '{chunk.total_seconds()} s') at, cf_metrics m
            cross join lateral (
              select array_agg(p), array_agg(2 * {level}), array_agg(v * 2 * {level}), array_agg(v * 0.9), array_agg(v * 1.1)
              from (select p, round((random() * 100 + m.id * 0)::numeric, 2)::float8 as v
                from generate_series(0, {buckets} - 1) p where at + make_interval(mins => p * {level}) < now()) as bucket
            ) as b(places, counts, sums, lows, highs) where b.places is not null
            """  # noqa: S608 - numbers of our own
        )
    await connection.execute(
        "select cf_make_partitions(array(select current_date - n from generate_series(0, 3) n))"
    )
    await connection.execute(
        f"insert into cf_samples select 'host-' || h || '/system', at, {PAYLOAD} from generate_series(1, {hosts}) h,"  # noqa: S608
        " generate_series(now() - interval '2 days', now(), '30 s') with ordinality as g(at, n)"
    )
    await connection.execute(
        f"create table plain as select 'host-1/system' as stream, at, {PAYLOAD} as metrics"  # noqa: S608
        " from generate_series(now() - interval '365 days', now(), '30 s') with ordinality as g(at, n)"
    )
    await connection.execute("create index on plain (stream, at)")
    await connection.execute("analyze")


async def took(connection: Any, sql: str, *arguments: object) -> float:
    """Return milliseconds, the median of 9."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        await connection.fetch(sql, *arguments)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


async def main(hosts: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgres = Postgres(folder / "pg", port=0)
        await asyncio.to_thread(postgres.start)
        try:
            connection = await asyncpg.connect(postgres.dsn())
            await apply_bootstrap(connection)
            await apply_migrations(connection, MIGRATIONS)
            began = time.perf_counter()
            await fill(connection, hosts)
            print(f"filled in {time.perf_counter() - began:.0f} s")
            print(f"\n{'level':<8}{'MB, 50 hosts':>14}")
            for level, text in ((0, "raw"), (1, "1m"), (10, "10m"), (60, "1h"), (1440, "1d")):
                size = await connection.fetchval(
                    "select coalesce(sum(pg_total_relation_size(format('public.%I', name)::regclass)), 0)::bigint"
                    " from cf_partitions() where level = $1",
                    level,
                )
                print(f"{text:<8}{size * 50 / hosts / 1e6:>14.0f}")
            plain = await connection.fetchval("select pg_total_relation_size('plain')")
            print(f"{'raw for a year, plain':<22}{plain * 50 / 1e6:>10.0f}")
            print(f"\n{'range':<8}{'cf_series, ms':>14}{'raw rows, ms':>14}")
            series = "select cf_series('host-1/system', 'm7', now() - $1::interval, now(), 300)"
            for text, interval in RANGES.items():
                span = await connection.fetchval(f"select interval '{interval}'")
                ours = await took(connection, series, span)
                theirs = await took(connection, ASK, "host-1/system", span)
                print(f"{text:<8}{ours:>14.1f}{theirs:>14.1f}")
            await connection.close()
        finally:
            await asyncio.to_thread(postgres.stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=4)
    asyncio.run(main(parser.parse_args().hosts))
