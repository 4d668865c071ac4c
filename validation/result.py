"""The frozen outcome of a comparison, and its verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from validation import statistics
from validation.clients import ClientsResult
from validation.errors import InconsistentResult, InvalidFigures
from validation.observation import FINDINGS, Outcome
from validation.verdict import EXIT_CODES, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from monitoring.service import Backend
    from validation.latency import LatencyFigures
    from validation.observation import SideFigures
    from validation.rules import Rules
    from validation.states import StateResult
    from validation.statistics import Evidence, Standard
    from validation.tally import Sample


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a PASS needs besides not one finding."""

    min_decided: int = 10
    min_coverage: float = 0.99
    rule_out: float | None = None
    """The share of findings that must be ruled out, with 95 % confidence at any look; None asks for none."""

    def __post_init__(self) -> None:
        if self.rule_out is not None and not 0 < self.rule_out < 1:
            raise InvalidFigures(f"the share to rule out must be between 0 and 1, got {self.rule_out:g}")
        if self.min_decided < 1 or not 0 < self.min_coverage <= 1:
            raise InvalidFigures(
                "a PASS needs at least 1 decided event and a coverage above 0 and of at most 1; got "
                f"{self.min_decided} and {self.min_coverage:g}"
            )


@dataclass(frozen=True, slots=True)
class Conditions:
    """What may stand between a clean comparison and a PASS; each is one sentence for people."""

    errors: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    """What was found besides the classes of events."""


@dataclass(frozen=True, slots=True)
class SideResult:
    """One side in figures. ``latency`` is from the event's own time to its delivery; ``histogram`` has (seconds, how many)."""

    figures: SideFigures
    latency: LatencyFigures
    histogram: tuple[tuple[float, int], ...] = ()


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
    streams: Mapping[str, Mapping[Outcome, int]]
    timeline: tuple[tuple[float, Mapping[Outcome, int]], ...]
    """(seconds since the start, counts) of each interval of ``timeline_seconds`` that has any."""
    timeline_seconds: float
    evidence: Mapping[str, Evidence]
    """By class of findings, and of all of them together (``any``)."""
    standard: Standard
    passed: Mapping[str, int]
    """How often a rule let a difference pass, by path."""
    rules: Rules
    noise: float | None
    """The share of events that two subscriptions of the legacy server disagreed about; None without a second one."""
    skew: LatencyFigures
    """How much later than its first sighting an event was delivered."""
    clients: ClientsResult = field(default_factory=ClientsResult)
    """What clients saw, compared with what was published."""
    states: StateResult | None = None
    """The snapshots of both sides, compared at the end; None when they were not."""

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
        """With no finding: the share of findings that is ruled out with 95 % confidence, valid at any look."""
        if self.findings or not self.decided:
            return None
        return statistics.upper_bound(0, self.decided, self.standard)

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
    findings = (
        *(f"{counts[outcome]} {outcome}" for outcome in FINDINGS if counts[outcome]),
        *conditions.findings,
    )
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
    bound = statistics.upper_bound(0, decided)
    if thresholds.rule_out is not None and (bound is None or bound > thresholds.rule_out):
        doubts.append(
            f"0 of {decided} rules out {bound or 1:.3%} (95 %, valid at any look), {thresholds.rule_out:.3%} is asked"
        )
    if doubts:
        return Verdict.INCONCLUSIVE, tuple(doubts)
    return Verdict.PASS, (f"every one of {decided} decided events matched",)
