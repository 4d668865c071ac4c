"""What the controller is told at each look: answers to its questions, with their reasons. It never asks by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from monitoring.flags.stages import Extent


class Answer(StrEnum):
    """What a gate says. Only PASS is a yes; the words are those of the validation's verdicts."""

    PASS = "PASS"  # noqa: S105 - an answer
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NO_DATA = "NO_DATA"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition for going on, for one cohort; ``reason`` is a sentence with the figures it rests on."""

    name: str
    answer: Answer
    reason: str


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of one cohort.

    ``gates`` are the answers for its present position. ``trip`` is why it has to go back at once, empty when it need
    not. Of its ``clients``, ``on_supabase`` are served by Supabase at this moment; ``astray`` are not where the
    effective flags want them.
    """

    gates: tuple[Gate, ...] = ()
    trip: str = ""
    clients: int = 0
    on_supabase: int = 0
    astray: int = 0


@dataclass(frozen=True, slots=True)
class Observations:
    """One look. ``now`` is the wall clock in seconds, ``elapsed`` what passed since the last look by a clock that cannot jump.

    ``wishes`` are the flag file's, by cohort. ``trip`` concerns everybody on the new path. ``legacy_problem`` is why the
    legacy server could not take clients back now. ``publishers`` are those that have not yet left the legacy server.
    """

    now: float
    elapsed: float
    wishes: Mapping[str, Extent]
    cohorts: Mapping[str, Sight] = field(default_factory=dict)
    trip: str = ""
    legacy_problem: str = ""
    publishers: tuple[str, ...] = ()
    barred: str = ""
    """Why the legacy server is still needed by somebody: kill, or clients that are denied."""

    def sight(self, cohort: str) -> Sight:
        """Return what was seen of a cohort: nothing, when nothing was."""
        return self.cohorts.get(cohort, Sight())


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that was decided: what the journal keeps and people read. ``before`` and ``after`` are extents as text."""

    action: str
    cohort: str
    before: str
    after: str
    reason: str
    gates: tuple[Gate, ...] = ()
