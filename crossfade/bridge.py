"""The bridge as a part: ``python -m crossfade.bridge``.

Reads the server of ``CROSSFADE_LEGACY_URL`` and puts what it tells on a spool of its own, from which it reaches Supabase;
only Supabase: the server's clients have it already. After a restart it goes on from the last events on that spool.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from adapters.foreign_feed import TAIL
from adapters.foreign_websocket import ForeignWebSocket
from adapters.heartbeat import Heartbeat
from adapters.publisher import Publisher
from adapters.spool import Spool
from adapters.spool_file import SpoolCorrupt, SpoolError
from adapters.told_events import ToldUnknown, last_told
from collectors.bridge import Bridge, NotNow, Owner
from crossfade import logs
from crossfade.errors import CrossfadeError, UsageError, exit_status
from crossfade.foreign import foreign_server
from crossfade.paths import DataDir, write_json
from crossfade.settings import load_settings, plain_dsn
from legacy_ws.errors import LegacyError
from monitoring.errors import MonitoringError
from monitoring.events import OWN_KINDS, Draft, Event, StreamId, format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossfade.foreign import ForeignServer
    from crossfade.settings import Settings

_STATUS_SECONDS = 0.5
_OURS = (AdapterError, CrossfadeError, LegacyError, MonitoringError)

log = logging.getLogger("crossfade.bridge")


class SpoolOwner(Owner):
    """The bridge's streams: a publisher's."""

    def __init__(self, publisher: Publisher, database_url: str) -> None:
        self._publisher = publisher
        self._database_url = database_url

    def is_open(self, stream: StreamId) -> bool:
        """Tell whether the spool takes events of the stream, and ask for its lease."""
        if self._publisher.spool.is_open(stream):
            return True
        self._publisher.claim([stream])
        return False

    def is_lost(self, stream: StreamId) -> bool:
        """Tell whether another owner has the lease."""
        return stream in self._publisher.lost

    def epoch(self, stream: StreamId) -> int | None:
        """Return the stream's epoch on the spool."""
        return self._publisher.spool.epoch_of(stream)

    async def told(self, stream: StreamId, count: int) -> Sequence[Draft]:
        """Ask Supabase what owners before this epoch told; raises NotNow."""
        try:
            return await last_told(self._database_url, stream, self.epoch(stream) or 1, count)
        except ToldUnknown as error:
            raise NotNow(str(error)) from error

    def append(self, drafts: Sequence[Draft]) -> None:
        """Keep events; raises NotNow, InvalidEvent, SpoolCorrupt."""
        try:
            self._publisher.spool.append(drafts)
        except SpoolCorrupt:
            raise
        except SpoolError as error:
            raise NotNow(str(error)) from error


def last_events(spool: Spool) -> list[Event]:
    """Return the last events that the server told, oldest first, as many as a feed compares and the spool retains."""
    # Beside them there are only our own: an opening for each lease, and gaps.
    kept = spool.read(max(0, spool.position - 2 * TAIL), 2 * TAIL)
    return [event for _, event in kept if event.kind not in OWN_KINDS][-TAIL:]


class Bridging:
    """One run of the part over an open spool."""

    def __init__(self, data: DataDir, settings: Settings, foreign: ForeignServer, spool: Spool) -> None:
        """Wire everything; raises UsageError, InvalidDatabaseUrl."""
        if settings.database_url is None:
            raise UsageError("DATABASE_URL is needed: the database gives the streams their leases")
        self._data = data
        self._foreign = foreign
        self._started_at = datetime.now(UTC)
        database_url = plain_dsn(settings.database_url.get_secret_value())
        self._publisher = Publisher(
            spool,
            database_url=database_url,
            streams=list(spool.heads()),
            # The embedded one has been told already, by the step that made it.
            heartbeat=Heartbeat(settings.realtime_mode, settings.heartbeat_seconds)
            if settings.hosted
            else Heartbeat(),
        )
        self._service = ForeignWebSocket(foreign.url, foreign.load(), had=last_events(spool))
        self._bridge = Bridge(self._service, SpoolOwner(self._publisher, database_url))

    async def run(self, stop: asyncio.Event) -> None:
        """Bridge until ``stop`` is set; raises Refused, and what ended the publisher."""
        try:
            async with self._publisher, asyncio.TaskGroup() as group:
                helpers = [group.create_task(self._publisher.failed()), group.create_task(self._tell())]
                await self._bridge.run(stop)
                for helper in helpers:
                    helper.cancel()
        finally:
            await self._service.close()
        await self._write_status(running=False)

    async def _tell(self) -> None:
        while True:
            await self._write_status(running=True)
            await asyncio.sleep(_STATUS_SECONDS)

    async def _write_status(self, *, running: bool) -> None:
        try:
            write_json(self._data.bridge, await self.status(running=running))
        except OSError as error:
            log.debug("the status file cannot be written: %s", error)  # a full disk is said by the spool

    async def status(self, *, running: bool) -> dict[str, Any]:
        """Return the status as plain JSON."""
        health = await self._service.health()
        publisher = self._publisher.status()
        return {
            "pid": os.getpid(),
            "running": running,
            "started_at": format_time(self._started_at),
            "updated_at": format_time(datetime.now(UTC)),
            "server": {
                "url": self._foreign.shown,
                "dialect": self._foreign.dialect,
                "status": health.status.value,
                "detail": health.detail,
                "counters": dict(health.counters),
            },
            "bridge": {**asdict(self._bridge.counts), "waiting": self._bridge.waiting},
            "supabase": {
                **asdict(publisher.supabase),
                "lost": sorted(publisher.supabase.lost),
                "pending": publisher.spool.waiting.get("supabase", 0),
            },
            "streams": {
                stream: {"epoch": position.epoch, "seq": position.seq}
                for stream, position in sorted(self._publisher.spool.heads().items())
            },
        }


async def _run(data: DataDir, settings: Settings, foreign: ForeignServer) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with Spool.open(data.bridge_spool) as spool:
        log.info("bridging %s", foreign.shown)
        await Bridging(data, settings, foreign, spool).run(stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the part; return its exit status: 0 after a stop, 1 or 2 with one line about what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m crossfade.bridge", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--data-dir", type=Path, default=None, metavar="D")
    given = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    logs.to_stderr(logging.INFO)

    def run() -> None:
        settings = load_settings()
        data = DataDir.of(given.data_dir or settings.data_dir)
        foreign = foreign_server(settings)
        if foreign is None:
            raise UsageError("CROSSFADE_LEGACY_URL is needed: the server to read")
        data.create()
        asyncio.run(_run(data, settings, foreign))

    return exit_status("bridge", run, _OURS)


if __name__ == "__main__":
    sys.exit(main())
