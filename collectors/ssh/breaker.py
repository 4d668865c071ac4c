"""When a device that fails is tried again: pure.

Each collector slows down by itself (`collectors.pace`); here is what those of one device know together, so that it is not
dialled three times as often. After ``threshold`` failures in a row the
circuit opens, and one attempt is let through after a delay that doubles up to ``cap``. A success closes it. The delays
are drawn from the upper half of their bound: spread over the devices behind one dead switch, and never at once.
"""

from __future__ import annotations

from collections.abc import Callable
from random import SystemRandom

_LARGEST_EXPONENT = 30


class DeviceBreaker:
    """Counts one device's failures. Times are seconds of any one clock that does not go back."""

    def __init__(
        self,
        *,
        threshold: int = 3,
        first_seconds: float = 15.0,
        cap_seconds: float = 120.0,
        random: Callable[[], float] | None = None,
    ) -> None:
        self._threshold = threshold
        self._first = first_seconds
        self._cap = cap_seconds
        self._random = random or SystemRandom().random
        self._until = 0.0
        self.failures = 0
        """In a row."""

    @property
    def open(self) -> bool:
        """Whether the device is left alone but for single attempts."""
        return self.failures >= self._threshold

    def rests(self, now: float) -> float:
        """Return for how long the device is still to be left alone; 0 when it may be asked."""
        return max(0.0, self._until - now) if self.open else 0.0

    def failed(self, now: float) -> None:
        """Count a failure."""
        self.failures += 1
        if self.open:
            exponent = min(self.failures - self._threshold, _LARGEST_EXPONENT)
            bound = min(self._cap, self._first * 2.0**exponent)
            self._until = now + bound * (0.5 + 0.5 * self._random())

    def succeeded(self) -> None:
        """Begin anew."""
        self.failures = 0
