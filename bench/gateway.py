"""What the gateway costs beside the legacy server itself: old clients of the dashboard's dialect, in one run.

    python bench/gateway.py [--clients 500] [--rate 20] [--seconds 10]

Everything is real: `crossfade up` with a gateway, and a spool with its forwarders that writes events of one stream at a rate.
The clients are connected to the legacy server, then to the gateway, which is fed by the legacy server and, after an edit of
the flags, by Supabase. CPU is that of each part, in microseconds for each message that reached a client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
from handover import Installation, installation
from programs import machine
from rig import Receivers, receivers

from adapters.publisher import Publisher, publishing
from crossfade.settings import Settings
from crossfade.wiring import Wiring
from embedded.ports import free_port
from monitoring.events import Draft, StreamId

PARTS = ("postgres", "migrations", "realtime", "query", "legacy", "gateway")
COUNTED = ("gateway", "legacy", "realtime", "postgres")
STREAM = StreamId("bench-1/system")
NOTE = "x" * 200


async def load(
    here: Installation, publisher: Publisher, listening: Receivers, clients: int, rate: float, seconds: float
) -> tuple[dict[str, float], float]:
    """Write at a rate until every client has every event; return CPU seconds of each part, and the seconds it took."""
    events = int(rate * seconds)
    await listening.expect(events * clients)
    before, began = here.cpu_seconds(), time.monotonic()
    for number in range(events):
        await publisher.append([Draft(STREAM, "metric_collected", datetime.now(UTC), {"note": NOTE})])
        await asyncio.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))
    received = await listening.result()
    after = here.cpu_seconds()
    return {part: after[part] - before[part] for part in COUNTED}, received.ended - began


@contextlib.asynccontextmanager
async def clients_at(directory: Path, port: int, count: int) -> AsyncIterator[Receivers]:
    async with receivers(directory, port, count, "/ws", (), 1) as listening:
        yield listening


async def standing_on(port: int, backend: str, clients: int) -> float:
    """Wait until the gateway's clients are all fed by a backend; return how long that took."""
    began = time.monotonic()
    async with httpx.AsyncClient() as http, asyncio.timeout(300):
        while True:
            health = (await http.get(f"http://127.0.0.1:{port}/health")).json()
            if health["clients_by_backend"] == {backend: clients}:
                return time.monotonic() - began
            await asyncio.sleep(0.2)


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    port, clients = free_port("127.0.0.1"), given.clients
    rows: list[tuple[str, dict[str, float], float]] = []
    with tempfile.TemporaryDirectory(prefix="cf-bench-") as name:
        directory = Path(name)
        async with (
            installation(None, PARTS, "--gateway", f"{port}/ws=dashboard") as here,
            publishing(
                directory / "bench.db",
                database_url=Wiring(here.data, Settings()).database_url(),
                legacy_url=f"ws://127.0.0.1:{here.address('port_legacy')}/link",
                legacy_token=here.data.link_token.read_text().strip(),
                streams=[STREAM],
            ) as publisher,
        ):
            await publisher.opened()
            run = (clients, given.rate, given.seconds)
            async with clients_at(directory, here.address("port_legacy"), clients) as listening:
                rows.append(("legacy server", *await load(here, publisher, listening, *run)))
            began = time.monotonic()
            async with clients_at(directory, port, clients) as listening:
                print(
                    f"{clients} clients connected to the gateway in {time.monotonic() - began:.1f} s",
                    flush=True,
                )
                await standing_on(port, "legacy", clients)
                rows.append(("gateway over legacy", *await load(here, publisher, listening, *run)))
                here.move(100)
                print(f"moved in {await standing_on(port, 'supabase', clients):.1f} s", flush=True)
                rows.append(("gateway over supabase", *await load(here, publisher, listening, *run)))
    messages = int(given.rate * given.seconds) * clients
    print(
        f"{clients} clients, {given.rate:g} events a second: microseconds of CPU for each message that reached a client"
    )
    print(f"{'':24}{'took s':>8}" + "".join(f"{part:>10}" for part in COUNTED))
    for what, used, took in rows:
        print(f"{what:24}{took:8.1f}" + "".join(f"{used[part] / messages * 1e6:10.1f}" for part in COUNTED))
    print(json.dumps(machine()))


if __name__ == "__main__":
    asyncio.run(main())
