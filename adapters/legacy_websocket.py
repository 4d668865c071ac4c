"""MonitoringService over the legacy server's ``/ws``.

Every subscription has a connection of its own, kept up for as long as the subscription lives. `adapters.legacy_feed`
decides what is delivered, `adapters.peer` keeps the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime

import structlog

from adapters.legacy_dialect import CONNECTION_ERRORS, Misbehaved, NotUnderstood, explain, is_here
from adapters.legacy_feed import LegacyFeed
from adapters.peer import Connected, Peer, utc_now
from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol import dashboard
from monitoring.cursor import Cursor
from monitoring.events import Event
from monitoring.service import Backend, Capabilities, Gap, Health, Item, MonitoringService, Snapshot
from monitoring.subscription import Subscription
from monitoring.topics import GLOBAL, Topic

log = structlog.get_logger("adapters.legacy_websocket")

_ASK_AGAIN_SECONDS = 1.0
"""How often a server that knows less than we do is asked where its streams stand."""


class LegacyWebSocket(MonitoringService):
    """The legacy server at ``url`` (``ws://HOST:PORT/ws``).

    A peer that is silent for ``silence_seconds`` is given up. ``random`` (in [0, 1)) spreads the reconnects.
    ``on_raw`` sees every event as it comes off the wire, before ordering; it must not wait. Compression is offered to a server
    on another machine, or as ``deflate`` says: on this one it saves nothing, and reading it costs each client.
    """

    def __init__(
        self,
        url: str,
        *,
        open_seconds: float = 10.0,
        silence_seconds: float = 10.0,
        on_raw: Callable[[Event], None] | None = None,
        deflate: bool | None = None,
        random: Callable[[], float] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._peer = Peer(
            url,
            open_seconds=open_seconds,
            silence_seconds=silence_seconds,
            random=random,
            now=now,
            deflate=not is_here(url) if deflate is None else deflate,
        )
        self._on_raw = on_raw
        self._feeds: dict[Subscription[Item], LegacyFeed] = {}

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
        peer = self._peer
        try:
            async with asyncio.timeout(peer.open_seconds), peer.asking() as connection:
                wanted = frozenset(topics) or frozenset({GLOBAL})
                await connection.send(dashboard.encode(dashboard.SnapshotRequest(wanted)), text=True)
                while True:
                    match dashboard.decode_server(await connection.recv(decode=False)):
                        case dashboard.SnapshotAnswer(state, cursor):
                            peer.worked = True
                            return Snapshot(state, cursor)
                        case dashboard.Waiting(reason):
                            continue
                        case dashboard.ErrorMessage(error):
                            raise NotUnderstood(f"the server refused the snapshot: {error}")
        except TimeoutError as error:
            raise explain(
                peer.url, Misbehaved(f"no snapshot in time: {reason}") if reason else error
            ) from error
        except CONNECTION_ERRORS as error:
            raise explain(peer.url, error) from error

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        """Follow the topics; see the port. Must be called inside a running event loop."""
        feed = LegacyFeed(topics, since, clock=asyncio.get_running_loop().time)
        subscription: Subscription[Item] = Subscription(lambda out: self._serve(out, feed))
        self._feeds[subscription] = feed
        return subscription

    async def health(self) -> Health:
        """Return how the subscriptions are doing; see the port."""
        duplicates = sum(feed.duplicates for feed in self._feeds.values())
        return self._peer.health({"duplicates_dropped": duplicates})

    async def close(self) -> None:
        """Close every subscription; safe to call twice."""
        await asyncio.gather(*(subscription.close() for subscription in list(self._feeds)))
        self._feeds.clear()
        self._peer.closed()

    async def _serve(self, out: Subscription[Item], feed: LegacyFeed) -> None:
        """Keep one subscription fed until it is closed, or the server turns out to be no legacy server at all."""

        async def converse(connected: Connected) -> None:
            try:
                await self._converse(out, feed, connected)
            finally:
                feed.disconnected()

        try:
            await self._peer.keep(out, converse)
        finally:
            self._feeds.pop(out, None)
            self._peer.counters["duplicates_dropped"] += feed.duplicates

    async def _converse(self, out: Subscription[Item], feed: LegacyFeed, connected: Connected) -> None:
        """Run one connection; ends only with one of CONNECTION_ERRORS."""
        loop = asyncio.get_running_loop()
        counters = self._peer.counters
        await connected.socket.send(dashboard.encode(feed.request()), text=True)
        asked_at = loop.time()
        while True:
            data = await self._peer.receive(
                connected.socket, wait_seconds=_ASK_AGAIN_SECONDS if feed.behind else None
            )
            if data is None and feed.catching_up:
                raise Misbehaved("the server answers pings, but did not send the history it owes")
            items = self._read(data, feed) if data is not None else []
            if feed.answered or feed.waiting:
                connected.answered()
            if feed.wants_history or (feed.behind and loop.time() - asked_at >= _ASK_AGAIN_SECONDS):
                counters["asked_again"] += 1
                await connected.socket.send(dashboard.encode(feed.request()), text=True)
                asked_at = loop.time()
            # Up to date again only when the consumer has this message's items.
            out.live = out.live and feed.live
            for item in items:
                counters["gaps" if isinstance(item, Gap) else "delivered"] += 1
                await out.put(item)
            out.live = feed.live
            connected.note(live=feed.live, detail=feed.waiting or "connected")

    def _read(self, data: bytes, feed: LegacyFeed) -> list[Item]:
        try:
            message = dashboard.decode_server(data)
            if (
                self._on_raw is not None
                and isinstance(message, dashboard.EventMessage)
                and (event := message.event()) is not None
            ):
                self._on_raw(event)
            return feed.receive(message)
        except MalformedMessage as error:
            # If it was an event of ours its seq is missing now, and will be asked for.
            self._peer.counters["unreadable"] += 1
            log.warning("legacy_message_unreadable", reason=error.reason)
            return []
