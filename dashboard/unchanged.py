"""What is made again only when what it is made of has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Unchanged(Generic[_T]):
    """Keeps one answer for as long as its input stays equal."""

    def __init__(self) -> None:
        self._kept: tuple[object, _T] | None = None

    def answer(self, made_of: object, make: Callable[[], _T]) -> _T:
        """Return what ``make`` returned for an equal input, asking only for another one.

        The input must not be changed afterwards. What ``make`` raises is raised, and asked again the next time.
        """
        if self._kept is None or self._kept[0] != made_of:
            self._kept = None
            self._kept = made_of, make()
        return self._kept[1]
