"""Delays between the attempts of an endless, supervised loop: exponential, with full jitter.

Not stamina: that retries one call a bounded number of times and then raises. A connection that is kept up for days
has no last attempt, and its count starts again once a connection has held; here is only the arithmetic, the loop and
the sleep are the caller's. Full jitter as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): of all
variants it spreads the clients of a restarted server best.
"""

from __future__ import annotations

from collections.abc import Callable
from random import SystemRandom

_LARGEST_EXPONENT = 60  # 2.0 ** more would only overflow on the way to the cap


class Backoff:
    """Delays in seconds, each drawn from 0 to a bound that doubles from ``first`` to ``cap``.

    ``random`` returns numbers in [0, 1); the system's own by default.
    """

    def __init__(
        self, *, first: float = 0.2, cap: float = 30.0, random: Callable[[], float] | None = None
    ) -> None:
        if not 0 < first <= cap:
            raise ValueError(f"a backoff needs 0 < first <= cap, got {first} and {cap}")
        self._first = first
        self._cap = cap
        self._random = random or SystemRandom().random
        self.attempts = 0
        """Delays drawn since the last reset."""

    def next(self) -> float:
        """Return how long to wait before the next attempt."""
        bound = min(self._cap, self._first * 2.0 ** min(self.attempts, _LARGEST_EXPONENT))
        self.attempts += 1
        return bound * self._random()

    def reset(self) -> None:
        """Begin again with short delays: the last connection held."""
        self.attempts = 0
