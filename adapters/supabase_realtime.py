"""`MonitoringService` over Supabase Realtime: a live feed that may lose, made whole by history.

Realtime does not replay, and says nothing when the database behind it fails. So every subscription, once its feed is
live, reads back what came before (`events_after` by cursor) and merges both by position; a hole is read back after a
short wait for stragglers; and when the feed is silent, the heads say whether it is idle or dead.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime

import structlog
from realtime import AsyncRealtimeClient

from adapters.backoff import Backoff
from adapters.supabase_feed import Feed, connected
from adapters.supabase_history import SupabaseHistory
from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.events import Event, StreamId
from monitoring.sequencer import Sequencer
from monitoring.service import Backend, Capabilities, Health, Item, MonitoringService, Snapshot, Status
from monitoring.subscription import Subscription
from monitoring.topics import Topic

log = structlog.get_logger(__name__)

SILENCE_SECONDS = 3.0
"""After this long without any event the heads are read: idle, or dead?"""
CHECK_SECONDS = 15.0
"""The heads are read at least this often, for the stream that lost its last event while others go on."""
REORDER_SECONDS = 0.15
"""How long a hole may be filled by stragglers before history is asked."""
TOKEN_SECONDS = 60.0
"""How often the access token is looked at; a new one is handed to the server."""


class SupabaseRealtime(MonitoringService):
    """One project's feed, seen with one viewer's token.

    ``access_token`` returns a token that is valid now; it is asked again before each connection and each minute, so
    it can refresh itself. ``on_raw`` sees every event as it comes off the wire, before ordering; it must not wait.
    """

    def __init__(
        self,
        url: str,
        key: str,
        access_token: Callable[[], str] | None = None,
        *,
        on_raw: Callable[[Event], None] | None = None,
    ) -> None:
        self._url = url
        self._key = key
        self._access_token = access_token
        self._on_raw = on_raw
        self._history = SupabaseHistory(url, key, access_token)
        self._subscriptions: set[Subscription[Item]] = set()
        self._status = Status.CONNECTING
        self._since = datetime.now(UTC)
        self._detail = "not connected yet"
        self._counters: defaultdict[str, int] = defaultdict(int)

    @property
    def backend(self) -> Backend:
        """Always Supabase."""
        return Backend.SUPABASE

    @property
    def capabilities(self) -> Capabilities:
        """Identity and resume."""
        return Capabilities()

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        """Return the newest event of each stream and kind, in one database snapshot."""
        return await self._history.snapshot(topics)

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        """Follow the topics; see the port."""
        wanted = frozenset(topics)
        subscription: Subscription[Item] = Subscription(lambda out: self._supervise(wanted, since, out))
        self._subscriptions.add(subscription)
        subscription.add_done_callback(self._subscriptions.discard)
        return subscription

    async def health(self) -> Health:
        """Return the state of the newest connection."""
        return Health(self.backend, self._status, self._since, self._detail, dict(self._counters))

    async def close(self) -> None:
        """Close every subscription and connection."""
        for subscription in tuple(self._subscriptions):
            await subscription.close()
        self._subscriptions.clear()
        await self._history.close()
        self._say(Status.CLOSED, "closed")

    def _say(self, status: Status, detail: str) -> None:
        if (status, detail) != (self._status, self._detail):
            self._status, self._detail, self._since = status, detail, datetime.now(UTC)

    async def _supervise(
        self, topics: frozenset[Topic], since: Cursor | None, out: Subscription[Item]
    ) -> None:
        """Keep a subscription alive: connect, catch up, follow; again and again, without limit."""
        backoff = Backoff()
        follower: _Follower | None = None
        while True:
            try:
                if follower is None:
                    start = await self._history.heads(topics) if since is None else since
                    follower = _Follower(self._history, topics, start, out, self._on_raw, self._counters)
                async with connected(self._url, self._key, topics, self._access_token) as (feed, client):
                    await follower.catch_up()
                    self._counters["connections"] += 1
                    out.live = True
                    self._say(Status.LIVE, f"live from {self._url}")
                    backoff.reset()
                    reason = await follower.follow(feed, self._token_refresher(client))
            except Unreachable as error:
                reason = error.reason
            except Refused as error:
                if not self._counters["connections"]:
                    raise  # it never worked: this is a mistake to be told, not an outage to be waited out
                reason = str(error)
            out.live = False
            self._counters["reconnects"] += 1
            delay = backoff.next()
            self._say(Status.RECONNECTING, f"{reason}; next try in {delay:.1f} s")
            log.info("supabase.reconnecting", reason=reason, delay_seconds=round(delay, 2))
            await asyncio.sleep(delay)

    def _token_refresher(self, client: AsyncRealtimeClient) -> Callable[[], Awaitable[None]]:
        """Return what hands a changed token to the server, so that the channel outlives the old one."""
        current = client.access_token

        async def refresh() -> None:
            nonlocal current
            if self._access_token is not None and (token := self._access_token()) != current:
                current = token
                await client.set_auth(token)

        return refresh


class _Follower:
    """Merges one feed after another with history into one ordered subscription."""

    def __init__(
        self,
        history: SupabaseHistory,
        topics: frozenset[Topic],
        start: Cursor,
        out: Subscription[Item],
        on_raw: Callable[[Event], None] | None,
        counters: defaultdict[str, int],
    ) -> None:
        self._history = history
        self._topics = topics
        self._out = out
        self._on_raw = on_raw
        self._counters = counters
        self._sequencer = Sequencer(start)

    async def catch_up(self) -> int:
        """Read back everything after the cursor; returns how many items that brought."""
        brought = 0
        cursor = self._sequencer.cursor
        while True:
            page = await self._history.after(cursor, self._topics)
            by_stream: dict[StreamId, list[Event]] = {}
            for event in page.events:
                by_stream.setdefault(event.stream, []).append(event)
                if self._on_raw is not None:
                    self._on_raw(event)
            # A full page says nothing about what follows it; the last page reaches the heads.
            for stream in by_stream if page.more else page.heads:
                upto = None if page.more else page.heads.get(stream)
                for item in self._sequencer.fill(stream, by_stream.get(stream, ()), upto):
                    brought += 1
                    await self._out.put(item)
            cursor = self._sequencer.cursor
            self._counters["backfilled"] += len(page.events)
            if not page.more:
                return brought

    async def follow(self, feed: Feed, refresh_token: Callable[[], Awaitable[None]]) -> str:
        """Deliver what the feed brings until it is of no more use; returns why."""
        loop = asyncio.get_running_loop()
        heard = checked = refreshed = loop.time()
        hole_since: float | None = None
        dropped = 0
        while feed.ended is None:
            arrived = await feed.wait(REORDER_SECONDS if hole_since is not None else 1.0)
            now = loop.time()
            if await self._deliver(feed):
                heard = now
            if now - refreshed >= TOKEN_SECONDS:
                refreshed = now
                await refresh_token()
            if not self._sequencer.holes:
                hole_since = None
            elif hole_since is None:
                hole_since = now
            elif now - hole_since >= REORDER_SECONDS:
                hole_since = None
                self._counters["holes"] += 1
                await self.catch_up()
            if feed.dropped > dropped:
                dropped = feed.dropped
                self._counters["overflows"] += 1
                await self.catch_up()
            silent = not arrived and now - heard >= SILENCE_SECONDS
            if (silent and now - checked >= SILENCE_SECONDS) or now - checked >= CHECK_SECONDS:
                checked = now
                if await self._missed(feed) and silent:
                    return "the feed was silent while events went on"
        return feed.ended

    async def _deliver(self, feed: Feed) -> int:
        """Put what the feed has in order and hand it on; returns how many events it had."""
        events = feed.take()
        for event in events:
            self._counters["received"] += 1
            if self._on_raw is not None:
                self._on_raw(event)
            for ordered in self._sequencer.offer(event):
                await self._out.put(ordered)
        return len(events)

    async def _missed(self, feed: Feed) -> bool:
        """Compare with the heads; when behind and nothing is on its way, read back what the feed did not bring."""
        heads = await self._history.heads(self._topics)
        if self._sequencer.cursor.covers(heads):
            return False
        await feed.wait(0.5)  # what was written just now may still be on its way
        await self._deliver(feed)
        if self._sequencer.cursor.covers(heads):
            return False
        self._counters["silences"] += 1
        await self.catch_up()
        return True
