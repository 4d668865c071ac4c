"""A `MonitoringService` in memory: the contract suite holds it to the same promises as the real ones."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime

from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.events import Event, Position, StreamId
from monitoring.sequencer import Sequencer
from monitoring.service import Backend, Capabilities, Health, Item, MonitoringService, Snapshot, Status
from monitoring.subscription import Subscription
from monitoring.topics import Topic, selects


class MemoryService(MonitoringService):
    """Keeps published events, and can be told to be down, to stall, to forget, or to refuse."""

    def __init__(self, backend: Backend, *, retain: int = 10_000) -> None:
        self._backend = backend
        self._retain = retain
        self._events: list[Event] = []
        self._heads: dict[StreamId, Position] = {}
        self._latest: dict[tuple[StreamId, str], Event] = {}
        self._changed = asyncio.Condition()
        self._subscriptions: set[Subscription[Item]] = set()
        self.up = True
        self.stalled = False
        self.refusal: str | None = None
        self._cut_off = 0

    @property
    def backend(self) -> Backend:
        return self._backend

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    async def publish(self, *events: Event) -> None:
        """Take events; repeated ones are ignored, as the real backends do."""
        async with self._changed:
            for event in events:
                if event.position <= self._heads.get(event.stream, Position(0, 0)):
                    continue
                self._events.append(event)
                self._heads[event.stream] = event.position
                self._latest[event.stream, event.kind] = event
            del self._events[: -self._retain]
            self._changed.notify_all()

    async def set_up(self, up: bool) -> None:  # noqa: FBT001
        """Switch the backend on or off; subscriptions go on by themselves when it is back."""
        async with self._changed:
            self.up = up
            self._changed.notify_all()

    async def refuse(self, reason: str) -> None:
        """Refuse everybody, also those who are connected."""
        self.refusal = reason
        self._cut_off += 1
        async with self._changed:
            self._changed.notify_all()

    async def forget(self) -> None:
        """Lose all history; heads stay."""
        async with self._changed:
            self._events.clear()

    def _admit(self) -> None:
        if self.refusal:
            raise Refused(self._backend, self.refusal)

    def _check(self) -> None:
        self._admit()
        if not self.up:
            raise Unreachable(self._backend, "switched off by the test")

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        self._check()
        state = tuple(event for (stream, _), event in sorted(self._latest.items()) if selects(topics, stream))
        return Snapshot(state, Cursor({s: p for s, p in self._heads.items() if selects(topics, s)}))

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        subscription: Subscription[Item] = Subscription(lambda out: self._feed(frozenset(topics), since, out))
        self._subscriptions.add(subscription)
        return subscription

    async def _feed(self, topics: frozenset[Topic], since: Cursor | None, out: Subscription[Item]) -> None:
        self._admit()
        sequencer = Sequencer(since) if since is not None else None
        cut_off = self._cut_off
        seen: defaultdict[StreamId, Position] = defaultdict(lambda: Position(0, 0))
        while True:
            async with self._changed:
                out.live = self._knows(sequencer, topics)
                while (
                    not self.up or self.stalled or (sequencer is not None and not self._fresh(topics, seen))
                ):
                    await self._changed.wait()
                    if self._cut_off != cut_off:
                        self._admit()
                    out.live = self._knows(sequencer, topics)
                heads = {s: p for s, p in self._heads.items() if selects(topics, s)}
                if sequencer is None:
                    sequencer = Sequencer(heads)
                history: dict[StreamId, list[Event]] = {stream: [] for stream in heads}
                for event in self._events:
                    if event.stream in history:
                        history[event.stream].append(event)
            for stream, head in heads.items():
                seen[stream] = head
                behind = [e for e in history[stream] if e.position > sequencer.position(stream)]
                for item in sequencer.fill(stream, behind, upto=head):
                    await out.put(item)

    def _knows(self, sequencer: Sequencer | None, topics: frozenset[Topic]) -> bool:
        """Tell whether the backend is up, and not behind what the client has."""
        ours = sequencer.cursor if sequencer else {}
        return self.up and Cursor(self._heads).covers({s: p for s, p in ours.items() if selects(topics, s)})

    def _fresh(self, topics: frozenset[Topic], seen: dict[StreamId, Position]) -> bool:
        return any(p > seen[s] for s, p in self._heads.items() if selects(topics, s))

    async def health(self) -> Health:
        status = Status.LIVE if self.up else Status.RECONNECTING
        return Health(self._backend, status, datetime.now(UTC))

    async def close(self) -> None:
        for subscription in tuple(self._subscriptions):
            await subscription.close()
        self._subscriptions.clear()
