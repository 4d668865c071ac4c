"""A backend that a client opens besides the one that serves it, and whose events it discards.

So the next step's clients load the new path before it serves anybody, and show whether it would have served them. It can
neither hold up nor end what the client is served: whatever fails here is told to the witness, and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.route import Route
from monitoring.service import Backend, Item, MonitoringService
from monitoring.subscription import Subscription
from monitoring.topics import Topic
from monitoring.witness import Witness

_AGAIN_SECONDS = 5.0


class Shadowing:
    """Opens and closes the shadow of one subscription as its route says. Call ``reconsider`` when that may have changed."""

    def __init__(
        self,
        services: Mapping[Backend, MonitoringService],
        topics: frozenset[Topic],
        route: Callable[[], Route],
        cursor: Callable[[], Cursor],
        witness: Witness,
    ) -> None:
        """``cursor`` tells where the client stands: from there on a shadow has to bring everything, as a move would."""
        self._services = services
        self._topics = topics
        self._route = route
        self._cursor = cursor
        self._witness = witness
        self._news = asyncio.Event()

    def reconsider(self) -> None:
        """Look again at what should be open."""
        self._news.set()

    async def run(self) -> None:
        """Discard until cancelled."""
        while True:
            self._news.clear()
            backend = self._wanted()
            if backend is None:
                await self._news.wait()
                continue
            try:
                await self._discard(backend)
            except (Refused, Unreachable) as error:
                self._witness.shadow_failed(error.reason)
                await self._pause()
            finally:
                self._witness.closes_shadow()

    def _wanted(self) -> Backend | None:
        """Return what is to be open besides: nothing that serves the client already, as after a failover."""
        backend = self._route().shadow
        return None if backend is self._witness.backend else backend

    async def _discard(self, backend: Backend) -> None:
        """Take what comes until the route wishes for something else."""
        service = self._services[backend]
        since = self._cursor() if service.capabilities.resume else None
        async with service.subscribe(self._topics, since) as feed:
            self._witness.opens_shadow(backend, lambda: feed.live)
            pump = asyncio.ensure_future(self._pump(feed))  # owned: ended with the block
            try:
                while self._wanted() is backend and not pump.done():
                    news = asyncio.ensure_future(self._news.wait())
                    await asyncio.wait({pump, news}, return_when=asyncio.FIRST_COMPLETED)
                    news.cancel()
                    self._news.clear()
            finally:
                pump.cancel()
                await asyncio.wait({pump})
            if not pump.cancelled():
                pump.result()

    async def _pump(self, feed: Subscription[Item]) -> None:
        async for item in feed:
            self._witness.discarded(item)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_AGAIN_SECONDS):
                await self._news.wait()
        except TimeoutError:
            pass
