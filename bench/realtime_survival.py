"""What the gateway survives, each fault on the real gateway and a real PostgreSQL, and what it costs.

    python bench/realtime_survival.py [--quick] [FAULT ...]

One line per fault with what was measured; a promise that did not hold is printed below it, and the exit code is 1.
Writers insert row after row and repeat what was not confirmed, under the same id, so that each row is there once.
Subscribers are plain: raw WebSockets that join, list the ids they are sent, and come back when they are sent away.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import psutil
import websockets
from rig import BODY, HERE, Child, Rig, changes_join, child, rig

_MIB = 1 << 20
_KILLS_SEED = 7
_AWAY_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Extent:
    """How much of everything."""

    rows: int
    idle: int
    clog_rows: int
    kills: int


_FULL = Extent(rows=1_000_000, idle=5_000, clog_rows=4_000, kills=10)
_QUICK = Extent(rows=20_000, idle=200, clog_rows=2_000, kills=2)


@dataclasses.dataclass(slots=True)
class Outcome:
    """What was measured, and what did not hold."""

    figures: list[str] = dataclasses.field(default_factory=list)
    broken: list[str] = dataclasses.field(default_factory=list)

    def expect(self, holds: object, promise: str) -> None:
        if not holds:
            self.broken.append(promise)


class Peak:
    """The most memory that a process had, looked at every 20 ms."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self.before = self.most = int(process.memory_info().rss)

    async def _watch(self) -> None:
        while True:
            self.most = max(self.most, int(self._process.memory_info().rss))
            await asyncio.sleep(0.02)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def __str__(self) -> str:
        return f"{self.before / _MIB:.0f} MB resident before, {self.most / _MIB:.0f} MB at most"


