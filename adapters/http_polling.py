"""Monitoring over plain HTTP: the query service is asked every few seconds for what a client does not have yet.

The port's whole promise without any push: it stands in while push is down, and serves what is switched off. An idle
poll is one conditional request that is answered without content; only when a head has moved are events read, page by
page, each handed on before the next is asked for.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from random import SystemRandom

import structlog

from adapters.backoff import Backoff
from adapters.query_client import AskedToWait, QueryClient
from monitoring.coverage import Coverage
from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.events import Event, StreamId
from monitoring.sequencer import Sequencer
from monitoring.service import (
    Backend,
    Capabilities,
    Gap,
    Health,
    Item,
    MonitoringService,
    Snapshot,
    Status,
)
from monitoring.subscription import Subscription
from monitoring.topics import Topic, selects

EVERY_SECONDS = 5.0
_JITTER = 0.1
"""Part of the interval by which polls differ, so that clients which began together do not stay together."""

log = structlog.get_logger(__name__)


class HttpPolling(MonitoringService):
    """One query service, asked with one viewer's token.

    ``access_token`` returns a token that is valid now; it is asked again for each request.
    """

    def __init__(
        self, url: str, access_token: Callable[[], str], *, every_seconds: float = EVERY_SECONDS
    ) -> None:
        if every_seconds <= 0:
            raise ValueError(f"polls must be some time apart, got {every_seconds} s")
        self._client = QueryClient(url, access_token)
        self._every_seconds = every_seconds
        self._subscriptions: set[Subscription[Item]] = set()
        self._status = Status.CONNECTING
        self._since = datetime.now(UTC)
        self._detail = "not connected yet"
        self._counters: defaultdict[str, int] = defaultdict(int)

    @property
    def backend(self) -> Backend:
        """Always polling."""
        return Backend.POLLING

    @property
    def capabilities(self) -> Capabilities:
        """Identity and resume."""
        return Capabilities()

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        """Return the newest event of each stream and kind, in one database snapshot."""
        wanted = frozenset(topics)
        found = await self._client.snapshot(wanted)
        state = tuple(event for event in found.state if selects(wanted, event.stream))
        return Snapshot(state, _selected(found.cursor, wanted))

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        """Follow the topics; see the port."""
        wanted = frozenset(topics)
        subscription: Subscription[Item] = Subscription(lambda out: self._supervise(wanted, since, out))
        self._subscriptions.add(subscription)
        subscription.add_done_callback(self._subscriptions.discard)
        return subscription

    async def health(self) -> Health:
        """Return how the newest poll went."""
        return Health(self.backend, self._status, self._since, self._detail, dict(self._counters))

    async def close(self) -> None:
        """Close every subscription and connection."""
        for subscription in tuple(self._subscriptions):
            await subscription.close()
        self._subscriptions.clear()
        await self._client.close()
        self._say(Status.CLOSED, "closed")

    def _say(self, status: Status, detail: str) -> None:
        if (status, detail) != (self._status, self._detail):
            self._status, self._detail, self._since = status, detail, datetime.now(UTC)

    async def _supervise(
        self, topics: frozenset[Topic], since: Cursor | None, out: Subscription[Item]
    ) -> None:
        """Poll again and again, without limit; what cannot be reached is tried again after a growing pause."""
        random = SystemRandom()
        backoff = Backoff(cap=30.0)
        poller = _Poller(self._client, topics, since, out, self._counters)
        while True:
            try:
                await poller.poll()
            except Unreachable as error:
                pause = self._failed(error, backoff)
                out.live = False
            except Refused as error:
                if not poller.answered:
                    raise  # it never worked: this is a mistake to be told, not an outage to be waited out
                pause = self._failed(error, backoff)
                out.live = False
            else:
                backoff.reset()
                out.live = out.live or poller.covers()
                self._say(Status.LIVE, f"polling {self._client.url} every {self._every_seconds:g} s")
                pause = self._every_seconds * (1 + _JITTER * (random.random() - 0.5))
            await asyncio.sleep(pause)

    def _failed(self, error: Unreachable | Refused, backoff: Backoff) -> float:
        """Note a poll that failed; returns how long to wait, which is what the service asks for at least."""
        self._counters["errors"] += 1
        asked = error.retry_after_seconds if isinstance(error, AskedToWait) else 0.0
        pause = asked + backoff.next()
        self._say(Status.RECONNECTING, f"{error.reason}; next try in {pause:.1f} s")
        log.info("polling.failed", reason=error.reason, delay_seconds=round(pause, 2))
        return pause


class _Poller:
    """One subscription's polls: where it stands, and what it hands on."""

    def __init__(
        self,
        client: QueryClient,
        topics: frozenset[Topic],
        since: Cursor | None,
        out: Subscription[Item],
        counters: defaultdict[str, int],
    ) -> None:
        self._client = client
        self._topics = topics
        self._out = out
        self._counters = counters
        self._sequencer = None if since is None else Sequencer(since)
        self._tag = ""
        self._coverage: Coverage | None = None
        self.answered = False
        """Whether any poll has succeeded."""

    async def poll(self) -> None:
        """Ask once, and hand on everything that is new; raises Unreachable or Refused."""
        self._counters["polls"] += 1
        heads, tag = await self._client.heads(self._topics, self._tag)
        if heads is not None:
            self._note(heads)
        if heads is None:
            self._counters["unchanged"] += 1
        elif self._sequencer is None:
            self._sequencer = Sequencer(_selected(heads, self._topics))
        elif not self._sequencer.cursor.covers(_selected(heads, self._topics)):
            await self._catch_up(self._sequencer, heads)
        self._tag = tag  # only now: what was not read to its end is asked for again
        self.answered = True

    def covers(self) -> bool:
        """Tell whether the service knows what the subscription began with."""
        return self._coverage is None or self._coverage.complete(asyncio.get_running_loop().time())

    def _note(self, heads: Cursor) -> None:
        if self._coverage is None and self._sequencer is not None:
            self._coverage = Coverage()
            now = asyncio.get_running_loop().time()
            self._coverage.begin(self._sequencer.cursor, heads, self._topics, now)
        elif self._coverage is not None:
            for stream, position in heads.items():
                self._coverage.shown(stream, position)

    async def _catch_up(self, sequencer: Sequencer, heads: Cursor) -> None:
        # Where more is asked for than the topics select, the rest is not read back from its beginning.
        beside = Cursor({stream: at for stream, at in heads.items() if not selects(self._topics, stream)})
        more = True
        while more:
            page = await self._client.after(sequencer.cursor.merged(beside), self._topics)
            self._counters["pages"] += 1
            by_stream: dict[StreamId, list[Event]] = {}
            for event in page.events:
                by_stream.setdefault(event.stream, []).append(event)
            # A full page says nothing about what follows it; the last page reaches the heads.
            for stream in by_stream if page.more else page.heads:
                events = by_stream.get(stream, ())
                if not selects(self._topics, stream):
                    beside = beside.merged({event.stream: event.position for event in events})
                    continue
                for item in sequencer.fill(stream, events, None if page.more else page.heads[stream]):
                    self._counters["gaps" if isinstance(item, Gap) else "events"] += 1
                    await self._out.put(item)
            more = page.more


def _selected(cursor: Cursor, topics: frozenset[Topic]) -> Cursor:
    """Return the part of a cursor that the topics select; more may have been asked for."""
    return Cursor({stream: at for stream, at in cursor.items() if selects(topics, stream)})
