"""What goes in and what comes out of the comparison: sightings of events, and what was decided about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from monitoring.events import Position, StreamId
from monitoring.service import PUSHING, Backend

if TYPE_CHECKING:
    from monitoring.events import Event


class Key(NamedTuple):
    """The identity of an event. Epochs are part of it, so events of two epochs are never compared."""

    stream: StreamId
    epoch: int
    seq: int

    @property
    def position(self) -> Position:
        """Where in its stream."""
        return Position(self.epoch, self.seq)

    def __str__(self) -> str:
        return f"{self.stream} {self.epoch}:{self.seq}"


def key_of(event: Event) -> Key:
    """Return an event's identity."""
    return Key(event.stream, event.epoch, event.seq)


class Outcome(StrEnum):
    """What became of an event. Every published event is in exactly one class but EXTRA, which was never published.

    An event that would fit several is in the first of: missing, mismatch, duplicate, reordered, late, matched.
    """

    MATCHED = "matched"
    MISMATCH = "mismatch"
    MISSING_LEGACY = "missing_legacy"
    MISSING_SUPABASE = "missing_supabase"
    MISSING_BOTH = "missing_both"
    DUPLICATE = "duplicate"
    REORDERED = "reordered"
    LATE = "late"
    EXCLUDED = "excluded"
    EXTRA = "extra"


MEANINGS = {
    Outcome.MATCHED: "delivered once on both, in order, in time, equal to what was published",
    Outcome.MISMATCH: "delivered on both, but a field differs",
    Outcome.MISSING_LEGACY: "not delivered by the legacy server",
    Outcome.MISSING_SUPABASE: "not delivered by Supabase",
    Outcome.MISSING_BOTH: "delivered by neither",
    Outcome.DUPLICATE: "delivered more than once",
    Outcome.REORDERED: "delivered after a later event of its stream (RFC 4737)",
    Outcome.LATE: "delivered after the grace",
    Outcome.EXCLUDED: "not compared: the comparison was suspended",
    Outcome.EXTRA: "delivered but never published",
}

FINDINGS = tuple(outcome for outcome in Outcome if outcome not in {Outcome.MATCHED, Outcome.EXCLUDED})
"""The classes that make a run fail."""


SIDES = PUSHING
"""The sides in the order in which the alignment numbers them."""

MISSED_BY = {
    Backend.LEGACY: (Outcome.MISSING_LEGACY, Outcome.MISSING_BOTH),
    Backend.SUPABASE: (Outcome.MISSING_SUPABASE, Outcome.MISSING_BOTH),
}
"""The classes of what a side did not deliver."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first field that differs: its path, and both values as short JSON text."""

    path: str
    expected: str
    actual: str


class Decision(NamedTuple):
    """What was decided about an event; ``replaces`` names the class it was in before, when this revises it.

    ``opened_at`` is when the event was first seen, in seconds of the caller's monotonic clock. ``events`` events of one
    stream that matched, first seen within a second, are one decision: the last one has the key. ``passed`` are paths at
    which a rule let a difference pass.
    """

    key: Key
    outcome: Outcome
    opened_at: float
    details: tuple[str, ...] = ()
    replaces: Outcome | None = None
    events: int = 1
    passed: tuple[str, ...] = ()


@dataclass(slots=True)
class SideFigures:
    """Counts of one side. ``raw`` and ``raw_repeats`` are before the adapter's own ordering and de-duplication."""

    backend: Backend
    delivered: int = 0
    duplicates: int = 0
    reordered: int = 0
    late: int = 0
    gaps: int = 0
    outages: int = 0
    raw: int = 0
    raw_repeats: int = 0
