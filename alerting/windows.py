"""Values over a window of time, in at most thirty buckets however many there are. Pure.

Buckets keep sum, count, least, greatest, first and last: enough for every aggregate, and small enough to be kept on disk.
A window speaks once it is covered: a minute's average of the first reading would be no average.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from alerting.rules import Aggregate

BUCKETS = 30
_COVERED = 0.9
"""The share of a window that must be behind its first value; the bucket at its edge is cut."""


@dataclass(slots=True)
class Bucket:
    """Values of a stretch of time. ``grown`` is how much a counter grew in it and since the bucket before."""

    start: datetime
    count: int
    total: float
    least: float
    greatest: float
    last: float
    last_at: datetime
    grown: float = 0.0


@dataclass(slots=True)
class Window:
    """The values of one target for one rule."""

    length: timedelta
    buckets: list[Bucket] = field(default_factory=list)
    began: datetime | None = None
    """When the first value of an unbroken series came."""

    def add(self, at: datetime, value: float) -> None:
        """Add a value; one that is older than the newest counts as of its time."""
        newest = self.buckets[-1] if self.buckets else None
        if newest is not None:
            at = max(at, newest.last_at)
        if newest is None or at - newest.last_at > self.length:
            self.began = at  # what is older says nothing of this window any more
            self.buckets = []
            newest = None
        grown = 0.0
        if newest is not None:
            # A counter that is less than it was started again from 0.
            grown = value - newest.last if value >= newest.last else value
        if newest is not None and at - newest.start < self.length / BUCKETS:
            newest.count += 1
            newest.total += value
            newest.least, newest.greatest = min(newest.least, value), max(newest.greatest, value)
            newest.last, newest.last_at, newest.grown = value, at, newest.grown + grown
        else:
            self.buckets.append(Bucket(at, 1, value, value, value, value, at, grown))
        while self.buckets and self.buckets[0].last_at <= at - self.length:
            self.buckets.pop(0)

    def covered(self) -> bool:
        """Tell whether the window has been watched for its length."""
        if self.began is None or not self.buckets:
            return False
        return self.buckets[-1].last_at - self.began >= self.length * _COVERED

    def aggregate(self, how: Aggregate) -> float | None:
        """Return the window as one number; None before it is covered."""
        return _AGGREGATES[how](self.buckets) if self.covered() else None

    def rate(self) -> float | None:
        """Return how much a counter grew per second over the window; None before it is covered."""
        if not self.covered():
            return None
        seconds = (self.buckets[-1].last_at - self.buckets[0].start).total_seconds()
        grown = sum(bucket.grown for bucket in self.buckets[1:]) + self._grown_in_first()
        return grown / seconds if seconds > 0 else None

    def _grown_in_first(self) -> float:
        """Leave out what the first bucket grew since the one before, which is no longer in the window."""
        first = self.buckets[0]
        return max(0.0, first.greatest - first.least) if first.count > 1 else 0.0


_AGGREGATES: Mapping[Aggregate, Callable[[list[Bucket]], float]] = {
    Aggregate.AVG: lambda buckets: sum(b.total for b in buckets) / sum(b.count for b in buckets),
    Aggregate.MIN: lambda buckets: min(b.least for b in buckets),
    Aggregate.MAX: lambda buckets: max(b.greatest for b in buckets),
    Aggregate.LAST: lambda buckets: buckets[-1].last,
}
