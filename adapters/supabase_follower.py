"""One subscription's order: whatever its feeds bring, made whole by history; and whether the feed can be trusted.

What is missing shows in three ways: an event that does not follow on (a hole), a head that is further than what came
(from a heartbeat, or of an event that was dropped), and silence. The first two are read back after a short wait for
stragglers. Of silence the database is asked, ever more rarely while it confirms that nothing went on: how far the
streams are, and how many heartbeats were sent that did not arrive.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from random import SystemRandom
from typing import NoReturn, TypeVar

from adapters.backoff import Backoff
from adapters.supabase_errors import REALTIME, ModeChanged
from adapters.supabase_feed import Feed
from adapters.supabase_history import State, SupabaseHistory
from monitoring.coverage import Coverage
from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.events import Event, StreamId
from monitoring.sequencer import Sequencer
from monitoring.service import Item
from monitoring.subscription import Subscription
from monitoring.topics import Topic

REORDER_SECONDS = 0.15
"""How long a hole may be filled by stragglers before history is asked."""
STRAGGLER_SECONDS = 1.0
"""How long a live feed may be behind the heads: the real server looks for row changes each half second."""
SILENCE_SECONDS = 3.0
"""After this long without anything, and two and a half heartbeats at least, the database is asked."""
CHECK_SECONDS = 60.0
"""The heads are read at least this often: the last safety net, for what no heartbeat named."""
TICK_SECONDS = 1.0
SLEPT_SECONDS = 5.0
"""The wall clock going ahead of what was waited by this much means that the machine slept."""
FAILING_SECONDS = 30.0
"""How long history may fail while the feed goes on, before both are begun anew."""
FRUITLESS = 3
"""So many times in a row something was found missing that no hole had shown, while no event came: no feed."""
MAX_HELD = 5_000
"""Events held while a hole is open; more are read back with the hole."""
_YIELD_EVENTS = 500
_random = SystemRandom()

T = TypeVar("T")


class Follower:
    """Merges one feed after another with history into one ordered subscription."""

    def __init__(
        self,
        history: SupabaseHistory,
        topics: frozenset[Topic],
        start: Cursor,
        out: Subscription[Item],
        on_raw: Callable[[Event], None] | None,
        counters: defaultdict[str, int],
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._history = history
        self._topics = topics
        self._out = out
        self._on_raw = on_raw
        self._counters = counters
        self._wall = wall
        self._sequencer = Sequencer(start, max_held=MAX_HELD)
        self.coverage = Coverage()
        self.out_of_reach = False
        """Whether history could not be read when it was tried last in a pause."""
        self._hidden: set[StreamId] = set()
        """Streams that heartbeats name and that this reader may not read."""

    async def catch_up(self) -> int:
        """Read back everything after the cursor; returns how many items that brought."""
        brought = 0
        while True:
            page = await self._history.after(self._sequencer.cursor, self._topics)
            self._counters["backfilled"] += len(page.events)
            self._counters["unreadable"] += page.unreadable
            by_stream: dict[StreamId, list[Event]] = {stream: [] for stream in page.through}
            for event in page.events:
                by_stream[event.stream].append(event)
                if self._on_raw is not None:
                    self._on_raw(event)
            # A full page reaches as far as its own rows; the last one reaches the heads.
            reached = page.through if page.more else page.heads
            for stream in reached:
                for item in self._sequencer.fill(stream, by_stream.get(stream, ()), reached[stream]):
                    brought += 1
                    await self._out.put(item)
            if not page.more:
                return brought

    async def begin(self, feed: Feed) -> State:
        """Deliver what came before the feed was live; returns the state as of then. Raises ModeChanged."""
        state = await self._history.state(self._topics)
        if state.mode is not feed.mode:
            raise ModeChanged(state.mode)
        self._hidden.clear()
        cursor = self._sequencer.cursor
        self.coverage.begin(cursor, state.heads, self._topics, asyncio.get_running_loop().time())
        if not cursor.covers(state.heads):
            await self.catch_up()
        return state

    def live(self) -> bool:
        """Say that the subscription is live, if the backend knows what the client has; tell whether it is."""
        if not self._out.live and self.coverage.complete(asyncio.get_running_loop().time()):
            self._out.live = True
        return self._out.live

    async def follow(self, feed: Feed, state: State) -> NoReturn:
        """Deliver what the feed brings until it is of no more use; raises why: Unreachable or Refused."""
        await _Following(self, feed, state).run()
        raise AssertionError("unreachable")  # run() ends by raising

    async def deliver(self, feed: Feed) -> None:
        """Put what the feed has in order and hand it on."""
        events = feed.take()
        self._counters["received"] += len(events)
        for number, event in enumerate(events, 1):
            if self._on_raw is not None:
                self._on_raw(event)
            self.coverage.shown(event.stream, event.position)
            for ordered in self._sequencer.offer(event):
                await self._out.put(ordered)
            if not number % _YIELD_EVENTS:
                await asyncio.sleep(0)  # the connections of others share this thread

    def incomplete(self, feed: Feed) -> bool:
        """Tell whether something is known to be missing; forgets the heads that have been reached."""
        if feed.heads:
            for stream, position in tuple(feed.heads.items()):
                if stream in self._hidden or self._sequencer.position(stream) >= position:
                    del feed.heads[stream]
        return self._sequencer.waiting or bool(feed.heads)

    @property
    def waiting(self) -> bool:
        """Whether a hole shows."""
        return self._sequencer.waiting

    def covers(self, heads: Cursor) -> bool:
        """Tell whether everything up to the heads was delivered."""
        return self._sequencer.cursor.covers(heads)

    async def fill(self, feed: Feed) -> int:
        """Read back what is missing; heads that history does not show either are not this reader's."""
        wanted = dict(feed.heads)
        brought = await self.catch_up()
        for stream, position in wanted.items():
            if self._sequencer.position(stream) < position:
                self._hidden.add(stream)
        return brought

    async def state(self) -> State:
        """Ask the database how far everything is."""
        return await self._history.state(self._topics)

    def count(self, what: str, by: int = 1) -> None:
        """Count something for the service's health."""
        self._counters[what] += by

    def wall(self) -> float:
        """Return the wall clock's time, in seconds."""
        return self._wall()


