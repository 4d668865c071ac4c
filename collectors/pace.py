"""How often a collector is asked: pure.

The interval is one of two, the second for while somebody watches. A source that fails is asked again sooner, until it
is known to be lost, and then less and less often: a host that is off for the weekend is not dialled every few seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

DEADLINE_SHARE = 0.9
"""A reading's deadline as a share of the interval."""
LATE_SHARE = 0.1
"""A reading that begins later than this share of the interval after its time is late."""
_SOON_SHARE = 0.25
_SOON_SECONDS = 5.0
_LOST_AFTER = 3


@dataclass(frozen=True, slots=True)
class Pace:
    """``watched_seconds`` is the interval while somebody watches, None for no difference."""

    interval_seconds: float
    watched_seconds: float | None = None
    longest_seconds: float = 30.0
    """No reading may take longer, however long the interval: it holds one of the places that others wait for."""
    slowest: float = 8.0
    """How many times the interval it may become while nobody answers."""

    def interval(self, *, watched: bool = False, failures: int = 0) -> float:
        """Return the seconds from one reading to the next after so many in a row without an answer."""
        plain = self.interval_seconds
        if watched and self.watched_seconds is not None:
            plain = min(plain, self.watched_seconds)
        if failures == 0:
            return plain
        if failures < _LOST_AFTER:
            return max(plain * _SOON_SHARE, min(plain, _SOON_SECONDS))
        return plain * min(2.0 ** (failures - _LOST_AFTER), self.slowest)

    def deadline(self, interval: float) -> float:
        """Return the seconds that a reading may take, always less than the interval."""
        return min(interval * DEADLINE_SHARE, self.longest_seconds)


def next_tick(due: float, now: float, interval: float) -> tuple[float, int]:
    """Return when the next tick of the grid is due after one at ``due`` ended at ``now``, and how many it ran over."""
    skipped = max(0, int((now - due) // interval))
    return due + (skipped + 1) * interval, skipped
