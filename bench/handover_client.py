"""Many clients in one process, each a router over real adapters with a subscription of two streams; all verified.

    python bench/handover_client.py --data-dir D --first N --count M --devices K

Client ``n`` watches device ``bench-<n modulo K>``. Says ``live`` when every client is, then a JSON line of progress
four times a second: how many clients stand on which backend, moves so far and when the last was. The line
``finish {heads}`` on its standard input lets every client reach the heads, and is answered with the result as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from crossfade.paths import DataDir
from crossfade.settings import load_settings
from crossfade.verify import DeliveryCheck
from crossfade.wiring import FlagRoutes, Wiring
from monitoring.events import Event, Position, StreamId, device_of
from monitoring.pacing import Pacer
from monitoring.router import Router
from monitoring.service import PUSHING, Gap, Item, MoveAbandoned, Moved
from monitoring.topics import parse_topics

PROGRESS_SECONDS = 0.25
REACH_SECONDS = 60.0
"""How long the clients have, after the last event, to reach the heads."""
CONNECTING = 10
"""Clients that begin at the same time."""
LAG_OF_EACH = 20
"""The lag of one event in so many is kept."""


@dataclass(slots=True)
class Result:
    """What all clients of a process saw; times in seconds."""

    events: int = 0
    faults: int = 0
    missing: int = 0
    """Events before the heads that a client did not get."""
    gaps: int = 0
    findings: list[str] = field(default_factory=list)
    moves: list[dict[str, Any]] = field(default_factory=list)
    abandoned: list[dict[str, Any]] = field(default_factory=list)
    longest_pauses: list[tuple[float, float, str]] = field(default_factory=list)
    """Per client: how long, when it ended, which client."""
    lags: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0


class Watcher:
    """One client: what it got, and whether it was right."""

    def __init__(self, name: str, device: str, router: Router, shared: Result) -> None:
        self.name = name
        self.device = device
        self.router = router
        self.check = DeliveryCheck()
        self.moves = 0
        self.last_move = 0.0
        self._shared = shared
        self._subscription = router.subscribe(parse_topics([f"devices.{device}"]))
        self._positions: dict[StreamId, Position] = {}
        self._longest = (0.0, 0.0)
        self._heard: float | None = None

    async def live(self) -> None:
        await self._subscription.wait_live()

    async def watch(self) -> None:
        async for item in self._subscription:
            self._take(item, time.monotonic())

    def _take(self, item: Item, now: float) -> None:
        self.check.take(item)
        match item:
            case Event():
                self._positions[item.stream] = item.position
                if self._heard is not None and now - self._heard > self._longest[0]:
                    self._longest = now - self._heard, now
                self._heard = now
                if self.check.events % LAG_OF_EACH == 0 and "at" in item.payload:
                    self._shared.lags.append(now - item.payload["at"])
            case Gap():
                self._shared.gaps += 1
            case Moved():
                self.moves += 1
                self.last_move = now
                self._shared.moves.append(
                    {
                        "at": now,
                        "client": self.name,
                        "to": str(item.to_backend),
                        "reason": item.reason,
                        "seconds": item.seconds,
                        "duplicates": item.duplicates_dropped,
                    }
                )
            case MoveAbandoned():
                self._shared.abandoned.append({"at": now, "client": self.name, "reason": item.reason})

    async def reach(self, heads: dict[StreamId, Position]) -> None:
        """Wait until it has everything, or for as long as is reasonable, and add it to the result."""
        mine = {stream: head for stream, head in heads.items() if device_of(stream) == self.device}
        with suppress(TimeoutError):
            async with asyncio.timeout(REACH_SECONDS):
                while any(self._positions.get(stream, (0, 0)) < head for stream, head in mine.items()):
                    await asyncio.sleep(0.05)
        for stream, head in mine.items():
            at = self._positions.get(stream)
            if at is None or at < head:
                missing = head.seq - (at.seq if at is not None and at.epoch == head.epoch else 0)
                self._shared.missing += missing
                self._shared.findings.append(f"{self.name}: {stream} ends at {at}, the head is {head}")
        self._shared.events += self.check.events
        self._shared.faults += self.check.faults
        self._shared.findings += [f"{self.name}: {finding}" for finding in self.check.findings]
        self._shared.longest_pauses.append((*self._longest, self.name))


async def begin(watcher: Watcher, turn: asyncio.Semaphore) -> None:
    async with turn:
        await watcher.live()


async def tell_progress(watchers: list[Watcher]) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        said = {
            "on": Counter(str(watcher.router.backend) for watcher in watchers),
            "moves": sum(watcher.moves for watcher in watchers),
            "last_move": max(watcher.last_move for watcher in watchers),
        }
        print(json.dumps(said), flush=True)


async def finish(reader: asyncio.StreamReader, watchers: list[Watcher], result: Result) -> None:
    """Wait for the heads, and bring every client there."""
    line = (await reader.readline()).decode()
    heads = {StreamId(name): Position(*at) for name, at in json.loads(line.partition(" ")[2] or "{}").items()}
    await asyncio.gather(*(watcher.reach(heads) for watcher in watchers))
    result.cpu_seconds = time.process_time()
    result.findings = result.findings[:20]


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--devices", type=int, required=True)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    data = DataDir.of(arguments.data_dir)
    wiring = Wiring(data, load_settings().model_copy(update={"data_dir": data.root}))
    flags = wiring.flags()
    flags.refresh()
    result = Result()
    watchers: list[Watcher] = []
    routes, pacer, reports = FlagRoutes(flags), Pacer(), wiring.client_reports()
    for number in range(arguments.first, arguments.first + arguments.count):
        name, device = f"client-{number}", f"bench-{number % arguments.devices}"
        services = {backend: wiring.connect_backend(backend) for backend in PUSHING}
        router = wiring.router(services, routes, name, pacer=pacer, witness=reports.witness(name))
        watchers.append(Watcher(name, device, router, result))
    turn = asyncio.Semaphore(CONNECTING)
    tasks = [asyncio.ensure_future(flags.run()), asyncio.ensure_future(reports.run())]
    tasks += [asyncio.ensure_future(watcher.watch()) for watcher in watchers]
    finishing = asyncio.ensure_future(finish(reader, watchers, result))
    try:
        await asyncio.gather(*(begin(watcher, turn) for watcher in watchers))
        print("live", flush=True)
        tasks.append(asyncio.ensure_future(tell_progress(watchers)))
        await asyncio.wait({finishing, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        await finishing
        print(json.dumps({"result": asdict(result)}), flush=True)
    finally:
        for task in (finishing, *tasks):
            task.cancel()
        await asyncio.gather(*(watcher.router.close() for watcher in watchers))


if __name__ == "__main__":
    asyncio.run(main())
