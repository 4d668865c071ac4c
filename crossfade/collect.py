"""The collecting process: ``python -m crossfade.collect``.

Collectors put events on the spool; its publisher takes them along both paths. A dead database or legacy server delays only
its own path; a failing collector harms no other. SIGTERM and SIGINT end it: the collectors say good-bye, the paths
get a moment to take it, the leases are let go, exit 0.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import re
import signal
import socket
import sys
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapters.device_registry import DeviceRegistry, RegistryUnavailable
from adapters.errors import AdapterError
from adapters.heartbeat import Heartbeat
from adapters.housekeeping import Housekeeping
from adapters.interest import InterestListener, InterestPart, WatchedDevices
from adapters.log_broadcast import LogBroadcast
from adapters.publisher import Publisher
from adapters.spool import PATHS, Spool
from collectors.docker import DockerCollector
from collectors.docker_connection import from_environment
from collectors.docker_logs import DockerLogs
from collectors.host_collector import HostCollector
from collectors.judge import device_judge
from collectors.pace import Pace
from collectors.schedule import Scheduler
from collectors.ssh.intervals import Intervals
from crossfade import logs
from crossfade.checks_file import Checking, ChecksFile
from crossfade.collect_status import Intake, report
from crossfade.conditions import Conditions
from crossfade.errors import CrossfadeError, exit_status
from crossfade.paths import DataDir, write_json
from crossfade.retention import Trims, parse_keep
from legacy_ws.errors import LegacyError
from legacy_ws.token_file import read_token
from monitoring.errors import InvalidEvent, MonitoringError
from monitoring.events import stream_id
from monitoring.interest import Interest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crossfade.registered import RegisteredDevices
    from monitoring.events import StreamId
    from monitoring.logs import LogSource

_STATUS_SECONDS = 2.0
_LOOK_SECONDS = 0.25
_REGISTRY_SECONDS = 3.0

_OURS = (AdapterError, CrossfadeError, LegacyError, MonitoringError)
"""What is said in one line; anything else is a bug and shows its traceback."""

log = logging.getLogger("crossfade.collect")


@dataclass(frozen=True, slots=True)
class Polling:
    """How other machines are read (I1): seconds between readings, and how many are read at once."""

    enabled: bool = True
    intervals: Intervals = field(default_factory=Intervals)
    most_at_once: int = 10


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
    checks: Path
    polling: Polling
    realtime_mode: Literal["changes", "broadcast"] | None = None
    heartbeat_seconds: float | None = None
    keep: Mapping[str, str] | None = None
    storage_limit_bytes: int | None = None


def device_name(hostname: str) -> str:
    """Return a host's name as a device name: what cannot be addressed becomes a hyphen."""
    safe = re.sub(r"[^A-Za-z0-9._:@-]+", "-", hostname)[:128].lstrip("._:@-").rstrip("-")
    return safe or "host"


def _keep(text: str) -> Mapping[str, str]:
    try:
        return parse_keep(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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
    parser.add_argument(
        "--realtime-mode", choices=("changes", "broadcast"), help="default: as the database has it"
    )
    parser.add_argument(
        "--heartbeat", type=float, metavar="SECONDS", help="default: as the database has it (15)"
    )
    parser.add_argument("--checks", type=Path, metavar="F", help="default: DATA-DIR/checks.yaml")
    usual = Polling()
    parser.add_argument("--no-polling", action="store_true", help="read neither devices nor checks")
    parser.add_argument("--containers-interval", type=float, default=usual.intervals.containers, metavar="S")
    parser.add_argument("--system-interval", type=float, default=usual.intervals.system, metavar="S")
    parser.add_argument("--drives-interval", type=float, default=usual.intervals.drives, metavar="S")
    parser.add_argument("--watched-interval", type=float, default=usual.intervals.watched, metavar="S")
    parser.add_argument("--most-at-once", type=int, default=usual.most_at_once, metavar="N")
    parser.add_argument(
        "--keep", type=_keep, metavar="LEVEL=TIME,...", help="default: as the database has it"
    )
    parser.add_argument(
        "--storage-limit", type=int, metavar="BYTES", help="default: as the database has it (10 GB)"
    )
    given = parser.parse_args(arguments)
    try:
        stream_id(given.device, "system")
    except InvalidEvent as error:
        parser.error(f"--device: {error.reason}")
    if not 0.2 <= given.interval <= 3600:  # noqa: PLR2004 - below, reading takes longer than waiting
        parser.error("--interval must be from 0.2 to 3600 seconds")
    if given.heartbeat is not None and not 0.5 <= given.heartbeat <= 300:  # noqa: PLR2004 - as the table has it
        parser.error("--heartbeat must be from 0.5 to 300 seconds")
    intervals = Intervals(
        given.containers_interval, given.system_interval, given.drives_interval, given.watched_interval
    )
    if min(*astuple(intervals), given.most_at_once) < 1:
        parser.error("intervals of other machines and --most-at-once must be 1 or more")
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
        realtime_mode=given.realtime_mode,
        heartbeat_seconds=given.heartbeat,
        checks=given.checks or data.checks,
        polling=Polling(
            not given.no_polling,
            intervals,
            given.most_at_once,
        ),
        keep=given.keep,
        storage_limit_bytes=given.storage_limit,
    )


