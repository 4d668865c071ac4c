"""The stages of the migration, in LaunchDarkly's words, and what each of them means.

A stage is an order: each one does a little more than the one before, and every one but ``complete`` can be left again
in either direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

TOTAL_WEIGHT = 100_000
"""100 % in thousandths of a percent."""


class Stage(StrEnum):
    """How far the migration of some clients may go."""

    OFF = "off"
    DUALWRITE = "dualwrite"
    SHADOW = "shadow"
    LIVE = "live"
    RAMPDOWN = "rampdown"
    COMPLETE = "complete"

    @property
    def rank(self) -> int:
        """Its place in the order, 0 to 5."""
        return _RANKS[self]


_RANKS = {stage: rank for rank, stage in enumerate(Stage)}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a stage means, for people. ``crossfade stages`` prints these."""

    publishes: str
    answers: str
    compared: str
    back: str


MEANINGS = {
    Stage.OFF: Meaning(
        "legacy; rows are kept, Realtime is sent nothing",
        "legacy",
        "nothing",
        "nothing to undo",
    ),
    Stage.DUALWRITE: Meaning(
        "both",
        "legacy",
        "nothing yet; crossfade validate live does when asked",
        "stage off",
    ),
    Stage.SHADOW: Meaning(
        "both",
        "legacy; live.percent of the clients open Supabase too and discard it",
        "both, and what those clients discard",
        "an earlier stage; no client moves",
    ),
    Stage.LIVE: Meaning(
        "both",
        "Supabase for live.percent of the clients and those allowed, legacy for the others",
        "both, and what the moved clients see",
        "a lower percentage or an earlier stage; clients move back without a gap",
    ),
    Stage.RAMPDOWN: Meaning(
        "both",
        "Supabase for all but those denied; legacy stands in while it fails",
        "both, for the length of the reverse window",
        "stage live or an earlier one; clients move back without a gap",
    ),
    Stage.COMPLETE: Meaning(
        "Supabase; the legacy server is stopped",
        "Supabase; polling stands in while it fails",
        "nothing: there is nothing left to compare with",
        "not possible: the one step that cannot be undone",
    ),
}


@dataclass(frozen=True, slots=True)
class Extent:
    """How far some clients have come, or may come.

    ``weight`` is a share of the clients in thousandths of a percent: of those that Supabase serves in ``live``, of those
    that open it and discard it in ``shadow``. In other stages it says nothing.
    """

    stage: Stage
    weight: int = TOTAL_WEIGHT

    def lowered_to(self, ceiling: Extent) -> Extent:
        """Return the lesser of both: the earlier stage with its weight; of equal stages the smaller weight."""
        if self.stage is ceiling.stage:
            return self if self.weight <= ceiling.weight else ceiling
        return self if self.stage.rank < ceiling.stage.rank else ceiling

    @property
    def place(self) -> tuple[int, int]:
        """What orders extents."""
        return self.stage.rank, self.weight

    @property
    def served(self) -> int:
        """The weight of the clients that Supabase serves."""
        if self.stage is Stage.LIVE:
            return self.weight
        return TOTAL_WEIGHT if self.stage.rank > Stage.LIVE.rank else 0

    def __str__(self) -> str:
        if self.stage in {Stage.SHADOW, Stage.LIVE}:
            return f"{self.stage} {percent_text(self.weight)} %"
        return self.stage


@dataclass(frozen=True, slots=True)
class Paths:
    """Which paths are published to."""

    legacy: bool
    feed: bool
    """Whether Realtime is sent what is written to the database."""


def paths_of(extents: Iterable[Extent]) -> Paths:
    """Return what has to be published so that every one of these extents gets what it needs."""
    stages = {extent.stage for extent in extents}
    return Paths(
        legacy=any(stage is not Stage.COMPLETE for stage in stages),
        feed=any(stage is not Stage.OFF for stage in stages),
    )


def percent_text(weight: int) -> str:
    """Return thousandths of a percent as a percentage without needless zeros."""
    whole, thousandths = divmod(weight, TOTAL_WEIGHT // 100)
    return f"{whole}.{thousandths:03}".rstrip("0").rstrip(".")
