"""A writer of events as the product has it: a spool on disk and its forwarders, in a process of its own.

    python bench/event_writer.py --spool FILE --streams a/system,b/system [--log FILE] [--mode MODE]
        [--legacy-url ws://HOST:PORT/link --token-file FILE]          (DATABASE_URL names the database)

Says ``ready`` when every stream is open. Then takes lines: ``rate N`` writes N events a second, over the streams in
turn; ``drain`` stops writing, waits until every path has everything, and answers with the heads as JSON. ``--log``
gets one line per event, with the moment (monotonic) before it was appended.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import structlog

from adapters.heartbeat import EMBEDDED_SECONDS, Heartbeat
from adapters.publisher import Publisher
from adapters.spool import PATHS, Spool
from adapters.spool_file import SpoolError
from monitoring.events import Draft, StreamId

TICK_SECONDS = 0.02
NOTE = "a payload of about the size that a metric has, with some words in it"


class Pace:
    """How many events are due."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._since = time.monotonic()
        self._taken = 0

    def set(self, rate: float) -> None:
        self._rate, self._since, self._taken = rate, time.monotonic(), 0

    def due(self) -> int:
        due = int(self._rate * (time.monotonic() - self._since)) - self._taken
        self._taken += due
        return due


class Writing:
    """The loop that appends, and what it is told."""

    def __init__(self, spool: Spool, streams: list[StreamId], log: TextIO | None) -> None:
        self._spool = spool
        self._streams = streams
        self._log = log
        self._pace = Pace()
        self._number = 0

    async def append(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            drafts = []
            at, moment = datetime.now(UTC), time.monotonic()
            for _ in range(min(self._pace.due(), 1000)):
                stream = self._streams[self._number % len(self._streams)]
                self._number += 1
                payload = {"n": self._number, "at": moment, "note": NOTE}
                drafts.append(Draft(stream, "metric_collected", at, payload))
            if not drafts:
                continue
            try:
                events = self._spool.append(drafts)
            except SpoolError as error:
                sys.stderr.write(f"refused: {error}\n")  # never got a seq, so nobody can miss it
                continue
            if self._log is not None:
                self._log.writelines(f"{e.stream} {e.epoch} {e.seq} {moment:.6f}\n" for e in events)

    async def obey(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := (await reader.readline()).decode().split():
            match line:
                case ["rate", rate]:
                    self._pace.set(float(rate))
                case ["drain"]:
                    self._pace.set(0)
                    await self._drained()
                    if self._log is not None:
                        self._log.flush()
                    heads = {stream: list(position) for stream, position in self._spool.heads().items()}
                    print(json.dumps(heads), flush=True)

    async def _drained(self) -> None:
        paths = [path for path in PATHS if self._spool.enabled(path)]
        while any(self._spool.acknowledged(path) < self._spool.position for path in paths):
            await asyncio.sleep(0.02)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--streams", required=True)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--mode", choices=["changes", "broadcast"])
    parser.add_argument("--legacy-url")
    parser.add_argument("--token-file", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    streams = [StreamId(name) for name in arguments.streams.split(",")]
    with contextlib.ExitStack() as stack:
        spool = stack.enter_context(Spool.open(arguments.spool, retain_events=15_000))
        log = stack.enter_context(arguments.log.open("w")) if arguments.log else None
        publisher = Publisher(
            spool,
            database_url=os.environ["DATABASE_URL"],
            legacy_url=arguments.legacy_url,
            legacy_token=arguments.token_file.read_text("ascii").strip() if arguments.token_file else "",
            streams=streams,
            heartbeat=Heartbeat(arguments.mode, EMBEDDED_SECONDS),
        )
        async with publisher, asyncio.TaskGroup() as tasks:
            await publisher.opened()
            print("ready", flush=True)
            writing = Writing(spool, streams, log)
            appending = tasks.create_task(writing.append())
            await writing.obey()
            appending.cancel()


if __name__ == "__main__":
    asyncio.run(main())
