"""MonitoringService over the legacy server's ``/ws``.

Every subscription has a connection of its own, kept up for as long as the subscription lives. `adapters.legacy_feed`
decides what is delivered; here are the socket, the deadlines and the reconnects.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog
from websockets.asyncio.client import ClientConnection, connect

from adapters.backoff import Backoff
from adapters.legacy_dialect import CONNECTION_ERRORS, Misbehaved, NotUnderstood, Silent, explain
from adapters.legacy_feed import LegacyFeed
from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol import dashboard
from monitoring.cursor import Cursor
from monitoring.errors import Refused
from monitoring.events import Event
from monitoring.service import Backend, Capabilities, Gap, Health, Item, MonitoringService, Snapshot, Status
from monitoring.subscription import Subscription
from monitoring.topics import GLOBAL, Topic

log = structlog.get_logger("adapters.legacy_websocket")

_MAX_MESSAGE_BYTES = (
    16 * 1024 * 1024
)  # initial_stats and snapshots are larger than anything a client may send
_CLOSE_SECONDS = 1.0
_HELD_SECONDS = 5.0
"""A connection that was live for so long was a good one: the next reconnect is quick again."""
_ASK_AGAIN_SECONDS = 1.0
"""How often a server that knows less than we do is asked where its streams stand."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LegacyWebSocket(MonitoringService):
    """The legacy server at ``url`` (``ws://HOST:PORT/ws``).

    A peer that is silent for ``silence_seconds`` is given up. ``random`` (in [0, 1)) spreads the reconnects.
    ``on_raw`` sees every event as it comes off the wire, before ordering; it must not wait.
    """

    def __init__(
        self,
        url: str,
        *,
        open_seconds: float = 10.0,
        silence_seconds: float = 10.0,
        on_raw: Callable[[Event], None] | None = None,
        random: Callable[[], float] | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._url = url
        self._open_seconds = open_seconds
        self._silence_seconds = silence_seconds
        self._on_raw = on_raw
        self._random = random
        self._now = now
        self._feeds: dict[Subscription[Item], LegacyFeed] = {}
        self._counters: Counter[str] = Counter()
        self._worked = False
        self._closed = False
        self._status = Status.CONNECTING
        self._since = now()
        self._detail = "not connected yet"

    @property
    def backend(self) -> Backend:
        """Always the legacy one."""
        return Backend.LEGACY

    @property
    def capabilities(self) -> Capabilities:
        """Identity and resume: our own server's dialect carries both."""
        return Capabilities()

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        """Return the newest state, over a connection of its own; see the port."""
        reason = ""
        try:
            async with asyncio.timeout(self._open_seconds), self._connection() as connection:
                wanted = frozenset(topics) or frozenset({GLOBAL})
                await connection.send(dashboard.encode(dashboard.SnapshotRequest(wanted)), text=True)
                while True:
                    match dashboard.decode_server(await connection.recv(decode=False)):
                        case dashboard.SnapshotAnswer(state, cursor):
                            self._worked = True
                            return Snapshot(state, cursor)
                        case dashboard.Waiting(reason):
                            continue
                        case dashboard.ErrorMessage(error):
                            raise NotUnderstood(f"the server refused the snapshot: {error}")
        except TimeoutError as error:
            raise explain(
                self._url, Misbehaved(f"no snapshot in time: {reason}") if reason else error
            ) from error
        except CONNECTION_ERRORS as error:
            raise explain(self._url, error) from error

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        """Follow the topics; see the port. Must be called inside a running event loop."""
        feed = LegacyFeed(topics, since)
        subscription: Subscription[Item] = Subscription(lambda out: self._supervise(out, feed))
        self._feeds[subscription] = feed
        return subscription

    async def health(self) -> Health:
        """Return how the subscriptions are doing; see the port."""
        duplicates = sum(feed.duplicates for feed in self._feeds.values())
        counters = {**self._counters, "duplicates_dropped": self._counters["duplicates_dropped"] + duplicates}
        return Health(Backend.LEGACY, self._status, self._since, self._detail, counters)

    async def close(self) -> None:
        """Close every subscription; safe to call twice."""
        self._closed = True
        await asyncio.gather(*(subscription.close() for subscription in list(self._feeds)))
        self._feeds.clear()
        self._note("closed")

    async def _supervise(self, out: Subscription[Item], feed: LegacyFeed) -> None:
        """Keep one subscription fed until it is closed, or the server turns out to be no legacy server at all."""
        backoff = Backoff(random=self._random)
        try:
            while True:
                try:
                    await self._converse(out, feed, backoff)
                except CONNECTION_ERRORS as error:
                    self._failed(error)
                finally:
                    feed.disconnected()
                    out.live = False
                await asyncio.sleep(backoff.next())
                self._counters["reconnects"] += 1
        finally:
            self._feeds.pop(out, None)
            self._counters["duplicates_dropped"] += feed.duplicates

    def _failed(self, error: Exception) -> None:
        answer = explain(self._url, error)
        if isinstance(answer, Refused) and not self._worked:
            self._note(str(answer))
            raise answer from error
        if str(answer) != self._detail:  # a server that stays away is said once
            log.warning("legacy_connection_lost", reason=str(answer))
        self._note(str(answer))

    async def _converse(self, out: Subscription[Item], feed: LegacyFeed, backoff: Backoff) -> None:
        """Run one connection; ends only with one of CONNECTION_ERRORS."""
        loop = asyncio.get_running_loop()
        live_since: float | None = None
        async with self._connection() as connection:
            await connection.send(dashboard.encode(feed.request()), text=True)
            asked_at = loop.time()
            while True:
                data = await self._receive(connection, feed)
                items = self._read(data, feed) if data is not None else []
                if feed.wants_history or (feed.behind and loop.time() - asked_at >= _ASK_AGAIN_SECONDS):
                    self._counters["asked_again"] += 1
                    await connection.send(dashboard.encode(feed.request()), text=True)
                    asked_at = loop.time()
                out.live = (
                    out.live and feed.live
                )  # up to date again only when the consumer has this message's items
                for item in items:
                    self._counters["gaps" if isinstance(item, Gap) else "delivered"] += 1
                    await out.put(item)
                out.live = feed.live
                self._note(feed.waiting or "connected")
                if not feed.live:
                    live_since = None
                elif live_since is None:
                    live_since = loop.time()
                elif backoff.attempts and loop.time() - live_since > _HELD_SECONDS:
                    backoff.reset()

    def _read(self, data: bytes, feed: LegacyFeed) -> list[Item]:
        try:
            message = dashboard.decode_server(data)
            if (
                self._on_raw is not None
                and isinstance(message, dashboard.EventMessage)
                and (event := message.event()) is not None
            ):
                self._on_raw(event)
            items = feed.receive(message)
        except MalformedMessage as error:
            # If it was an event of ours its seq is missing now, and will be asked for.
            self._counters["unreadable"] += 1
            log.warning("legacy_message_unreadable", reason=error.reason)
            return []
        self._worked = self._worked or feed.answered or bool(feed.waiting)
        return items

    async def _receive(self, connection: ClientConnection, feed: LegacyFeed) -> bytes | None:
        """Return the next message, None while there is none; a quiet server is asked for a sign of life.

        Asked only while we wait: a consumer that takes its time is not the server's fault.
        """
        try:
            async with asyncio.timeout(_ASK_AGAIN_SECONDS if feed.behind else self._silence_seconds / 2):
                return await connection.recv(decode=False)
        except TimeoutError:
            await self._ping(connection)
        if feed.catching_up:
            raise Misbehaved("the server answers pings, but did not send the history it owes")
        return None

    async def _ping(self, connection: ClientConnection) -> None:
        try:
            async with asyncio.timeout(self._silence_seconds / 2):
                await (await connection.ping())
        except TimeoutError:
            raise Silent(f"no sign of life for {self._silence_seconds:g} s") from None

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[ClientConnection]:
        async with connect(
            self._url,
            compression=None,
            proxy=None,  # an old server is next door; a proxy of the environment would not know it
            max_size=_MAX_MESSAGE_BYTES,
            open_timeout=self._open_seconds,
            ping_interval=None,  # see _receive
            close_timeout=_CLOSE_SECONDS,
        ) as connection:
            yield connection

    def _note(self, detail: str) -> None:
        status = self._status_now()
        if status is not self._status:
            self._since = self._now()
        self._status, self._detail = status, detail

    def _status_now(self) -> Status:
        if self._closed:
            return Status.CLOSED
        if self._feeds and all(subscription.live for subscription in self._feeds):
            return Status.LIVE
        return Status.RECONNECTING if self._worked else Status.CONNECTING
