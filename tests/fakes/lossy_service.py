"""A backend whose push loses, doubles and delays, and whose history does not: the adapters' job in one page.

Each subscription has a wire. What is published goes down every wire that is up, or does not, as the faults of that
moment say. The subscription orders what comes with the real `Sequencer`, reads history for holes and after each
connect, and compares with the heads now and then: what `adapters.supabase_realtime` does over sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime
from enum import Enum, auto
from random import Random

from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.events import BEGINNING, Event, Position, StreamId
from monitoring.sequencer import Sequencer
from monitoring.service import Backend, Capabilities, Health, Item, MonitoringService, Snapshot, Status
from monitoring.subscription import Subscription
from monitoring.topics import Topic, selects

HEADS_SECONDS = 1.0
RECONNECT_SECONDS = 0.5


class Push(Enum):
    """What the push path does to an event at the moment."""

    DELIVERS = auto()
    LOSES = auto()
    DOUBLES = auto()
    DELAYS = auto()


class LossyBackend:
    """What all clients of a backend share: its heads, the newest ``retain`` events of each stream, and its faults."""

    def __init__(self, backend: Backend, random: Random, *, retain: int = 10_000) -> None:
        self.backend = backend
        self._random = random
        self._retain = retain
        self.history: dict[StreamId, list[Event]] = {}
        self.heads: dict[StreamId, Position] = {}
        self.gone: dict[StreamId, Position] = {}
        """Up to where history was lost."""
        self.fed = True
        """Whether forwarders bring what happens; when not, the backend is well and does not know."""
        self.wires: dict[Wire, None] = {}  # in the order of coming: a set's would differ from run to run
        self.up = True
        self.silent = False
        """Connections stay up and bring nothing, and history does not answer: a stall."""
        self.refuses = False
        self.push: Collection[Push] = (Push.DELIVERS,)

    def publish(self, events: Collection[Event]) -> None:
        """Take events as a forwarder brings them: what is there already is left alone."""
        for event in events:
            if event.position <= self.heads.get(event.stream, BEGINNING):
                continue
            self.heads[event.stream] = event.position
            kept = self.history.setdefault(event.stream, [])
            kept.append(event)
            self._expire(event.stream)
            for wire in self.wires:
                wire.carry(event, self._random.choice(tuple(self.push)))

    def retain(self, events: int) -> None:
        """Keep only so many events of each stream from now on."""
        self._retain = events
        for stream in self.history:
            self._expire(stream)

    def _expire(self, stream: StreamId) -> None:
        kept = self.history[stream]
        if len(kept) > self._retain:
            self.gone[stream] = kept[-self._retain - 1].position
            del kept[: -self._retain]

    def forget(self) -> None:
        """Lose all history; the heads stay."""
        self.history.clear()
        self.gone = dict(self.heads)

    def set_up(self, up: bool) -> None:  # noqa: FBT001
        """Go down, cutting everybody off, or come back."""
        self.up = up
        if not up:
            for wire in self.wires:
                wire.cut()

    def cut(self) -> None:
        """End every connection; the backend itself is well."""
        for wire in self.wires:
            wire.cut()

    async def latency(self) -> None:
        """Take as long as a network may."""
        await asyncio.sleep(self._random.uniform(0.001, 0.4))

    def answer(self) -> None:
        """Raise what an attempt to talk to the backend would."""
        if self.refuses:
            raise Refused(self.backend, "the test says no")
        if not self.up or self.silent:
            raise Unreachable(self.backend, "the test says so")


class LossyService(MonitoringService):
    """One client's view of a backend."""

    def __init__(self, at: LossyBackend) -> None:
        self._at = at
        self._subscriptions: list[Subscription[Item]] = []

    @property
    def backend(self) -> Backend:
        return self._at.backend

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        self._at.answer()
        return Snapshot((), Cursor({s: p for s, p in self._at.heads.items() if selects(topics, s)}))

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        subscription: Subscription[Item] = Subscription(
            lambda out: self._serve(frozenset(topics), since, out), buffer=16
        )
        self._subscriptions.append(subscription)
        return subscription

    async def _serve(self, topics: frozenset[Topic], since: Cursor | None, out: Subscription[Item]) -> None:
        sequencer: Sequencer | None = None
        while True:
            wire = Wire(topics)
            try:
                await self._at.latency()
                self._at.answer()
                if sequencer is None:
                    sequencer = Sequencer(self._at.heads if since is None else since)
                self._at.wires[wire] = None
                await self._catch_up(sequencer, topics, out)
                await self._follow(sequencer, topics, wire, out)
            except Unreachable:
                pass
            finally:
                self._at.wires.pop(wire, None)
                out.live = False
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _follow(
        self, sequencer: Sequencer, topics: frozenset[Topic], wire: Wire, out: Subscription[Item]
    ) -> None:
        while True:
            # Not before the backend knows what the client has: one that is behind is no place to move to.
            ours = {stream: at for stream, at in sequencer.cursor.items() if selects(topics, stream)}
            out.live = out.live or Cursor(self._at.heads).covers(ours)
            try:
                async with asyncio.timeout(HEADS_SECONDS):
                    event = await wire.events.get()
            except TimeoutError:
                await self._catch_up(sequencer, topics, out)
                continue
            if event is None:
                raise Unreachable(self._at.backend, "cut")
            for ordered in sequencer.offer(event):
                await out.put(ordered)

    async def _catch_up(
        self, sequencer: Sequencer, topics: frozenset[Topic], out: Subscription[Item]
    ) -> None:
        await self._at.latency()
        self._at.answer()
        for stream, head in list(self._at.heads.items()):
            if selects(topics, stream):
                behind = [
                    e for e in self._at.history.get(stream, ()) if e.position > sequencer.position(stream)
                ]
                for item in sequencer.fill(stream, behind, upto=head):
                    await out.put(item)

    async def health(self) -> Health:
        return Health(
            self._at.backend, Status.LIVE if self._at.up else Status.RECONNECTING, datetime.now(UTC)
        )

    async def close(self) -> None:
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()


class Wire:
    """One connection, from the server to a subscription."""

    def __init__(self, topics: frozenset[Topic]) -> None:
        self._topics = topics
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()

    def carry(self, event: Event, push: Push) -> None:
        if not selects(self._topics, event.stream):
            return
        match push:
            case Push.DELIVERS:
                self.events.put_nowait(event)
            case Push.DOUBLES:
                self.events.put_nowait(event)
                self.events.put_nowait(event)
            case Push.DELAYS:
                asyncio.get_running_loop().call_later(0.3, self.events.put_nowait, event)
            case Push.LOSES:
                pass

    def cut(self) -> None:
        self.events.put_nowait(None)
