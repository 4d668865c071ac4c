"""The hub: follows the service in a thread of its own, and has the newest picture ready for every tab.

Streamlit runs pages in short-lived threads without an event loop, and a client of ours lives in one loop for long; so
one daemon thread owns loop and client, and pages only read an immutable `Frame`. In this slice all tabs of the
process are one viewer with one client id, and so are on one backend; viewers of their own come with sign-in.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from dashboard import charts, reports
from dashboard.actions import Actions
from dashboard.charts import Drawn
from dashboard.comparison import Comparison, comparison
from dashboard.history import Chart, Range, host_charts
from dashboard.model import Connection, HostView, State, applied, rewound, seeded
from dashboard.readings import Sample
from dashboard.records import Records
from dashboard.reports import Parity, Rollout, Waiting
from dashboard.system import System, system
from monitoring.errors import MonitoringError, Refused, Unreachable
from monitoring.flags.model import Flags
from monitoring.service import Item, MonitoringService, Snapshot
from monitoring.subscription import Subscription
from monitoring.topics import GLOBAL

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25
"""How often the feed's liveness is looked at."""
_REPORT_SECONDS = 1.0
_RETRY_SECONDS = 1.0
_REFUSED_SECONDS = 5.0
_CLOSE_SECONDS = 10.0
_MOST_ASKED = 64
"""Answers that are kept at once: histories, each of one host over one range, and the like."""

Report = Mapping[str, Any]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the hub gets everything from. The callables may block for a moment; the hub calls them in a thread.

    ``connect`` returns the viewer's service and closes it on exit; it is entered inside the hub's loop and raises
    Unreachable or Refused. ``flags`` returns the flags in force and what is wrong with their file.
    """

    client_id: str
    connect: Callable[[], AbstractAsyncContextManager[MonitoringService]]
    flags: Callable[[], tuple[Flags, str | None]]
    parity: Callable[[], Report | None]
    collect: Callable[[], Report | None]
    processes: Callable[[], Report | None]
    actions: Actions | None = None
    """What viewers can do; None where there is nothing but to look."""
    records: Records | None = None
    """What pages look up beyond the feed; None where there is nothing but the feed."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of everything; a higher ``version`` is newer, the same one is the same picture."""

    version: int
    client_id: str
    connection: Connection
    state: State
    rollout: Rollout
    parity: Parity | Waiting | None = None
    docker_note: str | None = None
    flags: Flags = field(default_factory=Flags)
    comparison: Comparison = field(default_factory=Comparison)
    system: System = field(default_factory=System)


