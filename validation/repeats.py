"""Repeats on the wire of one side, before its adapter drops them. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from validation.observation import Key, key_of

if TYPE_CHECKING:
    from monitoring.events import Event

_RAW_REMEMBERED = 20_000


class RawRepeats:
    """Counts arrivals on the wire of one side, and which of them repeat one of the last arrivals.

    For information only: adapters drop repeats before a client sees them.
    """

    def __init__(self) -> None:
        self._recent: OrderedDict[Key, None] = OrderedDict()
        self.count = 0
        self.repeats = 0

    def add(self, event: Event) -> None:
        """Take an arrival."""
        self.count += 1
        key = key_of(event)
        if key in self._recent:
            self.repeats += 1
            return
        self._recent[key] = None
        if len(self._recent) > _RAW_REMEMBERED:
            self._recent.popitem(last=False)
