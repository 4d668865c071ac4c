"""The hub of one viewer: follows its service, and has the newest picture ready for every tab that looks.

Streamlit runs pages in short-lived threads without an event loop, and a client of ours lives in one loop for long: so
the loop of `dashboard.viewers` follows, and pages only read an immutable `Frame`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from dashboard import reports
from dashboard.actions import Actions
from dashboard.charts import Drawn
from dashboard.comparison import Comparison
from dashboard.history import Chart, Range, host_charts
from dashboard.identity import Viewer
from dashboard.made_once import MadeOnce
from dashboard.model import Connection, HostView, State, applied, rewound, seeded
from dashboard.place import Place
from dashboard.records import Records
from dashboard.redrawing import Redrawing
from dashboard.reports import Parity, Rollout, Waiting
from dashboard.sources import Sources
from dashboard.system import System
from monitoring.cursor import Cursor
from monitoring.errors import MonitoringError, Refused, Unreachable
from monitoring.events import Event, Position, StreamId
from monitoring.flags.model import Flags
from monitoring.service import Gap, Item, MonitoringService, Snapshot
from monitoring.subscription import Subscription
from monitoring.topics import GLOBAL

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25
"""How often the feed's liveness is looked at."""
_AT_ONCE = 255
"""Items that are taken before the picture is replaced, if they are there."""
_RETRY_SECONDS = 1.0
_REFUSED_SECONDS = 5.0

_T = TypeVar("_T")


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


@dataclass(frozen=True, slots=True)
class Seed:
    """Where a viewer begins: what is known, and the cursor to follow on from."""

    state: State
    cursor: Cursor


