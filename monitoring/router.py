"""The router: one client's service over both backends, moved between them in mid-stream.

It is a `MonitoringService` like the two it stands on. Each subscription has an active leg and, while moving, a
candidate; `monitoring.handover` decides, this module carries it out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from monitoring.cursor import Cursor
from monitoring.errors import MonitoringError, Refused, Unreachable
from monitoring.events import BEGINNING, Event, Position, StreamId
from monitoring.handover import Candidate, Decision, Limits, Step, View, decide
from monitoring.sequencer import Sequencer
from monitoring.service import (
    Backend,
    Capabilities,
    Gap,
    Health,
    Item,
    MonitoringService,
    MoveAbandoned,
    Moved,
    Snapshot,
)
from monitoring.subscription import Subscription
from monitoring.topics import Topic

_INBOX = 1024
_TICK_SECONDS = 0.25
"""How often a quiet client looks at its flags and its feed; a flag edit is seen well within a second."""
_MOVING_SECONDS = 0.02
"""The same while a candidate is open."""


class Routes(Protocol):
    """Where the flags want a client. Answers at once, from the last good flags."""

    def wish(self, client_id: str) -> Backend:
        """Return the backend the client should be on now."""
        ...


class Router(MonitoringService):
    """Serves one client from the backend its flags choose, and moves it when they change or a backend fails.

    ``now`` tells the time of a move. The router owns the services it is given and closes them.
    """

    def __init__(
        self,
        services: Mapping[Backend, MonitoringService],
        routes: Routes,
        client_id: str,
        *,
        now: Callable[[], datetime],
        limits: Limits | None = None,
    ) -> None:
        self._services = services
        self._routes = routes
        self._client_id = client_id
        self._now = now
        self._limits = limits or Limits()
        self._subscriptions: set[Subscription[Item]] = set()
        self._active = self._wish()

    @property
    def backend(self) -> Backend:
        """The backend that feeds the newest subscription."""
        return self._active

    @property
    def capabilities(self) -> Capabilities:
        """What the weaker of the two promises."""
        each = [service.capabilities for service in self._services.values()]
        return Capabilities(all(c.identity for c in each), all(c.resume for c in each))

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        """Return the state from the wished backend, or from the other when that one cannot or will not answer."""
        wish = self._wish()
        try:
            return await self._services[wish].snapshot(topics)
        except (Unreachable, Refused) as error:
            other = self._services.get(wish.other)
            if other is None:
                raise
            try:
                return await other.snapshot(topics)
            except Unreachable:
                raise error from None  # a refusal of the wished one says more than the absence of the other

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        """Follow the topics from wherever the flags say, and on from there when they change."""
        wanted = frozenset(topics)
        subscription: Subscription[Item] = Subscription(lambda out: self._serve(wanted, since, out))
        self._subscriptions.add(subscription)
        subscription.add_done_callback(self._subscriptions.discard)
        return subscription

    async def health(self) -> Health:
        """Return the health of the backend that answers."""
        return await self._services[self._active].health()

    async def close(self) -> None:
        """Close every subscription and both services."""
        for subscription in tuple(self._subscriptions):
            await subscription.close()
        self._subscriptions.clear()
        for service in self._services.values():
            await service.close()

    def _wish(self) -> Backend:
        wish = self._routes.wish(self._client_id)
        return wish if wish in self._services else wish.other

    async def _serve(self, topics: frozenset[Topic], since: Cursor | None, out: Subscription[Item]) -> None:
        start = since if since is not None else await self._start(topics)
        client = _Client(self._services, topics, start, out, now=self._now, limits=self._limits)
        await client.run(self._wish, self._note_active)

    def _note_active(self, backend: Backend) -> None:
        self._active = backend

    async def _start(self, topics: frozenset[Topic]) -> Cursor:
        """Return the cursor of this moment, waiting for a backend if there is none."""
        while True:
            with suppress(Unreachable):
                return (await self.snapshot(topics)).cursor
            await asyncio.sleep(1)


class _Leg:
    """One backend's feed of one client: how far it is, and how it is doing."""

    def __init__(
        self, backend: Backend, subscription: Subscription[Item], start: Cursor, opened: float
    ) -> None:
        self.backend = backend
        self.subscription = subscription
        self.opened = opened
        self.live_since: float | None = None
        self.down_since: float | None = opened
        self.problem: str | None = None
        self.error: Exception | None = None
        self.target: tuple[float, Cursor] | None = None
        """When and what the client had when this candidate was last measured against it."""
        self._positions = dict(start)
        self._pump: asyncio.Task[None] | None = None

    def start(self, inbox: asyncio.Queue[tuple[_Leg, Item | None]]) -> None:
        """Begin to hand the feed's items to the inbox; None says that the feed ended. `close` ends it."""
        self._pump = asyncio.ensure_future(self._run(inbox))

    async def _run(self, inbox: asyncio.Queue[tuple[_Leg, Item | None]]) -> None:
        try:
            async for item in self.subscription:
                await inbox.put((self, item))
        except Exception as error:  # noqa: BLE001 - handed to the client's task, which decides
            self.error = error
        await inbox.put((self, None))

    def passed(self, event: Event) -> None:
        """Note that this leg has brought the event."""
        self._positions[event.stream] = event.position

    def at(self, stream: StreamId) -> Position:
        """Return how far this leg is in a stream."""
        return self._positions.get(stream, BEGINNING)

    def look(self, now: float) -> None:
        """Note whether the feed is live at this moment."""
        if self.subscription.live and self.error is None:
            self.down_since = None
            self.live_since = now if self.live_since is None else self.live_since
        else:
            self.live_since = None
            self.down_since = now if self.down_since is None else self.down_since

    def ready(self, delivered: Cursor, now: float, lag: float) -> bool:
        """Tell whether this leg has all the client had at most ``lag`` seconds ago."""
        if self.live_since is None:
            self.target = None
            return False
        if self.target is None or now - self.target[0] > lag:
            self.target = (now, delivered)
        return all(self.at(stream) >= position for stream, position in self.target[1].items())

    async def close(self) -> None:
        """End the feed and wait until it has ended."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait({self._pump})
        await self.subscription.close()


class _Client:
    """One subscription of one client, from its first event to its end."""

    def __init__(
        self,
        services: Mapping[Backend, MonitoringService],
        topics: frozenset[Topic],
        start: Cursor,
        out: Subscription[Item],
        *,
        now: Callable[[], datetime],
        limits: Limits,
    ) -> None:
        self._services = services
        self._topics = topics
        self._out = out
        self._now = now
        self._limits = limits
        self._sequencer = Sequencer(start)
        self._inbox: asyncio.Queue[tuple[_Leg, Item | None]] = asyncio.Queue(_INBOX)
        self._candidate: _Leg | None = None
        self._failed_over = False
        self._cool_until = 0.0
        self._duplicates_before = 0

    async def run(self, wish: Callable[[], Backend], note_active: Callable[[Backend], None]) -> None:
        """Deliver until cancelled. Raises what ended the last usable backend."""
        loop = asyncio.get_running_loop()
        active = self._open(wish(), loop.time())
        looked = 0.0
        try:
            note_active(active.backend)
            while True:
                await self._take(active)
                if (now := loop.time()) - looked < self._tick:
                    continue
                looked = now
                active.look(now)
                self._out.live = active.live_since is not None
                decision = decide(self._view(active, wish(), now), self._limits)
                active = await self._carry_out(decision, active, wish(), now)
                note_active(active.backend)
        finally:
            self._out.live = False
            await active.close()
            if self._candidate is not None:
                await self._candidate.close()

    def _open(self, backend: Backend, now: float) -> _Leg:
        start = self._sequencer.cursor
        leg = _Leg(backend, self._services[backend].subscribe(self._topics, start), start, now)
        leg.start(self._inbox)
        return leg

    @property
    def _tick(self) -> float:
        return _TICK_SECONDS if self._candidate is None else _MOVING_SECONDS

    async def _take(self, active: _Leg) -> None:
        """Take one item from either leg, or a tick's worth of silence."""
        try:
            async with asyncio.timeout(self._tick):
                leg, item = await self._inbox.get()
        except TimeoutError:
            return
        if leg is not active and leg is not self._candidate:
            return  # a leg that was closed meanwhile
        match item:
            case Event():
                leg.passed(item)
                # A leg is in order and tells its own gaps, so the event follows on, or both legs brought it.
                for each in self._sequencer.fill(item.stream, [item]):
                    await self._out.put(each)
            case Gap():
                await self._gap(leg, item, active)
            case None:
                self._ended(leg, active)
            case Moved() | MoveAbandoned():
                pass  # only routers move, and a leg is not one

    async def _gap(self, leg: _Leg, gap: Gap, active: _Leg) -> None:
        """A candidate with a gap may not take over; the active leg's gap is the client's."""
        if leg is not active and active.error is None and active.down_since is None:
            leg.problem = f"{leg.backend} has no history of {gap.stream} before seq {(gap.to_seq or 0) + 1}"
        elif gap.to_seq is not None:  # an end that is unknown shows with the next event, as the same gap
            for each in self._sequencer.fill(gap.stream, [], upto=Position(gap.epoch, gap.to_seq)):
                await self._out.put(each)

    def _ended(self, leg: _Leg, active: _Leg) -> None:
        """A feed that ended was refused: the other backend may do, or the client must know."""
        error = leg.error or Unreachable(leg.backend, "the feed ended")
        if not isinstance(error, MonitoringError):
            raise error  # a mistake of ours is not an outage, and must not look like one
        leg.error = error
        leg.problem = str(error)
        other = self._candidate if leg is active else active
        if len(self._services) == 1 or (other is not None and other.error is not None):
            raise error

    def _view(self, active: _Leg, wish: Backend, now: float) -> View:
        candidate = self._candidate
        seen = None
        if candidate is not None:
            candidate.look(now)
            seen = Candidate(
                backend=candidate.backend,
                ready=candidate.ready(self._sequencer.cursor, now, self._limits.lag),
                open_for=now - candidate.opened,
                live_for=0.0 if candidate.live_since is None else now - candidate.live_since,
                problem=candidate.problem,
            )
        return View(
            wish=wish,
            active=active.backend,
            active_down_for=0.0 if active.down_since is None else now - active.down_since,
            failed_over=self._failed_over,
            candidate=seen,
            cooling=now < self._cool_until or active.backend.other not in self._services,
        )

    async def _carry_out(self, decision: Decision, active: _Leg, wish: Backend, now: float) -> _Leg:
        """Do what was decided; returns the active leg."""
        candidate = self._candidate
        match decision.step:
            case Step.OPEN:
                self._duplicates_before = self._sequencer.duplicates
                self._candidate = self._open(active.backend.other, now)
            case Step.SWITCH if candidate is not None:
                self._candidate = None
                self._failed_over = candidate.backend is not wish
                await active.close()
                await self._out.put(
                    Moved(
                        from_backend=active.backend,
                        to_backend=candidate.backend,
                        reason=decision.reason,
                        at=self._now(),
                        seconds=round(now - candidate.opened, 3),
                        duplicates_dropped=self._sequencer.duplicates - self._duplicates_before,
                    )
                )
                return candidate
            case Step.ABANDON if candidate is not None:
                self._candidate = None
                self._cool_until = now + self._limits.give_up_after
                await candidate.close()
                await self._out.put(
                    MoveAbandoned(active.backend, candidate.backend, decision.reason, self._now())
                )
            case Step.DROP if candidate is not None:
                self._candidate = None
                await candidate.close()
            case _:
                pass
        return active
