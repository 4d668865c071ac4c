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
from monitoring.service import PUSHING, Backend, Gap
from monitoring.topics import Selection, parse_topics
from validation.errors import TruthUnreadable, ValidationError
from validation.repeats import RawRepeats
from validation.session import Session
from validation.state_taking import take_states
from validation.terms import Resumption, Terms
from validation.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from monitoring.cursor import Cursor
    from monitoring.events import Position, StreamId
    from monitoring.service import Item, MonitoringService, Snapshot
    from monitoring.subscription import Subscription
    from validation.clients import Report
    from validation.frames import Frame
    from validation.result import Result

    Taps = Mapping[Backend, Subscription[Item]]

_BATCH = 500
_ON_THE_WAY = 2_000
"""Events before the window that a server without ids may still deliver in it."""

_CLIENTS_SECONDS = 1.0
"""How often clients' reports are looked at."""

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

    ``note`` is handed everything that goes into the comparison (`validation.session.replay` makes the same result of it);
    with ``resume`` it goes on where an earlier one stood. Give ``on_raw(side)`` to the adapter of each side when it is made, to have repeats on the wire counted too.
    ``clients`` returns what all clients that live report now; it is called each second and has to be quick.
    ``tick_seconds`` is how often the truth is read and decisions are made; ``start_seconds`` how long the taps may
    take to become live.
    """

    def __init__(
        self,
        truth: Truth,
        *,
        terms: Terms | None = None,
        note: Callable[[Frame], None] | None = None,
        resume: Resumption | None = None,
        clients: Callable[[], Iterable[Report]] | None = None,
        tick_seconds: float = 0.2,
        start_seconds: float = 15.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._truth = truth
        self._terms = terms or Terms()
        self._topics = parse_topics(self._terms.topics)
        self._selection = Selection(self._topics)
        self._known_heads: dict[StreamId, Position] = {}
        self._note = note
        self._resume = resume
        self._clients = clients
        self._clients_due = 0.0
        self._tick_seconds = tick_seconds
        self._start_seconds = start_seconds
        self._now = now
        self._raw = {side: RawRepeats() for side in PUSHING}
        self._session: Session | None = None
        self._place = 0
        self._errors: list[str] = []
        self._second: Subscription[Item] | None = None  # to the legacy server, for the noise
        self._ended = asyncio.Event()  # stopped by the caller, or by an error
        self._ended_at: datetime | None = None

    def on_raw(self, side: Backend) -> Callable[[Event], None]:
        """Return the observer for an adapter's ``on_raw``."""
        return self._raw[side].add

    def stop(self) -> None:
        """End the run now; its result is still made, and says that it was ended early."""
        self._ended.set()

    @property
    def ending(self) -> bool:
        """Whether it was told to end, and decides what is on its way."""
        return self._ended.is_set()

    async def run(
        self,
        services: Mapping[Backend, MonitoringService],
        seconds: float | None,
        *,
        until_pass: bool = False,
        noise: MonitoringService | None = None,
        states: bool = True,
    ) -> Result:
        """Compare for ``seconds`` (None: until stopped), then wait out the grace, and return the result.

        With ``until_pass`` it ends as soon as it passes, or has found something. ``noise`` is a second connection to
        the legacy server. With ``states`` the snapshots of both are compared at the end, unless it was ended early. Does
        not close the services.
        """
        async with self._tapped(services, noise) as taps:
            started_at = self._now()
            doubts: tuple[str, ...] = ()
            try:
                doubts = await self._run(taps, seconds, until_pass=until_pass)
                if states and self._session is not None and not self._errors and not doubts:
                    await self._compare_states(self._session, services)
            except TruthUnreadable as error:
                self._fail(str(error))
            at = asyncio.get_running_loop().time()
            session = self._session or Session({}, started_at, at=at, terms=self._terms, note=self._note)
            ended_at = self._ended_at or self._now()
            return session.result(ended_at, at=at, errors=tuple(self._errors), doubts=doubts)

    @property
    def session(self) -> Session | None:
        """The comparison as it stands; None until both sides have been live."""
        return self._session

    async def follow(
        self,
        services: Mapping[Backend, MonitoringService],
        publish: Callable[[dict[str, Any]], Awaitable[None]],
        *,
        every_seconds: float = 2.0,
        noise: MonitoringService | None = None,
    ) -> NoReturn:
        """Compare until cancelled and hand a summary as plain JSON to ``publish`` every ``every_seconds``.

        ``state`` is waiting, until both sides have been live at once, then comparing: then there is a report on the
        last ten minutes too, with the keys of `report.to_json`. Raises ComparisonFailed, also after ``stop``;
        ``publish`` should not raise.
        """
        async with self._tapped(services, noise) as taps:
            try:
                await self._follow(taps, publish, every_seconds)
            except TruthUnreadable as error:
                self._fail(str(error))
        raise ComparisonFailed("; ".join(self._errors) or "stopped by its owner")

    @asynccontextmanager
    async def _tapped(
        self, services: Mapping[Backend, MonitoringService], noise: MonitoringService | None = None
    ) -> AsyncIterator[Taps]:
        """Subscribe to both sides and take in what they deliver, for as long as the context lasts."""
        if (
            self._resume is not None
        ):  # what the backends kept meanwhile is delivered as if nothing had happened
            self._begin(self._resume.cursor)
        since = self._resume.cursor if self._resume is not None else None
        async with AsyncExitStack() as stack:
            taps = {
                side: await stack.enter_async_context(services[side].subscribe(self._topics, since))
                for side in PUSHING
            }
            sources = [(side, tap, 0) for side, tap in taps.items()]
            if noise is not None:
                self._second = await stack.enter_async_context(noise.subscribe(self._topics))
                sources.append((Backend.LEGACY, self._second, 1))
            # No TaskGroup: up to Python 3.12 one whose child fails as its parent is cancelled forgets the cancellation,
            # and a comparison that was told to stop would go on with an ExceptionGroup instead.
            pumps = [asyncio.ensure_future(self._pump(*source)) for source in sources]
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

    def _both_live(self, taps: Taps) -> bool:
        """Tell whether both sides are live, and the second connection: what it is told later counts as noise."""
        return _all_live(taps) and (self._second is None or self._second.live)

    async def _run(self, taps: Taps, seconds: float | None, *, until_pass: bool) -> tuple[str, ...]:
        """Compare, and return what casts doubt on the result."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._start_seconds
        while not self._both_live(taps) and loop.time() < deadline and not self._ended.is_set():
            await self._pause(self._tick_seconds)
        if self._ended.is_set():
            return ("stopped before the start",)
        if not _all_live(taps):
            late = (side for side, tap in taps.items() if not tap.live)
            return tuple(f"{side} was not live within {self._start_seconds:g} s" for side in late)
        session = self._session or self._begin()
        started = loop.time()
        settled = False
        while not self._ended.is_set() and not settled:
            left = self._tick_seconds if seconds is None else started + seconds - loop.time()
            if left <= 0:
                break
            await self._pause(min(left, self._tick_seconds))
            self._read_truth(session)
            self._tick(session, taps)
            settled = until_pass and session.standing() in {Verdict.PASS, Verdict.FAIL}
        early, lasted = self._ended.is_set(), loop.time() - started
        self._ended_at = self._now()
        if not self._errors:
            session.finish(self._heads(), loop.time())
            self._read_truth(session)
        drained = loop.time() + 2 * self._terms.limits.grace_cap_seconds
        while session.alignment.open and not self._errors and loop.time() < drained:
            await asyncio.sleep(self._tick_seconds)
            if self._terms.likeness is not None:  # a tap may be ahead of it, also after the end
                self._read_truth(session)
            self._tick(session, taps)
        planned = "" if seconds is None else f" of {seconds:g}"
        return (f"stopped after {lasted:.1f}{planned} s",) if early else ()

    async def _compare_states(self, session: Session, services: Mapping[Backend, MonitoringService]) -> None:
        """Compare the states that both sides would begin a client with."""
        loop = asyncio.get_running_loop()
        if self._terms.likeness is not None:
            session.end_states(
                loop.time(), "those of a server without ids have no positions to compare them at"
            )
            return

        def take(legacy: Snapshot, supabase: Snapshot) -> bool:
            return session.compare_states(legacy, supabase, loop.time())

        problem = await take_states(services, self._topics, take)
        session.end_states(loop.time(), problem)

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

    async def _pump(self, side: Backend, tap: Subscription[Item], number: int) -> None:
        """Take what a side delivers until its subscription ends, which it never should."""
        try:
            async for item in tap:
                if self._session is None:
                    continue  # published before the window: both sides were not live yet
                at = asyncio.get_running_loop().time()
                if isinstance(item, Event):
                    latency = (self._now() - item.occurred_at).total_seconds()
                    self._session.deliver(side, item, at, latency, number)
                elif isinstance(item, Gap):
                    self._session.gap(side, at)
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

    def _begin(self, start: Cursor | None = None) -> Session:
        """Open the window at the truth's heads. No await: nothing can be delivered between reading and opening."""
        # Before the heads: what is read twice is dropped. What is matched by its contents begins with what may still be
        # on its way to a tap.
        before = 0 if self._terms.likeness is None else _ON_THE_WAY
        self._place = 0 if start is not None else max(0, _consulted(self._truth.position) - before)
        self._session = Session(
            self._heads() if start is None else start,
            self._now(),
            at=asyncio.get_running_loop().time(),
            terms=self._terms,
            raw=self._raw,
            note=self._note,
            evidence=self._resume.evidence if self._resume is not None else None,
        )
        return self._session

    def _tick(self, session: Session, taps: Taps) -> None:
        at = asyncio.get_running_loop().time()
        for side, tap in taps.items():
            session.set_live(side, at, live=tap.live)
        if self._clients is not None and at >= self._clients_due:
            self._clients_due = at + _CLIENTS_SECONDS
            session.report(self._clients(), at)
        session.decide(at)

    def _read_truth(self, session: Session) -> None:
        now = asyncio.get_running_loop().time()
        heads = self._heads()
        upto = _consulted(self._truth.position)
        while batch := _consulted(partial(self._truth.read, self._place, _BATCH, upto)):
            for _, event in batch:
                if event.stream in self._selection:
                    session.publish(event, now)
            self._place = batch[-1][0]
        self._place = upto
        if heads != self._known_heads:
            self._known_heads = heads
            session.publish_upto(heads, now)

    def _heads(self) -> dict[StreamId, Position]:
        heads = _consulted(self._truth.heads)
        return {stream: head for stream, head in heads.items() if stream in self._selection}


def _all_live(taps: Taps) -> bool:
    return all(tap.live for tap in taps.values())


def _consulted(ask: Callable[[], _T]) -> _T:
    try:
        return ask()
    except (
        Exception
    ) as error:  # the truth is an adapter's, and so are its errors; none may pass for a finding
        raise TruthUnreadable(f"what was published cannot be read: {error}") from error
