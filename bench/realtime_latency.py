"""Delay from just before an INSERT is sent to its receipt by every subscriber, at steady rates.

    python bench/realtime_latency.py [--seconds N]

Each insert is a transaction of its own on one connection of another process than the server. Beside it in the same
run: a node `ws` server that is told to send one message at the same pace, from the telling to the receipt (so without
any database), and as constants what the real server did (it polls: an idle poll sleeps half a second).
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

from rig import BODY, OWNER, Received, Rig, changes_join, install_ws, node_ws, rig

_CASES = (
    ("plain", 1, 50, "265 / 532"),
    ("plain", 1, 300, "17 / 382 (200/s)"),
    ("owned", 1, 300, "-"),
    ("plain", 50, 100, "-"),
    ("plain", 200, 50, "-"),
    ("plain", 1000, 10, "-"),
)
_INSERT = {
    "plain": "insert into plain (sent, body) values ($1, $2)",
    "owned": f"insert into owned (sent, body, owner) values ($1, $2, '{OWNER}')",  # noqa: S608
}


def _printed(name: str, subscribers: int, rate: int, got: Received, real: str) -> str:
    return f"{name:<22}{subscribers:>6}{rate:>8}{got.p50:>9.2f}{got.p90:>9.2f}{got.p99:>9.2f}{got.worst:>9.2f}  {real}"


async def _case(bench: Rig, table: str, subscribers: int, rate: int, seconds: float) -> Received:
    sql = await bench.sql()
    insert = await sql.prepare(_INSERT[table])
    token = bench.token(OWNER) if table == "owned" else None
    async with bench.receivers(
        [changes_join(number, table, token) for number in range(subscribers)]
    ) as listening:
        for _ in range(20):  # rights and plans are read, code is warm
            await listening.expect(subscribers)
            await insert.fetch(time.monotonic_ns(), BODY)
            await listening.result()
        rows = int(rate * seconds)
        await listening.expect(rows * subscribers)
        started = time.monotonic()
        for number in range(rows):
            wait = started + number / rate - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            await insert.fetch(time.monotonic_ns(), BODY)
        result = await listening.result()
    await sql.close()
    return result


async def _node(directory: Path, installed: Path, rate: int, seconds: float) -> Received:
    async with node_ws(directory, installed, 1) as (program, listening):
        rows = int(rate * seconds)
        await listening.expect(rows)
        started = time.monotonic()
        for number in range(rows):
            wait = started + number / rate - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            program.tell(f"1 430 {time.monotonic_ns()}")
            await program.line()
        return await listening.result()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each case (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one second of each case")
    options = parser.parse_args()
    seconds = 1.0 if options.quick else options.seconds
    async with rig() as bench:
        heads = ("subs", "rows/s", "p50 ms", "p90 ms", "p99 ms", "max ms")
        widths = (6, 8, 9, 9, 9, 9)
        head = "".join(f"{text:>{width}}" for text, width in zip(heads, widths, strict=True))
        print(f"{'insert to client':<22}{head}  real server, p50 / p99 ms", flush=True)
        for table, subscribers, rate, real in _CASES:
            name = "RLS" if table == "owned" else "no RLS"
            got = await _case(bench, table, subscribers, rate, seconds)
            print(_printed(name, subscribers, rate, got, real), flush=True)
        installed = install_ws(bench.directory)
        if installed is not None:
            got = await _node(bench.directory, installed, 300, seconds)
            print(_printed("node ws, no database", 1, 300, got, "-"), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
