"""What an application has pushed and nobody has kept yet: bounded, in order, safe from any thread."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.events import Draft
from monitoring.intake import Taken


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that waits; ``number`` counts all that ever did."""

    draft: Draft
    size_bytes: int
    number: int


class Buffer:
    """Events in the order they came. What does not fit is counted as lost and left out, and so is what is refused."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._waiting: deque[Waiting] = deque()
        self._in_hand: Sequence[Waiting] = ()
        self._bytes = 0
        self._numbered = 0
        self._changed = threading.Condition()
        self._lost_when_flushed = 0
        self.kept = 0
        self.lost: Counter[str] = Counter()
        """Events that will never be kept, by reason."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_hand)

    def put(self, draft: Draft, size_bytes: int) -> bool:
        """Add an event; False, and it is lost, when there is no room."""
        with self._changed:
            if len(self) >= self._max_events or self._bytes + size_bytes > self._max_bytes:
                self.lost["overflow"] += 1
                return False
            self._numbered += 1
            self._bytes += size_bytes
            self._waiting.append(Waiting(draft, size_bytes, self._numbered))
            return True

    def lose(self, reason: str, count: int = 1) -> None:
        """Count events that never got in."""
        with self._changed:
            self.lost[reason] += count

    def take(self, max_events: int, max_bytes: int) -> Sequence[Waiting]:
        """Return the oldest events, one at least when there is any; they take up room until `settle`."""
        with self._changed:
            batch: list[Waiting] = []
            size = 0
            while self._waiting and len(batch) < max_events:
                size += self._waiting[0].size_bytes
                if batch and size > max_bytes:
                    break
                batch.append(self._waiting.popleft())
            self._in_hand = batch
            return batch

    def settle(self, outcomes: Sequence[Taken]) -> None:
        """Note what became of the events in hand, in their order; those to be tried again wait first of all.

        Too late, after `give_up`, it changes nothing.
        """
        with self._changed:
            if not self._in_hand:
                return
            pairs = list(zip(self._in_hand, outcomes, strict=True))
            self._in_hand = ()
            again = [each for each, taken in pairs if taken.refused is not None and taken.again]
            self._waiting.extendleft(reversed(again))
            self.kept += sum(taken.refused is None for _, taken in pairs)
            self.lost["refused"] += sum(taken.refused is not None and not taken.again for _, taken in pairs)
            self._bytes -= sum(each.size_bytes for each, _ in pairs) - sum(each.size_bytes for each in again)
            self._changed.notify_all()

    def give_up(self, reason: str) -> int:
        """Lose all that waits; return how many."""
        with self._changed:
            count = len(self)
            self.lost[reason] += count
            self._waiting.clear()
            self._in_hand = ()
            self._bytes = 0
            self._changed.notify_all()
            return count

    def wait_kept(self, seconds: float) -> bool:
        """Wait at most so long until all that is in here now is settled; tell whether that is so and none was lost.

        Losses count from the last call on.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            upto = self._numbered
            settled = self._changed.wait_for(
                lambda: self._oldest() > upto, max(0.0, deadline - time.monotonic())
            )
            lost, before = self.lost.total(), self._lost_when_flushed
            self._lost_when_flushed = lost
            return settled and lost == before

    def _oldest(self) -> int:
        first = self._in_hand[0] if self._in_hand else self._waiting[0] if self._waiting else None
        return first.number if first else self._numbered + 1
