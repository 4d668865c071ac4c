"""A sketch of latencies: quantiles within one per cent, in memory that does not grow with the number of values.

Values go into buckets whose bounds grow by a constant factor, so that each bucket's middle is within ``ACCURACY`` of
everything in it (Masson, Rim, Lee: DDSketch, VLDB 2019).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

ACCURACY = 0.01
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
_SMALLEST_SECONDS = 1e-6
"""Everything shorter, or negative because two clocks disagree, counts as this."""


@dataclass(frozen=True, slots=True)
class LatencyFigures:
    """Quantiles in seconds; all None when nothing was measured."""

    count: int
    p50_seconds: float | None
    p99_seconds: float | None
    max_seconds: float | None


class LatencySketch:
    """A distribution of durations."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self._max = 0.0

    def add(self, seconds: float) -> None:
        """Add one value."""
        value = max(seconds, _SMALLEST_SECONDS)
        self._buckets[math.ceil(math.log(value) / _LOG_GAMMA)] += 1
        self.count += 1
        self._max = max(self._max, value)

    def quantile(self, q: float) -> float | None:
        """Return the value below which the share ``q`` (0 to 1) lies, in seconds; None when empty."""
        if not self.count:
            return None
        rank = q * (self.count - 1)
        seen = 0
        bucket = next(b for b in sorted(self._buckets) if (seen := seen + self._buckets[b]) > rank)
        return min(2 * _GAMMA**bucket / (_GAMMA + 1), self._max)

    def figures(self) -> LatencyFigures:
        """Return what a report shows."""
        return LatencyFigures(
            self.count, self.quantile(0.5), self.quantile(0.99), self._max if self.count else None
        )
