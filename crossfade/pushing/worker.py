"""The one thread that delivers what an application has pushed. It has an event loop of its own, whatever the application has.

It batches: an event waits for ``batch_seconds`` for others. What cannot be delivered now is tried again with backoff,
for as long as the buffer has room for what comes meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from adapters.backoff import Backoff
from adapters.errors import AdapterError
from crossfade.errors import CrossfadeError
from crossfade.pushing.buffer import Buffer
from legacy_ws.errors import LegacyError
from monitoring.errors import MonitoringError
from monitoring.intake import Intake, Taken

OpenIntake = Callable[[], AbstractAsyncContextManager[Intake]]

_BATCH_EVENTS = 500
_BATCH_BYTES = 700_000
"""Under what the query service takes in one request (1 MiB), with the envelopes."""

_STOPPING_SECONDS = 0.1
"""Between the last attempts, when there is no time left for more patience."""

log = logging.getLogger("crossfade.push")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done, in seconds."""

    batch_seconds: float = 0.2
    sample_seconds: float = 5.0


class Worker:
    """Delivers from a buffer to an intake until it is stopped; nothing that happens in here reaches the application."""

    def __init__(
        self, buffer: Buffer, open_intake: OpenIntake, sample: Callable[[], None], pace: Pace
    ) -> None:
        """``sample`` puts into the buffer what is counted over time; it is called each ``sample_seconds``."""
        self._buffer = buffer
        self._open_intake = open_intake
        self._sample = sample
        self._pace = pace
        self._thread = threading.Thread(target=self._work, name="crossfade-push", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._idle = threading.Event()
        self._hurry = threading.Event()
        self._stop_at: float | None = None
        self.problem: str | None = None
        """Why events are not kept now; None when they are."""

    def start(self) -> None:
        """Begin. The thread is a daemon: it holds up no end of a process."""
        self._thread.start()

    def nudge(self) -> None:
        """Say that there is something to deliver; costs next to nothing while the worker is busy."""
        if self._idle.is_set():
            self._idle.clear()
            self._call_in()

    def hurry(self) -> None:
        """Deliver at once what there is, without waiting for more."""
        self._hurry.set()
        self._call_in()

    def stop(self, seconds: float) -> bool:
        """Deliver what can be within so many seconds, and end; tells whether it has ended."""
        self._stop_at = time.monotonic() + seconds
        self.hurry()
        self._thread.join(seconds + 0.5)
        return not self._thread.is_alive()

    def _call_in(self) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self._wake.set)

    def _work(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        backoff = Backoff(first=0.2, cap=10.0)
        while not self._over():
            try:
                async with self._open_intake() as intake:
                    await self._deliver(intake, backoff)
                    return
            except (AdapterError, CrossfadeError, LegacyError, MonitoringError, OSError) as error:
                self._say(str(error))
            except Exception as error:
                # A bug, ours or of the function that makes the token: the application goes on, and so do we.
                if str(error) != self.problem:
                    log.exception("events are not kept: an unexpected error")
                self.problem = str(error)
            await self._rest(backoff.next())

    async def _deliver(self, intake: Intake, backoff: Backoff) -> None:
        """Deliver until it is time to stop."""
        sample_at = time.monotonic() + self._pace.sample_seconds
        while not self._over():
            if time.monotonic() >= sample_at:
                self._sample()
                sample_at = time.monotonic() + self._pace.sample_seconds
            refused = await self._deliver_batch(intake)
            if refused:
                await self._rest(backoff.next())
            else:
                backoff.reset()
            if self._stop_at is not None and not len(self._buffer):
                return
            if len(self._buffer) < _BATCH_EVENTS and not refused:
                await self._wait_for_work(sample_at)
                await self._rest(self._pace.batch_seconds)

    async def _deliver_batch(self, intake: Intake) -> str | None:
        """Hand over one batch; return why some of it has to be tried again, None when none of it has to."""
        self._hurry.clear()
        batch = self._buffer.take(_BATCH_EVENTS, _BATCH_BYTES)
        if not batch:
            return None
        try:
            outcomes = await intake.take([each.draft for each in batch])
        except BaseException:
            self._buffer.settle([Taken("not answered", again=True)] * len(batch))
            raise
        again = next((taken.refused for taken in outcomes if taken.again), None)
        never = next(
            (
                f"{each.draft.kind} on {each.draft.stream} was refused: {taken.refused}"
                for each, taken in zip(batch, outcomes, strict=True)
                if taken.refused is not None and not taken.again
            ),
            None,
        )
        if again or never:
            self._say(again or str(never))
        elif self.problem is not None:
            log.info("events are kept again")
            self.problem = None
        self._buffer.settle(outcomes)
        return again

    async def _wait_for_work(self, until: float) -> None:
        self._wake.clear()
        self._idle.set()
        if not len(self._buffer) and not self._hurry.is_set():
            await self._pause(until - time.monotonic())
        self._idle.clear()

    async def _rest(self, seconds: float) -> None:
        """Wait, unless there is a hurry, which is over with that: what fails is not tried faster for ever."""
        self._wake.clear()
        if self._hurry.is_set():
            self._hurry.clear()
        else:
            await self._pause(seconds)

    async def _pause(self, seconds: float) -> None:
        if self._stop_at is not None:
            seconds = min(seconds, _STOPPING_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._wake.wait()

    def _over(self) -> bool:
        return self._stop_at is not None and time.monotonic() >= self._stop_at

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("events are not kept: %s", problem)
        self.problem = problem
