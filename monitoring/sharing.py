"""One feed of a backend for any number of subscriptions: what it costs to hear an event is paid once, not for each.

The *trunk* is one subscription to everything, kept while anybody needs it, with the newest items beside it. A
subscriber whose cursor lies within these reads on from there, and is handed each item as it comes once it has caught
up. Whoever stands before them, or falls that far behind, is fed by a subscription of its own until it has caught up: so
everybody gets what the backend alone would have brought, once and in order, and a slow reader slows only itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from monitoring.coverage import PATIENCE_SECONDS, Coverage
from monitoring.cursor import Cursor
from monitoring.errors import MonitoringError, Unreachable
from monitoring.events import BEGINNING, Event, Position, StreamId
from monitoring.service import Backend, Capabilities, Gap, Health, Item, MonitoringService, Snapshot
from monitoring.subscription import Subscription
from monitoring.topics import GLOBAL, Selection, Topic

_EVERYTHING = frozenset({GLOBAL})
_KEPT = 2_048
"""Items beside the trunk: as many as a subscription holds before its reader counts as behind."""
_AT_ONCE = 256
_START_SECONDS = 2.0
"""At most so long a subscriber waits for a trunk that is being opened, before it opens a feed of its own."""
_AGAIN_SECONDS = 1.0
"""How soon a trunk that could not be opened, or ended, is tried again."""
_LINGER_SECONDS = 5.0
"""How long the trunk outlives its last subscriber: one that moves away and back need not open it anew."""
_ENDLESS = 1 << 62

_Told = Event | Gap


def _end(item: _Told) -> Position:
    """Return where a stream stands after an item."""
    if isinstance(item, Event):
        return item.position
    return Position(item.epoch, _ENDLESS if item.to_seq is None else item.to_seq)


class _Trunk:
    """The shared subscription. Items have numbers, from ``first`` to before ``next``."""

    def __init__(self, since: Cursor) -> None:
        self.items: deque[_Told] = deque()
        self.first = 0
        self.heads: dict[StreamId, Position] = dict(since)
        """Where each stream stands, of what has come."""
        self.floor: dict[StreamId, Position] = dict(since)
        """What a subscriber must have of each stream to read on from ``first``; nothing of one that is absent."""
        self._first: dict[StreamId, Position] = {}
        """The end of the first item of each stream that was new to the trunk: what its backend had, not what there was."""
        self.live = False
        self.attached: set[_Member] = set()

    @property
    def next(self) -> int:
        return self.first + len(self.items)

    def covers(self, member: _Member) -> bool:
        """Tell whether a subscriber lacks nothing but what is kept, or still to come."""
        has, selection = member.has, member.selection
        return all(
            has.get(stream, BEGINNING) >= at for stream, at in self.floor.items() if stream in selection
        ) and not any(
            self._misses(at, self._first[stream])
            for stream, at in has.items()
            if stream in self._first and stream in selection
        )

    def leaves_out(self, member: _Member, item: _Told) -> bool:
        """Tell whether an item does not follow on what a subscriber has: its stream was new to the trunk, not to it."""
        at = member.has.get(item.stream)
        end = _end(item)
        return at is not None and self._first.get(item.stream) == end and self._misses(at, end)

    @staticmethod
    def _misses(at: Position, first: Position) -> bool:
        return BEGINNING < at < first and at != Position(first.epoch, first.seq - 1)

    def take(self, item: _Told) -> None:
        """Keep an item, and hand it to who is attached; who has no room reads it later."""
        if len(self.items) >= _KEPT:
            gone = self.items.popleft()
            self.first += 1
            self.floor[gone.stream] = max(self.floor.get(gone.stream, BEGINNING), _end(gone))
        self.items.append(item)
        if item.stream not in self.heads:
            self._first[item.stream] = _end(item)
        number = self.next - 1
        for member in tuple(self.attached):
            member.hand(item, number)
        self.heads[item.stream] = max(self.heads.get(item.stream, BEGINNING), _end(item))

    def set_live(self, live: bool, now: float) -> None:  # noqa: FBT001 - the one thing that is told
        """Note whether the subscription is live; who is attached is as live as it."""
        if live is not self.live:
            self.live = live
            for member in tuple(self.attached):
                member.look(now)

    def end(self) -> None:
        """Hand on nothing more; who is attached is on its own from here."""
        for member in tuple(self.attached):
            member.detach(self.next)


class _Member:
    """One subscriber: what it has, and where in the trunk it reads."""

    def __init__(self, topics: frozenset[Topic], since: Cursor, out: Subscription[Item]) -> None:
        self.out = out
        self.selection = Selection(topics)
        self.has: dict[StreamId, Position] = dict(since)
        """What it has been told up to; while it is attached, only of streams in which it is ahead of the trunk."""
        self.reads_at = 0
        self.detached = asyncio.Event()
        self._trunk: _Trunk | None = None
        self._coverage = Coverage()
        self._everything = GLOBAL in self.selection.topics

    @property
    def cursor(self) -> Cursor:
        """What it has of what it selects."""
        return Cursor({stream: at for stream, at in self.has.items() if stream in self.selection})

    @property
    def waits(self) -> bool:
        """Whether it is not live only because the trunk does not have yet what it has."""
        return bool(self._coverage.behind)

    def wants(self, item: _Told) -> bool:
        """Tell whether an item is selected and news."""
        at = self.has.get(item.stream, BEGINNING)
        return _end(item) > at and (self._everything or item.stream in self.selection)

    def has_taken(self, item: _Told) -> None:
        """Note that it has been told an item."""
        self.has[item.stream] = max(self.has.get(item.stream, BEGINNING), _end(item))

    def attach(self, trunk: _Trunk, now: float) -> None:
        """Be handed what comes from now on; all that is kept has been read."""
        self._coverage.begin(self.has, trunk.heads, self.selection.topics, now)
        self.has = {stream: at for stream, at in self.has.items() if at > trunk.heads.get(stream, BEGINNING)}
        self.detached.clear()
        self._trunk = trunk
        trunk.attached.add(self)
        self.look(now)

    def detach(self, reads_at: int) -> None:
        """Be handed nothing more, but read on from the item of this number; safe to call twice."""
        trunk, self._trunk = self._trunk, None
        if trunk is not None:
            trunk.attached.discard(self)
            self.has = {**trunk.heads, **self.has}
            self.reads_at = reads_at
            self.detached.set()

    def hand(self, item: _Told, number: int) -> None:
        """Take an item of the trunk; without room for it, read it later."""
        if (
            self.has or not self._everything
        ):  # else nearly always: it has what the trunk has, and wants all of it
            wanted = self.wants(item)
            if wanted and self._trunk is not None and self._trunk.leaves_out(self, item):
                self.detach(number)
                return
            if item.stream in self.has and _end(item) >= self.has[item.stream]:
                self._coverage.shown(item.stream, _end(item))
                del self.has[item.stream]
                self.look(asyncio.get_running_loop().time())
            if not wanted:
                return
        if self.out.room:
            self.out.push(item)
        else:
            self.detach(number)

    def look(self, now: float) -> None:
        """Say whether it is live: the trunk is, and knows what it has, or was waited for long enough."""
        trunk = self._trunk
        self.out.live = trunk is not None and trunk.live and self._coverage.complete(now)


class SharedService(MonitoringService):
    """A service whose subscriptions share one feed. Owns the service it stands on.

    What cannot be shared is not: the feeds of a service without identity or resume, those that begin now, and polling for a
    part of what there is.
    """

    def __init__(self, service: MonitoringService) -> None:
        self._service = service
        self._trunk: _Trunk | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._members = 0
        self._opened = asyncio.Event()
        self._news = asyncio.Event()
        self._subscriptions: set[Subscription[Item]] = set()
        self._own = 0

    @property
    def backend(self) -> Backend:
        """The backend of the service."""
        return self._service.backend

    @property
    def capabilities(self) -> Capabilities:
        """What the service promises."""
        return self._service.capabilities

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        """Return the newest state; see the port."""
        return await self._service.snapshot(topics)

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        """Follow the topics; see the port."""
        promises = self._service.capabilities
        wanted = frozenset(topics) or _EVERYTHING
        # What is polled costs by what is asked for: everything, for a few categories, would cost more than it saves.
        narrow = self.backend is Backend.POLLING and GLOBAL not in wanted
        if since is None or narrow or not (promises.identity and promises.resume):
            return self._service.subscribe(topics, since)
        subscription: Subscription[Item] = Subscription(lambda out: self._serve(wanted, since, out))
        self._subscriptions.add(subscription)
        subscription.add_done_callback(self._subscriptions.discard)
        return subscription

    async def placed(self, topics: Collection[Topic], since: Cursor) -> Cursor:
        """Return where a subscription begins; see the port."""
        return await self._service.placed(topics, since)

    async def health(self) -> Health:
        """Return how the service is doing, and how many subscriptions share its feed or have one of their own."""
        health = await self._service.health()
        shared = len(self._trunk.attached) if self._trunk is not None else 0
        return replace(
            health, counters={**health.counters, "shared_subscriptions": shared, "own_feeds": self._own}
        )

    async def close(self) -> None:
        """Close every subscription, and the service; safe to call twice."""
        await asyncio.gather(*(subscription.close() for subscription in tuple(self._subscriptions)))
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait({keeping})
        await self._service.close()

    # One subscriber

    async def _serve(self, topics: frozenset[Topic], since: Cursor, out: Subscription[Item]) -> None:
        if since.back_seconds is not None:
            with suppress(MonitoringError):  # then it begins with all there is
                since = await self._service.placed(topics, since)
        member = _Member(topics, since, out)
        self._enter()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_START_SECONDS):
                    await self._opened.wait()
            while True:
                trunk = self._trunk
                if trunk is not None and trunk.covers(member):
                    member.reads_at = trunk.first
                    await self._read(member, trunk)
                else:
                    await self._catch_up(member, topics)
        finally:
            self._leave()

    async def _read(self, member: _Member, trunk: _Trunk) -> None:
        """Read what is kept, then be handed what comes, until the trunk ends or has left the subscriber behind."""
        loop = asyncio.get_running_loop()
        while trunk is self._trunk and member.reads_at >= trunk.first:
            if member.reads_at < trunk.next:
                item = trunk.items[member.reads_at - trunk.first]
                member.reads_at += 1
                if member.wants(item):
                    if trunk.leaves_out(member, item):
                        return
                    await member.out.put(item)
                member.has_taken(item)
                continue
            member.attach(trunk, loop.time())
            try:
                while not member.detached.is_set():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(PATIENCE_SECONDS if member.waits else None):
                            await member.detached.wait()
                    member.look(loop.time())
            finally:
                member.detach(trunk.next)

    async def _catch_up(self, member: _Member, topics: frozenset[Topic]) -> None:
        """Feed a subscriber by a subscription of its own, until the trunk has all that it lacks."""
        news = asyncio.Event()
        self._own += 1
        try:
            async with self._service.subscribe(topics, member.cursor) as own:
                own.listen(news.set, news.set)
                while True:
                    for item in own.take(_AT_ONCE):
                        if isinstance(item, Event | Gap):
                            await member.out.put(item)
                            member.has_taken(item)
                    if own.waiting:
                        continue
                    member.out.live = own.live
                    if own.ended:
                        raise own.failure or Unreachable(self.backend, "the feed ended")
                    trunk = self._trunk
                    if own.live and trunk is not None and trunk.live and trunk.covers(member):
                        return
                    await news.wait()
                    news.clear()
        finally:
            self._own -= 1

    # The trunk

    def _enter(self) -> None:
        self._members += 1
        if self._keeping is not None and self._keeping.done():
            self._keeping.result()  # it ends only with a mistake of ours
        if self._keeping is None:
            self._opened.clear()
            self._keeping = asyncio.ensure_future(self._keep())  # owned: ended by ``close`` or by itself

    def _leave(self) -> None:
        self._members -= 1
        self._news.set()

    async def _keep(self) -> None:
        """Keep a trunk for as long as it is needed."""
        while True:
            with suppress(MonitoringError):  # whoever subscribes is told by a feed of its own
                await self._follow()
            self._opened.set()
            if not self._members:
                self._keeping = None
                return
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _follow(self) -> None:
        """Open the trunk, and follow it until nobody has needed it for a while or it has ended."""
        begins = (await self._service.snapshot(_EVERYTHING)).cursor
        trunk = _Trunk(begins)
        async with self._service.subscribe(_EVERYTHING, begins) as feed:
            feed.listen(self._news.set, self._news.set)
            self._trunk = trunk
            self._opened.set()
            try:
                while not feed.ended or feed.waiting:
                    for item in feed.take(_AT_ONCE):
                        if isinstance(item, Event | Gap):
                            trunk.take(item)
                    if feed.waiting:
                        await asyncio.sleep(0)
                        continue
                    trunk.set_live(feed.live, asyncio.get_running_loop().time())
                    try:
                        async with asyncio.timeout(None if self._members else _LINGER_SECONDS):
                            await self._news.wait()
                    except TimeoutError:
                        return
                    self._news.clear()
            finally:
                self._trunk = None
                trunk.end()
