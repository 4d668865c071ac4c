"""One subscription of one client, from its first event to its end, over however many backends.

Up to two legs feed one merge (`monitoring.merging`). Nothing here waits for the consumer: items are taken from the
legs as there is room, the candidate's first, so that a client that reads slowly can be moved too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from monitoring.cursor import Cursor
from monitoring.events import Event
from monitoring.handover import Candidate, Decision, Limits, Step, View, decide
from monitoring.leg import Leg
from monitoring.merging import merge
from monitoring.pacing import Pacer
from monitoring.route import Route
from monitoring.service import Backend, Gap, Item, MonitoringService, MoveAbandoned, Moved
from monitoring.subscription import Subscription
from monitoring.topics import Topic

_SLOT_SECONDS = 5.0
"""A candidate that is not live after this long lets others begin."""
_LOOK_SECONDS = 0.5
"""How often a candidate that brings nothing is looked at, besides whenever it does."""
_CATCHING_UP_SECONDS = 0.05
"""The same while it is live but behind."""
_SLOT_WAIT_SECONDS = 1.0


class MovingFeed:
    """Feeds one subscription. Call ``reconsider`` whenever the flags may say something else."""

    def __init__(
        self,
        services: Mapping[Backend, MonitoringService],
        topics: frozenset[Topic],
        start: Cursor,
        out: Subscription[Item],
        *,
        wish: Callable[[], Route],
        limits: Limits,
        pacer: Pacer,
        random: Callable[[], float],
        now: Callable[[], datetime],
        moved: Callable[[Moved | MoveAbandoned], None],
        saw: Callable[[Item], None] | None = None,
    ) -> None:
        self._services = services
        self._topics = topics
        self._out = out
        self._wish = wish
        self._limits = limits
        self._pacer = pacer
        self._random = random
        self._now = now
        self._moved = moved
        self._saw = saw
        self._merge = merge(start, [each.capabilities for each in services.values()], limits.lag)
        self._news = asyncio.Event()
        self._steady: Leg | None = None
        """The active leg, while there is nothing to decide and nothing waits."""
        self._held_back = False  # a leg has more than the client has room for
        self._broken: Exception | None = None
        self._changed = False  # something besides items is new: there may be something to decide
        self._candidate: Leg | None = None
        self._failed_over = False
        self._open_legs: list[Leg] = []
        self._tried: dict[Route, None] = {}  # the one tried longest ago first
        self._refused: dict[Backend, float] = {}
        self._not_before = 0.0
        """No planned move begins before this."""
        self._spread_for: Route | None = None
        self._slot_since: float | None = None
        self._duplicates_before = 0
        self._abandoned: MoveAbandoned | None = None

    @property
    def cursor(self) -> Cursor:
        """Where the client stands."""
        return self._merge.cursor

    def reconsider(self) -> None:
        """Look again at what should be done."""
        self._changed = True
        self._news.set()

    async def run(self, note_active: Callable[[Route], None]) -> None:
        """Deliver until cancelled. Raises what ended the last usable backend."""
        loop = asyncio.get_running_loop()
        self._out.when_room(self._has_room)
        active = self._open(self._wish(), loop.time())
        note_active(active.route)
        try:
            look_at: float | None = 0.0
            while True:
                self._deliver(active)
                now = loop.time()
                if self._changed or self._merge.lacking() or (look_at is not None and now >= look_at):
                    self._changed = False
                    view = self._view(active, now)
                    self._out.live = active.live_since is not None
                    decision = decide(view, self._limits)
                    if decision.step is not Step.KEEP:
                        active = await self._carry_out(decision, active, view, now)
                        note_active(active.route)
                        look_at = now
                        continue
                    look_at = self._deadline(active, view, now)
                if look_at is None and not self._held_back and not self._news.is_set():
                    self._steady = active
                await self._wait(look_at)
                self._steady = None
                if self._broken is not None:
                    raise self._broken
        finally:
            self._steady = None
            self._out.live = False
            self._pacer.forget(self.reconsider)
            self._give_slot_back()
            for leg in tuple(self._open_legs):
                await self._close(leg)

    async def _wait(self, deadline: float | None) -> None:
        if deadline is None:
            await self._news.wait()
        else:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                return
        self._news.clear()

    def _open(self, route: Route, now: float) -> Leg:
        leg = Leg(
            route,
            self._services,
            self._topics,
            lambda: self._merge.start(asyncio.get_running_loop().time()),
            items=self._came,
            change=self.reconsider,
            now=now,
        )
        self._open_legs.append(leg)
        self._merge.open(leg, leg.capabilities, leg.since)
        return leg

    async def _close(self, leg: Leg) -> None:
        await leg.close()
        self._open_legs.remove(leg)  # only now: if this is cancelled, the end of the run closes it

    # What the legs bring

    def _came(self) -> None:
        """Hand on at once what comes while there is nothing to decide: waking ``run`` costs more than all else."""
        if self._steady is None or self._news.is_set():
            self._news.set()
            return
        try:
            self._deliver(self._steady)
            if self._held_back or self._merge.lacking():
                self._news.set()
        except Exception as error:  # noqa: BLE001 - our own task raises it, not who brought the item
            self._broken = error
            self._news.set()

    def _has_room(self) -> None:
        """Go on with what the client had no room for."""
        if self._held_back:
            self._news.set()

    def _deliver(self, active: Leg) -> None:
        """Hand on all that has come and has room."""
        legs = (active,) if self._candidate is None else (self._candidate, active)
        progress = True
        while progress:
            progress = False
            for leg in legs:
                now = asyncio.get_running_loop().time()
                room = min(self._out.room, self._merge.room()) if leg is active else self._out.room
                for item in leg.take(room, now):
                    progress = True
                    for merged in self._merged(leg, item, now):
                        self._hand(merged)
        self._held_back = False
        for leg in legs:
            if leg.waiting:
                self._held_back = True
            else:
                self._merge.drained(leg, now)

    def _hand(self, item: Item) -> None:
        """Hand an item to the client, and tell whoever watches what it got."""
        self._out.push(item)
        if self._saw is not None:
            self._saw(item)

    def _merged(self, leg: Leg, item: Item, now: float) -> Sequence[Item]:
        match item:
            case Event():
                return self._merge.offer(leg, item, now)
            case Gap():
                return self._merge.gap(leg, item, now)
            case _:
                return ()  # only routers move, and a leg is not one

    # What is decided, and when to look again

    def _view(self, active: Leg, now: float) -> View:
        wish = self._wish()
        self._look(active, now)
        if active.route == wish:
            self._failed_over = False
        lacking = self._merge.lacking()
        if active.down_since is None and lacking is None:
            self._tried.clear()
        if wish != self._spread_for:
            self._spread_for = wish
            self._not_before = now + self._limits.spread * self._random()
        return View(
            wish=wish,
            active=active.route,
            active_down_for=active.down_for(now),
            failed_over=self._failed_over,
            candidate=self._look_at_candidate(now),
            cooling=now < self._not_before,
            tried=tuple(self._tried),
            lacking=lacking,
        )

    def _look(self, leg: Leg, now: float) -> None:
        """Note how a leg is doing; raises when no backend is left that has not refused us."""
        leg.look(now)
        if leg.live_since is None:
            self._merge.down(leg, now)
        else:
            self._merge.live(leg, now)
        if leg.live_since is not None:
            self._refused.clear()  # with a backend that works, an earlier refusal of another is no reason to end
        elif (error := leg.error) is not None:
            self._refused[leg.route.backend] = now
            recently = now - self._limits.give_up_after
            if all(self._refused.get(route.backend, -math.inf) > recently for route in self._wish().ranked()):
                raise error

    def _look_at_candidate(self, now: float) -> Candidate | None:
        leg = self._candidate
        if leg is None:
            return None
        self._look(leg, now)
        if leg.live_since is not None:
            self._give_slot_back()
        elif self._slot_since is not None and now - self._slot_since > _SLOT_SECONDS:
            self._give_slot_back(late=True)
        error = leg.error
        obstacle = self._merge.obstacle(now)
        return Candidate(
            route=leg.route,
            ready=error is None and obstacle is None,
            obstacle=obstacle,
            open_for=now - leg.opened,
            live_for=leg.live_for(now),
            quiet_for=now - leg.brought_at,
            loss=self._merge.loss(),
            refusal=str(error) if error else None,
        )

    def _deadline(self, active: Leg, view: View, now: float) -> float | None:
        """Return when to look again at the latest; None while only news matters."""
        times: list[float] = []
        if self._candidate is not None:
            behind = self._candidate.live_since is not None and not view.failed_over
            times.append(now + (_CATCHING_UP_SECONDS if behind else _LOOK_SECONDS))
        elif active.down_since is not None:
            times.append(now + max(self._limits.failover_after - active.down_for(now), _CATCHING_UP_SECONDS))
        if view.cooling and view.wish != view.active:
            times.append(self._not_before)
        if active.asks_again_at is not None:
            times.append(active.asks_again_at)
        return min(times, default=None)

    # What is done

    async def _carry_out(self, decision: Decision, active: Leg, view: View, now: float) -> Leg:
        """Do what was decided; returns the active leg."""
        candidate = self._candidate
        match decision.step:
            case Step.OPEN if decision.route is not None:
                await self._open_candidate(decision.route, view, now)
            case Step.SWITCH if candidate is not None:
                return await self._switch(decision, active, candidate, view, now)
            case Step.CONCEDE:
                await self._close_candidate()
                for item in self._merge.concede():
                    self._hand(item)
            case Step.ABANDON if candidate is not None:
                await self._close_candidate()
                self._not_before = now + self._limits.give_up_after
                self._say_abandoned(
                    MoveAbandoned(active.route.backend, candidate.route.backend, decision.reason, self._now())
                )
            case _:
                await self._close_candidate()
        return active

    async def _open_candidate(self, route: Route, view: View, now: float) -> None:
        if self._candidate is not None:
            if view.active_down_for or view.lacking:
                self._tried.pop(self._candidate.route, None)
                self._tried[self._candidate.route] = None
            await self._close_candidate()
        if not self._pacer.enter(self.reconsider):
            await self._wait(now + _SLOT_WAIT_SECONDS)
            return
        self._slot_since = now
        self._duplicates_before = self._merge.duplicates
        self._candidate = self._open(route, now)

    async def _switch(self, decision: Decision, active: Leg, candidate: Leg, view: View, now: float) -> Leg:
        self._give_slot_back()
        self._candidate = None
        self._tried.clear()
        self._failed_over = candidate.route != view.wish
        self._abandoned = None
        await self._close(active)
        for item in self._merge.switch(now):
            self._hand(item)
        moved = Moved(
            from_backend=active.route.backend,
            to_backend=candidate.route.backend,
            reason=decision.reason,
            at=self._now(),
            seconds=round(now - candidate.opened, 3),
            duplicates_dropped=self._merge.duplicates - self._duplicates_before,
            overlap_seconds=round(candidate.live_for(now), 3),
            polled=candidate.route.polled,
        )
        self._moved(moved)
        self._hand(moved)
        if self._merge.restart():
            await self._close(candidate)
            return self._open(candidate.route, now)
        return candidate

    def _say_abandoned(self, abandoned: MoveAbandoned) -> None:
        """Tell each reason once: a move that is tried again every half minute would repeat it for ever."""
        self._moved(abandoned)
        last, self._abandoned = self._abandoned, abandoned
        if last is None or (last.to_backend, last.reason) != (abandoned.to_backend, abandoned.reason):
            self._hand(abandoned)

    async def _close_candidate(self) -> None:
        candidate, self._candidate = self._candidate, None
        self._give_slot_back()
        if candidate is not None:
            self._merge.drop()
            await self._close(candidate)

    def _give_slot_back(self, *, late: bool = False) -> None:
        if self._slot_since is not None:
            self._slot_since = None
            self._pacer.leave(late=late)
