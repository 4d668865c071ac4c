"""An owner of streams, whole: its spool and the forwarders of both paths. For collectors and for applications.

::

    async with publishing(Path("app-7.db"), database_url=..., legacy_url=..., legacy_token=...) as publisher:
        await publisher.append([Draft(stream_id("app-7", "sessions"), "session_created", now, {...})])

What ``append`` returns is on the disk and will arrive on both paths, whatever dies meanwhile. A stream that is new is
opened under a lease, which needs the database once; from then on nothing waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adapters.heartbeat import Heartbeat
from adapters.housekeeping import Housekeeping
from adapters.legacy_link import LegacyLink, LinkState
from adapters.path_orders import PathOrders
from adapters.postgres_writer import PostgresWriter, WriterStatus
from adapters.spool import PATHS, Spool, SpoolState
from monitoring.events import Draft, Event, StreamId, category_of, device_of, stream_id
from monitoring.interest import DeviceNames
from monitoring.logs import LogSource

_OPEN_SECONDS = 10.0
_DRAIN_SECONDS = 3.0
_RELEASE_SECONDS = 2.0
_LOOK_SECONDS = 0.02

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PublisherStatus:
    """How an owner is doing; ``legacy`` is None when that path is off."""

    spool: SpoolState
    supabase: WriterStatus
    legacy: LinkState | None

    def connected(self, path: str) -> bool:
        """Tell whether a path is on and takes events now."""
        if path == "supabase":
            return self.supabase.connected
        return self.legacy is not None and self.legacy.connected


class Publisher:
    """Puts events on a spool, and forwards them until it is stopped. ``publishing`` makes one with its spool."""

    def __init__(
        self,
        spool: Spool,
        *,
        database_url: str,
        legacy_url: str | None = None,
        legacy_token: str = "",
        streams: Iterable[StreamId] = (),
        ttl_seconds: int = 30,
        heartbeat: Heartbeat | None = None,
        housekeeping: Housekeeping | None = None,
        logs: Mapping[str, LogSource] | None = None,
        watched: Callable[[DeviceNames], None] | None = None,
    ) -> None:
        """Publish from an open spool, which stays the caller's to close after ``stop``.

        ``streams`` are leased from the start; others when they are first appended to. Without ``legacy_url``
        (``ws://HOST:PORT/link``) that path is off: it holds nothing back. ``logs`` are sources of container logs, by
        device, for the legacy server's clients; ``watched`` hears which devices these watch by name. Raises
        InvalidDatabaseUrl.
        """
        self.spool = spool
        self._writer = PostgresWriter(
            spool,
            database_url,
            streams,
            ttl_seconds=ttl_seconds,
            heartbeat=heartbeat,
            housekeeping=housekeeping,
            orders=PathOrders(f"{socket.gethostname()}, process {os.getpid()}", self._publish_to_legacy),
        )
        self._link = (
            LegacyLink(spool, legacy_url, legacy_token, logs=logs, watched=watched) if legacy_url else None
        )
        spool.set_enabled("supabase", enabled=True)
        spool.set_enabled("legacy", enabled=self._link is not None)
        self._writing: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._stopping = False
        self._linked = asyncio.Event()  # the stage of the migration wants the legacy path
        self._linked.set()
        self._unlinked = asyncio.Event()

    async def start(self) -> None:
        """Begin to forward. The tasks are ours until ``stop``."""
        self._running = asyncio.create_task(self._run(), name="publisher")

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._writing = group.create_task(self._writer.run(), name="supabase")
            if self._link is not None:
                group.create_task(self._keep_link(self._link), name="legacy")

    async def _keep_link(self, link: LegacyLink) -> None:
        """Forward along the legacy path whenever the stage wants it."""
        while True:
            await self._linked.wait()
            running = asyncio.ensure_future(link.run())  # owned: ended below
            leaving = asyncio.ensure_future(self._unlinked.wait())
            try:
                await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (running, leaving):
                    task.cancel()
                await asyncio.wait({running, leaving})
            if not running.cancelled():
                running.result()

    async def _publish_to_legacy(self, wanted: bool) -> None:  # noqa: FBT001 - the one thing that is ordered
        """Switch the legacy path on or off, as the stage of the migration has it."""
        if self._link is None or wanted is self._linked.is_set():
            return
        log.info("legacy path %s: the stage of the migration", "on" if wanted else "off")
        self.spool.set_enabled("legacy", enabled=wanted)
        (self._linked if wanted else self._unlinked).set()
        (self._unlinked if wanted else self._linked).clear()
        while not wanted and self._link.state.connected:  # noqa: ASYNC110 - of a task that is being cancelled
            await asyncio.sleep(_LOOK_SECONDS)

    async def failed(self) -> None:
        """Wait until forwarding has ended; raises what ended it, in an ExceptionGroup, unless that was ``stop``."""
        if self._running is not None:
            await asyncio.wait({self._running})
            self._raise_failure()

    def _raise_failure(self) -> None:
        if self._running is not None and self._running.done() and not self._running.cancelled():
            self._running.result()

    def claim(self, streams: Iterable[StreamId]) -> None:
        """Hold the leases of these streams, too, from as soon as they are free."""
        self._writer.claim(streams)

    async def opened(self, streams: Iterable[StreamId] | None = None) -> None:
        """Wait until each stream (of those leased from the start) is open, or known to be another owner's."""
        await self._writer.opened(None if streams is None else list(streams))

    async def append(
        self, drafts: Sequence[Draft], *, open_seconds: float = _OPEN_SECONDS
    ) -> Sequence[Event]:
        """Give each draft its identity and keep it: all of them, or none.

        Waits for at most ``open_seconds`` for the leases of new streams, and for nothing else. Raises, with nothing
        taken: what ``Spool.append`` raises (StreamNotOpen also when a new stream is another owner's, or the database
        did not answer), and the ExceptionGroup of a forwarder that ended for good.
        """
        self._raise_failure()
        streams = {draft.stream for draft in drafts}
        new = {stream for stream in streams - self._writer.status.lost if not self.spool.is_open(stream)}
        if new and not self._stopping:
            for stream in new:
                stream_id(
                    device_of(stream), category_of(stream)
                )  # raises InvalidEvent for what has no address
            self._writer.claim(new)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(open_seconds):
                    await self._writer.opened(new)
        return self.spool.append(drafts)

    @property
    def lost(self) -> frozenset[StreamId]:
        """The streams whose leases others have."""
        return self._writer.status.lost

    def status(self) -> PublisherStatus:
        """Return how it is doing now."""
        link = self._link if self._linked.is_set() else None
        return PublisherStatus(self.spool.state(), self._writer.status, link.state if link else None)

    async def drain(self, seconds: float) -> bool:
        """Wait at most so long until every path has all that there is; tell whether it has."""
        return await self._drained(seconds, PATHS.__contains__)

    async def _drained(self, seconds: float, worth_it: Callable[[str], bool]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(self._waiting(path) and worth_it(path) for path in PATHS):  # noqa: ASYNC110 - of several conditions only one could wake us
                    await asyncio.sleep(_LOOK_SECONDS)
        return not any(self._waiting(path) for path in PATHS)

    def _waiting(self, path: str) -> int:
        return self.spool.state().waiting.get(path, 0)

    async def stop(self, *, drain_seconds: float = _DRAIN_SECONDS) -> None:
        """Give the paths that work a moment, let go of the leases of what every path has, and end; safe to call twice.

        What is left goes out after the next start of this owner, which keeps those leases until they expire. Raises
        the ExceptionGroup of a forwarder that had ended for good.
        """
        self._stopping = True
        if self._running is None:
            return
        try:
            if not self._running.done():
                await self._drained(drain_seconds, lambda path: self.status().connected(path))
                self._writer.finish()
                if self._writing is not None and self._writer.status.connected:
                    await asyncio.wait({self._writing}, timeout=_RELEASE_SECONDS)
        finally:
            self._running.cancel()
            await asyncio.wait({self._running})
        self._raise_failure()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


@asynccontextmanager
async def publishing(
    path: Path,
    *,
    database_url: str,
    legacy_url: str | None = None,
    legacy_token: str = "",
    streams: Iterable[StreamId] = (),
) -> AsyncIterator[Publisher]:
    """Publish from the spool at ``path``, made when there is none: one file, one owner, one process at a time.

    Raises SpoolInUse, SpoolCorrupt, SpoolUnwritable or InvalidDatabaseUrl.
    """
    with Spool.open(path) as spool:
        publisher = Publisher(
            spool,
            database_url=database_url,
            legacy_url=legacy_url,
            legacy_token=legacy_token,
            streams=streams,
        )
        async with publisher:
            yield publisher
