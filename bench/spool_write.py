"""How fast the spool's backlog reaches the database, beside what PostgreSQL takes from plain clients.

    python bench/spool_write.py [--events N] [--rounds N]

Each case writes the same events into an empty table: the writer end to end (read from the spool's file, lease, fence,
feed, heads, latest state, history, acknowledge), with its pace and without; and as the floor, a plain table with the
feed's columns and primary key, by COPY and by executemany, 500 rows a transaction, rows prepared beforehand. Rounds
alternate; the medians are printed. PostgreSQL runs as it does for users: fsync on.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from adapters.postgres_writer import BATCH, PACE, PostgresWriter
from adapters.spool import Spool
from embedded.migrations import apply_bootstrap, apply_migrations
from embedded.postgres import Postgres
from monitoring.events import Draft, Kind, StreamId, category_of, device_of, metric_type_of

_MIGRATIONS = Path(__file__).parents[1] / "supabase" / "migrations"
_PLAIN = """
create table plain (stream text, epoch bigint, seq bigint, id uuid, device text, category text, metric_type text,
  kind text, occurred_at timestamptz, payload jsonb, primary key (stream, epoch, seq))
"""
_COLUMNS = (
    "stream",
    "epoch",
    "seq",
    "id",
    "device",
    "category",
    "metric_type",
    "kind",
    "occurred_at",
    "payload",
)
_INSERT = "insert into plain values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_SAMPLE = {
    "hostname": "web-1", "cpu_usage": 12.5, "memory_usage": 48.1, "memory_total_bytes": 16_777_216_000,
    "disks": [{"mount": "/", "total_bytes": 270_000_000_000, "used_bytes": 26_000_000_000}],
    "network": [{"interface": "eth0", "received_bytes": 123_456_789, "sent_bytes": 987_654_321}],
}  # fmt: skip


def _container(number: int) -> dict[str, Any]:
    return {
        "id": f"{number:064x}", "name": f"service-{number}", "image": "registry/app:1.2", "status": "running",
        "health": "healthy", "running": True, "cpu_percent": 3.25, "memory_used_bytes": 104_857_600,
        "memory_limit_bytes": 536_870_912,
    }  # fmt: skip


def _drafts(mix: str, number: int) -> list[Draft]:
    """One tick of one of ten devices."""
    device, now = f"web-{number % 10}", datetime.now(UTC)
    if mix == "system":
        return [
            Draft(
                StreamId(f"{device}/system"),
                Kind.METRIC_COLLECTED,
                now,
                {**_SAMPLE, "load": number % 100 / 10},
            )
        ]
    payload = {"available": True, "containers": [_container(each) for each in range(20)]}
    return [Draft(StreamId(f"{device}/containers"), Kind.CONTAINERS_COLLECTED, now, payload)]


def _filled(path: Path, mix: str, events: int) -> Spool:
    spool = Spool.open(path)
    spool.set_enabled("legacy", enabled=False)
    for number in range(10):
        spool.open_stream(_drafts(mix, number)[0].stream, 1, None, datetime.now(UTC))
    for start in range(0, events, 100):
        spool.append([draft for number in range(start, start + 100) for draft in _drafts(mix, number)])
    return spool


async def _written(url: str, spool: Spool, pace: float | None) -> float:
    writer = PostgresWriter(spool, url, list(spool.heads()), pace=pace)
    began = time.perf_counter()
    task = asyncio.create_task(writer.run())
    try:
        while spool.acknowledged("supabase") < spool.position:
            await asyncio.sleep(0.001)
        return time.perf_counter() - began
    finally:
        task.cancel()
        await asyncio.wait({task})


def _rows(spool: Spool) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    after = 0
    while found := spool.read(after, BATCH):
        after = found[-1][0]
        rows += [
            (
                event.stream, event.epoch, event.seq, event.id, device_of(event.stream), category_of(event.stream),
                metric_type_of(event.stream), event.kind, event.occurred_at, orjson.dumps(event.payload).decode(),
            )
            for _, event in found
        ]  # fmt: skip
    return rows


async def _plain(
    connection: asyncpg.Connection[Any], rows: list[tuple[Any, ...]], *, copy: bool, batch: int
) -> float:
    began = time.perf_counter()
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        if copy:
            await connection.copy_records_to_table("plain", records=part, columns=_COLUMNS)
        else:
            async with connection.transaction():
                await connection.executemany(_INSERT, part)
    return time.perf_counter() - began


async def _mix(postgres: Postgres, folder: Path, mix: str, events: int, rounds: int) -> None:
    url = postgres.url(database="crossfade")
    connection = await asyncpg.connect(url)
    taken: dict[str, list[float]] = {}

    async def timed(name: str, measure: Callable[[], Awaitable[float]], count: int) -> None:
        await connection.execute(
            "truncate plain, cf_events, cf_stream_heads, cf_stream_latest, cf_leases, cf_samples, "
            "cf_devices_latest, cf_containers_latest; checkpoint"
        )
        taken.setdefault(name, []).append(count / await measure())

    for round_ in range(rounds):
        with _filled(folder / f"{mix}-{round_}.db", mix, events) as spool:
            rows, count = _rows(spool), spool.position
            plain = functools.partial(_plain, connection, rows, batch=500)
            await timed("COPY, 500 a transaction", functools.partial(plain, copy=True), count)
            await timed("executemany, 500", functools.partial(plain, copy=False), count)
            await timed("the writer, no pace", functools.partial(_written, url, spool, None), count)
        with _filled(folder / f"{mix}-{round_}-paced.db", mix, events) as spool:
            await timed(
                f"the writer, paced to {PACE:g}/s",
                functools.partial(_written, url, spool, PACE),
                spool.position,
            )
    size = statistics.mean(len(row[-1]) for row in rows)
    await connection.close()
    floor = statistics.median(taken["COPY, 500 a transaction"])
    print(f"\n{mix}: {events} events of {size:.0f} bytes, median of {rounds}")
    print(f"{'':<32}{'events/s':>10}{'of COPY':>10}")
    for name, figures in taken.items():
        print(f"{name:<32}{statistics.median(figures):>10.0f}{statistics.median(figures) / floor:>10.2f}")


async def _main(events: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgres = Postgres(folder / "pg", port=0)
        await asyncio.to_thread(postgres.start)
        try:
            connection = await asyncpg.connect(postgres.dsn())
            await connection.execute("create database crossfade")
            await connection.close()
            connection = await asyncpg.connect(postgres.dsn(database="crossfade"))
            await apply_bootstrap(connection)
            await apply_migrations(connection, _MIGRATIONS)
            await connection.execute(_PLAIN)
            await connection.close()
            await _mix(postgres, folder, "system", events, rounds)
            await _mix(postgres, folder, "containers", events // 4, rounds)
        finally:
            await asyncio.to_thread(postgres.stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    asyncio.run(_main(given.events, given.rounds))
