"""The collecting process: ``python -m crossfade.collect``.

Collectors put events on the spool, two forwarders take them from there. A dead database or legacy server delays only
its own path; a failing collector harms no other. SIGTERM and SIGINT end it: the collectors say good-bye, the forwarders
get a moment to send it, exit 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from adapters.legacy_link import LegacyLink
from adapters.postgres_writer import PostgresWriter
from adapters.spool import PATHS, Spool
from collectors.collector import Collector, Schedule
from collectors.docker import DockerCollector
from collectors.host import HostCollector
from crossfade import logs
from crossfade.collect_status import Publisher, report
from crossfade.errors import CrossfadeError, first_of
from crossfade.paths import DataDir, write_json
from legacy_ws.errors import LegacyError
from legacy_ws.process import read_token
from monitoring.errors import InvalidEvent, MonitoringError
from monitoring.events import stream_id

if TYPE_CHECKING:
    from collections.abc import Sequence

_STATUS_SECONDS = 2.0
_LOOK_SECONDS = 0.25
_DRAIN_SECONDS = 3.0

_OURS = (AdapterError, CrossfadeError, LegacyError, MonitoringError)
"""What is said in one line; anything else is a bug and shows its traceback."""

log = logging.getLogger("crossfade.collect")


@dataclass(frozen=True, slots=True)
class Options:
    """What the process was asked to do. A path without an address is switched off."""

    data: DataDir
    device: str
    interval_seconds: float
    database_url: str
    legacy_url: str | None
    link_token_file: Path
    docker: bool


def device_name(hostname: str) -> str:
    """Return a host's name as a device name: what cannot be addressed becomes a hyphen."""
    safe = re.sub(r"[^A-Za-z0-9._:@-]+", "-", hostname)[:128].lstrip("._:@-").rstrip("-")
    return safe or "host"


