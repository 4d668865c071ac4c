"""A database that is stopped for two minutes under load, and a collector that is killed meanwhile.

    python bench/collector_outage.py [--down SECONDS] [--rate EVENTS] [--json]

One collecting process (the product's scheduler, spool and both paths) takes ``--rate`` events a second. The database
is stopped; half way through the outage the collector gets a kill -9 and is started again; then the database comes back.
A client of the legacy server reads all the while. What the spool had taken, and so promised, is then compared with
what the database has and with what the client was given: nothing may be lost, nothing may be there twice, and the
legacy path's delays before and during the outage stand side by side (the second or so in which there was no collector
is left out: then nothing is told). Exit 0 when all of that holds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
from programs import HERE, ROOT, Program, machine, program

from adapters.legacy_websocket import LegacyWebSocket
from embedded.migrations import apply_bootstrap, apply_migrations
from embedded.ports import free_port
from embedded.postgres import Postgres
from monitoring.events import Event
from monitoring.service import Gap, Status
from monitoring.topics import GLOBAL

BEFORE_SECONDS = 5.0
TOKEN = "a-secret"  # noqa: S105 - of this run
UNDISTURBED_MS = 1000.0
"""What the legacy path may take at its 99th percentile, also on a busy machine."""
Identity = tuple[str, int, int]


class Reader:
    """A client of the legacy server."""

    def __init__(self, url: str) -> None:
        self.raw: Counter[Identity] = Counter()
        self.delivered: Counter[Identity] = Counter()
        self.gaps: list[Gap] = []
        self.delays: list[tuple[float, float]] = []
        """(when, seconds from the reading to the client)."""
        self._service = LegacyWebSocket(url, on_raw=self._on_raw)

    def _on_raw(self, event: Event) -> None:
        self.raw[event.stream, event.epoch, event.seq] += 1

    async def run(self) -> None:
        async with self._service.subscribe(frozenset({GLOBAL})) as subscription:
            async for item in subscription:
                match item:
                    case Event():
                        self.delivered[item.stream, item.epoch, item.seq] += 1
                        delay = (datetime.now(UTC) - item.occurred_at).total_seconds()
                        self.delays.append((time.monotonic(), delay))
                    case Gap():
                        self.gaps.append(item)

    async def live(self) -> None:
        """Wait until it is connected: what was told before is not its to have."""
        async with asyncio.timeout(30):
            while (await self._service.health()).status is not Status.LIVE:
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        await self._service.close()

    def delay(self, begin: float, end: float, share: float) -> float:
        """Return a percentile of the delays of a time, in milliseconds."""
        found = [delay for at, delay in self.delays if begin <= at < end]
        return 1000 * statistics.quantiles(found, n=100)[round(share * 100) - 1] if len(found) > 1 else -1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    down_seconds: float
    drained_seconds: float
    """From the database's return until it had everything."""
    promised: int
    in_database: int
    lost_in_database: int
    not_promised: int
    """In the database though the collector died before it could note them: taken by the spool, so no double."""
    holes_in_database: int
    at_client: int
    lost_at_client: int
    twice_at_client: int
    twice_on_the_wire: int
    gaps_at_client: int
    refused: int
    delay_before_ms: tuple[float, float]
    """Median and 99th percentile."""
    delay_during_ms: tuple[float, float]

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, nothing came twice, and the legacy path went on."""
        nothing = (self.lost_in_database, self.holes_in_database, self.lost_at_client, self.twice_at_client)
        undisturbed = 0 < self.delay_during_ms[1] < UNDISTURBED_MS
        return not any((*nothing, self.gaps_at_client, self.refused)) and self.promised > 0 and undisturbed


class Ground:
    """Everything that runs."""

    def __init__(self, directory: Path, postgres: Postgres, rate: float) -> None:
        self.directory = directory
        self.postgres = postgres
        self.port = free_port("127.0.0.1")
        self.promised_file = directory / "promised"
        self.errors = directory / "errors.log"
        self._rate = rate
        (directory / "token").write_text(TOKEN)

    @contextlib.asynccontextmanager
    async def collector(self) -> AsyncIterator[Program]:
        words = [HERE / "outage_collector.py", "--spool", self.directory / "spool.db"]
        words += ["--promised", self.promised_file, "--legacy-url", f"ws://127.0.0.1:{self.port}/link"]
        words += ["--token", TOKEN, "--rate", f"{self._rate:g}"]
        async with program(self.errors, *words, DATABASE_URL=self.postgres.url()) as running:
            yield running

    def promised(self) -> set[Identity]:
        """Return what was noted; a last line that a kill cut short is none."""
        if not self.promised_file.exists():
            return set()
        lines = self.promised_file.read_text().split("\n")[:-1]
        return {(stream, int(epoch), int(seq)) for stream, epoch, seq in map(str.split, lines)}

    async def stored(self) -> list[Identity]:
        connection = await asyncpg.connect(self.postgres.dsn())
        try:
            rows = await connection.fetch("select stream, epoch, seq from public.cf_events")
        finally:
            await connection.close()
        return [(row["stream"], row["epoch"], row["seq"]) for row in rows]

    async def count(self) -> int:
        connection = await asyncpg.connect(self.postgres.dsn())
        try:
            return int(await connection.fetchval("select count(*) from public.cf_events"))
        finally:
            await connection.close()

    async def grown(self, by: int, seconds: float = 60.0) -> None:
        """Wait until so many more events were promised."""
        wanted = len(self.promised()) + by
        async with asyncio.timeout(seconds):
            while len(self.promised()) < wanted:
                await asyncio.sleep(0.1)


async def outage(down: float, rate: float, directory: Path) -> Outcome:
    """Play it once."""
    postgres = Postgres(directory / "pg", port=0, durable=False)
    postgres.start()
    try:
        connection = await asyncpg.connect(postgres.dsn())
        await apply_bootstrap(connection)
        await apply_migrations(connection, ROOT / "supabase" / "migrations")
        await connection.close()
        ground = Ground(directory, postgres, rate)
        arguments = ["-m", "legacy_ws", "--port", str(ground.port), "--token-file", str(directory / "token")]
        async with program(ground.errors, *arguments):
            await listening(ground.port)
            reader = Reader(f"ws://127.0.0.1:{ground.port}/ws")
            reading = asyncio.create_task(reader.run())
            try:
                await reader.live()
                return await played(ground, reader, down)
            finally:
                await reader.close()
                reading.cancel()
                await asyncio.wait({reading})
    finally:
        postgres.stop()
        postgres.remove()


async def listening(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            await writer.wait_closed()
            return


async def played(ground: Ground, reader: Reader, down: float) -> Outcome:
    async with ground.collector() as first:
        async with asyncio.timeout(60):
            while not reader.delivered:
                await asyncio.sleep(0.05)
        began = time.monotonic()
        await asyncio.sleep(BEFORE_SECONDS)
        stopped_at = time.monotonic()
        await asyncio.to_thread(ground.postgres.stop)
        await asyncio.sleep(down / 2)
        killed_at = time.monotonic()
        os.kill(first.process.pid, signal.SIGKILL)
        await first.process.wait()
        refused = await rest(first)
    async with ground.collector() as second:
        await ground.grown(1)  # it takes events, without a database
        back_at = time.monotonic()
        await asyncio.sleep(max(0.0, stopped_at + down - time.monotonic()))
        during = time.monotonic()
        await asyncio.to_thread(ground.postgres.start)
        returned_at = time.monotonic()
        # The load goes on: caught up is when the database has what was promised at this moment.
        owed = len(ground.promised())
        async with asyncio.timeout(down + 120):
            while await ground.count() < owed:
                await asyncio.sleep(0.25)
        drained = time.monotonic() - returned_at
        second.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await second.process.wait()
        refused += await rest(second)
    promised = ground.promised()
    async with asyncio.timeout(30):
        while not promised <= reader.delivered.keys():
            await asyncio.sleep(0.1)
            if not reader.delays or time.monotonic() - reader.delays[-1][0] > 5:
                break
    stored = await ground.stored()
    return Outcome(
        down_seconds=during - stopped_at,
        drained_seconds=drained,
        promised=len(promised),
        in_database=len(stored),
        lost_in_database=len(promised - set(stored)),
        not_promised=len([one for one in stored if one not in promised and one[2] > 1]),
        holes_in_database=holes(stored),
        at_client=len(reader.delivered),
        lost_at_client=len(promised - reader.delivered.keys()),
        twice_at_client=sum(count - 1 for count in reader.delivered.values()),
        twice_on_the_wire=sum(count - 1 for count in reader.raw.values()),
        gaps_at_client=len(reader.gaps),
        refused=refused,
        delay_before_ms=(reader.delay(began, stopped_at, 0.5), reader.delay(began, stopped_at, 0.99)),
        delay_during_ms=during_delay(reader, [(stopped_at, killed_at), (back_at + 2, during)]),
    )


def during_delay(reader: Reader, times: list[tuple[float, float]]) -> tuple[float, float]:
    """Return median and 99th percentile, the worse of both halves."""
    halves = [(reader.delay(*time_, 0.5), reader.delay(*time_, 0.99)) for time_ in times]
    return max(half[0] for half in halves), max(half[1] for half in halves)


def holes(stored: list[Identity]) -> int:
    """Count what is missing between 1 and the last seq of each epoch."""
    last: dict[tuple[str, int], int] = {}
    for stream, epoch, seq in stored:
        last[stream, epoch] = max(seq, last.get((stream, epoch), 0))
    return sum(last.values()) - len(stored)


async def rest(running: Program) -> int:
    """Read what a process said, once it has ended; return how many events it was refused."""
    assert running.process.stdout is not None
    refused = 0
    for line in (await running.process.stdout.read()).decode().splitlines():
        print(f"  collector: {line}", file=sys.stderr)
        refused += int(line.split()[1]) if line.startswith("refused") else 0
    return refused


def shown(found: Outcome) -> str:
    rows: list[tuple[str, Any]] = [
        (
            "database away",
            f"{found.down_seconds:.0f} s, all caught up {found.drained_seconds:.1f} s after its return",
        ),
        ("events that the spool took", found.promised),
        ("  lost in the database", found.lost_in_database),
        ("  holes in the database", found.holes_in_database),
        ("  lost at the legacy client", found.lost_at_client),
        ("  twice at the legacy client", f"{found.twice_at_client} ({found.twice_on_the_wire} on the wire)"),
        ("gaps told to the client", found.gaps_at_client),
        ("refused", found.refused),
        ("legacy delay before, median and p99", "{:.1f} / {:.1f} ms".format(*found.delay_before_ms)),
        ("legacy delay during, median and p99", "{:.1f} / {:.1f} ms".format(*found.delay_during_ms)),
    ]
    return "\n".join(f"{name:38} {value}" for name, value in rows)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--down", type=float, default=120.0)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="cf-outage-"))
    try:
        found = await outage(given.down, given.rate, directory)
        errors = (directory / "errors.log").read_text()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if given.json:
        print(json.dumps({**dataclasses.asdict(found), "holds": found.holds}))
    else:
        print(f"{machine()}, {given.rate:g} events/s\n\n{shown(found)}\n\nholds: {found.holds}")
    if not found.holds:
        print(errors[-3000:], file=sys.stderr)
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
