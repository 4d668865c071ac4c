"""The comparison as it runs: taps on both paths, the spool as truth, a tick that decides.

The taps are ordinary subscriptions, so they see what any viewer sees. The window begins at the truth's heads of the
moment when both are live, and ends at its heads when the time is up; then the grace is waited out.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from monitoring.errors import MonitoringError
from monitoring.events import Event, format_time
from monitoring.service import Backend, Gap
from monitoring.topics import GLOBAL, Topic, selects
from validation.errors import TruthUnreadable, ValidationError
from validation.session import RawRepeats, Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping

    from monitoring.cursor import Cursor
    from monitoring.events import Position, StreamId
    from monitoring.service import Item, MonitoringService
    from monitoring.subscription import Subscription
    from validation.alignment import Limits
    from validation.result import Result, Thresholds

    Taps = Mapping[Backend, Subscription[Item]]

_BATCH = 500

_T = TypeVar("_T")


class Truth(Protocol):
    """The record of what was published, read while others write it. Calls come from the event loop and must be quick.

    `adapters.spool.SpoolReader` is one.
    """

    def heads(self) -> Cursor:
        """Return the last event of every stream."""
        ...

    def position(self) -> int:
        """Return the place of the newest event in the record."""
        ...

    def read(self, after: int, limit: int, upto: int | None = None) -> list[tuple[int, Event]]:
        """Return at most ``limit`` retained events with ``after`` < place <= ``upto``, in order, with their places."""
        ...


class ComparisonFailed(ValidationError):  # noqa: N818 - named for what it is
    """A comparison that cannot go on: a backend refused its tap, or the truth cannot be read."""


def utc_now() -> datetime:
    """Return the time now; the only clock of this package, and its default."""
    return datetime.now(UTC)


class LiveComparison:
    """Compares two backends live, once: use an object for one ``run`` or one ``follow``.

    Give ``on_raw(side)`` to the adapter of each side when it is made, to have repeats on the wire counted too.
    ``tick_seconds`` is how often the truth is read and decisions are made; ``start_seconds`` how long the taps may
    take to become live.
    """

    def __init__(
        self,
        truth: Truth,
        *,
        topics: Collection[Topic] = (GLOBAL,),
        limits: Limits | None = None,
        thresholds: Thresholds | None = None,
        tick_seconds: float = 0.2,
        start_seconds: float = 15.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._truth = truth
        self._topics = tuple(topics)
        self._limits = limits
        self._thresholds = thresholds
        self._tick_seconds = tick_seconds
        self._start_seconds = start_seconds
        self._now = now
        self._raw = {side: RawRepeats() for side in Backend}
        self._session: Session | None = None
        self._place = 0
        self._errors: list[str] = []
        self._ended = asyncio.Event()  # stopped by the caller, or by an error
        self._ended_at: datetime | None = None

    def on_raw(self, side: Backend) -> Callable[[Event], None]:
        """Return the observer for an adapter's ``on_raw``."""
        return self._raw[side].add

    def stop(self) -> None:
        """End the run now; its result is still made, and says that it was ended early."""
        self._ended.set()

    async def run(self, services: Mapping[Backend, MonitoringService], seconds: float) -> Result:
        """Compare for ``seconds``, then wait out the grace, and return the result. Does not close the services."""
        async with self._tapped(services) as taps:
            started_at = self._now()
            doubts: tuple[str, ...] = ()
            try:
                doubts = await self._run(taps, seconds)
            except TruthUnreadable as error:
                self._fail(str(error))
            session = self._session or Session({}, started_at)
            return session.result(self._ended_at or self._now(), errors=tuple(self._errors), doubts=doubts)

    async def follow(
        self,
        services: Mapping[Backend, MonitoringService],
        publish: Callable[[dict[str, Any]], Awaitable[None]],
        *,
        every_seconds: float = 2.0,
    ) -> NoReturn:
        """Compare until cancelled and hand a summary as plain JSON to ``publish`` every ``every_seconds``.

        ``state`` is waiting, until both sides have been live at once, then comparing: then there is a report on the
        last ten minutes too, with the keys of `report.to_json`. Raises ComparisonFailed, also after ``stop``;
        ``publish`` should not raise.
        """
        async with self._tapped(services) as taps:
            try:
                await self._follow(taps, publish, every_seconds)
            except TruthUnreadable as error:
                self._fail(str(error))
        raise ComparisonFailed("; ".join(self._errors) or "stopped by its owner")

    @asynccontextmanager
    async def _tapped(self, services: Mapping[Backend, MonitoringService]) -> AsyncIterator[Taps]:
        """Subscribe to both sides and take in what they deliver, for as long as the context lasts."""
        async with AsyncExitStack() as stack:
            taps = {
                side: await stack.enter_async_context(services[side].subscribe(self._topics))
                for side in Backend
            }
            # No TaskGroup: up to Python 3.12 one whose child fails as its parent is cancelled forgets the cancellation,
            # and a comparison that was told to stop would go on with an ExceptionGroup instead.
            pumps = [asyncio.ensure_future(self._pump(side, tap)) for side, tap in taps.items()]
            for pump in pumps:
                pump.add_done_callback(lambda _: self._ended.set())
            try:
                yield taps
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.wait(pumps)
            for pump in pumps:
                if not pump.cancelled():
                    pump.result()  # what no side should do is raised as it is

    async def _run(self, taps: Taps, seconds: float) -> tuple[str, ...]:
        """Compare, and return what casts doubt on the result."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._start_seconds
        while not _all_live(taps) and loop.time() < deadline and not self._ended.is_set():
            await self._pause(self._tick_seconds)
        if self._ended.is_set():
            return ("stopped before the start",)
        if not _all_live(taps):
            late = (side for side, tap in taps.items() if not tap.live)
            return tuple(f"{side} was not live within {self._start_seconds:g} s" for side in late)
        session = self._begin()
        started = loop.time()
        while (left := started + seconds - loop.time()) > 0 and not self._ended.is_set():
            await self._pause(min(left, self._tick_seconds))
            self._read_truth(session)
            self._tick(session, taps)
        early, lasted = self._ended.is_set(), loop.time() - started
        self._ended_at = self._now()
        if not self._errors:
            session.alignment.finish(self._heads())
            self._read_truth(session)
        drained = loop.time() + 2 * session.alignment.limits.grace_cap_seconds
        while session.alignment.open and not self._errors and loop.time() < drained:
            await asyncio.sleep(self._tick_seconds)
            self._tick(session, taps)
        return (f"stopped after {lasted:.1f} of {seconds:g} s",) if early else ()

    async def _follow(
        self, taps: Taps, publish: Callable[[dict[str, Any]], Awaitable[None]], every_seconds: float
    ) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._ended.is_set():
            if self._session is not None:
                self._read_truth(self._session)
                self._tick(self._session, taps)
            elif _all_live(taps):
                self._begin()
            if loop.time() >= due:
                due = loop.time() + every_seconds
                await publish(self._summary(self._session, taps))
            await self._pause(self._tick_seconds)

    def _summary(self, session: Session | None, taps: Taps) -> dict[str, Any]:
        head = {"state": "comparing" if session else "waiting", "updated_at": format_time(self._now())}
        if session is None:
            return {**head, "live": {str(side): tap.live for side, tap in taps.items()}}
        return {**head, **session.rolling(asyncio.get_running_loop().time(), self._now())}

    async def _pump(self, side: Backend, tap: Subscription[Item]) -> None:
        """Take what a side delivers until its subscription ends, which it never should."""
        try:
            async for item in tap:
                if self._session is None:
                    continue  # published before the window: both sides were not live yet
                if isinstance(item, Event):
                    latency = (self._now() - item.occurred_at).total_seconds()
                    at = asyncio.get_running_loop().time()
                    self._session.alignment.observe(side, item, at, latency)
                elif isinstance(item, Gap):
                    self._session.gap(side)
            self._fail(f"the subscription to {side} ended by itself")
        except MonitoringError as error:
            self._fail(str(error))

    def _fail(self, message: str) -> None:
        self._errors.append(message)
        self._ended.set()

    async def _pause(self, seconds: float) -> None:
        """Sleep, but wake when the run is to end."""
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            pass

    def _begin(self) -> Session:
        """Open the window at the truth's heads. No await: nothing can be delivered between reading and opening."""
        self._place = _consulted(self._truth.position)  # before the heads: what is read twice is dropped
        self._session = Session(
            self._heads(), self._now(), limits=self._limits, thresholds=self._thresholds, raw=self._raw
        )
        return self._session

    def _tick(self, session: Session, taps: Taps) -> None:
        for side, tap in taps.items():
            session.set_live(side, live=tap.live)
        session.decide(asyncio.get_running_loop().time())

    def _read_truth(self, session: Session) -> None:
        now = asyncio.get_running_loop().time()
        heads = self._heads()
        upto = _consulted(self._truth.position)
        while batch := _consulted(partial(self._truth.read, self._place, _BATCH, upto)):
            for _, event in batch:
                if selects(self._topics, event.stream):
                    session.alignment.publish(event, now)
            self._place = batch[-1][0]
        self._place = upto
        for stream, head in heads.items():
            session.alignment.publish_upto(stream, head, now)

    def _heads(self) -> dict[StreamId, Position]:
        heads = _consulted(self._truth.heads)
        return {stream: head for stream, head in heads.items() if selects(self._topics, stream)}


def _all_live(taps: Taps) -> bool:
    return all(tap.live for tap in taps.values())


def _consulted(ask: Callable[[], _T]) -> _T:
    try:
        return ask()
    except (
        Exception
    ) as error:  # the truth is an adapter's, and so are its errors; none may pass for a finding
        raise TruthUnreadable(f"what was published cannot be read: {error}") from error
