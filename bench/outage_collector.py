"""The collecting process of bench/collector_outage.py: the product's scheduler, spool and paths, and sources that are busy.

Writes each event that was taken, as ``stream epoch seq``, to ``--promised`` once the spool has it: what was promised.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from adapters.publisher import Publisher
from adapters.spool import Spool
from adapters.spool_file import SpoolError
from collectors.collector import Collector
from collectors.pace import Pace
from collectors.schedule import Scheduler
from monitoring.events import Draft, Kind, StreamId

TICK_SECONDS = 0.1
DEVICES = 10


class Busy(Collector):
    """A device that tells so many events at each tick."""

    def __init__(self, number: int, events: int) -> None:
        self._name = f"busy-{number}"
        self._events = events
        self._told = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def streams(self) -> Collection[StreamId]:
        return (StreamId(f"{self._name}/system"),)

    async def collect(self) -> Sequence[Draft]:
        now = datetime.now(UTC)
        first, self._told = self._told, self._told + self._events
        (stream,) = self.streams
        return [
            Draft(stream, Kind.METRIC_COLLECTED, now, {"n": first + each, "text": "x" * 250})
            for each in range(self._events)
        ]

    async def close(self) -> Sequence[Draft]:
        return []


async def run(given: argparse.Namespace) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    promised = os.open(given.promised, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Spool.open(given.spool) as spool:
        publisher = Publisher(
            spool,
            database_url=os.environ["DATABASE_URL"],
            legacy_url=given.legacy_url,
            legacy_token=given.token,
        )

        def publish(drafts: Sequence[Draft]) -> None:
            try:
                events = spool.append(drafts)
            except SpoolError as error:
                print(f"refused {len(drafts)} {error}", flush=True)
                return
            lines = "".join(f"{event.stream} {event.epoch} {event.seq}\n" for event in events)
            os.write(promised, lines.encode())

        async def ready(streams: Iterable[StreamId]) -> None:
            named = list(streams)
            publisher.claim(named)
            await publisher.opened(named)

        scheduler = Scheduler(publish, limit=DEVICES, ready=ready)
        for number in range(DEVICES):
            scheduler.add(Busy(number, round(given.rate * TICK_SECONDS / DEVICES)), Pace(TICK_SECONDS))
        async with publisher:
            running = asyncio.create_task(scheduler.run())
            await stop.wait()
            running.cancel()
            await asyncio.wait({running})
            await publisher.stop(drain_seconds=30)
        ticks = [schedule.ticks for schedule in scheduler.schedules]
        print(
            f"ended read {sum(t.read for t in ticks)} late {sum(t.late for t in ticks)} "
            f"skipped {sum(t.skipped for t in ticks)}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--promised", type=Path, required=True)
    parser.add_argument("--legacy-url", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--rate", type=float, required=True)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
