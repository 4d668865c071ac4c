"""What the collecting process costs while nobody looks: beside Glances on the same machine in the same run.

    python bench/collector_idle.py [--seconds N] [--interval S]

Ours reads this host and Docker (where a daemon answers) every two seconds, keeps every reading (spool, database with
heads, latest state and history, legacy server), renews its leases and writes its status. CPU is that of the whole
collecting process, from the kernel; PostgreSQL and the legacy server are processes of their own and are not in it. RSS
is the largest that was seen. Glances is installed in a temporary environment; where that fails, its rows say so. Idle
it collects nothing unless asked, so it is asked every two seconds as well, as its own page does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
from peers import NotMeasured, glances
from programs import ROOT, machine, program

from embedded.migrations import apply_bootstrap, apply_migrations
from embedded.ports import free_port
from embedded.postgres import Postgres

LIMIT_CPU = 1.1
LIMIT_MIB = 80.0
WARM_SECONDS = 10.0
ASK_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds a minute, MiB resident."""

    cpu_per_minute: float
    rss_mib: float


async def cost(pid: int, seconds: float, url: str | None = None) -> Cost:
    """Watch a process; with ``url`` ask it every two seconds."""
    process = psutil.Process(pid)

    def used() -> float:
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)

    began, before, resident = time.monotonic(), used(), 0
    while (spent := time.monotonic() - began) < seconds:
        resident = max(resident, process.memory_info().rss)
        if url:
            await asyncio.to_thread(asked, url)
        await asyncio.sleep(min(ASK_SECONDS, seconds - spent))
    spent = time.monotonic() - began
    return Cost(60 * (used() - before) / spent, resident / 2**20)


def asked(url: str) -> bool:
    """Tell whether an address answers, and read all that it says."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own address
            answer.read()
    except OSError:
        return False
    return True


async def until(what: str, condition: object, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.1)
    print(f"  {what}", file=sys.stderr)


@contextlib.asynccontextmanager
async def installed(directory: Path) -> AsyncIterator[Postgres]:
    """Yield a database with Crossfade's tables, as durable as a user's."""
    postgres = Postgres(directory / "pg", port=0)
    postgres.start()
    try:
        connection = await asyncpg.connect(postgres.dsn())
        await apply_bootstrap(connection)
        await apply_migrations(connection, ROOT / "supabase" / "migrations")
        await connection.close()
        yield postgres
    finally:
        postgres.stop()
        postgres.remove()


async def ours(directory: Path, seconds: float, interval: float, *, docker: bool) -> tuple[Cost, int]:
    """Return what our collector costs, and how many events the database has in the end."""
    data = directory / f"data-{docker}"
    (data / "legacy").mkdir(parents=True)
    token = data / "legacy" / "link.token"
    token.write_text("a-secret")
    port, errors = free_port("127.0.0.1"), directory / "errors.log"
    async with installed(directory / f"db-{docker}") as postgres:
        legacy = ["-m", "legacy_ws", "--port", str(port), "--token-file", str(token)]
        words = ["-m", "crossfade.collect", "--data-dir", str(data), "--device", "bench"]
        words += ["--interval", f"{interval:g}", "--legacy-url", f"ws://127.0.0.1:{port}/link"]
        words += [] if docker else ["--no-docker"]
        async with (
            program(errors, *legacy),
            program(errors, *words, DATABASE_URL=postgres.url()) as collector,
        ):
            report = data / "run" / "collect.json"

            def reads() -> bool:
                told = json.loads(report.read_text()) if report.exists() else {}
                return bool(told.get("collectors", {}).get("host", {}).get("read", 0) >= 3)

            await until("our collector reads", reads)
            await asyncio.sleep(WARM_SECONDS)
            found = await cost(collector.process.pid, seconds)
        connection = await asyncpg.connect(postgres.dsn())
        events = await connection.fetchval("select count(*) from public.cf_events")
        await connection.close()
    return found, events


async def beside(directory: Path, seconds: float) -> tuple[Cost, Cost] | str:
    """Return what Glances costs idle and asked; or why it could not be measured."""
    try:
        async with glances(directory) as (url, process):
            await asyncio.sleep(WARM_SECONDS)
            return await cost(process.pid, seconds), await cost(process.pid, seconds, f"{url}/api/4/all")
    except NotMeasured as error:
        return f"skipped: {error}"


async def main() -> int:
    """Print the table; return 1 when ours is beyond its limits."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--interval", type=float, default=2.0)
    parser.add_argument("--without-glances", action="store_true")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="cf-idle-"))
    rows: list[tuple[str, Cost | str]] = []
    try:
        for docker in (False, True):
            found, events = await ours(directory, given.seconds, given.interval, docker=docker)
            what = "host and Docker" if docker else "host"
            rows.append((f"ours, {what} every {given.interval:g} s, history kept ({events} events)", found))
        if not given.without_glances:
            peer = await beside(directory, given.seconds)
            if isinstance(peer, str):
                rows.append(("Glances", peer))
            else:
                rows += [
                    ("Glances, not asked: it collects nothing", peer[0]),
                    ("Glances, asked every 2 s", peer[1]),
                ]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"\n{machine()}, {given.seconds:g} s each\n")
    print(f"{'':62} CPU-s/min  RSS MiB")
    for name, found in rows:
        shown = found if isinstance(found, str) else f"{found.cpu_per_minute:9.2f}  {found.rss_mib:7.1f}"
        print(f"{name:62} {shown}")
    print(f"{'published (another day): Netdata 1.37.1, 1 s, history kept':62} {1.11:9.2f}  {80.0:7.1f}")
    print(f"{'published (another day): Glances 4.5.8, one browser':62} {3.27:9.2f}  {104.0:7.1f}")
    mine = [found for name, found in rows if name.startswith("ours") and isinstance(found, Cost)]
    beyond = [each for each in mine if each.cpu_per_minute > LIMIT_CPU or each.rss_mib > LIMIT_MIB]
    print(f"\nat most {LIMIT_CPU} CPU-s/min and {LIMIT_MIB:g} MiB: {'NO' if beyond else 'yes'}")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
