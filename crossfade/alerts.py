"""The alerting process: ``python -m crossfade.alerts``.

A client of the monitoring stream like any other, routed by the flags: a backend that dies costs it nothing. What it
decides is on disk, with the cursor it was decided from, before anybody is told; alerts go out as events through a spool of
its own. Of several such processes over one database the one that holds the lease of ``crossfade/alerts`` tells people.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import stamina

from adapters.database_url import as_role, asyncpg_url
from adapters.errors import AdapterError
from adapters.event_intake import EventIntake
from alerting import publishing
from alerting.delivery import deliver
from alerting.engine import Engine
from alerting.errors import AlertingError, NotDelivered, StoreUnusable
from alerting.notices import Backlog, Message
from alerting.rule_file import RuleFile
from alerting.store import Store
from crossfade import logs
from crossfade.client import Client, Events
from crossfade.errors import CrossfadeError, UsageError, exit_status
from crossfade.paths import DataDir, write_json
from crossfade.settings import load_settings
from crossfade.wiring import Wiring
from legacy_ws.errors import LegacyError
from legacy_ws.token_file import read_token
from monitoring.errors import MonitoringError, Unreachable
from monitoring.events import Event
from monitoring.service import Snapshot

CLIENT = "crossfade-alerts"
"""What the flags know this client by."""
TICK_SECONDS = 0.25
SAVE_SECONDS = 1.0
OVERVIEW_SECONDS = 2.0
RECENT = timedelta(minutes=5)
"""On a first start what is older in the snapshot is history: nobody is missed for it."""
_CATCH_UP_SECONDS = 60.0
"""How long people are not told while the stream is being caught up with."""
_AGAIN_SECONDS = 0.5
_OURS = (AdapterError, AlertingError, CrossfadeError, LegacyError, MonitoringError)

log = logging.getLogger("crossfade.alerts")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the process works with; whoever made them closes them."""

    rules: RuleFile
    store: Store
    intake: EventIntake
    status: Path


