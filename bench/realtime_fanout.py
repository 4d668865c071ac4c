"""Fan-out of the embedded Realtime server: messages a second to many subscribers, in bursts of inserts.

    python bench/realtime_fanout.py [--quick]

From the first insert sent to the last frame received by the last subscriber. "a write" is how many messages went out
in each write of the gateway (its other writes, to PostgreSQL, count too): a burst's share one. In the rows "one at a
time" a message is sent when everybody has the one before, so that nothing can share a write and each wakes the
receivers; "four in flight" has as many rounds on their way as the peers have, and "one a write" is the same with a
gateway that may not put messages together (`gateway_one_a_write.py`). Beside it in the same run: node's `ws` and a bare
write() loop sending frames of the same size, and as constants what the real server did on two such cores (226 MB idle
there, 304 MB with 1000 subscribers).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from rig import (
    BODY,
    BROADCAST_JOIN,
    BROADCAST_PUSH,
    HERE,
    OWNER,
    Received,
    Rig,
    Sent,
    broadcaster,
    changes_join,
    echoing,
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


class Meter:
    """Reads the gateway before and after, and makes the row of a table of it."""

    def __init__(self, bench: Rig) -> None:
        self._bench = bench
        self._cpu, self._writes, self._started = bench.cpu(), bench.writes(), time.monotonic()

    def row(
        self, name: str, subscribers: int, rows: int, at_once: int | None, got: Received, real: str
    ) -> str:
        """Return the row, and note what it says for the comparison at the end."""
        bench, total = self._bench, subscribers * rows
        seconds, cpu = got.ended - self._started, max(bench.cpu() - self._cpu, 0.01)
        per_write = total / max(bench.writes() - self._writes, 1)
        _PER_CPU_SECOND[name, subscribers] = total / cpu
        return (
            f"{name:<26}{subscribers:>6}{at_once or '':>6}{got.bytes // total:>6}{total / seconds / 1e3:>9.0f}k"
            f"{total / cpu / 1e3:>9.0f}k{per_write:>8.1f}{rows / seconds:>9.0f}{got.cpu / seconds:>8.2f}"
            f"{bench.resident() / 1e6:>7.0f}  {real}"
        )


_PER_CPU_SECOND: dict[tuple[str, int], float] = {}
"""What was measured: messages per CPU-second of the server, by the name and the subscribers of a row."""
_NODE, _NODE_ALONE = "node ws, one a write", "node ws, one at a time"
_ALONE, _ALONE_BROADCAST = "no RLS, one at a time", "broadcast, one at a time"
_FEW_BROADCAST, _SINGLE_BROADCAST = "broadcast, four in flight", "broadcast, one a write"
_IN_FLIGHT = 4
"""Rounds on their way at once, as of `ws_peer.mjs`."""
_COALESCED = ("no RLS", "no RLS, single inserts", "broadcast")


async def _burst(bench: Rig, case: Case) -> str:
    sql = await bench.sql()
    insert = await sql.prepare(_INSERT[case.table])
    async with bench.receivers(_joins(bench, case)) as listening:
        await listening.expect(case.subscribers * case.at_once)
        await insert.fetch(time.monotonic_ns(), BODY, case.at_once)  # rights and plans are read now
        await listening.result()
        await listening.expect(case.subscribers * case.rows)
        meter = Meter(bench)
        for _ in range(case.rows // case.at_once):
            await insert.fetch(time.monotonic_ns(), BODY, case.at_once)
        received = await listening.result()
        row = meter.row(case.name, case.subscribers, case.rows, case.at_once, received, case.real)
    await sql.close()
    return row


async def _alone(bench: Rig, subscribers: int, rows: int) -> str:
    """Insert a row once everybody has the one before: nothing can share a write."""
    case = Case(_ALONE, "plain", subscribers, rows, 1, "-")
    sql = await bench.sql()
    insert = await sql.prepare(_INSERT["plain"])
    async with bench.receivers(_joins(bench, case)) as listening:

        async def one() -> Received:
            await listening.expect(subscribers)
            await insert.fetch(time.monotonic_ns(), BODY, 1)
            return await listening.result()

        row = await _one_after_the_other(bench, case, one)
    await sql.close()
    return row


async def _broadcast_alone(bench: Rig, subscribers: int, messages: int) -> str:
    """Send a message once everybody has the one before."""
    case = Case(_ALONE_BROADCAST, "-", subscribers, messages, 1, "-")
    async with bench.receivers([BROADCAST_JOIN] * subscribers, 1) as listening, broadcaster(bench) as sender:

        async def one() -> Received:
            await listening.expect(subscribers)
            sender.write(masked(BROADCAST_PUSH))
            await sender.drain()
            return await listening.result()

        return await _one_after_the_other(bench, case, one)


async def _broadcast_in_flight(bench: Rig, name: str, subscribers: int, messages: int) -> str:
    """Keep as many messages on their way as node's `ws` does: they gather while others are written."""
    async with bench.receivers([BROADCAST_JOIN] * subscribers, 1) as listening, echoing(bench) as sender:
        await listening.expect(subscribers * messages)
        meter = Meter(bench)
        for _ in range(messages):
            await sender.send(_IN_FLIGHT)
        await sender.drain()
        return meter.row(name, subscribers, messages, 1, await listening.result(), "-")