class Hub:
    """One viewer's picture, kept up to date until `close`. The thread begins with `start`."""

    def __init__(self, sources: Sources, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._sources = sources
        self._now = now
        self._frame = Frame(
            0, sources.client_id, Connection(), State(), reports.rollout(Flags(), None, sources.client_id)
        )
        self._changed = threading.Condition()
        self._drawing = threading.Lock()
        self._drawn: dict[str, tuple[tuple[Sample, ...], Drawn]] = {}
        self._asking = threading.Lock()
        self._asked: dict[Hashable, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="dashboard-hub", daemon=True)

    @property
    def actions(self) -> Actions | None:
        """What viewers can do."""
        return self._sources.actions

    @property
    def records(self) -> Records | None:
        """What pages look up beyond the feed."""
        return self._sources.records

    def start(self) -> None:
        """Begin to follow the service."""
        self._thread.start()

    def latest(self) -> Frame:
        """Return the newest picture, without waiting."""
        return self._frame

    def wait(self, condition: Callable[[Frame], object], timeout_seconds: float) -> Frame:
        """Return the newest picture as soon as it fulfils a condition, or whatever it is at the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: condition(self._frame), timeout_seconds)
        return self._frame

    def drawn(self, host: HostView) -> Drawn:
        """Return the charts of a host; made once for all tabs, and not at all while nobody looks."""
        with self._drawing:
            known = self._drawn.get(host.name)
            if known is None or known[0] is not host.samples:
                known = self._drawn[host.name] = (host.samples, charts.drawn(host.samples))
            return known[1]

    def history(self, host: HostView, span: Range) -> Sequence[Chart]:
        """Return the charts of a host over a range, asked for once for all tabs; raises ControlError."""
        records, stream = self._sources.records, f"{host.name}/system"
        if records is None:
            return ()
        disks = host.newest.disks if host.newest else ()

        def ask() -> tuple[Chart, ...]:
            return tuple(host_charts(records.fields(stream), disks, span, partial(records.series, stream)))

        return self.once((host.name, span), ask)

    def once(self, key: Hashable, ask: Callable[[], _T]) -> _T:
        """Return what ``ask`` returned for this key, asking once for all tabs; the newest of them are kept.

        Whoever wants the same meanwhile waits for it. What ``ask`` raises is raised, and asked again the next time.
        """
        with self._asking:
            if key not in self._asked:
                while len(self._asked) >= _MOST_ASKED:
                    self._asked.pop(next(iter(self._asked)))
                self._asked[key] = ask()
            found: _T = self._asked[key]
            return found

    def close(self) -> None:
        """End the thread and close the service; safe to call twice, and from any other thread."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and self._thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            each = [tasks.create_task(self._follow()), tasks.create_task(self._read_reports())]
            await self._stop.wait()
            for task in each:
                task.cancel()

    def _publish(self, **changes: Any) -> None:
        """Replace the picture, if anything in it is new."""
        frame = replace(self._frame, **changes)
        if frame == self._frame:
            return
        with self._changed:
            self._frame = replace(frame, version=frame.version + 1)
            self._changed.notify_all()

    def _note(self, **changes: Any) -> None:
        self._publish(connection=replace(self._frame.connection, **changes))

    async def _follow(self) -> None:
        """Have a service, as long as the hub lives."""
        own = asyncio.current_task()
        while True:
            try:
                # A task of its own, cancelled and awaited with this one: up to Python 3.12 a TaskGroup whose child
                # fails as its parent is cancelled forgets the cancellation and spoils the parent's count of them.
                await asyncio.create_task(self._session())
                self._down("the feed ended")
            except* Refused as refusals:
                self._down(str(_first(refusals)), refused=True)
            except* (MonitoringError, OSError) as failures:
                self._down(str(_first(failures)))
            except* Exception as bugs:  # noqa: BLE001 - a task's top: a bug must not freeze the page silently
                _log.exception("the dashboard's feed failed; trying again", exc_info=_first(bugs))
                self._down(f"the feed failed: {_first(bugs)}; see the dashboard's log")
            if own is not None and own.cancelling():
                raise asyncio.CancelledError
            await asyncio.sleep(_REFUSED_SECONDS if self._frame.connection.refused else _RETRY_SECONDS)

    async def _session(self) -> None:
        async with self._sources.connect() as service:
            await self._serve(service)

    def _down(self, detail: str, *, refused: bool = False) -> None:
        self._note(
            down_since=self._frame.connection.down_since or self._now(), detail=detail, refused=refused
        )

    async def _serve(self, service: MonitoringService) -> None:
        """Fill the page from a snapshot, then follow from some minutes before it, which fills the charts."""
        snapshot = await self._snapshot(service)
        self._publish(state=seeded(self._frame.state, snapshot, self._now()))
        self._note(backend=service.backend, refused=False)
        subscription = service.subscribe((GLOBAL,), rewound(snapshot.cursor))
        async with subscription, asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._look(service, subscription))
            async for item in subscription:
                self._take(item)
            looking.cancel()

    async def _snapshot(self, service: MonitoringService) -> Snapshot:
        while True:
            try:
                return await service.snapshot((GLOBAL,))
            except Unreachable as error:
                self._down(str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def _take(self, item: Item) -> None:
        self._publish(state=applied(self._frame.state, item, self._now()))

    async def _look(self, service: MonitoringService, subscription: Subscription[Item]) -> None:
        """Note whether the feed is live, and who feeds it."""
        while True:
            if subscription.live:
                self._note(backend=service.backend, ever_live=True, down_since=None, detail="")
            else:
                health = await service.health()
                since = self._frame.connection.down_since or self._now()
                self._note(backend=service.backend, down_since=since, detail=health.detail)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _read_reports(self) -> None:
        said = ""
        while True:
            try:
                self._publish(**await asyncio.to_thread(self._reports))
                said = ""
            except Exception as error:  # noqa: BLE001 - a task's top: one bad report must not end the feed
                if said != str(error):
                    _log.exception("the reports of the other parts cannot be read: %s", error)
                said = str(error)
            await asyncio.sleep(_REPORT_SECONDS)

    def _reports(self) -> dict[str, Any]:
        flags, problem = self._sources.flags()
        collect, parity = self._sources.collect(), self._sources.parity()
        return {
            "flags": flags,
            "comparison": comparison(parity),
            "rollout": reports.rollout(flags, problem, self._sources.client_id),
            "parity": reports.parity(parity),
            "system": system(self._sources.processes(), collect),
            "docker_note": reports.docker_note(collect),
        }


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the error at the bottom of a group: the sentence for people."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