class _Following:
    """What is known of one feed while it is followed: when it was heard, what is missing, when to look."""

    def __init__(self, follower: Follower, feed: Feed, state: State) -> None:
        self._follower = follower
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._beat = state.beat  # the newest one that was sent before, or heard
        self._beat_seconds = state.beat_seconds
        self._heard = feed.heard
        self._quiet_since = self._looked_at = now
        self._quiet_looks = 0
        self._jitter = _random.uniform(0.9, 1.3)
        self._missing_since: float | None = None
        self._failing_since: float | None = None
        self._retry_at = 0.0
        self._backoff = Backoff(first=0.5, cap=5.0)
        self._fruitless = 0
        self._received = feed.received
        self._dropped = 0
        self._unreadable = 0

    async def run(self) -> None:
        """Follow until the feed is of no more use."""
        feed = self._feed
        while feed.failure is None:
            wall, began = self._follower.wall(), self._loop.time()
            await feed.wait(REORDER_SECONDS if self._missing_since is not None else TICK_SECONDS)
            slept = (self._follower.wall() - wall) - (self._loop.time() - began)
            if slept > SLEPT_SECONDS:
                raise Unreachable(REALTIME, f"the machine slept for {slept:.0f} s")
            await self._follower.deliver(feed)
            self._follower.live()
            self._note()
            await self._mend()
            if self._look_is_due():
                await self._look()
        await self._follower.deliver(feed)
        raise feed.failure

    def _note(self) -> None:
        """Take note of what the feed has said of itself."""
        feed = self._feed
        if feed.heard != self._heard:
            self._heard = feed.heard
            self._quiet_since = self._loop.time()
            self._quiet_looks = 0
        if feed.received != self._received:
            self._received = feed.received
            self._fruitless = 0
        if feed.dropped > self._dropped:
            self._follower.count("dropped", feed.dropped - self._dropped)
            self._follower.count("overflows")
            self._dropped = feed.dropped
        if feed.unreadable > self._unreadable:
            self._follower.count("unreadable", feed.unreadable - self._unreadable)
            self._unreadable = feed.unreadable
        beat = feed.newest_beat
        if beat is not None and beat.number > self._beat:  # an older one may be delivered to a newcomer
            if beat.mode is not feed.mode:
                raise ModeChanged(beat.mode)
            self._beat = beat.number
            self._beat_seconds = beat.seconds

    async def _mend(self) -> None:
        """Read back what has been missing for longer than stragglers take."""
        now = self._loop.time()
        if not self._follower.incomplete(self._feed):
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now
        elif now - self._missing_since >= REORDER_SECONDS and now >= self._retry_at:
            hole = self._follower.waiting
            brought = await self._asking(self._follower.fill(self._feed))
            if brought is None:
                return
            self._missing_since = None
            self._follower.count("holes")
            if not hole:
                self._found_behind_its_back(brought)

    def _found_behind_its_back(self, brought: int) -> None:
        """Count what was missing without any later event to show it; too often means that events do not come."""
        if brought and self._feed.received == self._received:
            self._fruitless += 1
            if self._fruitless >= FRUITLESS:
                raise Unreachable(REALTIME, "heartbeats arrive and events do not")

    @property
    def _silence_seconds(self) -> float:
        return max(SILENCE_SECONDS, 2.5 * self._beat_seconds)

    def _quiet(self) -> bool:
        return self._loop.time() - self._quiet_since >= self._silence_seconds

    def _look_is_due(self) -> bool:
        now = self._loop.time()
        since = max(self._looked_at, self._quiet_since)
        patience = self._silence_seconds * 2**self._quiet_looks
        if self._quiet() and now - since >= min(patience, CHECK_SECONDS) * min(self._jitter, 1.0):
            return True
        return now - self._looked_at >= CHECK_SECONDS * self._jitter

    async def _look(self) -> None:
        """Ask the database whether the feed has brought everything, and whether its silence is peace."""
        quiet = self._quiet()
        self._follower.count("looks")
        self._looked_at = self._loop.time()
        self._jitter = _random.uniform(0.9, 1.3)
        self._quiet_looks += quiet
        heard = self._feed.heard
        state = await self._asking(self._follower.state())
        if state is None:
            return
        if state.mode is not self._feed.mode:
            raise ModeChanged(state.mode)
        self._beat_seconds = state.beat_seconds
        missed = await self._missed(state.heads)
        if missed:
            self._follower.count("silences")
            brought = await self._asking(self._follower.catch_up())
            self._found_behind_its_back(brought or 0)
        if quiet and self._feed.heard == heard:
            if missed:
                raise Unreachable(REALTIME, "the feed was silent while events went on")
            if state.beat >= self._beat + 2:
                raise Unreachable(REALTIME, "the feed was silent while heartbeats went on")

    async def _missed(self, heads: Cursor) -> bool:
        """Tell whether the feed is behind the heads, after a while for what is still on its way."""
        until = self._loop.time() + STRAGGLER_SECONDS
        while not self._follower.covers(heads):
            left = until - self._loop.time()
            if left <= 0:
                return True
            await self._feed.wait(left)
            if self._feed.failure is not None:
                return False  # what is missing will be read back by the next connection
            await self._follower.deliver(self._feed)
        return False

    async def _asking(self, answer: Awaitable[T]) -> T | None:
        """Return history's answer; None when it failed and the feed goes on meanwhile: it is asked again later."""
        try:
            answered = await answer
        except (Unreachable, Refused):
            now = self._loop.time()
            self._failing_since = self._failing_since or now
            if self._quiet() or now - self._failing_since > FAILING_SECONDS:
                raise
            self._follower.count("history_failures")
            self._retry_at = now + self._backoff.next()
            return None
        self._failing_since = None
        self._backoff.reset()
        return answered
