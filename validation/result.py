"""The frozen outcome of a comparison, and its verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from validation.errors import InconsistentResult
from validation.observation import FINDINGS, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from monitoring.service import Backend
    from validation.latency import LatencyFigures
    from validation.observation import SideFigures
    from validation.tally import Sample


class Verdict(StrEnum):
    """What a run says. Only PASS is a yes."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NO_DATA = "NO_DATA"
    ERROR = "ERROR"


EXIT_CODES: Mapping[Verdict, int] = {
    Verdict.PASS: 0,
    Verdict.FAIL: 1,
    Verdict.ERROR: 2,
    Verdict.INCONCLUSIVE: 3,
    Verdict.NO_DATA: 4,
}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a PASS needs besides not one finding."""

    min_decided: int = 10
    min_coverage: float = 0.99


@dataclass(frozen=True, slots=True)
class Conditions:
    """What may stand between a clean comparison and a PASS; each is one sentence for people."""

    errors: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SideResult:
    """One side in figures. ``latency`` is from the event's own time to its delivery."""

    figures: SideFigures
    latency: LatencyFigures


@dataclass(frozen=True, slots=True)
class Result:
    """What one comparison found. The figures have been checked to add up.

    ``published`` = the events of every class but `Outcome.EXTRA`, and ``pending``.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    started_at: datetime
    ended_at: datetime
    counts: Mapping[Outcome, int]
    pending: int
    published: int
    sides: Mapping[Backend, SideResult]
    samples: Mapping[Outcome, tuple[Sample, ...]]
    not_compared: tuple[str, ...]
    thresholds: Thresholds
    grace_seconds: float
    suspended: bool

    def __post_init__(self) -> None:
        check_sum(self.counts, published=self.published, pending=self.pending)

    @property
    def decided(self) -> int:
        """How many published events have been given a class by comparison."""
        return decided_of(self.counts)

    @property
    def findings(self) -> int:
        """How many events are in a class that makes a run fail."""
        return sum(self.counts[outcome] for outcome in FINDINGS)

    @property
    def coverage(self) -> float:
        """The share of the published events that was decided; 0 when nothing was published."""
        return self.decided / self.published if self.published else 0.0

    @property
    def upper_bound(self) -> float | None:
        """With no finding: the rate of findings that is excluded with 95 % confidence (rule of three, ln 20 / N)."""
        if self.findings or not self.decided:
            return None
        return min(1.0, math.log(20) / self.decided)

    @property
    def exit_code(self) -> int:
        """The exit code that says this verdict."""
        return EXIT_CODES[self.verdict]


def decided_of(counts: Mapping[Outcome, int]) -> int:
    """Return how many published events were decided."""
    return sum(count for outcome, count in counts.items() if outcome not in {Outcome.EXTRA, Outcome.EXCLUDED})


def check_sum(counts: Mapping[Outcome, int], *, published: int, pending: int) -> None:
    """Raise InconsistentResult unless every published event is in exactly one class."""
    accounted = sum(count for outcome, count in counts.items() if outcome is not Outcome.EXTRA) + pending
    if accounted != published or min(counts.values(), default=0) < 0:
        raise InconsistentResult(
            f"{published} events were published, but {accounted} are accounted for: {dict(counts)}, pending {pending}"
        )


def judge(
    counts: Mapping[Outcome, int],
    *,
    published: int,
    thresholds: Thresholds,
    conditions: Conditions,
    silent: tuple[Backend, ...] = (),
) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict and its reasons. A finding is a FAIL however the run ended; doubts prevent a PASS.

    ``silent`` names the sides that delivered nothing in the window.

    An outage of a side is no doubt by itself: what a comparison answers is whether clients get every event in time, and
    a side that was away and then delivered everything within the grace has done that. The report says that it was
    away, beside the verdict, so that nobody takes a PASS for an undisturbed run.
    """
    if conditions.errors:
        return Verdict.ERROR, conditions.errors
    findings = tuple(f"{counts[outcome]} {outcome}" for outcome in FINDINGS if counts[outcome])
    if findings:
        return Verdict.FAIL, (*findings, *conditions.doubts)
    doubts = list(conditions.doubts)
    if not published and not doubts:
        return Verdict.NO_DATA, ("nothing was published in this time; are the collectors running?",)
    decided = decided_of(counts)
    doubts += [f"{side} delivered nothing" for side in silent]
    if decided < thresholds.min_decided:
        doubts.append(f"{decided} events were decided, {thresholds.min_decided} are needed")
    if published and decided / published < thresholds.min_coverage:
        doubts.append(
            f"{decided / published:.1%} of the events were decided, {thresholds.min_coverage:.0%} are needed"
        )
    if doubts:
        return Verdict.INCONCLUSIVE, tuple(doubts)
    return Verdict.PASS, (f"every one of {decided} decided events matched",)