async def health(port: int) -> dict[str, int]:
    """Return the feed's counts."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    feed: dict[str, int] = json.loads(answer.partition(b"\r\n\r\n")[2])["feed"]
    return feed


# -- a large transaction, many connections, one that does not read


async def large_transaction(extent: Extent) -> Outcome:
    """Commit about a kilobyte a row in one transaction."""
    outcome = Outcome()
    async with rig() as bench, bench.receivers([changes_join(1, "plain")]) as listening:
        sql = await bench.sql()
        peak = Peak(bench.server)
        async with peak.watching():
            began = time.monotonic()
            await sql.execute(
                "insert into plain (body) select repeat(md5(n::text), 32) from generate_series(1, $1::int) n",
                extent.rows,
                timeout=600,
            )
            committed = time.monotonic()
            await listening.expect(extent.rows)
            got = await listening.result()
            await listening.expect(1)  # one more at most would tell of a row that came twice
            await sql.execute("insert into plain (body) values ('after')")
            after = await listening.result()
        state = await health(bench.port)
        outcome.expect(after.frames == 1, f"{after.frames} frames came after the last row instead of one")
        outcome.expect(state["failed_transactions"] == 0, "transactions failed")
        outcome.expect(not state["slow_clients_dropped"], "the reader was dropped")
        outcome.expect(peak.most < 300 * _MIB, "memory was not bounded")
        seconds = got.ended - committed
        outcome.figures += [
            f"{got.frames} of {extent.rows} rows, {got.bytes / 1e6:.0f} MB received",
            f"{committed - began:.1f} s to write, {seconds:.1f} s after the commit all there",
            str(peak),
        ]
        await sql.close()
    return outcome


async def idle_connections(extent: Extent) -> Outcome:
    """Join with many that get nothing, and measure one that gets something."""
    outcome = Outcome()
    async with rig() as bench:
        sql = await bench.sql()
        insert = await sql.prepare("insert into plain (sent, body) values ($1, $2)")
        joins = [changes_join(number, "shared") for number in range(extent.idle)]
        before = bench.resident()
        began = time.monotonic()
        async with bench.receivers(joins):
            joined = time.monotonic() - began
            held = bench.resident()
            state = await health(bench.port)
            outcome.expect(state["subscriptions"] == extent.idle, f"{state['subscriptions']} are subscribed")
            async with bench.receivers([changes_join(0, "plain")]) as listening:
                for _ in range(20):
                    await listening.expect(1)
                    await insert.fetch(time.monotonic_ns(), BODY)
                    await listening.result()
                rows, rate = 500, 100
                await listening.expect(rows)
                cpu, started = bench.cpu(), time.monotonic()
                for number in range(rows):
                    await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
                    await insert.fetch(time.monotonic_ns(), BODY)
                got = await listening.result()
                busy = (bench.cpu() - cpu) / (time.monotonic() - started)
            state = await health(bench.port)
            outcome.expect(state["connections"] >= extent.idle, f"only {state['connections']} are connected")
        outcome.figures += [
            f"{extent.idle} joined in {joined:.1f} s",
            f"{held / _MIB:.0f} MB resident, {(held - before) / extent.idle / 1024:.0f} kB each",
            f"a change to one more at {rate}/s: p50 {got.p50:.2f} ms, p99 {got.p99:.2f} ms, CPU {busy:.0%}",
        ]
        await sql.close()
    return outcome


async def never_reads(extent: Extent) -> Outcome:
    """Subscribe with a client that never reads, beside one that does."""
    outcome = Outcome()
    body = "x" * 20_000
    async with rig() as bench:
        sql = await bench.sql()
        insert = await sql.prepare("insert into plain (sent, body) values ($1, $2)")
        deaf = await _deaf(bench)
        async with bench.receivers([changes_join(1, "plain")]) as listening:
            while (await health(bench.port))["subscriptions"] < 2:
                await asyncio.sleep(0.01)
            peak, dropped_after, rate = Peak(bench.server), None, 400
            async with peak.watching():
                await listening.expect(extent.clog_rows)
                started = time.monotonic()
                for number in range(extent.clog_rows):
                    await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
                    await insert.fetch(time.monotonic_ns(), body)
                    looked = number % 50 == 0 and dropped_after is None
                    if looked and (await health(bench.port))["slow_clients_dropped"]:
                        dropped_after = number
                got = await listening.result()
            state = await health(bench.port)
            outcome.expect(
                state["slow_clients_dropped"] == 1, f"{state['slow_clients_dropped']} were dropped"
            )
            outcome.expect(state["connections"] == 1, f"{state['connections']} are connected")
            outcome.expect(got.p99 < 500, "the one that reads was held up")
            behind = "never" if dropped_after is None else f"{dropped_after * len(body) / 1e6:.0f} MB"
            outcome.figures += [
                f"dropped when behind by {behind}, kernel buffers included",
                f"the other got {got.frames} of {extent.clog_rows} rows of 20 kB at {rate}/s",
                f"p50 {got.p50:.2f} ms, p99 {got.p99:.2f} ms, worst {got.worst:.0f} ms",
                str(peak),
            ]
        deaf.close()
        await sql.close()
    return outcome


async def _deaf(bench: Rig) -> socket.socket:
    """Return a client that has asked for everything and will not read what it gets."""
    loop = asyncio.get_running_loop()
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    deaf.setblocking(False)
    await loop.sock_connect(deaf, ("127.0.0.1", bench.port))
    await loop.sock_sendall(
        deaf,
        f"GET /realtime/v1/websocket?apikey={bench.keys.anon_key}&vsn=2.0.0 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode(),
    )
    await loop.sock_recv(deaf, 1024)
    text = changes_join(0, "plain").encode()
    await loop.sock_sendall(
        deaf, b"\x81" + bytes((0x80 | 126,)) + len(text).to_bytes(2, "big") + bytes(4) + text
    )
    return deaf


# -- kill -9


class Writer:
    """Inserts rows 1, 2, 3, ..., each until it is confirmed."""

    def __init__(self, bench: Rig) -> None:
        self._bench = bench
        self.number = 0
        """The last row that is confirmed."""
        self.retries = 0
        self.stopping = False

    async def run(self) -> None:
        sql: asyncpg.Connection | None = None
        while not self.stopping:
            try:
                if sql is None:
                    sql = await asyncpg.connect(self._bench.postgres.dsn(), timeout=5)
                await sql.execute(
                    "insert into plain (id, body) values ($1, $2) on conflict do nothing",
                    self.number + 1,
                    BODY,
                )
            except (
                OSError,
                TimeoutError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,
            ):
                self.retries += 1
                if sql is not None:
                    sql.terminate()
                    sql = None
                await asyncio.sleep(0.01)
            else:
                self.number += 1
        if sql is not None:
            await sql.close()


@dataclasses.dataclass(slots=True)
class Sitting:
    """One connection of a subscriber: the last row before it was subscribed, when that was, what it got."""

    after: int
    since: float
    ids: list[int] = dataclasses.field(default_factory=list)
    got_at: list[float] = dataclasses.field(default_factory=list)


class Subscriber:
    """Connects, joins, lists, and comes back."""

    def __init__(self, bench: Rig, port: int, writer: Writer) -> None:
        self._url = f"ws://127.0.0.1:{port}/realtime/v1/websocket?apikey={bench.keys.anon_key}&vsn=2.0.0"
        self._writer = writer
        self.sittings: list[Sitting] = []

    async def run(self) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, websockets.WebSocketException):
                await self._sit()
            await asyncio.sleep(0.01)

    async def _sit(self) -> None:
        async with websockets.connect(self._url, max_size=None, compression=None) as connection:
            await connection.send(changes_join(1, "plain"))
            reply = json.loads(await connection.recv())
            if reply[4].get("status") != "ok":
                return  # the database is away
            sitting = Sitting(self._writer.number + 1, time.monotonic())  # one may be on its way
            self.sittings.append(sitting)
            async for text in connection:
                frame = json.loads(text)
                if frame[3] == "postgres_changes":
                    sitting.ids.append(frame[4]["data"]["record"]["id"])
                    sitting.got_at.append(time.monotonic())


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something to become true, a minute at most."""
    deadline = time.monotonic() + _AWAY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not happen within {_AWAY_SECONDS:g} s")
        await asyncio.sleep(0.002)


