from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.collector import Collector, CollectorError, Restless
from collectors.judge import device_judge
from collectors.pace import Pace, next_tick
from collectors.schedule import Schedule, Scheduler
from collectors.threads import Reader, ReaderBusy
from monitoring.device_status import Condition, Outcome
from monitoring.events import Draft, StreamId
from tests.fakes import virtual_time

NOW = datetime(2026, 11, 21, tzinfo=UTC)
STREAM = StreamId("web-1/system")
DRAFT = Draft(STREAM, "metric_collected", datetime(2026, 11, 21, tzinfo=UTC), {})


class Probe(Collector):
    """A collector that does what the test says."""

    name = "probe"
    streams = (STREAM,)

    def __init__(self, reading: Callable[[], object]) -> None:
        self.reading = reading
        self.running = self.most = 0

    async def collect(self) -> Sequence[Draft]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            result = self.reading()
            if isinstance(result, float):
                await asyncio.sleep(result)
            return [DRAFT]
        finally:
            self.running -= 1

    async def close(self) -> Sequence[Draft]:
        return []


def failing(error: Exception) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


async def test_a_reading_is_published_and_counted() -> None:
    published: list[Draft] = []
    schedule = Schedule(Probe(lambda: None), published.extend, Pace(1))
    await schedule.tick()
    assert published == [DRAFT]
    assert (schedule.ticks.read, schedule.ticks.last_error) == (1, None)
    assert schedule.ticks.last_success is not None


@pytest.mark.parametrize(
    ("error", "said"),
    [(CollectorError("the sensor is gone"), "the sensor is gone"), (KeyError("x"), "KeyError: 'x'")],
)
async def test_a_failure_is_counted_and_ends_nothing(error: Exception, said: str) -> None:
    probe = Probe(failing(error))
    schedule = Schedule(probe, lambda _: None, Pace(1))
    await schedule.tick()
    assert (schedule.ticks.failed, schedule.ticks.last_error) == (1, said)
    probe.reading = lambda: None
    await schedule.tick()
    assert (schedule.ticks.read, schedule.ticks.last_error) == (1, None)


async def test_a_reading_beyond_its_deadline_is_given_up() -> None:
    schedule = Schedule(Probe(lambda: 60.0), lambda _: None, Pace(0.02))
    await schedule.tick()
    assert (schedule.ticks.timed_out, schedule.ticks.read) == (1, 0)
    assert "within 0.018 s" in str(schedule.ticks.last_error)


async def test_ticks_never_overlap_and_the_grid_is_kept() -> None:
    probe = Probe(lambda: 0.012)
    schedule = Schedule(probe, lambda _: None, Pace(0.015), jitter=lambda: 0.0)
    task = asyncio.create_task(schedule.run())
    async with asyncio.timeout(10):
        while schedule.ticks.read + schedule.ticks.timed_out < 5:
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait({task})
    assert probe.most == 1


class Named(Collector):
    """A collector whose readings last as long as the test says, and that notes when they began."""

    def __init__(self, name: str, seconds: float = 0.0, world: World | None = None) -> None:
        self._name = name
        self.seconds = seconds
        self.world = world or World()
        self.began: list[float] = []
        self.error: Exception | None = None
        self.closed = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def streams(self) -> Collection[StreamId]:
        return (StreamId(f"{self.name}/system"),)

    async def collect(self) -> Sequence[Draft]:
        self.began.append(asyncio.get_running_loop().time())
        self.world.now += 1
        self.world.most = max(self.world.most, self.world.now)
        try:
            await asyncio.sleep(self.seconds)
            if self.error:
                raise self.error
            return [Draft(StreamId(f"{self.name}/system"), "metric_collected", NOW, {})]
        finally:
            self.world.now -= 1

    async def close(self) -> Sequence[Draft]:
        self.closed += 1
        return []


@dataclass
class World:
    """How many readings run at once."""

    now: int = 0
    most: int = 0


async def nothing(_: object) -> None:
    """Streams that can be written at once."""


