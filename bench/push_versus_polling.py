"""The same figures of 15 containers by push and by polling, in one run: what each costs, and how old what it shows is.

    python bench/push_versus_polling.py [--viewers 10] [--seconds 60] [--containers 15]

Everything is real: `crossfade up` with the query service, the legacy server and the embedded Supabase, a spool with its
forwarders that writes all containers every 5 s, and viewers of each kind in turn, each through a proxy that counts bytes and
HTTP requests:

- ``plain polling``: every 5 s the whole state by GET, as seed 003's page did before
- ``our polling``: the fallback, which asks whether anything is new and reads only that
- ``consolidated``: seed 003's ``/ws/metrics``, where the figures come every 3 s in a form of their own
- ``legacy``, ``supabase``: push of each event as it is

``nobody`` is the same time without viewers: what the writing alone costs. CPU is that of the parts that serve, less that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from handover import Installation, installation
from programs import machine
from websockets.asyncio.client import connect

from adapters.http_polling import HttpPolling
from adapters.legacy_websocket import LegacyWebSocket
from adapters.publisher import publishing
from adapters.supabase_realtime import SupabaseRealtime
from crossfade.settings import Settings
from crossfade.wiring import Wiring
from monitoring.events import Draft, Event, StreamId
from monitoring.service import MonitoringService
from monitoring.topics import parse_topics

PARTS = ("postgres", "migrations", "realtime", "query", "legacy")
STREAM = StreamId("bench-1/containers")
TOPICS = ["devices.bench-1"]
EVERY_SECONDS = 5.0
SERVING = {
    "plain polling": ("query", "postgres"),
    "our polling": ("query", "postgres"),
    "consolidated": ("legacy",),
    "legacy": ("legacy",),
    "supabase": ("realtime", "postgres"),
}
_REQUESTS = (b"GET ", b"POST ")


@dataclass(slots=True)
class Counted:
    """What went through a proxy."""

    bytes: int = 0
    requests: int = 0


class CountingProxy:
    """Forwards connections to an address and counts; a request begins a chunk, as of clients that wait for the answer."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.counted = Counted()
        self._server: asyncio.Server | None = None

    @property
    def place(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, outward = await asyncio.open_connection(*self._target)
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pass(reader, outward, asked=True), self._pass(onward, writer))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asked: bool = False
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.counted.bytes += len(data)
                self.counted.requests += asked and data.startswith(_REQUESTS)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@dataclass(slots=True)
class Seen:
    """How old each update was when a viewer had it, in milliseconds, and which they were."""

    written: dict[int, float]
    """When each was written."""
    updates: set[int] = field(default_factory=set)
    ages: list[float] = field(default_factory=list)

    def take(self, containers: Any, key: str) -> None:
        """Take what stands now: the first container's share of the CPU is the update's number."""
        number = int(containers[0][key]) if containers else 0
        if number in self.written and number not in self.updates:
            self.updates.add(number)
            self.ages.append((time.monotonic() - self.written[number]) * 1000)


async def follow(service: MonitoringService, seen: Seen, ready: Callable[[], None]) -> None:
    """View by one of our services."""
    try:
        subscription = service.subscribe(parse_topics(TOPICS))
        await subscription.wait_live()
        ready()
        async for item in subscription:
            if isinstance(item, Event):
                seen.take(item.payload.get("containers"), "cpu_percent")
    finally:
        await service.close()


async def ask_again_and_again(url: str, token: str, seen: Seen, ready: Callable[[], None]) -> None:
    """View by asking for everything every 5 s."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as http:
        await asyncio.sleep(random.uniform(0, EVERY_SECONDS))  # noqa: S311 - viewers open their pages at any time
        first = True
        while True:
            due = time.monotonic() + EVERY_SECONDS
            answer = await http.get("/api/snapshot", params={"topic": TOPICS[0]})
            answer.raise_for_status()
            for event in answer.json()["state"] if not first else ():
                seen.take(event["payload"].get("containers"), "cpu_percent")
            if first:
                first = False
                ready()
            await asyncio.sleep(due - time.monotonic())


async def consolidated(url: str, seen: Seen, ready: Callable[[], None]) -> None:
    """View as seed 003's page of containers."""
    async with connect(url, proxy=None) as socket:
        await socket.send(json.dumps({"type": "subscribe", "page": "containers"}))
        ready()
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "realtime_update" and "containers" in message["data"]:
                seen.take(message["data"]["containers"]["containers"], "cpu")


def viewer(
    kind: str, here: Installation, place: str, seen: Seen, ready: Callable[[], None]
) -> AsyncIterator[None] | Any:
    """Return the coroutine of one viewer."""
    _, key, token = Wiring(here.data, Settings()).supabase()
    assert token is not None
    if kind == "plain polling":
        return ask_again_and_again(f"http://{place}", token(), seen, ready)
    if kind == "consolidated":
        return consolidated(f"ws://{place}/ws/metrics", seen, ready)
    services: dict[str, Callable[[], MonitoringService]] = {
        "our polling": lambda: HttpPolling(f"http://{place}", token),
        "legacy": lambda: LegacyWebSocket(f"ws://{place}/ws", deflate=True),
        "supabase": lambda: SupabaseRealtime(f"http://{place}", key, token),
    }
    return follow(services[kind](), seen, ready)


