"""When collectors are asked: each in a task of its own, never twice at once, and not too many together.

The first reading comes at once, give or take half a second; those after it lie on a grid whose place is random, so that
a hundred devices are not asked in the same moment. A source that has changed much is asked before its time, when half of
the interval is over; its grid then begins there. What a slow reading runs over is skipped and counted. A reading
that takes longer than its deadline, which is below the interval, is given up and counted. A failing collector says so
and harms no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from collectors.collector import Collector, CollectorError, Publish, Restless
from collectors.judge import Judge
from collectors.pace import LATE_SHARE, Pace, next_tick
from monitoring.device_status import Condition, Outcome
from monitoring.events import Draft, StreamId

_FIRST_SECONDS = 0.5
_LATE_SECONDS = 0.1
_CLOSE_SECONDS = 2.0
_GLANCE_SECONDS = 0.25
_EARLY_SHARE = 0.5
"""Of the interval: before, no change is reason enough to ask again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ticks:
    """How a collector's readings went."""

    read: int = 0
    failed: int = 0
    timed_out: int = 0
    """Given up at the deadline."""
    late: int = 0
    """Begun after their time: they waited for a place among those that are read at once, or the machine was slow."""
    skipped: int = 0
    """Ticks that a slow reading ran over."""
    worst_late_seconds: float = 0.0
    took_seconds: float | None = None
    """What the newest reading took."""
    last_success: datetime | None = None
    last_error: str | None = None
    """None when the newest reading succeeded."""
    failures: int = 0
    """Readings in a row that got no answer, or no entrance: the pace follows them."""


