"""Fan-out of the embedded Realtime server: messages a second to many subscribers, in bursts of inserts.

    python bench/realtime_fanout.py [--quick]

From the first insert sent to the last frame received by the last subscriber. Beside it in the same run: node's `ws`
and a bare write() loop sending frames of the same size, and as constants what the real server did on two such cores
(226 MB idle there, 304 MB with 1000 subscribers).
"""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid
from dataclasses import dataclass

from rig import (
    BODY,
    BROADCAST_JOIN,
    BROADCAST_PUSH,
    OWNER,
    Rig,
    broadcaster,
    changes_join,
    install_ws,
    masked,
    node_ws,
    rig,
    sent_by,
    write_loop,
)

_INSERT = {
    "plain": "insert into plain (sent, body) select $1, $2 from generate_series(1, $3::int)",
    "shared": "insert into shared (sent, body) select $1, $2 from generate_series(1, $3::int)",
    "owned": f"insert into owned (sent, body, owner) select $1, $2, '{OWNER}' from generate_series(1, $3::int)",  # noqa: S608
}


@dataclass(frozen=True, slots=True)
class Case:
    """One burst. `at_once` rows are in a transaction; `real` is the recorded figure, messages a second."""

    name: str
    table: str
    subscribers: int
    rows: int
    at_once: int
    real: str


CASES = (
    Case("no RLS", "plain", 1, 20_000, 100, "-"),
    Case("no RLS", "plain", 50, 10_000, 100, "12-18k"),
    Case("no RLS", "plain", 200, 5_000, 100, "20-24k"),
    Case("no RLS, single inserts", "plain", 200, 5_000, 1, "20-24k"),
    Case("no RLS", "plain", 1000, 1_000, 100, "14-21k"),
    Case("no RLS, single inserts", "plain", 1000, 1_000, 1, "14-21k"),
    Case("RLS, one role and user", "owned", 200, 5_000, 100, "12k"),
    Case("RLS, one role and user", "owned", 1000, 1_000, 100, "12.8k"),
    Case("RLS, a user each", "shared", 200, 1_000, 100, "-"),
    Case("RLS, a user each", "shared", 1000, 500, 100, "-"),
)


def _joins(bench: Rig, case: Case) -> list[str]:
    tokens: list[str | None] = [None] * case.subscribers
    if case.table == "owned":
        tokens = [bench.token(OWNER)] * case.subscribers
    elif case.table == "shared":
        tokens = [bench.token(str(uuid.uuid4())) for _ in tokens]
    return [changes_join(number, case.table, token) for number, token in enumerate(tokens)]


