"""What the alignment keeps: a track for each epoch of a stream, with its open events and how the decided ones ended. Pure.

An open event is a `Sighting` with its contents while it is recent, and a single integer of about 130 bits afterwards:
flags, the time and a digest. With the dictionary's slot and its key that is about 120 bytes, so that a million events
that wait for a side which has stopped take no more than 150 MB.

How decided events ended is kept in runs: up to a seq everything matched, but for the few that are listed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from monitoring.events import UNIDENTIFIED_EPOCH
from validation.comparison import EQUAL, Content, Digest, compare, digest
from validation.observation import SIDES, Outcome

if TYPE_CHECKING:
    from monitoring.events import StreamId
    from validation.rules import Rules

LEGACY, SUPABASE = range(2)
"""The sides, as indexes."""

ONCE_EACH = 1 | 1 << 16
"""``times`` of an event that both sides have delivered, once."""
_TIMES_MAX = 15
_TICK = 0.001
_MARKS_SECONDS = 10.0
_MARKS = 128
_NOT_KEPT = ("a field that is not kept so long",)
FOREVER = 1 << 62


class Sighting:
    """One event as it has been seen so far.

    ``times`` counts the deliveries of the legacy side in its low sixteen bits, those of Supabase above; ``reordered`` has
    a bit for each side. ``contents`` are what each side said, while it cannot be compared yet. Numbers, not lists: of
    these objects one is made for every event.
    """

    __slots__ = ("contents", "differences", "opened_at", "passed", "published", "reordered", "times", "truth")

    def __init__(self, opened_at: float) -> None:
        self.opened_at = opened_at
        self.published = False
        self.truth: Content | None = None
        self.contents: list[Content | None] | None = None
        self.times = 0
        self.reordered = 0
        self.differences: tuple[str, ...] = ()
        self.passed: tuple[str, ...] = ()

    def times_on(self, side: int) -> int:
        """Return how often a side has delivered it."""
        return self.times >> 16 * side & 0xFFFF

    @property
    def held_bytes(self) -> int:
        """How many bytes of contents are kept."""
        held = (self.truth, *(self.contents or ()))
        return sum(len(each) for each in held if isinstance(each, bytes))

    def take_in(self, side: int, content: Content, rules: Rules) -> None:
        """Keep a side's content until it can be compared, which may be now."""
        if self.contents is None:
            self.contents = [None, None]
        self.contents[side] = content
        self.compare(rules)

    def compare(self, rules: Rules) -> None:
        """Compare what can be compared, and let go of contents that are not needed any more."""
        if not self.published:
            return
        if self.contents is not None:
            if self.truth is not None:
                for side in (LEGACY, SUPABASE):
                    self._note(self.contents, side, self.truth, rules, "expected")
                self.contents = None
            elif None not in self.contents:  # the truth has lost the contents: the sides have each other
                self._note(self.contents, SUPABASE, self.contents[LEGACY], rules, "expected")
                self.contents = None
        if self.times & 0xFFFF and self.times >> 16:
            self.truth = None

    def _note(
        self, contents: list[Content | None], side: int, expected: Content | None, rules: Rules, word: str
    ) -> None:
        actual, contents[side] = contents[side], None
        if expected is None or actual is None:
            return
        found = compare(expected, actual, rules)
        if found is EQUAL:
            return
        self.passed += found.passed
        if found.difference is not None:
            path, before, after = found.difference.path, found.difference.expected, found.difference.actual
            self.differences += (f"{SIDES[side]} {path}: {word} {before}, got {after}",)

    def packed(self, rules: Rules) -> int:
        """Return all of it as one integer: of the contents a digest, of differences that there are some."""
        contents = self.contents or [None, None]
        if self.truth is None and None not in contents:  # before the truth is known, what one said is enough
            self._note(contents, SUPABASE, contents[LEGACY], rules, "legacy has")
            contents[SUPABASE] = None
        content = self.truth if self.truth is not None else next((c for c in contents if c is not None), None)
        number = int(self.opened_at / _TICK) << 64 | (digest(content, rules) if content is not None else 0)
        for flag in (
            self.published,
            self.truth is not None,
            *(each is not None for each in contents),
            bool(self.differences),
            bool(self.passed),
        ):
            number = number << 1 | flag
        number = number << 2 | self.reordered
        for side in (LEGACY, SUPABASE):
            number = number << 4 | min(self.times_on(side), _TIMES_MAX)
        return number

    @classmethod
    def unpacked(cls, number: int) -> Sighting:
        """Return what ``packed`` made an integer of."""
        published, has_truth, *sides, differed, passed = (bool(number >> bit & 1) for bit in range(15, 9, -1))
        content: Digest = number >> 16 & (1 << 64) - 1
        made = cls((number >> 80) * _TICK)
        made.published = published
        made.truth = content if has_truth else None
        made.contents = [content if each else None for each in sides] if any(sides) else None
        made.reordered = number >> 8 & 3
        made.differences = _NOT_KEPT if differed else ()
        made.passed = _NOT_KEPT if passed else ()
        made.times = (number >> 4 & _TIMES_MAX) | (number & _TIMES_MAX) << 16
        return made


