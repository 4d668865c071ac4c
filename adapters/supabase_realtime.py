"""`MonitoringService` over Supabase Realtime: a live feed that may lose, made whole by history.

Realtime does not replay, and says nothing when the database behind it fails. So every subscription, once its feed is
live, reads back what came before and merges both by position (`adapters.supabase_follower`). Here is what keeps it
alive: it connects in the mode that the project is in, again and again, without limit, and reads history in the pauses
between, so that a subscriber who cannot have the feed is late and not blind.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from random import SystemRandom
from uuid import uuid4

import structlog

from adapters.backoff import Backoff
from adapters.supabase_connection import AccessToken, Project, connected
from adapters.supabase_errors import Mode, ModeChanged, RateLimited
from adapters.supabase_feed import Feed
from adapters.supabase_follower import SLEPT_SECONDS, Follower
from adapters.supabase_history import SupabaseHistory
from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.events import Event
from monitoring.interest import DeviceNames, devices_named
from monitoring.service import Backend, Capabilities, Health, Item, MonitoringService, Snapshot, Status
from monitoring.subscription import Subscription
from monitoring.topics import Topic

log = structlog.get_logger(__name__)

HELD_SECONDS = 10.0
"""A connection that lived this long has held: the delays before the next attempts are short again."""
LIMITED_SECONDS = (10.0, 60.0)
"""The pause after a limit was reached, drawn from this range: coming back at once is what limits are against."""
POLL_SECONDS = 5.0
"""How often history is read in a pause that is longer than this."""
WATCH_RETRY_SECONDS = 30.0
"""Thrice how soon it is said again which devices are watched, after that failed."""
PLACE_SECONDS = 30.0
"""How much further back a subscription begins than it was asked to: longer than the question takes on its way."""
_random = SystemRandom()


@dataclass(frozen=True, slots=True)
class _Asked:
    """Where a subscription is to begin, and when that was said: by the clock that only rises, and by the time of day."""

    since: Cursor
    monotonic: float
    wall: float


class SupabaseRealtime(MonitoringService):
    """One project's feed, seen with one viewer's token.

    ``access_token`` returns a token that is valid now; it is asked again before each connection and before the last
    token's end, so it can refresh itself. ``on_raw`` sees every event as it comes off the wire, before ordering; it
    must not wait. Each subscription has a connection of its own.
    """

    def __init__(
        self,
        url: str,
        key: str,
        access_token: AccessToken | None = None,
        *,
        on_raw: Callable[[Event], None] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._project = Project(url, key, access_token)
        self._on_raw = on_raw
        self._wall = wall
        self._history = SupabaseHistory(self._project)
        self._subscriptions: set[Subscription[Item]] = set()
        self._mode: Mode | None = None
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
        asked = _Asked(since, time.monotonic(), self._wall()) if since is not None else None
        subscription: Subscription[Item] = Subscription(lambda out: self._feed(wanted, asked, out))
        self._subscriptions.add(subscription)
        subscription.add_done_callback(self._subscriptions.discard)
        return subscription

    async def placed(self, topics: Collection[Topic], since: Cursor) -> Cursor:
        """Return where a subscription begins; see the port."""
        return await self._placed(topics, _Asked(since, time.monotonic(), self._wall()))

    async def _placed(self, topics: Collection[Topic], asked: _Asked) -> Cursor:
        since = asked.since
        if since.back_seconds is None:
            return since
        # Where one of the clocks stood still, or was set back, the other one knows.
        elapsed = max(time.monotonic() - asked.monotonic, self._wall() - asked.wall, 0.0)
        back = since.back_seconds + elapsed + PLACE_SECONDS
        try:
            stood = await self._history.positions_back(topics, back)
        except Refused as error:  # a project from before this could be asked
            log.debug("supabase.not_placed", reason=str(error))
            return Cursor(since)
        return Cursor({**stood, **since})

    async def health(self) -> Health:
        """Return the state of the newest connection."""
        filled = self._counters["backfilled"]
        said = (
            f"{self._detail}; {filled} events that the feed did not bring were read back"
            if filled
            else self._detail
        )
        return Health(self.backend, self._status, self._since, said, dict(self._counters))

    async def close(self) -> None:
        """Close every subscription and connection."""
        await asyncio.gather(*(subscription.close() for subscription in tuple(self._subscriptions)))
        self._subscriptions.clear()
        await self._history.close()
        self._say(Status.CLOSED, "closed")

    def _say(self, status: Status, detail: str) -> None:
        if (status, detail) != (self._status, self._detail):
            self._status, self._detail, self._since = status, detail, datetime.now(UTC)

    async def _feed(self, topics: frozenset[Topic], asked: _Asked | None, out: Subscription[Item]) -> None:
        """Keep a subscription alive, and meanwhile say which devices are watched by name."""
        devices = devices_named(topics)
        saying = asyncio.create_task(self._say_watched(devices)) if devices else None  # owned: ended below
        try:
            await self._supervise(topics, asked, out)
        finally:
            if saying is not None:
                saying.cancel()
                await asyncio.wait({saying})

    async def _say_watched(self, devices: DeviceNames) -> None:
        """Say it again before each time that it expires; who goes away without a word has gone then.

        A project that does not know of it, or does not take it, is read at its own pace: no reason to read nothing.
        """
        viewer = uuid4()
        while True:
            try:
                seconds = await self._history.watch(viewer, devices)
            except (Unreachable, Refused) as error:
                log.debug("supabase.not_watched", reason=str(error))
                seconds = WATCH_RETRY_SECONDS
            await asyncio.sleep(seconds / 3)

    async def _supervise(
        self, topics: frozenset[Topic], asked: _Asked | None, out: Subscription[Item]
    ) -> None:
        """Keep a subscription alive: connect, catch up, follow; again and again, without limit."""
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        follower: Follower | None = None
        while True:
            live_at: float | None = None
            feed = Feed(self._mode or Mode.CHANGES, topics)
            try:
                if follower is None:
                    follower = await self._begun(topics, asked, out)
                    feed = Feed(self._mode or Mode.CHANGES, topics)
                async with connected(self._project, feed):
                    state = await follower.begin(feed)
                    self._counters["connections"] += 1
                    live_at = loop.time()
                    follower.live()
                    self._say(Status.LIVE, f"live from {self._project.url}, {feed.mode} mode")
                    await follower.follow(feed, state)
            except ModeChanged as error:
                self._mode = error.mode
                reason, delay = error.reason, _random.random()  # so that not all come back at once
            except RateLimited as error:
                self._counters["rate_limited"] += 1
                reason, delay = error.reason, _random.uniform(*LIMITED_SECONDS)
            except Unreachable as error:
                reason = error.reason
                delay = self._delay(backoff, live_at, feed)
            except Refused as error:
                if not self._counters["connections"] and not await self._mode_moved(topics):
                    raise  # it never worked: this is a mistake to be told, not an outage to be waited out
                reason = str(error)
                delay = self._delay(backoff, live_at, feed)
            out.live = False
            self._counters["reconnects"] += 1
            told = f"{reason}; next try in {delay:.1f} s"
            if delay > POLL_SECONDS:
                told += f", history is read every {POLL_SECONDS:g} s meanwhile"
            self._say(Status.RECONNECTING, told)
            log.info("supabase.reconnecting", reason=reason, delay_seconds=round(delay, 2))
            await self._pause(delay, follower)

    async def _begun(
        self, topics: frozenset[Topic], asked: _Asked | None, out: Subscription[Item]
    ) -> Follower:
        """Return what follows the topics from where the subscription begins."""
        since = await self._placed(topics, asked) if asked is not None else None
        if self._mode is None or since is None:
            state = await self._history.state(topics)
            self._mode = state.mode
            since = state.heads if since is None else since
        return Follower(self._history, topics, since, out, self._on_raw, self._counters, wall=self._wall)

    async def _mode_moved(self, topics: frozenset[Topic]) -> bool:
        """Tell whether a refusal has its reason in a change of mode since it was read, and take note of the new one."""
        before = self._mode
        if before is None:
            return False
        try:
            self._mode = (await self._history.state(topics)).mode
        except Unreachable:
            return True  # that will be told by the next attempt
        except Refused:
            return False
        return self._mode is not before

    @staticmethod
    def _delay(backoff: Backoff, live_at: float | None, feed: Feed) -> float:
        """Return the pause after a failure; a connection that held and brought something makes it short again."""
        held = live_at is not None and asyncio.get_running_loop().time() - live_at >= HELD_SECONDS
        if held and feed.heard:
            backoff.reset()
        return backoff.next()

    async def _pause(self, seconds: float, follower: Follower | None) -> None:
        """Wait before the next attempt, and read history meanwhile.

        Not longer than the machine sleeps, nor, where history could not be read, than until it can be: then the
        project is within reach again, and an attempt may succeed.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        wall, began = self._wall(), loop.time()
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(left, POLL_SECONDS))
            if (self._wall() - wall) - (loop.time() - began) > SLEPT_SECONDS:
                return
            if follower is not None and loop.time() < until:
                try:
                    self._counters["polled"] += await follower.catch_up()
                except (Unreachable, Refused) as error:
                    follower.out_of_reach = True
                    log.debug("supabase.poll_failed", reason=str(error))
                else:
                    if follower.out_of_reach:
                        follower.out_of_reach = False
                        return