async def for_seconds(scheduler: Scheduler, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await scheduler.run()


def test_a_hundred_devices_share_ten_places_and_five_that_hang_harm_nobody() -> None:
    async def play() -> tuple[Scheduler, World, Named]:
        world = World()
        scheduler = Scheduler(lambda _: None, limit=10, ready=nothing)
        for number in range(95):
            scheduler.add(Named(f"d{number}", 0.2, world), Pace(30), remote=True)
        for number in range(5):
            scheduler.add(Named(f"hang{number}", 1e6, world), Pace(30), remote=True)
        here = Named("here", 0.1)
        scheduler.add(here, Pace(2))
        await for_seconds(scheduler, 600)
        return scheduler, world, here

    with virtual_time.runner() as runner:
        scheduler, world, here = runner.run(play())
    assert world.most == 10
    for schedule in scheduler.schedules[:95]:
        # 600 s at 30 s: 20 readings, the first at once and the second after half an interval or more
        assert schedule.ticks.read >= 19
        assert schedule.ticks.failures == 0
    assert all(
        schedule.ticks.read == 0 and schedule.ticks.timed_out for schedule in scheduler.schedules[95:100]
    )
    assert len(here.began) >= 299
    assert scheduler.schedules[100].ticks.late == 0


def test_waiting_for_a_place_is_counted_as_late_and_what_is_run_over_as_skipped() -> None:
    async def play() -> Sequence[Schedule]:
        scheduler = Scheduler(lambda _: None, limit=1, ready=nothing)
        for number in range(3):
            scheduler.add(Named(f"d{number}", 3), Pace(4), remote=True)
        await for_seconds(scheduler, 100)
        return scheduler.schedules

    with virtual_time.runner() as runner:
        schedules = runner.run(play())
    assert sum(schedule.ticks.late for schedule in schedules) > 10
    assert sum(schedule.ticks.skipped for schedule in schedules) > 10
    assert max(schedule.ticks.worst_late_seconds for schedule in schedules) > 2
    assert all(schedule.ticks.read >= 8 for schedule in schedules)  # and nobody is left out


def test_interest_is_answered_at_once_and_its_end_slows_down_again() -> None:
    async def play() -> list[float]:
        watched = False
        scheduler = Scheduler(lambda _: None, limit=1, ready=nothing)
        probe = Named("d")
        scheduler.add(probe, Pace(300, watched_seconds=2), watched=lambda: watched)
        task = asyncio.create_task(scheduler.run())
        await asyncio.sleep(1000)
        watched = True
        scheduler.reconsider()
        await asyncio.sleep(20)
        watched = False
        scheduler.reconsider()
        await asyncio.sleep(980)
        task.cancel()
        await asyncio.wait({task})
        return probe.began

    with virtual_time.runner() as runner:
        began = runner.run(play())
    assert len([at for at in began if at < 1000]) in {4, 5}
    fast = [at for at in began if 1000 <= at < 1020]
    assert 9 <= len(fast) <= 11
    assert fast[0] - 1000 <= 2
    assert len([at for at in began if at >= 1020]) in {3, 4}


class Moody(Probe, Restless):
    """A source that has changed much since a moment, until it is read."""

    def __init__(self, changes_at: float) -> None:
        super().__init__(lambda: self.began.append(asyncio.get_running_loop().time()))
        self.changes_at = changes_at
        self.began: list[float] = []

    def stirred(self) -> bool:
        return self.began[-1] < self.changes_at <= asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("changes_at", "read"),
    [(12.3, 12.5), (7.0, 10.0), (14.9, 15.0)],
    ids=["later than half of the interval", "sooner, so at half of it", "just before its time"],
)
def test_a_source_that_has_changed_much_is_read_before_its_time(changes_at: float, read: float) -> None:
    """Without the change, at 0, 5, 15, 25 and so on."""

    async def play() -> list[float]:
        began = asyncio.get_running_loop().time()
        probe = Moody(began + changes_at)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(40):
                await Schedule(probe, lambda _: None, Pace(10), jitter=lambda: 0.0).run()
        return [at - began for at in probe.began]

    with virtual_time.runner() as runner:
        assert runner.run(play()) == pytest.approx([0, 5, *(read + 10 * n for n in range(3))])


def test_collectors_come_and_go_while_others_run() -> None:
    async def play() -> tuple[Named, Named, list[Draft]]:
        told: list[Draft] = []
        scheduler = Scheduler(told.extend, limit=2, ready=nothing)
        first, second = Named("first"), Named("second")
        scheduler.add(first, Pace(10), judge=device_judge("first", {}))
        with pytest.raises(ValueError, match="already"):
            scheduler.add(Named("first"), Pace(10))
        task = asyncio.create_task(scheduler.run())
        await asyncio.sleep(100)
        scheduler.add(second, Pace(10), judge=device_judge("second", {}))
        await asyncio.sleep(100)
        await scheduler.remove("first", "it was removed")
        await asyncio.sleep(100)
        task.cancel()
        await asyncio.wait({task})
        await scheduler.close("the collector was stopped")
        return first, second, told

    with virtual_time.runner() as runner:
        first, second, told = runner.run(play())
    assert 19 <= len(first.began) <= 21
    assert 19 <= len(second.began) <= 21
    assert (first.closed, second.closed) == (1, 1)
    statuses = [
        (draft.stream, draft.payload["old_status"], draft.payload["new_status"], draft.payload["reason"])
        for draft in told
        if draft.kind == "device_status_changed"
    ]
    assert statuses == [
        ("first/system", "unknown", "up", "first is read"),
        ("second/system", "unknown", "up", "second is read"),
        ("first/system", "up", "unknown", "it was removed"),
        ("second/system", "up", "unknown", "the collector was stopped"),
    ]