@dataclass(slots=True)
class Newest:
    """The newest position of a stream that each side has delivered."""

    epoch: list[int] = field(default_factory=lambda: [0, 0])
    seq: list[int] = field(default_factory=lambda: [0, 0])

    def passed(self, side: int, epoch: int, seq: int) -> bool:
        """Note a delivery; return whether a later one came before it."""
        if epoch == self.epoch[side]:
            if seq >= self.seq[side]:
                self.seq[side] = seq
                return False
            return True
        if epoch < self.epoch[side]:
            return epoch != UNIDENTIFIED_EPOCH
        self.epoch[side], self.seq[side] = epoch, seq
        return False


@dataclass(slots=True)
class Remembered:
    """A decided event that did not simply match, or was decided out of turn."""

    outcome: Outcome
    opened_at: float
    arrived: list[bool]


class Track:
    """One epoch of one stream. ``start`` is the last seq before the window, ``end`` the last one in it."""

    __slots__ = (
        "decided", "dropped", "end", "epoch", "excluded", "forgotten", "marks", "newest", "open", "others", "published",
        "start", "stream",
    )  # fmt: skip

    def __init__(self, stream: StreamId, epoch: int, newest: Newest, start: int, end: int) -> None:
        self.stream = stream
        self.epoch = epoch
        self.newest = newest
        self.start = start
        self.end = end
        self.published = start
        """The last seq that the truth is known to have published."""
        self.decided = start
        """Up to here every event is decided; it matched, unless it is in ``others``."""
        self.dropped = 0
        """Up to here something was delivered while there was no room for it."""
        self.forgotten = 0
        """Up to here some of ``others`` were forgotten."""
        self.excluded: deque[tuple[int, int]] = deque()
        """Runs of events, first and last, that were published while there was no room for them."""
        self.open: dict[int, Sighting | int] = {}
        self.others: dict[int, Remembered] = {}
        self.marks: deque[tuple[int, float]] = deque(maxlen=_MARKS)

    def settle(self, seq: int, opened_at: float) -> bool:
        """Note that an event matched, if it is next in turn; else the caller remembers it."""
        if seq != self.decided + 1:
            self.catch_up()
            if seq != self.decided + 1:
                return False
        self.decided = seq
        marks = self.marks
        if marks and opened_at - marks[-1][1] < _MARKS_SECONDS:
            marks[-1] = (seq, marks[-1][1])
        else:
            marks.append((seq, opened_at))
        return True

    def catch_up(self) -> None:
        """Move ``decided`` over what was decided out of turn or excluded."""
        while True:
            if self.decided + 1 in self.others:
                self.decided += 1
            elif self.excluded and self.excluded[0][0] <= self.decided + 1:
                self.decided = max(self.decided, self.excluded.popleft()[1])
            else:
                return

    def exclude(self, first: int, last: int) -> None:
        """Note that events were published that will not be compared."""
        self.dropped = max(self.dropped, last)
        if self.excluded and self.excluded[-1][1] == first - 1:
            self.excluded[-1] = (self.excluded[-1][0], last)
        else:
            self.excluded.append((first, last))

    def opened_at(self, seq: int) -> float:
        """Return about when a matched event was first seen, to ten seconds; at most as long ago as is remembered."""
        return next((at for last, at in self.marks if seq <= last), self.marks[-1][1] if self.marks else 0.0)
