"""What was published, to be asked by position: how many events up to there, and the sum of their digests. Pure.

For each epoch of a stream the running sum is kept, eight bytes an event, of the last minutes alone. The difference of
two places says what lies between them, however many events that are.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring.events import BEGINNING, Position, StreamId
from monitoring.seen import MASK

if TYPE_CHECKING:
    from monitoring.events import Event

KEEP_SECONDS = 180.0
MAX_EVENTS = 1_000_000
_MARK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """Everything of a stream up to a position; ``unread`` of the events could not be read, and are not in ``digest``."""

    count: int
    digest: int
    unread: int


class _Epoch:
    """One epoch of a stream; ``sums[i]`` is the digest up to seq ``first + i``, ``before`` the place where it began."""

    def __init__(self, epoch: int, first: int, before: Place) -> None:
        self.epoch = epoch
        self.origin = first
        self.first = first
        self.before = before
        self.sums = array("Q", [before.digest])
        self.unread: list[tuple[int, int]] = []  # (seq, how many up to there)
        self.marked: list[float] = []
        self.marks: list[int] = []  # the last seq at each of these times

    @property
    def last(self) -> int:
        return self.first + len(self.sums) - 1

    def place(self, seq: int) -> Place | None:
        if not self.first <= seq <= self.last:
            return None
        at = bisect_right(self.unread, (seq, 1 << 62)) - 1
        unread = self.unread[at][1] if at >= 0 else 0
        count = self.before.count + seq - self.origin
        return Place(count, self.sums[seq - self.first], self.before.unread + unread)

    def add(self, digest: int | None, at: float) -> None:
        self.sums.append(self.sums[-1] + (digest or 0) & MASK)
        last = self.last
        if digest is None:
            self.unread.append((last, (self.unread[-1][1] if self.unread else 0) + 1))
        if self.marked and at - self.marked[-1] < _MARK_SECONDS:
            self.marks[-1] = last
        else:
            self.marked.append(at)
            self.marks.append(last)

    def upto(self, at: float) -> int | None:
        """Return a seq that had been published by then, at most a second before the newest such."""
        index = bisect_right(self.marked, at - _MARK_SECONDS) - 1
        return self.marks[index] if index >= 0 else None

    def forget(self, before: float) -> int:
        """Let go of what was published before; return how much that was."""
        index = bisect_right(self.marked, before - _MARK_SECONDS) - 1
        if index < 0:
            return 0
        gone = max(0, self.marks[index] - self.first)
        del self.sums[:gone], self.marked[: index + 1], self.marks[: index + 1]
        self.first += gone
        return gone


class Published:
    """The truth's account. Feed it in order of each stream; times are of one monotonic clock."""

    def __init__(
        self,
        start: Mapping[StreamId, Position],
        *,
        keep_seconds: float = KEEP_SECONDS,
        max_events: int = MAX_EVENTS,
    ) -> None:
        self._start = dict(start)
        self._epochs: dict[StreamId, list[_Epoch]] = {
            stream: [_Epoch(at.epoch, at.seq, Place(0, 0, 0))] for stream, at in start.items()
        }
        self._keep_seconds = keep_seconds
        self._max_events = max_events
        self._kept = 0

    @property
    def streams(self) -> Mapping[StreamId, object]:
        """The streams that are known."""
        return self._epochs

    def began_within(self, stream: StreamId) -> bool:
        """Whether the stream's first event is in the window."""
        return stream not in self._start

    def add(self, event: Event, digest: int, at: float) -> None:
        """Take an event from the truth; one that is known already is left out."""
        epoch = self._epoch(event.stream, event.epoch)
        if epoch is None or event.seq <= epoch.last:
            return
        while epoch.last < event.seq - 1:
            self._grow(epoch, None, at)
        self._grow(epoch, digest, at)

    def add_upto(self, stream: StreamId, head: Position, at: float) -> None:
        """Take note that the stream was published up to here, whether or not its events could be read."""
        epoch = self._epoch(stream, head.epoch)
        while epoch is not None and epoch.last < head.seq:
            self._grow(epoch, None, at)

    def place(self, stream: StreamId, position: Position) -> Place | None:
        """Return what was published up to a position; None when it is not, or no more, known."""
        epochs = self._epochs.get(stream, ())
        if position == BEGINNING and self.began_within(stream):
            return Place(0, 0, 0)
        return next((each.place(position.seq) for each in epochs if each.epoch == position.epoch), None)

    def head(self, stream: StreamId) -> Position:
        """Return the newest position of a stream."""
        epochs = self._epochs.get(stream)
        return Position(epochs[-1].epoch, epochs[-1].last) if epochs else BEGINNING

    def upto(self, stream: StreamId, at: float) -> Position:
        """Return a position that the stream had reached by then; the beginning when none is known."""
        for epoch in reversed(self._epochs.get(stream, ())):
            seq = epoch.upto(at)
            if seq is not None:
                return Position(epoch.epoch, seq)
        return BEGINNING

    def forget(self, now: float) -> None:
        """Let go of what is too old, or too much. Call it now and then."""
        keep = self._keep_seconds
        while True:
            for epochs in self._epochs.values():
                for epoch in epochs:
                    self._kept -= epoch.forget(now - keep)
                while len(epochs) > 1 and not epochs[0].marked:
                    self._kept -= len(epochs.pop(0).sums) - 1
            if self._kept <= self._max_events or keep < _MARK_SECONDS:
                return
            keep /= 2

    def _grow(self, epoch: _Epoch, digest: int | None, at: float) -> None:
        epoch.add(digest, at)
        self._kept += 1

    def _epoch(self, stream: StreamId, number: int) -> _Epoch | None:
        """Return an epoch, opened if it is the next; None for one of before the window."""
        epochs = self._epochs.setdefault(stream, [])
        if epochs and epochs[-1].epoch >= number:
            return next((each for each in epochs if each.epoch == number), None)
        before = epochs[-1].place(epochs[-1].last) if epochs else None
        made = _Epoch(number, 0, before or Place(0, 0, 0))
        epochs.append(made)
        return made
