"""How many clients of one process begin to move at the same time."""

from __future__ import annotations

from collections.abc import Callable


class Pacer:
    """Slots for moves that are just beginning; a move that has connected, or has waited long, gives its slot back.

    Thousands of clients that all connect in the same second are an attack on the backend they move to. A move that waited
    long says that fewer should begin at once: the slots are halved, once for those that were under way together, and each
    move that connects in time gives one back. Without that, clients on a busy machine hinder each other until each has
    taken too long, and nobody ever gets there. Belongs to one event loop.
    """

    def __init__(self, at_once: int = 32) -> None:
        """Let at most ``at_once`` moves begin at the same time; raises ValueError when that is none."""
        if at_once < 1:
            raise ValueError(f"at least one client must be able to move, got {at_once}")
        self._most = self._allowed = at_once
        self._begun = 0
        self._settling = 0
        """Moves that began before the slots were halved: how long they take says nothing of the new pace."""
        self._waiting: dict[Callable[[], None], None] = {}  # in the order of asking

    @property
    def under_way(self) -> int:
        """Moves that have a slot."""
        return self._begun

    def enter(self, wake: Callable[[], None]) -> bool:
        """Take a slot; when there is none, ``wake`` is called when one is free, for whoever asks first."""
        if self._begun < self._allowed:
            self._waiting.pop(wake, None)
            self._begun += 1
            return True
        self._waiting.setdefault(wake)  # who asks again keeps its place
        return False

    def leave(self, *, late: bool = False) -> None:
        """Give a slot back; ``late`` when the move has waited long and still is not connected."""
        self._begun -= 1
        if self._settling:
            self._settling -= 1
        elif late:
            self._allowed = max(1, self._allowed // 2)
            self._settling = self._begun
        else:
            self._allowed = min(self._most, self._allowed + 1)
        for wake in list(self._waiting)[: max(0, self._allowed - self._begun)]:
            del self._waiting[wake]
            wake()

    def forget(self, wake: Callable[[], None]) -> None:
        """Stop waiting."""
        self._waiting.pop(wake, None)