class Hub:
    """One viewer's picture, kept up to date while somebody looks at it.

    ``wanted`` is called whenever somebody looks and nobody follows, from any thread; whoever made the hub then runs
    `follow`. ``redrawing`` draws tabs when there is something new; without it they have only their timers. ``seed`` returns
    where another viewer of the same role stands, which spares asking the backend for all of it.
    """

    def __init__(
        self,
        viewer: Viewer,
        sources: Sources,
        made: MadeOnce,
        *,
        wanted: Callable[[Hub], None],
        redrawing: Redrawing | None = None,
        seed: Callable[[Hub], Seed | None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.viewer = viewer
        self.following = False
        """Whether `follow` runs; set by whoever runs it."""
        self.looked_at = time.monotonic()
        """When somebody looked last."""
        self.redrawing = redrawing
        self._sources = sources
        self._made = made
        self._wanted = wanted
        self._seed = seed
        self._now = now
        client_id = viewer.client_id
        self._frame = Frame(0, client_id, Connection(), State(), reports.rollout(Flags(), None, client_id))
        self._changed = threading.Condition()
        self._cursor: dict[StreamId, Position] = {}
        """What the state has; both change together, in the loop."""
        self._told: tuple[Flags, str | None] | None = None

    @property
    def actions(self) -> Actions | None:
        """What viewers can do."""
        return self._sources.actions

    @property
    def records(self) -> Records | None:
        """What pages look up beyond the feed."""
        return self._sources.records

    @property
    def place(self) -> Place:
        """The installation, as commands name it."""
        return self._sources.place

    def latest(self) -> Frame:
        """Return the newest picture, without waiting."""
        self.looked_at = time.monotonic()
        if not self.following:
            self._wanted(self)
        return self._frame

    def differs(self, frame: Frame, of: Callable[[Frame], object]) -> Callable[[], bool]:
        """Return what tells whether ``of`` the newest picture is another than of ``frame``; asking is no look at it."""
        showed, same = of(frame), frame.version

        def differs() -> bool:
            nonlocal same
            newest = self._frame
            if newest.version == same:
                return False
            if of(newest) != showed:
                return True
            same = newest.version
            return False

        return differs

    def wait(self, condition: Callable[[Frame], object], timeout_seconds: float) -> Frame:
        """Return the newest picture as soon as it fulfils a condition, or whatever it is at the timeout."""
        self.latest()
        with self._changed:
            self._changed.wait_for(lambda: condition(self._frame), timeout_seconds)
        return self._frame

    def drawn(self, host: HostView) -> Drawn:
        """Return the charts of a host; made once for all tabs, and not at all while nobody looks."""
        return self._made.drawn(host)

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
        """Return what ``ask`` returned for this key, asking once for all tabs; see `MadeOnce.answer`."""
        return self._made.answer(key, ask)

    def stands(self) -> Seed | None:
        """Return where this viewer stands; None while it is not live. Inside the loop."""
        connection = self._frame.connection
        if not (connection.ever_live and connection.down_since is None):
            return None
        return Seed(self._frame.state, Cursor(self._cursor))

    def report(self, told: Mapping[str, Any], problem: str | None) -> None:
        """Take what the other parts say about themselves: fields of `Frame`, the same objects while they say the same."""
        flags: Flags = told["flags"]
        if self._told is None or self._told[0] is not flags or self._told[1] != problem:
            self._told = flags, problem
            self._publish(**told, rollout=reports.rollout(flags, problem, self.viewer.client_id))
        else:
            self._publish(**told)

    def rest(self) -> None:
        """Note that nobody follows any more, because nobody looks."""
        self._down("nobody looked at it for a while")

    def _publish(self, **changes: Any) -> None:
        """Replace the picture, if anything in it is new."""
        if all(getattr(self._frame, name) is value for name, value in changes.items()):
            return
        frame = replace(self._frame, **changes)
        if frame == self._frame:
            return
        with self._changed:
            self._frame = replace(frame, version=frame.version + 1)
            self._changed.notify_all()
        if self.redrawing is not None:
            self.redrawing.changed()

    def _note(self, **changes: Any) -> None:
        connection = replace(self._frame.connection, **changes)
        if connection != self._frame.connection:
            self._publish(connection=connection)

    async def follow(self) -> None:
        """Have a service, until cancelled."""
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
        async with self._sources.connect(self.viewer) as service:
            await self._serve(service)

    def _down(self, detail: str, *, refused: bool = False) -> None:
        self._note(
            down_since=self._frame.connection.down_since or self._now(), detail=detail, refused=refused
        )

    async def _serve(self, service: MonitoringService) -> None:
        """Fill the page, then follow."""
        since = await self._begin(service)
        self._cursor = dict(since)
        self._note(backend=service.backend, refused=False)
        subscription = service.subscribe((GLOBAL,), since)
        async with subscription, asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._look(service, subscription))
            async for item in subscription:
                self._take([item, *subscription.take(_AT_ONCE)])
            looking.cancel()

    async def _begin(self, service: MonitoringService) -> Cursor:
        """Begin where another viewer stands; the first one with a snapshot, and some minutes before it, which fill the charts."""
        own, promises = self._frame.state, service.capabilities
        if promises.identity and promises.resume and (seed := self._seed(self)) is not None:
            self._publish(state=replace(seed.state, moves=own.moves, lost=own.lost))
            return seed.cursor
        snapshot = await self._snapshot(service)
        self._publish(state=seeded(own, snapshot, self._now()))
        return rewound(snapshot.cursor)

    async def _snapshot(self, service: MonitoringService) -> Snapshot:
        while True:
            try:
                return await service.snapshot((GLOBAL,))
            except Unreachable as error:
                self._down(str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def _take(self, items: Sequence[Item]) -> None:
        state, now = self._frame.state, self._now()
        for item in items:
            state = applied(state, item, now)
            if isinstance(item, Event):
                self._cursor[item.stream] = item.position
            elif isinstance(item, Gap) and item.to_seq is not None:
                self._cursor[item.stream] = Position(item.epoch, item.to_seq)
        self._publish(state=state)

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


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the error at the bottom of a group: the sentence for people."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
