"""What a client was given, remembered for as long as a copy of it may come over another leg: pure.

The memory of `monitoring.overlap`, where the rule is explained: a delivery swallows one copy of every other leg, at any
time when the leg is certain to bring it, else only within the time that a healthy leg may be late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from typing import Final

from monitoring.events import Event, Position, StreamId
from monitoring.fingerprint import Fingerprint
from monitoring.service import Gap

_MOMENT: Final = timedelta(microseconds=1)


@dataclass(slots=True, eq=False)
class Place:
    """An identified event's place in its leg's order, and whether the client has it."""

    position: Position
    settled: bool = False


@dataclass(slots=True, eq=False)
class Leg:
    """One feed of the client; times are in the caller's seconds."""

    key: Hashable
    resumes: bool
    from_cursor: bool  # opened where the client stood: it covers all that was delivered since
    covers_since: float | None = None  # it brings all that happens after this moment
    live_since: float | None = None
    down_since: float | None = None
    last_at: float = -inf  # when it last brought anything
    drained_at: float | None = None  # when last nothing of it waited for the client, or it was first heard of
    brought: dict[StreamId, Position] = field(default_factory=dict)
    places: dict[StreamId, deque[Place]] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)

    def must_bring(self, at: float, lag: float) -> bool:
        """Tell whether the leg is certain to bring what another one brought at that time."""
        return self.from_cursor or (self.covers_since is not None and at > self.covers_since + lag)


@dataclass(slots=True, eq=False)
class Delivery:
    """One event that was delivered; it swallows one copy of every other leg."""

    leg: Leg
    mark: Fingerprint
    stream: StreamId
    occurred_at: datetime
    at: float
    came_after: float  # it had come between then and ``at``, and waited for the client
    swallowed: list[Leg] = field(default_factory=list)  # legs whose copy came

    @property
    def identified(self) -> bool:
        """Whether its position is known, from the leg that brought it or from a copy."""
        return any(leg.resumes for leg in (self.leg, *self.swallowed))


class Delivered:
    """The deliveries of the last ``window`` seconds, at most ``most`` of them. ``lag`` is how late a leg may be."""

    def __init__(self, *, window: float, most: int, lag: float) -> None:
        self._window = window
        self._most = most
        self._lag = lag
        self._order: deque[Delivery] = deque()
        self._alike: dict[Fingerprint, deque[Delivery]] = {}
        self._floor: dict[
            StreamId, datetime
        ] = {}  # up to then all was delivered and forgotten, or never wanted
        self.forgotten = 0
        """Deliveries forgotten for want of room: what comes of them later from another leg is delivered again."""

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._order)

    def count(self, mark: Fingerprint) -> int:
        """Return how many deliveries are remembered that say the same."""
        return len(self._alike.get(mark, ()))

    def add(self, leg: Leg, event: Event, mark: Fingerprint, now: float) -> Delivery:
        """Remember that the client was given an event by a leg."""
        came_after = now if leg.drained_at is None else leg.drained_at
        delivery = Delivery(leg, mark, event.stream, event.occurred_at, now, came_after)
        self._order.append(delivery)
        self._alike.setdefault(mark, deque()).append(delivery)
        self._floor.setdefault(event.stream, event.occurred_at - _MOMENT)
        return delivery

    def copied_by(self, leg: Leg, mark: Fingerprint, now: float) -> Delivery | None:
        """Return the delivery of which a leg brings a copy: the oldest that is certain, else the newest in reach."""
        doubtful = None
        for each in self._alike.get(mark, ()):
            if each.leg is leg or leg in each.swallowed:
                continue
            if leg.must_bring(each.at, self._lag):
                return each
            if now - each.at <= self._lag:
                doubtful = each
        return doubtful

    def use_up(self, leg: Leg, mark: Fingerprint, count: int) -> int:
        """Let certain deliveries swallow no copy of this leg any more; returns how many there were, up to ``count``."""
        used = 0
        for each in self._alike.get(mark, ()):
            if used == count:
                break
            if each.leg is not leg and leg not in each.swallowed and leg.must_bring(each.at, self._lag):
                each.swallowed.append(leg)
                used += 1
        return used

    def before_all(self, stream: StreamId, occurred_at: datetime) -> bool:
        """Tell whether something happened before all that is remembered of its stream."""
        floor = self._floor.get(stream)
        return floor is not None and occurred_at <= floor

    def forget(self, now: float) -> None:
        """Forget deliveries that are too old, or too many."""
        while self._order and (now - self._order[0].at > self._window or len(self._order) > self._most):
            oldest = self._order.popleft()
            self._floor[oldest.stream] = max(self._floor[oldest.stream], oldest.occurred_at)
            alike = self._alike[oldest.mark]
            alike.remove(oldest)
            if not alike:
                del self._alike[oldest.mark]
            self.forgotten += now - oldest.at <= self._window
