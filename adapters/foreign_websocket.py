"""MonitoringService over somebody else's monitoring server: a WebSocket that sends events without ids.

It promises less than the others, and says so in ``capabilities``: events come in epoch 0, a subscription begins now
whatever the cursor, and what happened while the server was away is known only as far as it remembers.
`adapters.foreign_feed` decides what is delivered, a `legacy_ws.protocol.foreign.ForeignDialect` what the messages mean, and
`adapters.peer` keeps the connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import structlog

from adapters.foreign_feed import ForeignFeed, nameless
from adapters.legacy_dialect import CONNECTION_ERRORS, Misbehaved, NotUnderstood, explain
from adapters.peer import Connected, Peer, utc_now
from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol.foreign import Complaint, ForeignDialect, Memory, Observation, Reply
from monitoring.cursor import Cursor
from monitoring.events import Event, StreamId
from monitoring.fingerprint import Observed, fingerprint
from monitoring.service import Backend, Capabilities, Gap, Health, Item, MonitoringService, Snapshot
from monitoring.subscription import Subscription
from monitoring.topics import GLOBAL, Topic, selects

log = structlog.get_logger("adapters.foreign_websocket")


class ForeignWebSocket(MonitoringService):
    """The server at ``url`` that speaks ``dialect``.

    It is given up after twice the silence that the dialect's heartbeat allows. ``random`` (in [0, 1)) spreads the
    reconnects. ``on_raw`` sees every event that is delivered, as it comes off the wire; it must not wait. ``had`` are
    the last events that the client was given by an earlier process, oldest first: its subscription goes on from them.
    """

    def __init__(
        self,
        url: str,
        dialect: ForeignDialect,
        *,
        open_seconds: float = 10.0,
        on_raw: Callable[[Event], None] | None = None,
        had: Sequence[Observed] = (),
        random: Callable[[], float] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        silence_seconds = 2 * dialect.heartbeat.every_seconds
        self._peer = Peer(
            url, open_seconds=open_seconds, silence_seconds=silence_seconds, random=random, now=now
        )
        self._dialect = dialect
        self._on_raw = on_raw
        self._had = had
        self._feeds: dict[Subscription[Item], ForeignFeed] = {}

    @property
    def backend(self) -> Backend:
        """Always the legacy one."""
        return Backend.LEGACY

    @property
    def capabilities(self) -> Capabilities:
        """Neither identity nor resume; how the dialect's events are recognised."""
        return Capabilities(identity=False, resume=False, likeness=self._dialect.likeness)

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        """Return what the server's greeting says stands now, and a cursor that knows nothing.

        Empty when the dialect has no greeting. Raises Unreachable or Refused.
        """
        if not self._dialect.greets:
            return Snapshot((), Cursor())
        wanted = frozenset(topics) or frozenset({GLOBAL})
        peer = self._peer
        try:
            async with asyncio.timeout(peer.open_seconds), peer.asking() as connection:
                for frame in (*self._dialect.hello(), *self._dialect.subscribe(wanted)):
                    await connection.send(frame, text=True)
                while True:
                    for said in self._dialect.decode(await connection.recv(decode=False)):
                        match said:
                            case Memory():
                                peer.worked = True
                                return Snapshot(self._newest(said, wanted), Cursor())
                            case Complaint(reason):
                                raise NotUnderstood(f"the server complained: {reason}")
                            case Reply(answer):
                                await connection.send(answer, text=True)
                            case Observation():
                                pass
        except CONNECTION_ERRORS as error:
            raise explain(peer.url, error) from error

    def _newest(self, memory: Memory, topics: frozenset[Topic]) -> tuple[Event, ...]:
        newest: dict[tuple[StreamId, str], Observation] = {}
        for each in (*memory.state, *memory.recent):
            if selects(topics, each.stream):
                newest[each.stream, each.kind] = each
        return tuple(nameless(each, fingerprint(each, self._dialect.likeness), 1) for each in newest.values())

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        """Follow the topics from now on; see ``capabilities``. Must be called inside a running event loop."""
        feed = ForeignFeed(self._dialect, topics, since, self._had)
        subscription: Subscription[Item] = Subscription(lambda out: self._serve(out, feed, topics))
        self._feeds[subscription] = feed
        return subscription

    async def health(self) -> Health:
        """Return how the subscriptions are doing; see the port."""
        counters: Counter[str] = Counter()
        for feed in self._feeds.values():
            counters.update(feed.counters)
        return self._peer.health(counters)

    async def close(self) -> None:
        """Close every subscription; safe to call twice."""
        await asyncio.gather(*(subscription.close() for subscription in list(self._feeds)))
        self._feeds.clear()
        self._peer.closed()

    async def _serve(self, out: Subscription[Item], feed: ForeignFeed, topics: Collection[Topic]) -> None:
        async def converse(connected: Connected) -> None:
            try:
                await self._converse(out, feed, connected, topics)
            finally:
                feed.disconnected()

        try:
            await self._peer.keep(out, converse)
        finally:
            self._feeds.pop(out, None)
            self._peer.counters.update(feed.counters)

    async def _converse(
        self, out: Subscription[Item], feed: ForeignFeed, connected: Connected, topics: Collection[Topic]
    ) -> None:
        """Run one connection; ends only with one of CONNECTION_ERRORS."""
        for frame in (*self._dialect.hello(), *self._dialect.subscribe(topics)):
            await connected.socket.send(frame, text=True)
        items = feed.connected()
        loop, heartbeat = asyncio.get_running_loop(), self._dialect.heartbeat
        greeted_by = loop.time() + self._peer.open_seconds
        beat_at = loop.time() + heartbeat.every_seconds
        while True:
            if feed.live:
                connected.answered()
            for item in items:
                self._peer.counters["gaps" if isinstance(item, Gap) else "delivered"] += 1
                if self._on_raw is not None and isinstance(item, Event):
                    self._on_raw(item)
                await out.put(item)
            out.live = feed.live
            connected.note(live=feed.live, detail=feed.complaints or "connected")
            if not feed.live and loop.time() > greeted_by:
                raise Misbehaved(f"no greeting within {self._peer.open_seconds:g} s")
            if heartbeat.regularly and heartbeat.frame is not None and loop.time() >= beat_at:
                await connected.socket.send(heartbeat.frame, text=True)
                beat_at = loop.time() + heartbeat.every_seconds
            data = await self._peer.receive(connected.socket, frame=heartbeat.frame)
            items = self._read(data, feed) if data is not None else []
            for answer in feed.replies:
                await connected.socket.send(answer, text=True)
            feed.replies.clear()

    def _read(self, data: bytes, feed: ForeignFeed) -> list[Item]:
        try:
            return feed.receive(data)
        except MalformedMessage as error:
            self._peer.counters["unreadable"] += 1
            log.warning("foreign_message_unreadable", dialect=self._dialect.name, reason=error.reason)
            return []
