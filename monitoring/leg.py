"""A leg: one route's feed of one client, and how it is doing."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from monitoring.cursor import Cursor
from monitoring.errors import MonitoringError, Unreachable
from monitoring.events import Event
from monitoring.route import Part, Route
from monitoring.service import Backend, Capabilities, Gap, Item, MonitoringService
from monitoring.subscription import Subscription
from monitoring.topics import Topic

_ASK_AGAIN_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class _Feed:
    """One part of a route, and what comes of it."""

    part: Part
    subscription: Subscription[Item]
    brought_at: float
    down_since: float | None
    begun_at: float

    @property
    def over(self) -> bool:
        """Whether it has ended, and all it had brought is taken."""
        return self.subscription.ended and not self.subscription.waiting


class Leg:
    """The subscriptions of one route, opened at the cursor the client stands at. Call ``close`` at the end.

    ``items`` is called when there is something to take, ``change`` when there is something to look at. Times are those
    of the event loop, in seconds. It is live when all of it is; whether it is down and when it last brought anything is
    said of the route's own backend alone, for what is polled beside it is polled on every other route as well. A refusal
    of what is polled beside it ends only that; it is asked again every half minute.
    """

    def __init__(
        self,
        route: Route,
        services: Mapping[Backend, MonitoringService],
        topics: frozenset[Topic],
        cursor: Callable[[], Cursor],
        *,
        items: Callable[[], None],
        change: Callable[[], None],
        now: float,
    ) -> None:
        self.route = route
        self.opened = now
        self.live_since: float | None = None
        self.capabilities = weakest(services[part.backend].capabilities for part in route.parts(topics))
        self._services = services
        self._cursor = cursor
        self._items, self._change = items, change
        self.since = self._start
        """The cursor it was opened at; None when it can only begin now."""
        self._feeds = [_Feed(part, self._subscribed(part), now, now, now) for part in route.parts(topics)]
        self._feeds_in_turn = deque(self._feeds)

    @property
    def _start(self) -> Cursor | None:
        return self._cursor() if self.capabilities.resume else None

    def _subscribed(self, part: Part) -> Subscription[Item]:
        subscription = self._services[part.backend].subscribe(part.topics, self._start)
        subscription.listen(self._items, self._change)
        return subscription

    @property
    def brought_at(self) -> float:
        """When the route's own backend last brought anything."""
        return self._feeds[0].brought_at

    @property
    def down_since(self) -> float | None:
        """Since when it is not live; None while it is."""
        return self._feeds[0].down_since

    def take(self, limit: int, now: float) -> list[Item]:
        """Return at most ``limit`` items that have come, of the streams this route brings."""
        items: list[Item] = []
        self._feeds_in_turn.rotate()  # so that none has to wait for another while the client reads slowly
        for feed in self._feeds_in_turn:
            taken = feed.subscription.take(limit - len(items))
            if taken:
                feed.brought_at = now
            if len(self._feeds) == 1:
                return taken
            items += [
                item for item in taken if not isinstance(item, Event | Gap) or feed.part.brings(item.stream)
            ]
        return items

    @property
    def waiting(self) -> bool:
        """Whether it has more to be taken."""
        return any(feed.subscription.waiting for feed in self._feeds)

    @property
    def error(self) -> MonitoringError | None:
        """What ended it, once all it had brought is taken; raises what is no error of a backend but a mistake of ours."""
        for feed in self._feeds:
            failure = feed.subscription.failure if feed.over else None
            if failure is not None and not isinstance(failure, MonitoringError):
                raise failure
        own = self._feeds[0]
        if not own.over:
            return None
        failure = own.subscription.failure
        return (
            failure
            if isinstance(failure, MonitoringError)
            else Unreachable(own.part.backend, "the feed ended")
        )

    @property
    def asks_again_at(self) -> float | None:
        """When what was refused beside it is asked for again; None when nothing was."""
        return min(
            (feed.begun_at + _ASK_AGAIN_SECONDS for feed in self._feeds[1:] if feed.over), default=None
        )

    def look(self, now: float) -> None:
        """Note whether it is live at this moment; ask again for what was refused beside it."""
        for feed in self._feeds[1:]:
            if feed.over and now >= feed.begun_at + _ASK_AGAIN_SECONDS:
                feed.subscription, feed.begun_at = self._subscribed(feed.part), now
        for feed in self._feeds:
            if feed.subscription.waiting:  # it has more, and waits for a client that reads slowly
                feed.brought_at = now
            if feed.subscription.live:
                feed.down_since = None
            elif feed.down_since is None:
                feed.down_since = now
        if any(feed.down_since is not None for feed in self._feeds):
            self.live_since = None
        elif self.live_since is None:
            self.live_since = now

    def down_for(self, now: float) -> float:
        """Return for how long it has been down, 0 while it is live, infinite when it will not come back by itself.

        A feed that is catching up is not live yet, but not down either.
        """
        if self.error is not None:
            return math.inf
        return 0.0 if self.down_since is None else now - max(self.down_since, self.brought_at)

    def live_for(self, now: float) -> float:
        """Return for how long it has been live without a break."""
        return 0.0 if self.live_since is None else now - self.live_since

    async def close(self) -> None:
        """End the feeds and wait until they have ended."""
        await asyncio.gather(*(feed.subscription.close() for feed in self._feeds))


def weakest(each: Iterable[Capabilities]) -> Capabilities:
    """Return what all of several backends promise."""
    backends = list(each)
    foreign = [one for one in backends if not one.identity]
    return Capabilities(not foreign, all(one.resume for one in backends), (foreign or backends)[0].likeness)
