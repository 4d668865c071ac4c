"""Events, a spool and two backends in memory, played by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import pytest

from monitoring.cursor import Cursor
from monitoring.events import Event, Position, StreamId
from monitoring.service import Backend, Capabilities, Health, Item, Snapshot, Status
from monitoring.subscription import Subscription
from monitoring.topics import Topic

STREAM = StreamId("web-1/system")


def make_event(
    seq: int,
    *,
    stream: StreamId = STREAM,
    epoch: int = 1,
    kind: str = "metric_collected",
    previous: Position | None = None,
    **payload: object,
) -> Event:
    """Return an event whose contents follow from its identity."""
    body: dict[str, object] = {"n": seq, **payload}
    if seq == 1:
        kind = "stream_opened"
        body["previous"] = {"epoch": previous.epoch, "seq": previous.seq} if previous else None
    identity = UUID(int=hash((stream, epoch, seq)) & (1 << 128) - 1)
    return Event(identity, stream, epoch, seq, kind, datetime.now(UTC), body)


class Truth:
    """A spool that keeps everything, in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.pruned: set[int] = set()
        self.broken = False

    def add(self, event: Event) -> Event:
        self.events.append(event)
        return event

    def heads(self) -> Cursor:
        if self.broken:
            raise OSError("disk gone")
        cursor = Cursor()
        for event in self.events:
            cursor = cursor.merged({event.stream: event.position})
        return cursor

    def position(self) -> int:
        return len(self.events)

    def read(self, after: int, limit: int, upto: int | None = None) -> list[tuple[int, Event]]:
        places = range(after + 1, min(len(self.events), upto or len(self.events)) + 1)
        return [(place, self.events[place - 1]) for place in places if place not in self.pruned][:limit]


@dataclass
class Side:
    """A backend that delivers what it is told to, when it is told to."""

    backend: Backend
    capabilities: Capabilities = field(default_factory=Capabilities)
    starts_live: bool = True
    error: Exception | None = None
    items: asyncio.Queue[object] = field(default_factory=asyncio.Queue)
    subscription: Subscription[Item] | None = None
    subscribed: asyncio.Event = field(default_factory=asyncio.Event)

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        return Snapshot((), Cursor())

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        async def feed(out: Subscription[Item]) -> None:
            out.live = self.starts_live
            self.subscribed.set()
            while True:
                item = await self.items.get()
                if isinstance(item, Exception):
                    raise item
                await out.put(item)  # type: ignore[arg-type] - tests deliver anything

        self.subscription = Subscription(feed)
        return self.subscription

    def deliver(self, *items: object) -> None:
        for item in items:
            self.items.put_nowait(item)

    async def health(self) -> Health:
        return Health(self.backend, Status.LIVE, datetime.now(UTC))

    async def close(self) -> None:
        if self.subscription:
            await self.subscription.close()


@pytest.fixture
def truth() -> Truth:
    return Truth()


@pytest.fixture
def legacy() -> Side:
    return Side(Backend.LEGACY)


@pytest.fixture
def supabase() -> Side:
    return Side(Backend.SUPABASE)


@pytest.fixture
def event():
    return make_event
