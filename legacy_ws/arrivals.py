"""What the hubs of one host share: an event that comes to many of them is read, written and compressed once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

from legacy_ws.frames import deflated_frame
from legacy_ws.protocol.dialect import Arrival
from monitoring.events import Event

K = TypeVar("K")
V = TypeVar("V")


class _Newest(Generic[K, V]):
    """What was made of the newest objects, found again by the object itself."""

    def __init__(self, make: Callable[[K], V], most: int) -> None:
        self._make = make
        self._most = most
        self._made: dict[int, tuple[K, V]] = {}  # holds the object, so that no other has its number
        self._order: deque[int] = deque()

    def __call__(self, key: K) -> V:
        number = id(key)
        found = self._made.get(number)
        if found is not None:
            return found[1]
        value = self._make(key)
        self._made[number] = key, value
        self._order.append(number)
        if len(self._order) > self._most:
            del self._made[self._order.popleft()]
        return value


class Arrivals:
    """``arrived`` and ``deflated`` are what a hub is given in the place of its own."""

    def __init__(self, now: Callable[[], datetime], *, most: int = 1_000) -> None:
        """Remember ``most`` events and as many compressed messages."""
        self.arrived: Callable[[Event], Arrival] = _Newest[Event, Arrival](
            lambda event: Arrival(event, now()), most
        )
        self.deflated: Callable[[bytes], bytes] = _Newest[bytes, bytes](deflated_frame, most)
