from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.collector import Collector, CollectorError, Schedule, next_tick
from collectors.threads import Reader, ReaderBusy
from monitoring.events import Draft, StreamId

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
    schedule = Schedule(Probe(lambda: None), published.extend, interval_seconds=1)
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
    schedule = Schedule(probe, lambda _: None, interval_seconds=1)
    await schedule.tick()
    assert (schedule.ticks.failed, schedule.ticks.last_error) == (1, said)
    probe.reading = lambda: None
    await schedule.tick()
    assert (schedule.ticks.read, schedule.ticks.last_error) == (1, None)


async def test_a_reading_beyond_its_deadline_is_given_up() -> None:
    schedule = Schedule(Probe(lambda: 60.0), lambda _: None, interval_seconds=0.02)
    await schedule.tick()
    assert (schedule.ticks.late, schedule.ticks.read) == (1, 0)
    assert "within 0.018 s" in str(schedule.ticks.last_error)


async def test_ticks_never_overlap_and_the_grid_is_kept() -> None:
    probe = Probe(lambda: 0.012)
    schedule = Schedule(probe, lambda _: None, interval_seconds=0.015, jitter=lambda: 0.0)
    task = asyncio.create_task(schedule.run())
    async with asyncio.timeout(10):
        while schedule.ticks.read + schedule.ticks.late < 5:
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait({task})
    assert probe.most == 1


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
