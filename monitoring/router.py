"""The router: one client's service over all backends, moved between them in mid-stream.

It is a `MonitoringService` like those it stands on. `monitoring.handover` decides, `monitoring.moving` carries it out
for each subscription.
"""

from __future__ import annotations

import asyncio
import random as default_random
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime

from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.handover import Limits
from monitoring.leg import weakest
from monitoring.moving import MovingFeed
from monitoring.pacing import Pacer
from monitoring.route import Route, Routes
from monitoring.service import (
    Backend,
    Capabilities,
    Health,
    Item,
    MonitoringService,
    MoveAbandoned,
    Moved,
    Snapshot,
)
from monitoring.shadowing import Shadowing
from monitoring.subscription import Subscription
from monitoring.topics import Topic
from monitoring.witness import Witness

_TRY_AGAIN_SECONDS = 1.0


class Router(MonitoringService):
    """Serves one client by the route its flags choose, and moves it when they change or a backend fails.

    ``now`` tells the time of a move, ``record`` is told each move and each that was given up. Routers that share a
    ``pacer`` do not all move at once; ``random`` (in [0, 1)) spreads those that share none over ``limits.spread``. A
    ``witness`` sees what the client gets, and what a backend that its route shadows would have brought.
    The router owns the services it is given and closes them.
    """

    def __init__(
        self,
        services: Mapping[Backend, MonitoringService],
        routes: Routes,
        client_id: str,
        *,
        now: Callable[[], datetime],
        limits: Limits | None = None,
        pacer: Pacer | None = None,
        record: Callable[[str, Moved | MoveAbandoned], None] | None = None,
        witness: Witness | None = None,
        random: Callable[[], float] = default_random.random,
    ) -> None:
        self._services = services
        self._routes = routes
        self._client_id = client_id
        self._now = now
        self._limits = limits or Limits()
        self._pacer = pacer or Pacer()
        self._record = record
        self._witness = witness
        self._random = random
        self._subscriptions: set[Subscription[Item]] = set()
        self._unanswered = ""
        self._active = self.wish()

    @property
    def backend(self) -> Backend:
        """The backend that feeds the newest subscription."""
        return self._active.backend

    @property
    def route(self) -> Route:
        """The route of the newest subscription."""
        return self._active

    @property
    def capabilities(self) -> Capabilities:
        """What the weakest of all promises."""
        return weakest(service.capabilities for service in self._services.values())

    def wish(self) -> Route:
        """Return the route that the flags choose at this moment, of those that there are services for."""
        wish = self._routes.route(self._client_id).within(self._services)
        if wish is None:
            raise Unreachable(
                "monitoring", "the flags choose a backend that is not set up, and no fallback is"
            )
        return wish

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        """Return the state from the wished backend, or from a fallback when that one cannot or will not answer."""
        failures: list[Unreachable | Refused] = []
        for route in self.wish().ranked():
            try:
                return await self._services[route.backend].snapshot(topics)
            except (Unreachable, Refused) as error:
                failures.append(error)
        # A refusal says more than an absence: somebody has to change something.
        raise next((each for each in failures if isinstance(each, Refused)), failures[0])

    def subscribe(
        self,
        topics: Collection[Topic],
        since: Cursor | None = None,
        *,
        began: Callable[[Cursor], None] | None = None,
    ) -> Subscription[Item]:
        """Follow the topics from wherever the flags say, and on from there when they change.

        Without ``since``, ``began`` is told before the first item at which cursor it begins.
        """
        wanted = frozenset(topics)
        subscription: Subscription[Item] = Subscription(lambda out: self._serve(wanted, since, out, began))
        self._subscriptions.add(subscription)
        subscription.add_done_callback(self._subscriptions.discard)
        return subscription

    async def health(self) -> Health:
        """Return the health of the backend that answers; before any has, why none does."""
        health = await self._services[self.backend].health()
        return replace(health, detail=self._unanswered) if self._unanswered else health

    async def close(self) -> None:
        """Close every subscription and every service."""
        for subscription in tuple(self._subscriptions):
            await subscription.close()
        self._subscriptions.clear()
        for service in self._services.values():
            await service.close()

    async def _serve(
        self,
        topics: frozenset[Topic],
        since: Cursor | None,
        out: Subscription[Item],
        began: Callable[[Cursor], None] | None,
    ) -> None:
        start = since if since is not None else await self._start(topics)
        if since is None and began is not None:
            began(start)
        witness = self._witness
        follower = witness.follows(topics, start) if witness is not None else None
        feed = MovingFeed(
            self._services,
            topics,
            start,
            out,
            wish=self.wish,
            limits=self._limits,
            pacer=self._pacer,
            random=self._random,
            now=self._now,
            moved=self._moved,
            saw=None if follower is None else follower.took,
        )
        end_listening = self._routes.listen(feed.reconsider)
        try:
            if witness is None:
                await feed.run(self._note_active)
            else:
                await self._serve_shadowed(feed, topics, witness)
        finally:
            end_listening()
            if follower is not None:
                follower.close()

    async def _serve_shadowed(self, feed: MovingFeed, topics: frozenset[Topic], witness: Witness) -> None:
        """Serve, and open besides what the route shadows, for as long as the client is served."""
        shadowing = Shadowing(self._services, topics, self.wish, lambda: feed.cursor, witness)
        end_listening = self._routes.listen(shadowing.reconsider)
        discarding = asyncio.ensure_future(shadowing.run())  # owned: ended with the block

        def note_active(route: Route) -> None:
            self._note_active(route)
            shadowing.reconsider()  # what serves the client is not shadowed, and may be once it does not any more

        try:
            await feed.run(note_active)
        finally:
            end_listening()
            discarding.cancel()
            await asyncio.wait({discarding})

    def _note_active(self, route: Route) -> None:
        self._active = route
        if self._witness is not None:
            self._witness.serves(route.backend)

    def _moved(self, item: Moved | MoveAbandoned) -> None:
        if self._record is not None:
            self._record(self._client_id, item)

    async def _start(self, topics: frozenset[Topic]) -> Cursor:
        """Return the cursor of this moment, waiting for a backend if there is none."""
        while True:
            try:
                cursor = (await self.snapshot(topics)).cursor
            except Unreachable as error:
                self._unanswered = error.reason
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
            else:
                self._unanswered = ""
                return cursor