class Alerting:
    """Runs the engine over a stream until cancelled."""

    def __init__(self, parts: Parts, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._parts = parts
        self._clock = clock
        memory, self._cursor = parts.store.load()
        self._revision = parts.rules.revision
        self.engine = Engine(parts.rules.current(), memory)
        self._events: Events | None = None
        self._caught_up = False
        self._overview: dict[str, Any] = {}
        self._overview_at: datetime | None = None
        self._problem: str | None = None
        self._under_way: set[str] = set()
        self._unkept: list[dict[str, Any]] = []

    async def run(self, client: Client) -> None:
        """Follow the stream, tell people and publish alerts, until cancelled; raises what ends it."""
        cursor = self._cursor
        if cursor is None:
            snapshot = await _first_look(client)
            cursor, now = snapshot.cursor, self._clock()
            for event in snapshot.state:
                if now - event.occurred_at < RECENT:
                    self.engine.observe(event, now)
        async with client.subscribe(since=cursor) as self._events, asyncio.TaskGroup() as group:
            group.create_task(self._parts.rules.run(), name="rule file")
            group.create_task(self._follow(self._events), name="stream")
            group.create_task(self._publish(), name="events")
            await self._beat(self._events, group)

    async def _follow(self, events: Events) -> None:
        while True:
            for item in await events.batch():
                if isinstance(item, Event):  # of a gap only what comes after it can be said
                    self.engine.observe(item, self._clock())
            await asyncio.sleep(0)  # a backlog must not keep the beat from its turn

    async def _beat(self, events: Events, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        began, saved_at = loop.time(), -SAVE_SECONDS
        while True:
            now = self._clock()
            if self._parts.rules.revision != self._revision:
                self._revision = self._parts.rules.revision
                self.engine.use(self._parts.rules.current(), now)
            self._caught_up = self._caught_up or events.live or loop.time() - began > _CATCH_UP_SECONDS
            self.engine.advance(now, live=events.live, tell=self._caught_up and not self._standby)
            due = [message for message in self.engine.messages(now) if message.channel not in self._under_way]
            if due or loop.time() - saved_at >= SAVE_SECONDS:
                saved_at = loop.time()
                self.save()
            for message in due:
                self._under_way.add(message.channel)
                group.create_task(self._deliver(message), name=f"channel {message.channel}")
            await asyncio.sleep(TICK_SECONDS)

    @property
    def _standby(self) -> bool:
        """Whether another process holds the lease, and so tells people."""
        return self._parts.intake.lost(publishing.STREAM)

    def save(self) -> None:
        """Keep what changed; what cannot be kept now is kept with the next try, and said."""
        now = self._clock()
        events = publishing.changed(self.engine.take_changes(), now)
        overview = self.engine.overview(now)
        stale = self._overview_at is None or (now - self._overview_at).total_seconds() >= OVERVIEW_SECONDS
        if stale and overview != self._overview:
            self._overview, self._overview_at = overview, now
            events.append(publishing.collected(overview, now))
        if self._standby:
            events = []  # the one that tells people publishes them, too
        cursor = self._events.cursor if self._events is not None else self._cursor
        try:
            self._parts.store.save(self.engine.memory, self.engine.dirty, cursor, [*self._unkept, *events])
        except StoreUnusable as error:
            self._unkept = [*self._unkept, *events][-1000:]
            if str(error) != self._problem:
                log.error("%s", error)  # noqa: TRY400 - its sentence says all
            self._problem = str(error)
        else:
            self._unkept = []
            self._problem = None
            self.engine.dirty.clear()
        self._write_status()

    async def _deliver(self, message: Message) -> None:
        """Deliver one message, and say once how its channel is doing when that changes."""
        channel = next((each for each in self.engine.rules.channels if each.name == message.channel), None)
        backlog = self.engine.channels().get(message.channel)
        before = backlog.last_error if backlog else None
        error: str | None = None
        try:
            if channel is not None:
                await deliver(channel, message, self._parts.rules.path.parent)
        except NotDelivered as failed:
            error = str(failed)
            if error != before:
                log.warning("%s; it is tried again for a day", error)
        else:
            log.info("told %s: %s", message.channel, message.title)
        finally:
            self._under_way.discard(message.channel)
        self.engine.settle(message, self._clock(), error)
        self.save()

    async def _publish(self) -> None:
        """Hand the events that wait to the spool, in their order."""
        store, intake = self._parts.store, self._parts.intake
        while True:
            try:
                waiting = store.waiting()
                taken = (
                    await intake.take([publishing.draft(each.event) for each in waiting]) if waiting else ()
                )
                done = [
                    w.number for w, t in zip(waiting, taken, strict=True) if t.refused is None or not t.again
                ]
                store.taken(done)
            except StoreUnusable as error:  # said where the state is saved, which fails as well
                log.debug("%s", error)
                done = []
            if not done:
                await asyncio.sleep(_AGAIN_SECONDS)

    def _write_status(self) -> None:
        try:
            write_json(self._parts.status, self.status())
        except OSError as error:
            log.debug("the status file cannot be written: %s", error)  # a full disk is said by the spool

    def status(self) -> dict[str, Any]:
        """Return how it is doing, as plain JSON."""
        return {
            "rules": len(self.engine.rules.rules),
            "file": str(self._parts.rules.path),
            "problem": self._parts.rules.problem or self._problem,
            "live": self._events is not None and self._events.live,
            "standby": self._standby,
            "counts": self._overview.get("counts", {}),
            "targets_refused": self.engine.refused,
            "channels": {
                channel.name: {
                    "delivered": backlog.delivered,
                    "failures": backlog.failures,
                    "waiting": len(backlog.lines) + (backlog.message.lines if backlog.message else 0),
                    "lost": backlog.lost,
                    "last_error": backlog.last_error,
                }
                for channel in self.engine.rules.channels
                for backlog in (self.engine.channels().get(channel.name) or Backlog(),)
            },
        }


async def _first_look(client: Client) -> Snapshot:
    """Return the newest events, as soon as a backend answers."""
    async for attempt in stamina.retry_context(on=Unreachable, attempts=None, timeout=None, wait_max=2.0):
        with attempt:
            return await client.snapshot()
    raise AssertionError("it is tried until it succeeds")


async def _run(given: argparse.Namespace, wiring: Wiring) -> None:
    data = wiring.data
    rules = RuleFile(given.rules, data.good_alerts(given.rules))
    await asyncio.to_thread(rules.refresh)
    dsn = os.environ.get("DATABASE_URL", "")
    if not dsn:
        raise UsageError("DATABASE_URL is not set")
    intake = EventIntake(
        data.alerts_spool,
        database_url=asyncpg_url(dsn)
        if wiring.settings.hosted
        else as_role(asyncpg_url(dsn), "service_role"),
        legacy_url=given.legacy_link,
        legacy_token=lambda: read_token(data.link_token),
    )
    with Store.open(data.alerts_store) as store:
        async with intake, Client(lambda: wiring.connect_router(CLIENT)) as client:
            alerting = Alerting(Parts(rules, store, intake, data.alerts_status))
            running = asyncio.ensure_future(alerting.run(client))
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, running.cancel)
            try:
                await running
            except asyncio.CancelledError:
                log.info("stopping")
            finally:
                alerting.save()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the part; return 0 after a stop, 1 with one line about what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m crossfade.alerts", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--data-dir", type=Path, required=True, metavar="D")
    parser.add_argument("--rules", type=Path, required=True, metavar="PATH")
    parser.add_argument("--flags", type=Path, metavar="PATH", help="default: as the settings have it")
    parser.add_argument("--legacy-link", metavar="URL", help="where alerts go besides, ws://HOST:PORT/link")
    given = parser.parse_args(arguments)
    logs.to_stderr(logging.INFO)
    # What these two say of each attempt, the channel's state says once.
    logging.getLogger("apprise").propagate = False
    logging.getLogger("stamina").setLevel(logging.ERROR)

    def run() -> None:
        settings = load_settings()
        if given.flags is not None:
            settings = settings.model_copy(update={"flags": given.flags})
        asyncio.run(_run(given, Wiring(DataDir.of(given.data_dir), settings)))

    return exit_status("alerts", run, _OURS)


if __name__ == "__main__":
    sys.exit(main())