def parse_arguments(arguments: Sequence[str]) -> Options:
    """Read the command line; ends the process with status 2 for what cannot be meant."""
    parser = argparse.ArgumentParser(
        prog="python -m crossfade.collect", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--data-dir", type=Path, default=Path(".crossfade"), metavar="D")
    parser.add_argument("--device", default=device_name(socket.gethostname()), metavar="NAME")
    parser.add_argument("--interval", type=float, default=2.0, metavar="SECONDS")
    # From the environment by choice: a command line, with its password, is every user's to read.
    parser.add_argument("--database-url", default=os.environ.get("DATABASE_URL"), metavar="URL")
    parser.add_argument("--legacy-url", metavar="ws://HOST:PORT/link")
    parser.add_argument(
        "--link-token-file", type=Path, metavar="F", help="default: DATA-DIR/legacy/link.token"
    )
    parser.add_argument("--no-docker", action="store_true")
    given = parser.parse_args(arguments)
    try:
        stream_id(given.device, "system")
    except InvalidEvent as error:
        parser.error(f"--device: {error.reason}")
    if not 0.2 <= given.interval <= 3600:  # noqa: PLR2004 - below, reading takes longer than waiting
        parser.error("--interval must be from 0.2 to 3600 seconds")
    if not given.database_url:
        parser.error(
            "--database-url (or DATABASE_URL) is needed: the database gives the streams their leases"
        )
    data = DataDir.of(given.data_dir)
    return Options(
        data=data,
        device=given.device,
        interval_seconds=given.interval,
        database_url=given.database_url,
        legacy_url=given.legacy_url,
        link_token_file=given.link_token_file or data.link_token,
        docker=not given.no_docker,
    )


class Collecting:
    """One run of the process over an open spool."""

    def __init__(self, options: Options, spool: Spool) -> None:
        """Wire everything; raises AdapterError for an address that cannot be meant, TokenUnreadable."""
        self._options = options
        self._spool = spool
        self._started_at = datetime.now(UTC)
        self._running = True
        self._publisher = Publisher(spool)
        self._docker = DockerCollector(options.device) if options.docker else None
        collectors: list[Collector] = [HostCollector(options.device)]
        if self._docker is not None:
            collectors.append(self._docker)
        self._schedules = [
            Schedule(collector, self._publisher.publish, interval_seconds=options.interval_seconds)
            for collector in collectors
        ]
        streams = [stream for collector in collectors for stream in collector.streams]
        self._writer = PostgresWriter(spool, options.database_url, streams)
        self._link = (
            LegacyLink(spool, options.legacy_url, read_token(options.link_token_file))
            if options.legacy_url
            else None
        )
        spool.set_enabled("supabase", enabled=True)
        spool.set_enabled("legacy", enabled=self._link is not None)

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until ``stop`` is set."""
        async with asyncio.TaskGroup() as group:
            forwarding = [group.create_task(self._writer.run(), name="supabase")]
            if self._link is not None:
                forwarding.append(group.create_task(self._link.run(), name="legacy"))
            telling = group.create_task(self._tell(), name="status")
            collecting = group.create_task(self._collect(), name="collectors")
            await stop.wait()
            log.info("stopping")
            await _cancelled([collecting])
            for schedule in self._schedules:
                if drafts := await schedule.collector.close():
                    self._publisher.publish(drafts)
            await self._drain()
            await _cancelled([*forwarding, telling])
        self._running = False
        self._write_status()

    async def _collect(self) -> None:
        await self._writer.opened()
        async with asyncio.TaskGroup() as group:
            for schedule in self._schedules:
                group.create_task(schedule.run(), name=schedule.collector.name)
            if self._docker is not None:
                group.create_task(self._docker.watch(self._publisher.publish), name="docker events")

    async def _drain(self) -> None:
        """Give the paths that work a moment to take the last events; the others get them after the next start."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while any(  # noqa: ASYNC110 - several conditions, of which only one could wake us
                    self._spool.enabled(path)
                    and self._connected(path)
                    and self._spool.acknowledged(path) < self._spool.position
                    for path in PATHS
                ):
                    await asyncio.sleep(0.02)

    def _connected(self, path: str) -> bool:
        if path == "supabase":
            return self._writer.status.connected
        return self._link is not None and self._link.state.connected

    async def _tell(self) -> None:
        """Write the status at its interval, and soon after what matters in it has changed."""
        loop = asyncio.get_running_loop()
        told, written_at = self._essence(), loop.time()
        self._write_status()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            essence = self._essence()
            if essence != told or loop.time() - written_at >= _STATUS_SECONDS:
                told, written_at = essence, loop.time()
                self._write_status()

    def _essence(self) -> tuple[object, ...]:
        return (
            *(self._connected(path) for path in PATHS),
            len(self._spool.heads()),
            self._writer.status.lost,
            self._publisher.last_error is None,
            self._docker is not None and self._docker.available,
        )

    def _write_status(self) -> None:
        try:
            write_json(self._options.data.run / "collect.json", self.status())
        except OSError as error:
            log.debug("the status file cannot be written: %s", error)  # a full disk is said by the spool

    def status(self) -> dict[str, Any]:
        """Return the status as plain JSON."""
        return report(
            device=self._options.device,
            running=self._running,
            started_at=self._started_at,
            spool=self._spool,
            publisher=self._publisher,
            writer=self._writer,
            link=asdict(self._link.state) if self._link else None,
            schedules=self._schedules,
            docker=self._docker,
        )


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with Spool.open(options.data.spool) as spool:
        log.info("collecting as %s every %g s", options.device, options.interval_seconds)
        await Collecting(options, spool).run(stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process; return its exit status: 0 after a stop, 1 with one line about what is wrong."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    logs.to_stderr(logging.INFO)
    try:
        options.data.create()
        asyncio.run(_run(options))
    except _OURS as error:
        return _told(error)
    except BaseExceptionGroup as group:
        ours, bugs = group.split(_OURS)
        if ours is None or bugs is not None:
            raise
        return _told(first_of(ours, _OURS) or ours)
    return 0


def _told(error: BaseException) -> int:
    """Say an error of ours in one line; return the exit status it stands for."""
    sys.stderr.write(f"collect: {error}\n")
    return int(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    sys.exit(main())