@dataclass(slots=True)
class Row:
    """One kind: bytes and requests of one viewer a minute, CPU of the serving parts for all of them."""

    kind: str
    p50: float
    p99: float
    requests: float
    bytes: float
    cpu: dict[str, float]
    missed: int


async def measure(
    kind: str, here: Installation, viewers: int, seconds: float, written: dict[int, float]
) -> Row:
    """Let viewers of a kind look for a while."""
    port = {"legacy": "port_legacy", "consolidated": "port_legacy", "supabase": "port_supabase"}.get(
        kind, "port_query"
    )
    seen = [Seen(written) for _ in range(viewers)]
    async with CountingProxy(f"http://127.0.0.1:{here.address(port)}") as proxy, asyncio.TaskGroup() as group:
        left = viewers
        ready = asyncio.Event()

        def one_is_ready() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                ready.set()

        tasks = [group.create_task(viewer(kind, here, proxy.place, each, one_is_ready)) for each in seen]
        if viewers:
            await asyncio.wait_for(ready.wait(), 60)
        for each in seen:
            each.updates.clear()
            each.ages.clear()
        before, counted, began = (
            here.cpu_seconds(),
            (proxy.counted.bytes, proxy.counted.requests),
            len(written),
        )
        started = time.monotonic()
        await asyncio.sleep(seconds)
        minutes = (time.monotonic() - started) / 60
        after = here.cpu_seconds()
        size, requests = (proxy.counted.bytes - counted[0], proxy.counted.requests - counted[1])
        wanted = set(
            range(began + 1, len(written) - 1)
        )  # the last two may still be on their way to who polls
        missed = sum(len(wanted - each.updates) for each in seen)
        for task in tasks:
            task.cancel()
    ages = sorted(age for each in seen for age in each.ages) or [0.0]
    cpu = {part: (after[part] - before[part]) / minutes for part in after}
    share = max(1, viewers) * minutes
    return Row(
        kind,
        statistics.median(ages),
        ages[int(len(ages) * 0.99)],
        requests / share,
        size / share,
        cpu,
        missed,
    )


async def write(publisher: Any, containers: int, written: dict[int, float]) -> None:
    """Tell all containers every 5 s."""
    due = time.monotonic()
    while True:
        number = len(written) + 1
        listed = [
            {
                "id": f"{each:012x}", "name": f"project-service-{each}-1", "image": "registry.example/service:1.4",
                "status": "running", "health": "healthy", "running": True, "cpu_percent": float(number) if each == 0 else round(random.random() * 40, 2),  # noqa: S311 - figures
                "memory_used_bytes": random.randrange(2**28), "memory_limit_bytes": 2**29,  # noqa: S311 - as above
            }
            for each in range(containers)
        ]  # fmt: skip
        payload = {"available": True, "containers": listed}
        at = time.monotonic()
        await publisher.append([Draft(STREAM, "containers_collected", datetime.now(UTC), payload)])
        written[number] = at
        due += EVERY_SECONDS
        await asyncio.sleep(due - time.monotonic())


def table(rows: Iterable[Row], idle: Row, viewers: int) -> None:
    """Print the rows."""
    print(
        f"{viewers} viewers; a viewer's requests and bytes a minute; CPU seconds a minute of what serves all of them"
    )
    print(
        f"{'':16}{'age p50 ms':>12}{'p99 ms':>10}{'requests':>10}{'bytes':>12}{'CPU s':>8}{'missed':>8}   parts"
    )
    for row in rows:
        used = {part: row.cpu[part] - idle.cpu[part] for part in SERVING[row.kind]}
        parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in used.items())
        print(
            f"{row.kind:16}{row.p50:12.1f}{row.p99:10.1f}{row.requests:10.1f}{row.bytes:12,.0f}{sum(used.values()):8.2f}"
            f"{row.missed:8}   {parts}"
        )
    print("nobody: " + ", ".join(f"{part} {seconds:.2f}" for part, seconds in idle.cpu.items()))
    print(json.dumps(machine()))


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--containers", type=int, default=15)
    given = parser.parse_args()
    async with installation(None, PARTS) as here:
        written: dict[int, float] = {}
        token = here.data.link_token.read_text().strip()
        async with (
            publishing(
                here.directory / "bench.db",
                database_url=Wiring(here.data, Settings()).database_url(),
                legacy_url=f"ws://127.0.0.1:{here.address('port_legacy')}/link",
                legacy_token=token,
                streams=[STREAM],
            ) as publisher,
            asyncio.TaskGroup() as group,
        ):
            await publisher.opened()
            writing = group.create_task(write(publisher, given.containers, written))
            idle = await measure("nobody", here, 0, given.seconds, written)
            rows = [await measure(kind, here, given.viewers, given.seconds, written) for kind in SERVING]
            writing.cancel()
    table(rows, idle, given.viewers)


if __name__ == "__main__":
    asyncio.run(main())