def test_a_device_that_stops_answering_is_told_once_asked_sooner_then_less_often_and_remembered() -> None:
    kept: dict[str, Condition] = {}

    async def play() -> tuple[Named, list[Draft]]:
        told: list[Draft] = []
        scheduler = Scheduler(told.extend, limit=2, ready=nothing, keep=kept.update)
        probe = Named("d")
        scheduler.add(probe, Pace(100), judge=device_judge("d", {}))
        task = asyncio.create_task(scheduler.run())
        await asyncio.sleep(301)
        probe.error = OSError("no route to host")
        await asyncio.sleep(5000)
        task.cancel()
        await asyncio.wait({task})
        return probe, told

    with virtual_time.runner() as runner:
        probe, told = runner.run(play())
    changes = [draft.payload["new_status"] for draft in told if draft.kind == "device_status_changed"]
    assert changes == ["up", "degraded", "unreachable"]
    assert kept["device d"].status == "unreachable"
    gaps = [round(later - earlier) for earlier, later in itertools.pairwise(probe.began)]
    failing = gaps[-7:]
    assert 25 in gaps
    assert failing[-1] == failing[-2] == 800
    again = device_judge("d", kept)
    assert again.observe("d", Outcome.SILENT, "still") == []
    assert [draft.payload["new_status"] for draft in again.observe("d", Outcome.WHOLE, "")] == ["degraded"]
    assert [draft.payload["new_status"] for draft in again.observe("d", Outcome.WHOLE, "")] == ["up"]


async def test_what_an_error_brings_along_is_told() -> None:
    told: list[Draft] = []
    error = CollectorError("half of it")
    error.drafts = [DRAFT]
    await Schedule(Probe(failing(error)), told.extend, Pace(1)).tick()
    assert told == [DRAFT]


def test_the_pace_follows_interest_and_failures_and_its_deadline_stays_below() -> None:
    pace = Pace(300, watched_seconds=10)
    assert pace.interval() == 300
    assert pace.interval(watched=True) == 10
    assert [pace.interval(failures=count) for count in range(8)] == [300, 75, 75, 300, 600, 1200, 2400, 2400]
    assert [Pace(2).interval(failures=count) for count in (1, 3)] == [2, 2]
    assert Pace(2).deadline(2) == 1.8
    assert pace.deadline(300) == 30


def test_what_a_slow_reading_ran_over_is_skipped() -> None:
    assert next_tick(10.0, 10.3, 2.0) == (12.0, 0)
    assert next_tick(10.0, 12.1, 2.0) == (14.0, 1)
    assert next_tick(10.0, 16.5, 2.0) == (18.0, 3)


@given(st.floats(0, 1e6), st.floats(0, 1e4), st.floats(0.1, 100))
def test_the_next_tick_is_on_the_grid_and_not_before_the_last(
    due: float, took: float, interval: float
) -> None:
    following, skipped = next_tick(due, due + took, interval)
    assert following == due + (skipped + 1) * interval
    assert following > due + took - 1e-6


async def test_a_thread_that_hangs_is_abandoned_and_the_next_reading_refused() -> None:
    reader = Reader("test", limit=1)
    release = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await reader.call(release.wait)
    with pytest.raises(ReaderBusy, match="1 earlier readings"):
        await reader.call(lambda: 1)
    release.set()
    async with asyncio.timeout(5):
        while reader.abandoned:
            await asyncio.sleep(0.001)
        assert await reader.call(lambda: 2) == 2


async def test_a_reader_runs_at_most_its_limit_at_once() -> None:
    reader = Reader("test", limit=3)
    lock = threading.Lock()
    running = most = 0

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.005)
        with lock:
            running -= 1

    await asyncio.gather(*(reader.call(work) for _ in range(12)))
    assert most == 3


async def test_a_reader_raises_what_its_function_raises() -> None:
    with pytest.raises(LookupError, match="no"):
        await Reader("test", limit=1).call(lambda: (_ for _ in ()).throw(LookupError("no")))