def check(sittings: list[Sitting], outcome: Outcome) -> None:
    """Compare what each connection was sent with what it was promised: all from its join on, in order, once."""
    for number, sitting in enumerate(sittings):
        if not sitting.ids:
            continue
        first, last = sitting.ids[0], sitting.ids[-1]
        outcome.expect(len(set(sitting.ids)) == len(sitting.ids), f"connection {number} got rows twice")
        outcome.expect(
            sitting.ids == list(range(first, last + 1)), f"connection {number} lost rows or their order"
        )
        outcome.expect(first <= sitting.after + 1, f"connection {number} lost rows after its join")


@contextlib.asynccontextmanager
async def under_load(bench: Rig, port: int) -> AsyncIterator[tuple[Writer, Subscriber]]:
    """Yield a writer at work and a subscriber that gets what it writes; at the end, the subscriber has all of it."""
    writer = Writer(bench)
    subscriber = Subscriber(bench, port, writer)
    writing, listening = asyncio.create_task(writer.run()), asyncio.create_task(subscriber.run())
    try:
        await until(lambda: subscriber.sittings and len(subscriber.sittings[0].ids) > 100, "the first rows")
        yield writer, subscriber
        writer.stopping = True
        await writing
        await until(lambda: subscriber.sittings[-1].ids[-1:] == [writer.number], "the last row")
    finally:
        for task in (writing, listening):
            task.cancel()
        await asyncio.wait([writing, listening])


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"{ordered[len(ordered) // 2]:.2f} s (median; longest {ordered[-1]:.2f})"


