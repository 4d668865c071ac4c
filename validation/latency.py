"""A sketch of latencies: quantiles within one per cent, in memory that does not grow with the number of values.

Values go into buckets whose bounds grow by a constant factor, so that each bucket's middle is within ``ACCURACY`` of
everything in it (Masson, Rim, Lee: DDSketch, VLDB 2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ACCURACY = 0.01
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_PER_LOG = 1 / math.log(_GAMMA)
_log = math.log
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

    __slots__ = ("_buckets", "_max")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._max = 0.0

    @property
    def count(self) -> int:
        """How many values were added."""
        return sum(self._buckets.values())

    def add(self, seconds: float) -> None:
        """Add one value."""
        self._max = max(self._max, seconds)
        # Of values above the smallest the logarithm is positive, so that cutting off is rounding down.
        bucket = int(_log(seconds / _SMALLEST_SECONDS) * _PER_LOG) if seconds > _SMALLEST_SECONDS else 0
        buckets = self._buckets
        buckets[bucket] = buckets.get(bucket, 0) + 1

    def merge(self, other: LatencySketch) -> None:
        """Add all the values of another."""
        self._max = max(self._max, other._max)
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    def quantile(self, q: float) -> float | None:
        """Return the value below which the share ``q`` (0 to 1) lies, in seconds; None when empty."""
        count = self.count
        if not count:
            return None
        rank = q * (count - 1)
        seen = 0
        bucket = next(b for b in sorted(self._buckets) if (seen := seen + self._buckets[b]) > rank)
        return min(_middle(bucket), max(self._max, _SMALLEST_SECONDS))

    def histogram(self) -> list[tuple[float, int]]:
        """Return (seconds, how many), ascending; the seconds are the middles of buckets of two per cent."""
        return [(_middle(bucket), self._buckets[bucket]) for bucket in sorted(self._buckets)]

    def figures(self) -> LatencyFigures:
        """Return what a report shows."""
        count = self.count
        largest = max(self._max, _SMALLEST_SECONDS) if count else None
        return LatencyFigures(count, self.quantile(0.5), self.quantile(0.99), largest)

    def to_json(self) -> dict[str, Any]:
        """Return its form in a journal."""
        return {
            "max": self._max,
            "buckets": [[bucket, self._buckets[bucket]] for bucket in sorted(self._buckets)],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LatencySketch:
        """Read ``to_json``; raises KeyError, TypeError or ValueError for anything else."""
        made = cls()
        made._max = float(value["max"])
        made._buckets = {int(bucket): int(count) for bucket, count in value["buckets"]}
        return made


def _middle(bucket: int) -> float:
    """Return the value that is within `ACCURACY` of everything in the bucket."""
    lower = _SMALLEST_SECONDS * _GAMMA**bucket
    return 2 * lower * _GAMMA / (_GAMMA + 1)
