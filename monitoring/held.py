"""What only a candidate has brought so far, held until the active leg brings it as well or a switch delivers it: pure.

The other memory of `monitoring.overlap`, beside `monitoring.delivered`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from monitoring.delivered import Place
from monitoring.events import Event, StreamId
from monitoring.fingerprint import Fingerprint


@dataclass(slots=True, eq=False)
class HeldEvent:
    """An event that only the candidate has brought so far; ``at`` is when, in the caller's seconds."""

    event: Event
    mark: Fingerprint
    at: float
    place: Place | None
    unheard: bool
    """The candidate had it in store, and the active leg has never brought anything of its stream."""
    taken: bool = False


class Held:
    """The candidate's events that nobody else has brought, oldest first, at most ``most`` of them."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._order: deque[HeldEvent] = deque()  # those that were taken go when they are the oldest
        self._alike: dict[Fingerprint, deque[HeldEvent]] = {}
        self._count = 0
        self.overflowed: set[StreamId] = set()
        """The streams of which an event found no room."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[HeldEvent]:
        return (each for each in self._order if not each.taken)

    def add(self, held: HeldEvent) -> None:
        """Hold an event; without room for it, note that it was not."""
        if self._count >= self._most:
            self.overflowed.add(held.event.stream)
            return
        self._order.append(held)
        self._alike.setdefault(held.mark, deque()).append(held)
        self._count += 1

    def oldest(self, mark: Fingerprint) -> HeldEvent | None:
        """Return the oldest of those that say the same."""
        alike = self._alike.get(mark)
        return alike[0] if alike else None

    def take(self, held: HeldEvent) -> None:
        """Hold the oldest of those that say the same no longer."""
        alike = self._alike[held.mark]
        alike.popleft()
        if not alike:
            del self._alike[held.mark]
        held.taken = True
        self._count -= 1
        while self._order and self._order[0].taken:
            self._order.popleft()

    def before(self, moment: float) -> Iterator[HeldEvent]:
        """Yield those that came before a moment."""
        for each in self._order:
            if each.at >= moment:
                return
            if not each.taken:
                yield each

    def clear(self) -> None:
        """Hold nothing."""
        self._order.clear()
        self._alike.clear()
        self._count = 0
        self.overflowed.clear()
