"""When to try a server again: one circuit breaker for all connections to one address.

Each connection backs off by itself (`adapters.backoff`). After some failures in a row over all of them the breaker
opens: from then on one connection at a time *probes* the server, at delays that double up to the cap, and the others
wait for its result instead of adding to the load of a server that is down. A probe that succeeds lets all of them go
on, spread over a moment. So the breaker never makes recovery slower than ``cap`` and the time one attempt takes.

Why no library: purgatory's breaker answers an open circuit with an error and leaves the waiting to its caller, lets
any number of calls through at once when half open, and measures by the wall clock, so that a clock that is set back
keeps it open for as long. stamina repeats one call a bounded number of times, and a connection that is kept up for
days has no last attempt (docs/adr/0007).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from random import SystemRandom

from adapters.backoff import Backoff

_SPREAD_SECONDS = 0.5
"""Connections that waited for a probe begin within this time of its success."""


class Circuit(StrEnum):
    """What a breaker does with attempts."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerState:
    """How a breaker stands; counts are since it was made."""

    circuit: Circuit = Circuit.CLOSED
    failures_in_row: int = 0
    opened: int = 0
    attempts: int = 0

    @property
    def gauges(self) -> dict[str, int]:
        """The same as numbers for metrics; the circuit is 0 closed, 1 half open, 2 open."""
        order = (Circuit.CLOSED, Circuit.HALF_OPEN, Circuit.OPEN)
        return {
            "breaker_state": order.index(self.circuit),
            "breaker_failures_in_row": self.failures_in_row,
            "breaker_opened": self.opened,
            "connection_attempts": self.attempts,
        }


class Attempt:
    """One try at a connection."""

    def __init__(self) -> None:
        self.succeeded = False
        """Set by `Breaker.succeeded`."""


class Breaker:
    """Admits attempts at one address. Used from one event loop.

    It opens after ``threshold`` failures in a row and then admits one probe after delays of up to ``cap`` seconds.
    """

    def __init__(
        self, *, threshold: int = 5, cap: float = 30.0, random: Callable[[], float] | None = None
    ) -> None:
        self._threshold = threshold
        self._random = random or SystemRandom().random
        self._delays = Backoff(first=min(1.0, cap), cap=cap, random=random)
        self._circuit = Circuit.CLOSED
        self._failures = self._opened = self._attempts = 0
        self._probe_at = 0.0
        self._changed = asyncio.Event()

    @property
    def state(self) -> BreakerState:
        """How the breaker stands at this moment."""
        return BreakerState(self._circuit, self._failures, self._opened, self._attempts)

    @property
    def admits(self) -> bool:
        """Whether an attempt would begin at once."""
        return self._circuit is Circuit.CLOSED or (
            self._circuit is Circuit.OPEN and self._probe_at <= asyncio.get_running_loop().time()
        )

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[Attempt]:
        """Wait until an attempt is admitted, and make it in the block.

        Call ``succeeded`` once the server has answered. An error that leaves the block before that is a failure; one
        that comes later is the end of a connection that worked, and a cancellation says nothing of the server.
        """
        await self._admitted()
        self._attempts += 1
        probing = self._circuit is Circuit.HALF_OPEN
        made = Attempt()
        try:
            yield made
        except Exception:
            if not made.succeeded:
                self._failed()
            raise
        finally:
            if probing and not made.succeeded and self._circuit is Circuit.HALF_OPEN:
                self._turn(Circuit.OPEN)  # the probe was given up: the next in line may make it

    def succeeded(self, attempt: Attempt) -> None:
        """Note that the server has answered an attempt; safe to repeat."""
        if attempt.succeeded:
            return
        attempt.succeeded = True
        self._failures = 0
        self._delays.reset()
        if self._circuit is not Circuit.CLOSED:
            self._turn(Circuit.CLOSED)

    def _failed(self) -> None:
        self._failures += 1
        if self._circuit is Circuit.CLOSED and self._failures < self._threshold:
            return
        if self._circuit is Circuit.CLOSED:
            self._opened += 1
        if self._circuit is not Circuit.OPEN:  # attempts that began before it opened do not put off the probe
            self._probe_at = asyncio.get_running_loop().time() + self._delays.next()
            self._turn(Circuit.OPEN)

    def _turn(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._changed.set()
        self._changed = asyncio.Event()

    async def _admitted(self) -> None:
        waited = False
        while self._circuit is not Circuit.CLOSED:
            waited = True
            changed = self._changed
            delay = self._probe_at - asyncio.get_running_loop().time()
            if self._circuit is Circuit.OPEN and delay <= 0:
                self._turn(Circuit.HALF_OPEN)
                return
            try:
                async with asyncio.timeout(delay if self._circuit is Circuit.OPEN else None):
                    await changed.wait()
            except TimeoutError:
                continue
        if waited:
            await asyncio.sleep(_SPREAD_SECONDS * self._random())