class Schedule:
    """Asks one collector on a grid of ticks, in its own task; ``ticks`` shows how it goes."""

    def __init__(
        self,
        collector: Collector,
        publish: Publish,
        pace: Pace,
        *,
        judge: Judge | None = None,
        places: asyncio.Semaphore | None = None,
        remember: Callable[[Judge], None] = lambda _: None,
        watched: Callable[[], bool] = lambda: False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Ask at ``pace``, while holding one of ``places``; ``jitter`` (0 to 1) chooses the place of the grid.

        ``judge`` hears what each reading found, and ``remember`` is handed it once that is told. ``watched`` is asked
        before each tick, and after each `reconsider`.
        """
        self.collector = collector
        self.judge = judge
        self.pace = pace
        self.ticks = Ticks()
        self._publish = publish
        self._places = places
        self._remember = remember
        self._watched = watched
        self._clock = clock
        self._jitter = jitter
        self._news = asyncio.Event()

    @property
    def streams(self) -> frozenset[StreamId]:
        """The streams that are written for this collector."""
        return frozenset(self.collector.streams) | ({self.judge.stream} if self.judge else set())

    @property
    def interval_seconds(self) -> float:
        """The interval now."""
        return self.pace.interval(watched=self._watched(), failures=self.ticks.failures)

    def reconsider(self) -> None:
        """Somebody began or ceased to watch: the next tick may be due earlier, or later."""
        self._news.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        loop = asyncio.get_running_loop()
        jitter = self._jitter()
        due = loop.time() + jitter * min(self.pace.interval_seconds, _FIRST_SECONDS)
        await asyncio.sleep(due - loop.time())
        await self.tick(due)
        due += self.interval_seconds * (1 + jitter) / 2
        while True:
            due = await self._wait(due)
            began = loop.time()
            await self.tick(due)
            due, skipped = next_tick(due, max(loop.time(), began), self.interval_seconds)
            if skipped:
                self.ticks = replace(self.ticks, skipped=self.ticks.skipped + skipped)

    async def _wait(self, due: float) -> float:
        """Wait for the tick that is due; return when it was, for interest, or a change, may have moved it."""
        loop = asyncio.get_running_loop()
        restless = self.collector if isinstance(self.collector, Restless) else None
        interval, since = self.interval_seconds, loop.time()
        while (seconds := due - loop.time()) > 0:
            if restless is not None:
                early = due - _EARLY_SHARE * interval - loop.time()
                if early <= 0 and restless.stirred():
                    return loop.time()
                seconds = min(seconds, max(early, _GLANCE_SECONDS))
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
                if (changed := self.interval_seconds) != interval:
                    due = (
                        max(loop.time(), due - interval + changed) if changed < interval else since + changed
                    )
                    interval = changed
        return due

    async def tick(self, due: float | None = None) -> None:
        """Take one reading and publish it; a failure is counted and said once, until there is another."""
        async with self._places or contextlib.nullcontext():
            began = asyncio.get_running_loop().time()
            interval = self.interval_seconds
            self._count_lateness(began - due if due is not None else 0.0, interval)
            await self._read(self.pace.deadline(interval))
            self.ticks = replace(self.ticks, took_seconds=round(asyncio.get_running_loop().time() - began, 4))

    def _count_lateness(self, seconds: float, interval: float) -> None:
        if seconds > max(_LATE_SECONDS, interval * LATE_SHARE):
            worst = max(self.ticks.worst_late_seconds, round(seconds, 3))
            self.ticks = replace(self.ticks, late=self.ticks.late + 1, worst_late_seconds=worst)

    async def _read(self, deadline: float) -> None:
        try:
            async with asyncio.timeout(deadline):
                drafts = await self.collector.collect()
        except TimeoutError:
            # Also a time-out of the source itself: either way nobody answered in time.
            self.ticks = replace(self.ticks, timed_out=self.ticks.timed_out + 1)
            self._failed(Outcome.SILENT, f"no reading within {deadline:g} s")
        except CollectorError as error:
            self._count_failure()
            self._failed(error.outcome, str(error), error.drafts)
        except ConnectionRefusedError as error:
            self._count_failure()
            self._failed(Outcome.REFUSED, str(error) or "the connection is refused")
        except OSError as error:
            self._count_failure()
            self._failed(Outcome.SILENT, str(error) or type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the top of this collector's task: no failure may harm another one
            self._count_failure()
            self._failed(Outcome.PARTIAL, f"{type(error).__name__}: {error}", unexpected=error)
        else:
            if self.ticks.last_error:
                log.info("collector %s: reads again", self.collector.name)
            self.ticks = replace(
                self.ticks, read=self.ticks.read + 1, last_success=self._clock(), last_error=None, failures=0
            )
            self._tell([*drafts, *self._judged(Outcome.WHOLE, f"{self.collector.name} is read")])

    def _count_failure(self) -> None:
        self.ticks = replace(self.ticks, failed=self.ticks.failed + 1)

    def _failed(
        self,
        outcome: Outcome,
        sentence: str,
        drafts: Sequence[Draft] = (),
        *,
        unexpected: Exception | None = None,
    ) -> None:
        if sentence != self.ticks.last_error:
            log.warning("collector %s: %s", self.collector.name, sentence, exc_info=unexpected)
        failures = 0 if outcome is Outcome.PARTIAL else self.ticks.failures + 1
        self.ticks = replace(self.ticks, last_error=sentence, failures=failures)
        self._tell([*drafts, *self._judged(outcome, sentence)])

    def _judged(self, outcome: Outcome, reason: str) -> Sequence[Draft]:
        return self.judge.observe(self.collector.name, outcome, reason) if self.judge else ()

    def _tell(self, drafts: Sequence[Draft]) -> None:
        if drafts:
            self._publish(drafts)
        if self.judge:
            self._remember(self.judge)


class Scheduler:
    """All schedules of a process; collectors come and go while it runs."""

    def __init__(
        self,
        publish: Publish,
        *,
        limit: int,
        ready: Callable[[Iterable[StreamId]], Awaitable[None]],
        keep: Callable[[Mapping[str, Condition]], None] = lambda _: None,
    ) -> None:
        """Read at most ``limit`` of those at once that are ``add``ed as remote.

        Nothing is read before ``ready`` says that its streams can be written. ``keep`` is handed all conditions after
        they changed; it never raises.
        """
        self._publish = publish
        self._places = asyncio.Semaphore(limit)
        self._ready = ready
        self._keep = keep
        self._kept: dict[str, Condition] = {}
        self._schedules: dict[str, Schedule] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def schedules(self) -> Sequence[Schedule]:
        """Those that there are now, in the order in which they came."""
        return tuple(self._schedules.values())

    def add(
        self,
        collector: Collector,
        pace: Pace,
        *,
        judge: Judge | None = None,
        remote: bool = False,
        watched: Callable[[], bool] = lambda: False,
    ) -> Schedule:
        """Ask a collector, too, from now on; raises ValueError for a name that there is already.

        Several collectors of one device share its judge. ``remote`` ones wait for one of the limited places: those of
        this machine never do, so that no number of hanging hosts can hold them up.
        """
        if collector.name in self._schedules:
            raise ValueError(f"there is a collector {collector.name!r} already")
        schedule = Schedule(
            collector,
            self._publish,
            pace,
            judge=judge,
            places=self._places if remote else None,
            remember=self._remember,
            watched=watched,
        )
        self._schedules[collector.name] = schedule
        if self._group is not None:
            self._begin(self._group, schedule)
        return schedule

    async def remove(self, name: str, reason: str) -> None:
        """Cease to ask a collector; its judge says so, when no other collector has the same."""
        schedule = self._schedules.pop(name)
        if task := self._tasks.pop(name, None):
            task.cancel()
            await asyncio.wait({task})
        await self._end(schedule, reason)

    async def run(self) -> None:
        """Ask until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for schedule in self._schedules.values():
                    self._begin(group, schedule)
                await (
                    asyncio.get_running_loop().create_future()
                )  # schedules may come and go; none ends by itself
        finally:
            self._group = None
            self._tasks.clear()

    async def close(self, reason: str) -> None:
        """Let go of all sources, once nothing runs any more; each says good-bye."""
        while self._schedules:
            _, schedule = self._schedules.popitem()
            await self._end(schedule, reason)

    def reconsider(self) -> None:
        """Somebody began or ceased to watch something."""
        for schedule in self._schedules.values():
            schedule.reconsider()

    def _begin(self, group: asyncio.TaskGroup, schedule: Schedule) -> None:
        name = schedule.collector.name
        self._tasks[name] = group.create_task(self._run(schedule), name=name)

    async def _run(self, schedule: Schedule) -> None:
        await self._ready(schedule.streams)
        await schedule.run()

    async def _end(self, schedule: Schedule, reason: str) -> None:
        drafts: list[Draft] = []
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                drafts += await schedule.collector.close()
        except (CollectorError, OSError) as error:  # TimeoutError is one
            log.warning("collector %s: while closing: %s", schedule.collector.name, error or "it hangs")
        judge = schedule.judge
        if judge and all(other.judge is not judge for other in self._schedules.values()):
            drafts += judge.stop(reason)
        if drafts:
            self._publish(drafts)
        if judge:
            self._remember(judge)

    def _remember(self, judge: Judge) -> None:
        """Keep what a judge knows, after it was told: told twice can be seen, never told cannot."""
        if self._kept.get(judge.subject) != judge.condition:
            self._kept[judge.subject] = judge.condition
            self._keep(self._kept)