class Collecting:
    """One run of the process over an open spool."""

    def __init__(self, options: Options, spool: Spool) -> None:
        """Wire everything; raises AdapterError for an address that cannot be meant, TokenUnreadable."""
        self._options = options
        self._spool = spool
        self._started_at = datetime.now(UTC)
        self._running = True
        self._intake = Intake(spool)
        self._docker = DockerCollector(options.device) if options.docker else None
        self._conditions = Conditions(options.data.conditions)
        self._scheduler = Scheduler(
            self._intake.publish,
            limit=options.polling.most_at_once,
            ready=self._opened,
            keep=self._conditions.keep,
        )
        self._interest = Interest(self._scheduler.reconsider)
        judge = device_judge(options.device, self._conditions.remembered)
        pace = Pace(options.interval_seconds)
        self._checking = Checking(
            ChecksFile(options.checks, options.data.good_checks),
            self._scheduler,
            options.device,
            self._conditions,
        )
        self._scheduler.add(HostCollector(options.device), pace, judge=judge)
        self._logs: dict[str, LogSource] = {}
        if self._docker is not None:
            self._logs[options.device] = DockerLogs(options.device, from_environment, self._docker.known)
        if self._docker is not None:
            self._scheduler.add(self._docker, pace, judge=judge)
        self._devices: RegisteredDevices | None = None
        self._publisher = Publisher(
            spool,
            database_url=options.database_url,
            legacy_url=options.legacy_url,
            legacy_token=read_token(options.link_token_file) if options.legacy_url else "",
            streams={stream for schedule in self._scheduler.schedules for stream in schedule.streams},
            heartbeat=Heartbeat(options.realtime_mode, options.heartbeat_seconds),
            housekeeping=Housekeeping(options.keep, options.storage_limit_bytes),
            logs=self._logs,
            watched=lambda devices: self._interest.said("legacy", devices),
        )
        parts: list[InterestPart] = [LogBroadcast(self._logs)] if self._logs else []
        if options.polling.enabled:
            parts.append(WatchedDevices(lambda devices: self._interest.said("supabase", devices)))
        self._listener = InterestListener(options.database_url, parts) if parts else None

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until ``stop`` is set."""
        async with self._publisher, asyncio.TaskGroup() as group:
            group.create_task(self._publisher.failed(), name="publisher")
            telling = group.create_task(self._tell(), name="status")
            listening = [group.create_task(self._listener.run(), name="interest")] if self._listener else []
            collecting = group.create_task(self._collect(), name="collectors")
            await stop.wait()
            log.info("stopping")
            await _cancelled([collecting, *listening])
            await self._scheduler.close("the collector was stopped")
            if self._devices is not None:
                await self._devices.close()
            await self._publisher.stop()
            await _cancelled([telling])
        self._running = False
        self._write_status()

    async def _collect(self) -> None:
        await self._publisher.opened()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._scheduler.run(), name="schedules")
            if self._options.polling.enabled:
                group.create_task(self._read_devices(), name="devices")
                group.create_task(self._checking.run(), name="checks")
            if self._docker is not None:
                group.create_task(self._docker.watch(self._intake.publish), name="docker events")

    async def _read_devices(self) -> None:
        """Read the devices of the registry. SSH is loaded when there is one: 20 MiB that most machines do not need."""
        registry = DeviceRegistry(self._options.database_url)
        while not await self._registered(registry):  # noqa: ASYNC110 - nothing tells of the first one
            await asyncio.sleep(_REGISTRY_SECONDS)
        module = await asyncio.to_thread(importlib.import_module, "crossfade.registered")
        devices: RegisteredDevices = module.RegisteredDevices(
            registry,
            self._scheduler,
            self._intake.publish,
            own_device=self._options.device,
            remembered=self._conditions.remembered,
            interest=self._interest,
            intervals=self._options.polling.intervals,
        )
        self._devices = devices
        await devices.run()

    async def _registered(self, registry: DeviceRegistry) -> bool:
        try:
            return bool(await registry.devices())
        except RegistryUnavailable as error:  # the database's path says so
            log.debug("devices: %s", error)
            return False

    async def _opened(self, streams: Iterable[StreamId]) -> None:
        """Have the streams of a collector leased, and wait for that."""
        named = list(streams)
        self._publisher.claim(named)
        await self._publisher.opened(named)

    async def _tell(self) -> None:
        """Write the status at its interval, and soon after what matters in it has changed."""
        loop = asyncio.get_running_loop()
        told, written_at = self._essence(), loop.time()
        self._write_status()
        trims = Trims(stream_id(self._options.device, "system"))
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._intake.publish(trims.told(self._publisher.status().supabase.storage, datetime.now(UTC)))
            essence = self._essence()
            if essence != told or loop.time() - written_at >= _STATUS_SECONDS:
                told, written_at = essence, loop.time()
                self._write_status()

    def _essence(self) -> tuple[object, ...]:
        status = self._publisher.status()
        return (
            *(status.connected(path) for path in PATHS),
            len(self._spool.heads()),
            status.supabase.lost,
            self._intake.last_error is None,
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
            intake=self._intake,
            publisher=self._publisher.status(),
            schedules=self._scheduler.schedules,
            docker=self._docker,
            checks=self._checking.file,
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

    def run() -> None:
        options.data.create()
        asyncio.run(_run(options))

    return exit_status("collect", run, _OURS)


if __name__ == "__main__":
    sys.exit(main())