async def _burst(bench: Rig, case: Case) -> str:
    sql = await bench.sql()
    insert = await sql.prepare(_INSERT[case.table])
    async with bench.receivers(_joins(bench, case)) as listening:
        await listening.expect(case.subscribers * case.at_once)
        await insert.fetch(time.monotonic_ns(), BODY, case.at_once)  # rights and plans are read now
        size = (await listening.result()).bytes // (case.subscribers * case.at_once)
        total = case.subscribers * case.rows
        await listening.expect(total)
        cpu, started = bench.cpu(), time.monotonic()
        for _ in range(case.rows // case.at_once):
            await insert.fetch(time.monotonic_ns(), BODY, case.at_once)
        received = await listening.result()
        seconds, cpu = received.ended - started, bench.cpu() - cpu
        resident = bench.resident() / 1e6
    await sql.close()
    rate = total / seconds
    return (
        f"{case.name:<26}{case.subscribers:>6}{case.at_once:>6}{size:>6}{rate / 1e3:>9.0f}k{total / max(cpu, 0.01) / 1e3:>9.0f}k"
        f"{case.rows / seconds:>9.0f}{received.cpu / seconds:>8.2f}{resident:>7.0f}  {case.real}"
    )


async def _large(bench: Rig, rows: int) -> str:
    sql = await bench.sql()
    async with bench.receivers([changes_join(0, "plain")]) as listening:
        await listening.expect(rows)
        cpu, started = bench.cpu(), time.monotonic()
        await sql.execute(_INSERT["plain"], time.monotonic_ns(), BODY, rows)
        received = await listening.result()
        seconds, cpu = received.ended - started, bench.cpu() - cpu
    await sql.close()
    return (
        f"{'one transaction':<26}{1:>6}{rows:>6}{received.bytes // rows:>6}{rows / seconds / 1e3:>9.0f}k"
        f"{rows / max(cpu, 0.01) / 1e3:>9.0f}k{rows / seconds:>9.0f}{received.cpu / seconds:>8.2f}"
        f"{bench.resident() / 1e6:>7.0f}  all lost"
    )


_BROADCASTS = ((50, 2000, "43-66k", "30k"), (200, 1000, "47-67k", "41k"), (1000, 400, "30-53k", "30k"))


async def _broadcast(bench: Rig, subscribers: int, messages: int, real: str, *, database: bool) -> str:
    async with bench.receivers([BROADCAST_JOIN] * subscribers, 1) as listening, broadcaster(bench) as sender:
        total = subscribers * messages
        await listening.expect(total)
        cpu, started = bench.cpu(), time.monotonic()
        if database:
            sql = await bench.sql()
            await sql.execute(
                "select realtime.send(jsonb_build_object('body', $1::text), 'e', 'bench', false)"
                " from generate_series(1, $2::int)",
                BODY * 5,
                messages,
            )
            await sql.close()
        else:
            for _ in range(messages // 50):
                sender.write(masked(BROADCAST_PUSH) * 50)
                await sender.drain()
        received = await listening.result()
        seconds, cpu = received.ended - started, bench.cpu() - cpu
    name = "broadcast by SQL" if database else "broadcast"
    return (
        f"{name:<26}{subscribers:>6}{'':>6}{received.bytes // total:>6}{total / seconds / 1e3:>9.0f}k"
        f"{total / max(cpu, 0.01) / 1e3:>9.0f}k{messages / seconds:>9.0f}{received.cpu / seconds:>8.2f}"
        f"{bench.resident() / 1e6:>7.0f}  {real}"
    )


async def _peers(bench: Rig, subscribers: int, size: int) -> None:
    rounds = 400_000 // subscribers
    installed = install_ws(bench.directory)
    if installed is not None:
        async with node_ws(bench.directory, installed, subscribers) as peer:
            await sent_by(peer, f"{rounds // 10} {size}", rounds // 10 * subscribers)
            sent = await sent_by(peer, f"{rounds} {size}", rounds * subscribers)
        _print_peer("node ws, one a write", subscribers, size, sent.per_second, sent.per_cpu_second)
    async with write_loop(bench.directory, subscribers) as peer:
        for at_once in (1, 8):
            sent = await sent_by(peer, f"{rounds} {size} {at_once}", rounds * subscribers)
            _print_peer(
                f"write() loop, {at_once} a write", subscribers, size, sent.per_second, sent.per_cpu_second
            )


def _print_peer(name: str, subscribers: int, size: int, rate: float, per_cpu: float) -> None:
    print(f"{name:<26}{subscribers:>6}{'':>6}{size:>6}{rate / 1e3:>9.0f}k{per_cpu / 1e3:>9.0f}k", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a fifth of the rows")
    parser.add_argument("--only", help="cases whose name and subscribers contain this text")
    options = parser.parse_args()
    async with rig() as bench:
        heads = ("subs", "txn", "bytes", "msg/s", "msg/cpu-s", "rows/s", "rcv cpu", "MB")
        widths = (6, 6, 6, 10, 10, 9, 8, 7)
        head = "".join(f"{text:>{width}}" for text, width in zip(heads, widths, strict=True))
        print(f"{'burst':<26}{head}  real server, msg/s", flush=True)
        for case in CASES:
            if options.only and options.only not in f"{case.name} {case.subscribers}":
                continue
            shrunk = max(case.rows // 5 // case.at_once, 1) * case.at_once if options.quick else case.rows
            chosen = Case(case.name, case.table, case.subscribers, shrunk, case.at_once, case.real)
            print(await _burst(bench, chosen), flush=True)
        if not options.only:
            print(await _large(bench, 60_000), flush=True)
        if not options.only or options.only == "broadcast":
            for subscribers, messages, real, real_by_sql in _BROADCASTS:
                print(await _broadcast(bench, subscribers, messages, real, database=False), flush=True)
                print(await _broadcast(bench, subscribers, messages, real_by_sql, database=True), flush=True)
        if not options.only:
            for subscribers in (200, 1000):
                await _peers(bench, subscribers, 430)


if __name__ == "__main__":
    asyncio.run(main())
