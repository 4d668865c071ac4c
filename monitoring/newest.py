"""What was made of the newest objects, found again by the object itself: for what many are handed, made once. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class OfNewest(Generic[K, V]):
    """A function of objects that are not hashed, or not cheaply, whose newest ``most`` results are kept."""

    def __init__(self, make: Callable[[K], V], most: int) -> None:
        self._make = make
        self._most = most
        self._made: dict[int, tuple[K, V]] = {}  # holds the object, so that no other has its number
        self._order: deque[int] = deque()

    def __call__(self, key: K) -> V:
        """Return what is made of the object."""
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