async def _one_after_the_other(bench: Rig, case: Case, one: Callable[[], Awaitable[Received]]) -> str:
    for _ in range(max(case.rows // 10, 1)):
        await one()
    meter = Meter(bench)
    rounds = [await one() for _ in range(case.rows)]
    total = dataclasses.replace(
        rounds[-1], bytes=sum(got.bytes for got in rounds), cpu=sum(got.cpu for got in rounds)
    )
    return meter.row(case.name, case.subscribers, case.rows, 1, total, case.real)


async def _large(bench: Rig, rows: int) -> str:
    sql = await bench.sql()
    async with bench.receivers([changes_join(0, "plain")]) as listening:
        await listening.expect(rows)
        meter = Meter(bench)
        await sql.execute(_INSERT["plain"], time.monotonic_ns(), BODY, rows)
        row = meter.row("one transaction", 1, rows, rows, await listening.result(), "all lost")
    await sql.close()
    return row


_BROADCASTS = ((50, 2000, "43-66k", "30k"), (200, 1000, "47-67k", "41k"), (1000, 400, "30-53k", "30k"))


async def _broadcast(bench: Rig, subscribers: int, messages: int, real: str, *, database: bool) -> str:
    async with bench.receivers([BROADCAST_JOIN] * subscribers, 1) as listening, broadcaster(bench) as sender:
        await listening.expect(subscribers * messages)
        meter = Meter(bench)
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
        name = "broadcast by SQL" if database else "broadcast"
        return meter.row(name, subscribers, messages, None, await listening.result(), real)


async def _peers(bench: Rig, subscribers: int, size: int) -> None:
    rounds = 400_000 // subscribers
    installed = install_ws(bench.directory)
    if installed is not None:
        async with node_ws(bench.directory, installed, subscribers) as peer:
            await sent_by(peer, f"{rounds // 10} {size}", rounds // 10 * subscribers)
            sent = await sent_by(peer, f"{rounds} {size}", rounds * subscribers)
            _print_peer(_NODE, subscribers, size, sent)
            alone = [await sent_by(peer, f"1 {size}", subscribers) for _ in range(rounds // 4)]
            _print_peer(_NODE_ALONE, subscribers, size, _together(alone))
    async with write_loop(bench.directory, subscribers) as peer:
        alone = [await sent_by(peer, f"1 {size} 1", subscribers) for _ in range(rounds // 4)]
        _print_peer("write() loop, one at a time", subscribers, size, _together(alone))
        for at_once in (1, 8):
            sent = await sent_by(peer, f"{rounds} {size} {at_once}", rounds * subscribers)
            _print_peer(f"write() loop, {at_once} a write", subscribers, size, sent)


def _together(rounds: Sequence[Sent]) -> Sent:
    """Return how fast a peer was over several rounds of the same size."""
    return Sent(
        len(rounds) / sum(1 / sent.per_second for sent in rounds),
        len(rounds) / sum(1 / sent.per_cpu_second for sent in rounds),
    )


def _print_peer(name: str, subscribers: int, size: int, sent: Sent) -> None:
    _PER_CPU_SECOND[name, subscribers] = sent.per_cpu_second
    print(
        f"{name:<26}{subscribers:>6}{'':>6}{size:>6}{sent.per_second / 1e3:>9.0f}k{sent.per_cpu_second / 1e3:>9.0f}k",
        flush=True,
    )


def _print_ratios(subscribers: int) -> None:
    """Say how we compare with node's `ws` in the same run, per CPU-second of each server."""
    compared = (
        (_NODE_ALONE, (_ALONE, _ALONE_BROADCAST)),
        (_NODE, (_SINGLE_BROADCAST, _FEW_BROADCAST, *_COALESCED)),
    )
    for peer, names in compared:
        node = _PER_CPU_SECOND.get((peer, subscribers))
        for name in names:
            if node is not None and (ours := _PER_CPU_SECOND.get((name, subscribers))):
                print(f"{subscribers} subscribers, {name}: {ours / node:.1f} x {peer}")


async def _rows(bench: Rig, only: str | None, *, quick: bool) -> AsyncIterator[str]:
    for case in CASES:
        if only is None or only in f"{case.name} {case.subscribers}":
            shrunk = max(case.rows // 5 // case.at_once, 1) * case.at_once if quick else case.rows
            yield await _burst(bench, dataclasses.replace(case, rows=shrunk))
    if only is None:
        yield await _large(bench, 60_000)
    if only in (None, "broadcast"):
        for subscribers, messages, real, real_by_sql in _BROADCASTS:
            yield await _broadcast(bench, subscribers, messages, real, database=False)
            yield await _broadcast(bench, subscribers, messages, real_by_sql, database=True)
    if only in (None, "alone"):
        for subscribers in (200, 1000):
            rows = (20_000 if quick else 100_000) // subscribers
            yield await _alone(bench, subscribers, rows)
            yield await _broadcast_alone(bench, subscribers, rows)
            yield await _broadcast_in_flight(bench, _FEW_BROADCAST, subscribers, rows)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a fifth of the rows")
    parser.add_argument(
        "--only", help="cases whose name and subscribers contain this text, or broadcast, alone, peers"
    )
    options = parser.parse_args()
    async with rig() as bench:
        heads = ("subs", "txn", "bytes", "msg/s", "msg/cpu-s", "a write", "rows/s", "rcv cpu", "MB")
        widths = (6, 6, 6, 10, 10, 8, 9, 8, 7)
        head = "".join(f"{text:>{width}}" for text, width in zip(heads, widths, strict=True))
        print(f"{'burst':<26}{head}  real server, msg/s", flush=True)
        async for row in _rows(bench, options.only, quick=options.quick):
            print(row, flush=True)
        if options.only in (None, "alone", "peers"):
            async with rig((HERE / "gateway_one_a_write.py",)) as single:
                for subscribers in (200, 1000):
                    messages = 100_000 // subscribers
                    print(
                        await _broadcast_in_flight(single, _SINGLE_BROADCAST, subscribers, messages),
                        flush=True,
                    )
            for subscribers in (200, 1000):
                await _peers(bench, subscribers, 430)
        for subscribers in (200, 1000):
            _print_ratios(subscribers)


if __name__ == "__main__":
    asyncio.run(main())
