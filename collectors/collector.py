"""What a collector is, and how often it is asked.

Each collector has a task of its own: a random first delay, then a fixed grid of ticks. A tick never overlaps the one
before: what a slow reading runs over is skipped and counted. A reading that takes longer than its deadline, which is
below the interval, is given up and counted. A failing collector says so and harms no other.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from monitoring.events import Draft, StreamId

Publish = Callable[[Sequence[Draft]], None]
"""Takes what was observed. Never raises and never waits: what cannot be kept is counted where it is refused."""

DEADLINE_SHARE = 0.9
"""A reading's deadline as a share of the interval."""

log = logging.getLogger(__name__)


class CollectorError(Exception):
    """Base of what collectors raise: the source could not be read; the message says why and what to do."""


class Collector(Protocol):
    """One source of events."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def streams(self) -> Collection[StreamId]:
        """The streams it writes."""
        ...

    async def collect(self) -> Sequence[Draft]:
        """Take one reading; an empty answer means that there is nothing to tell.

        Raises CollectorError or OSError; may be cancelled at its deadline.
        """
        ...

    async def close(self) -> Sequence[Draft]:
        """Let go of the source; return what is to be told about that. Safe to call twice."""
        ...


class Watcher(Protocol):
    """A source that also tells changes by itself, at once."""

    async def watch(self, publish: Publish) -> None:
        """Publish changes as they happen; never ends by itself."""
        ...


@dataclass(frozen=True, slots=True)
class Ticks:
    """How a collector's readings went."""

    read: int = 0
    failed: int = 0
    late: int = 0
    """Given up at the deadline."""
    skipped: int = 0
    """Ticks that a slow reading ran over."""
    last_success: datetime | None = None
    last_error: str | None = None
    """None when the newest reading succeeded."""


class Schedule:
    """Asks one collector on a grid of ticks, in its own task; ``ticks`` shows how it goes."""

    def __init__(
        self,
        collector: Collector,
        publish: Publish,
        *,
        interval_seconds: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Ask every ``interval_seconds``; ``jitter`` (0 to 1) places the first tick within the first interval."""
        self.collector = collector
        self.ticks = Ticks()
        self._publish = publish
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._jitter = jitter

    async def run(self) -> None:
        """Ask until cancelled."""
        loop = asyncio.get_running_loop()
        # At most half a second: jitter spreads many collectors, but nobody should wait for the first numbers.
        due = loop.time() + self._jitter() * min(self._interval_seconds, 0.5)
        while True:
            await asyncio.sleep(due - loop.time())
            await self.tick()
            due, skipped = next_tick(due, loop.time(), self._interval_seconds)
            self.ticks = replace(self.ticks, skipped=self.ticks.skipped + skipped)

    async def tick(self) -> None:
        """Take one reading and publish it; a failure is counted and said once, until there is another."""
        try:
            async with asyncio.timeout(self._interval_seconds * DEADLINE_SHARE):
                drafts = await self.collector.collect()
        except TimeoutError:
            self.ticks = replace(self.ticks, late=self.ticks.late + 1)
            self._failed(f"no reading within {self._interval_seconds * DEADLINE_SHARE:g} s")
        except Exception as error:  # noqa: BLE001 - the top of this collector's task: no failure may harm another one
            self.ticks = replace(self.ticks, failed=self.ticks.failed + 1)
            expected = isinstance(error, CollectorError | OSError)
            self._failed(
                str(error) if expected else f"{type(error).__name__}: {error}", None if expected else error
            )
        else:
            if self.ticks.last_error:
                log.info("collector %s: reads again", self.collector.name)
            self.ticks = replace(
                self.ticks, read=self.ticks.read + 1, last_success=self._clock(), last_error=None
            )
            if drafts:
                self._publish(drafts)

    def _failed(self, sentence: str, unexpected: Exception | None = None) -> None:
        if sentence != self.ticks.last_error:
            log.warning("collector %s: %s", self.collector.name, sentence, exc_info=unexpected)
        self.ticks = replace(self.ticks, last_error=sentence)


def next_tick(due: float, now: float, interval: float) -> tuple[float, int]:
    """Return when the next tick of the grid is due after one at ``due`` ended at ``now``, and how many it ran over."""
    skipped = max(0, int((now - due) // interval))
    return due + (skipped + 1) * interval, skipped
