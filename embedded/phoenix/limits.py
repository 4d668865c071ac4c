"""The limits of the real server, as numbers that can be switched off, and the rate that two of them are about."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

_TICK_SECONDS: Final = 5.0
_TICKS: Final = 12


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may do; None is no limit.

    The first three hold by default because programs can see them on every Supabase: how large a payload is relayed,
    and how often a channel may speak of its presence. The others are quotas of hosted projects, and the numbers
    there are 200 clients, 100 channels, 100 joins and 100 events a second, and payloads of 256 kB, for the smallest.
    """

    payload_bytes: int | None = 3_000_500
    presence_messages: int | None = 5
    """So many in `presence_seconds` on one channel."""
    presence_seconds: float = 30.0
    clients: int | None = None
    channels_per_client: int | None = None
    joins_per_second: float | None = None
    """An average over a minute, so bursts pass."""
    events_per_second: float | None = None
    """An average over a minute, of messages sent and delivered, and on its own of changes delivered: for too many
    messages their receivers' channels are closed, too many changes are passed over and nobody is told."""


class Rate:
    """Counts things and says whether there were more than `limit` a second, averaged over the last minute.

    The average is taken every five seconds, as the real server takes it: what is too much shows at the next tick.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._ticks: deque[int] = deque([0] * _TICKS, maxlen=_TICKS)
        self._count = 0
        self._tick: int | None = None
        self._exceeded = False

    def add(self, count: int, now: float) -> None:
        """Count so many things that happened now (seconds, of any clock that only goes forward)."""
        if self._limit is not None:
            self._roll(now)
            self._count += count

    def exceeded(self, now: float) -> bool:
        """Return whether there were too many up to the last tick."""
        if self._limit is None:
            return False
        self._roll(now)
        return self._exceeded

    def average(self, now: float) -> float:
        """Return how many there were in a second, up to the last tick; 0 without a limit, as nothing is counted."""
        self._roll(now)
        return sum(self._ticks) / (_TICKS * _TICK_SECONDS)

    def _roll(self, now: float) -> None:
        tick = int(now // _TICK_SECONDS)
        if self._tick is None:
            self._tick = tick
        if self._limit is None or tick <= self._tick:
            return
        for _ in range(min(tick - self._tick, _TICKS + 1)):
            self._ticks.append(self._count)
            self._count = 0
        self._tick = tick
        self._exceeded = sum(self._ticks) > self._limit * _TICKS * _TICK_SECONDS


class Recent:
    """Says whether something happened more than `limit` times within the last `seconds`."""

    def __init__(self, limit: int | None, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._times: deque[float] = deque()

    def one_more(self, now: float) -> bool:
        """Count one and return whether it is still within the limit."""
        if self._limit is None:
            return True
        while self._times and self._times[0] <= now - self._seconds:
            self._times.popleft()
        self._times.append(now)
        return len(self._times) <= self._limit