async def kill_postgresql(extent: Extent) -> Outcome:
    """Kill all of PostgreSQL's processes at random moments and start it again."""
    outcome = Outcome()
    moments = random.Random(_KILLS_SEED)  # noqa: S311 - not for secrets
    gaps: list[float] = []
    starts: list[float] = []
    async with rig() as bench:
        postgres = bench.postgres
        async with under_load(bench, bench.port) as (writer, subscriber):
            for _ in range(extent.kills):
                await asyncio.sleep(moments.uniform(0.1, 1.0))
                assert postgres.pid is not None
                began = time.monotonic()
                _kill_tree(postgres.pid)
                while postgres.pid is not None:  # killed, and not yet buried
                    await asyncio.sleep(0.001)
                await asyncio.to_thread(postgres.start)
                ready = time.monotonic()
                starts.append(ready - began)
                sitting = subscriber.sittings[-1]
                seen = len(sitting.ids)
                await until(lambda s=sitting, n=seen: len(s.ids) > n + 20, "changes after the restart")  # type: ignore[misc]
                times = [moment for moment in sitting.got_at if moment > began - 0.1]
                gaps.append(max(after - before for before, after in itertools.pairwise(times)))
        state = await health(bench.port)
        check(subscriber.sittings, outcome)
        outcome.expect(
            len(subscriber.sittings) == 1,
            f"the subscriber was sent away {len(subscriber.sittings) - 1} times",
        )
        outcome.expect(subscriber.sittings[0].ids[-1] == writer.number, "the last row is missing")
        outcome.expect(state["failed_transactions"] == 0, "transactions failed")
        outcome.figures += [
            f"{extent.kills} kills, {writer.number} rows, {writer.retries} attempts repeated",
            f"PostgreSQL back after {_spread(starts)}; the subscriber stayed and waited {_spread(gaps)}",
            f"{len(subscriber.sittings[0].ids)} changes, none twice, none lost",
        ]
    return outcome


def _kill_tree(pid: int) -> None:
    """Kill the postmaster before its children, so that none of them says goodbye."""
    postmaster = psutil.Process(pid)
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


async def kill_gateway(extent: Extent) -> Outcome:
    """Kill the gateway at random moments and start it again on the same port."""
    outcome = Outcome()
    moments = random.Random(_KILLS_SEED)  # noqa: S311 - not for secrets
    up: list[float] = []
    back: list[float] = []
    async with rig() as bench, contextlib.AsyncExitStack() as gateways:
        bench.server.kill()  # the one that is not restarted; it has the replication slot
        port = _free_port()
        gateway = await gateways.enter_async_context(_gateway(bench, port))
        async with under_load(bench, port) as (writer, subscriber):
            for number in range(extent.kills):
                await asyncio.sleep(moments.uniform(0.1, 1.0))
                began = time.monotonic()
                os.kill(gateway.usage.pid, signal.SIGKILL)
                gateway = await gateways.enter_async_context(_gateway(bench, port))
                up.append(time.monotonic() - began)
                await until(lambda n=number: len(subscriber.sittings) == n + 2, "the subscriber's return")  # type: ignore[misc]
                back.append(subscriber.sittings[-1].since - began)
                await until(lambda: len(subscriber.sittings[-1].ids) > 20, "changes after its return")
        check(subscriber.sittings, outcome)
        seen = {number for sitting in subscriber.sittings for number in sitting.ids}
        away = writer.number - len(seen)
        again = sum(len(sitting.ids) for sitting in subscriber.sittings) - len(seen)
        outcome.figures += [
            f"{extent.kills} kills, {writer.number} rows",
            f"listens again after {_spread(up)}, has the subscriber again after {_spread(back)}",
            f"on each of {len(subscriber.sittings)} connections none twice, none lost from its join on",
            f"{away} rows committed while the subscriber was away are for it to read; {again} came to two connections",
        ]
    return outcome


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.asynccontextmanager
async def _gateway(bench: Rig, port: int) -> AsyncIterator[Child]:
    argv = [sys.executable, "-m", "embedded.gateway", "--port", str(port), "--keys", str(bench.directory)]
    argv += ["--pg-socket-dir", str(bench.postgres.socket_dir), "--pg-port", str(bench.postgres.port)]
    async with child(*argv, cwd=HERE.parent) as gateway:
        await gateway.line()
        yield gateway


_FAULTS: dict[str, Callable[[Extent], Awaitable[Outcome]]] = {
    "large-transaction": large_transaction,
    "idle-connections": idle_connections,
    "never-reads": never_reads,
    "kill-postgresql": kill_postgresql,
    "kill-gateway": kill_gateway,
}


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(_FAULTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a small version of each")
    arguments = parser.parse_args()
    if unknown := set(arguments.faults) - _FAULTS.keys():
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the gateway and the receivers inherit it
    extent = _QUICK if arguments.quick else _FULL
    failed = False
    for name in arguments.faults or _FAULTS:
        outcome = await _FAULTS[name](extent)
        print(f"{name}: {'; '.join(outcome.figures)}", flush=True)
        for promise in outcome.broken:
            failed = True
            print(f"    BROKEN: {promise}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
