"""What an event costs a client in Python, in both modes: the official client, ours on top of it, and a raw reader.

    python bench/realtime_client.py [--events N] [--batches 1,50,500]

One client at a time in a process of its own, one topic with everything; another process writes N events in
transactions of some size as fast as the database takes them. CPU is the client's own from the first event to the last;
what it could take is one second divided by the CPU of an event, what it took is limited by the writer, too. The raw
reader is the `websockets` package and `orjson`: what Python can do with the same frames.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import websockets
from realtime import AsyncRealtimeClient, RealtimePostgresChangesListenEvent

from adapters.supabase_realtime import SupabaseRealtime
from embedded.keys import load_or_create, sign
from embedded.migrations import apply_migrations
from embedded.postgres import Postgres
from monitoring.events import Event
from monitoring.topics import GLOBAL

ROOT = Path(__file__).parent.parent
STREAMS = 20
PAYLOAD = {
    "hostname": "web-1", "cpu_usage": 12.5, "cpu_count": 8, "load": [0.52, 0.58, 0.59], "memory_total": 16777216000,
    "memory_used": 8123456789, "memory_usage": 48.4, "swap_total": 0, "swap_used": 0, "uptime_seconds": 123456,
    "disks": [{"mount": "/", "total": 512000000000, "used": 256000000000, "usage": 50.0}],
    "network": {"bytes_sent": 123456789012, "bytes_received": 987654321098},
}  # fmt: skip


class Meter:
    """Counts events up to a number; measures from the first one."""

    def __init__(self, events: int) -> None:
        self._left = events
        self._events = events
        self._began: tuple[float, float] | None = None
        self.done = asyncio.Event()
        self.result = (0.0, 0.0)

    def add(self, count: int = 1) -> None:
        if self._began is None:
            self._began = (time.perf_counter(), time.process_time())
        self._left -= count
        if self._left <= 0 and not self.done.is_set():
            wall, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
            self.result = (wall, cpu)
            self.done.set()


Ready = Callable[[], None]


async def raw(url: str, key: str, token: str, mode: str, meter: Meter, ready: Ready) -> None:
    address = f"{url.replace('http', 'ws')}/realtime/v1/websocket?apikey={key}&vsn=1.0.0"
    changes = [{"event": "INSERT", "schema": "public", "table": "cf_events"}] if mode == "changes" else []
    config = {
        "broadcast": {"replication_ready": mode == "broadcast"},
        "private": mode == "broadcast",
        "postgres_changes": changes,
    }
    async with websockets.connect(address, max_size=None, compression=None) as socket:
        join = {"config": config, "access_token": token}
        topic = "realtime:feed" if mode == "broadcast" else "realtime:bench"
        await socket.send(json.dumps({"topic": topic, "event": "phx_join", "payload": join, "ref": "1"}))
        while orjson.loads(await socket.recv())["event"] != "system":
            pass
        ready()
        async for frame in socket:
            message = orjson.loads(frame)
            if message["event"] == "postgres_changes":
                meter.add()
            elif message["event"] == "broadcast":
                meter.add(len(orjson.loads(message["payload"]["payload"]["events"])))
            if meter.done.is_set():
                return


async def official(url: str, key: str, token: str, mode: str, meter: Meter, ready: Ready) -> None:
    client = AsyncRealtimeClient(f"{url}/realtime/v1", token=key)
    await client.set_auth(token)
    if mode == "changes":
        channel = client.channel("bench").on_postgres_changes(
            RealtimePostgresChangesListenEvent.Insert,
            lambda _: meter.add(),
            table="cf_events",
            schema="public",
        )
    else:
        options: Any = {
            "config": {"broadcast": {"replication_ready": True}, "presence": None, "private": True}
        }
        channel = client.channel("feed", options).on_broadcast(
            "events", lambda message: meter.add(len(orjson.loads(message["payload"]["events"])))
        )
    live = asyncio.Event()
    channel.on_system(lambda _: live.set())
    await channel.subscribe()
    await live.wait()
    ready()
    await meter.done.wait()
    await client.close()


async def ours(url: str, key: str, token: str, _mode: str, meter: Meter, ready: Ready) -> None:
    service = SupabaseRealtime(url, key, lambda: token)
    async with service.subscribe([GLOBAL]) as subscription:
        await subscription.wait_live()
        ready()
        async for item in subscription:
            assert isinstance(item, Event)
            meter.add()
            if meter.done.is_set():
                break
    counters = (await service.health()).counters
    if counters.get("backfilled") or counters.get("reconnects"):
        print(f"note: not all of it came live: {counters}", file=sys.stderr)
    await service.close()


CLIENTS = {"raw": raw, "official": official, "ours": ours}


async def client(arguments: argparse.Namespace) -> None:
    meter = Meter(arguments.events)
    await CLIENTS[arguments.client](
        arguments.url,
        arguments.key,
        arguments.token,
        arguments.mode,
        meter,
        lambda: print("ready", flush=True),
    )
    print(json.dumps(meter.result), flush=True)


async def write(connection: Any, events: int, batch: int) -> None:
    """Write so many events to new streams, ``batch`` in a transaction."""
    owner, run = str(uuid.uuid4()), uuid.uuid4().hex[:8]
    streams = [f"{run}-{number}/system" for number in range(STREAMS)]
    for stream in streams:
        await connection.fetchval("select cf_acquire_lease($1, $2, 1)", stream, owner)
    seqs = dict.fromkeys(streams, 0)
    for start in range(0, events, batch):
        rows = []
        for number in range(start, min(start + batch, events)):
            stream = streams[number % STREAMS]
            seqs[stream] += 1
            rows.append(
                {
                    "id": str(uuid.uuid4()), "stream": stream, "epoch": 1, "seq": seqs[stream],
                    "kind": "metric_collected", "occurred_at": datetime.now(UTC).isoformat(), "payload": PAYLOAD,
                    "metric_type": "system_metrics",
                }
            )  # fmt: skip
        await connection.fetchval("select cf_append($1, $2)", owner, json.dumps(rows))


async def case(url: str, keys: Any, connection: Any, name: str, mode: str, events: int, batch: int) -> str:
    await connection.fetchval("select cf_set_mode($1, 300)", mode)
    claims = {
        "role": "authenticated",
        "sub": str(uuid.uuid4()),
        "exp": int(time.time()) + 3600,
        "app_metadata": {"crossfade_role": "viewer"},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--client", name, "--mode", mode, "--events", str(events), "--url", url,
        "--key", keys.anon_key, "--token", sign(claims, keys.jwt_secret),
        stdout=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(120):
            assert (await process.stdout.readline()).strip() == b"ready"
            await write(connection, events, batch)
            wall, cpu = json.loads(await process.stdout.readline())
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    micro = cpu / events * 1e6
    return f"{mode:<11}{batch:>6}  {name:<10}{micro:>9.1f}{1e6 / micro:>12,.0f}{events / wall:>12,.0f}"


async def bench(events: int, batches: list[int]) -> None:
    postgres = Postgres(Path(tempfile.mkdtemp(prefix="crossfade-bench-")), port=0, durable=False)
    postgres.prepare()
    postgres.start()
    gateway = None
    try:
        connection = await asyncpg.connect(postgres.dsn())
        await apply_migrations(connection, ROOT / "supabase" / "migrations")
        gateway = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "embedded.gateway", "--port", "0", "--keys", str(postgres.data_dir / "supabase"),
            "--pg-socket-dir", str(postgres.socket_dir), "--pg-port", str(postgres.port),
            stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        assert gateway.stdout is not None
        url = (await gateway.stdout.readline()).decode().removeprefix("listening on ").strip()
        keys = load_or_create(postgres.data_dir / "supabase")
        size = len(orjson.dumps(PAYLOAD))
        print(f"{events} events of {size} bytes of payload in {STREAMS} streams; batch: events a transaction")
        print(f"{'mode':<11}{'batch':>6}  {'client':<10}{'us/event':>9}{'could take/s':>12}{'took/s':>12}")
        for mode in ("changes", "broadcast"):
            for batch in batches:
                few = min(events, 400 * batch + 2000)
                for name in CLIENTS:
                    print(await case(url, keys, connection, name, mode, few, batch), flush=True)
        await connection.close()
    finally:
        if gateway is not None:
            gateway.terminate()
            await gateway.wait()
        postgres.stop()
        postgres.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--batches", default="1,50,500")
    for name in ("client", "mode", "url", "key", "token"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        asyncio.run(client(arguments))
    else:
        asyncio.run(bench(arguments.events, [int(batch) for batch in arguments.batches.split(",")]))


if __name__ == "__main__":
    main()
