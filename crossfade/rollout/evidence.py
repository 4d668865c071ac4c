"""From what others report to what the controller is told: gates and trips, with the figures that they rest on. Pure.

Two kinds of witnesses. The *comparison* (``run/parity.json``) sees every event on both paths, and so says soonest that
the new path loses something: its trips concern everybody. The *clients* report blocks, each for itself: they are what the
e-process counts, and their trips concern their cohort alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from monitoring.flags.model import Flags
from monitoring.rollout.ledger import Growth
from monitoring.rollout.observations import Answer, Gate, Sight
from monitoring.rollout.state import Policy, Position
from validation.statistics import BURST_EVENTS, Block, Evidence, Standard, judge

LOST = ("missing_supabase", "mismatch", "extra")
"""Classes of the comparison that are the new path's fault."""
_SIDE = ("duplicates", "reordered", "late")


STALE_SECONDS = 15.0
"""A comparison that has said nothing for so long is taken for dead."""


def pass_standard(policy: Policy, attempts: int = 1) -> Standard:
    """Return what a pass asks of blocks, shared out over attempts: beginning anew must not make passing easier."""
    return Standard(
        limit=policy.max_disturbed,
        hope=policy.hoped_disturbed,
        alarm=(1 + policy.max_disturbed) / 2,  # of no use here: what trips is counted by events
        alpha=policy.alpha / max(1, attempts),
    )


def trip_standard(policy: Policy) -> Standard:
    """Return what a trip asks of events."""
    return Standard(limit=policy.trip_limit, hope=policy.trip_limit / 5, alarm=policy.trip_share)


@dataclass(frozen=True, slots=True)
class CohortEvidence:
    """What the clients of one cohort have shown since they came to a stage.

    ``key`` names the stage and the attempt; ``clients`` are those who showed something in the present step, ``number``.
    """

    key: str
    number: int = 0
    blocks: Evidence = field(default_factory=Evidence)
    """What passes."""
    trips: Evidence = field(default_factory=Evidence)
    """What trips."""
    errors: int = 0
    clients: frozenset[str] = frozenset()
    note: str = ""

    def add(self, growth: Growth, policy: Policy, attempts: int = 1) -> CohortEvidence:
        """Return it with what has been added since the last look."""
        blocks = tuple(_blocks(growth))
        return replace(
            self,
            blocks=_with(self.blocks, blocks, pass_standard(policy, attempts)),
            trips=_with(self.trips, blocks, trip_standard(policy)),
            errors=self.errors + growth.errors,
            clients=self.clients | growth.contributing,
            note=growth.note or self.note,
        )

    def of_step(self, number: int) -> CohortEvidence:
        """Return it for a step of the same stage: each step has to be seen by clients of its own."""
        return self if number == self.number else replace(self, number=number, clients=frozenset())

    def to_json(self) -> dict[str, Any]:
        """Return its form in the checkpoint."""
        return {
            "key": self.key,
            "number": self.number,
            "blocks": self.blocks.to_json(),
            "trips": self.trips.to_json(),
            "errors": self.errors,
            "clients": sorted(self.clients),
            "note": self.note,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CohortEvidence:
        """Read ``to_json``; raises KeyError, TypeError or InvalidFigures."""
        return cls(
            str(value["key"]),
            int(value["number"]),
            Evidence.from_json(value["blocks"]),
            Evidence.from_json(value["trips"]),
            int(value["errors"]),
            frozenset(value["clients"]),
            str(value["note"]),
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the live comparison has said so far, and what of it is the new path's fault.

    ``problem`` is why it cannot be believed now. ``down`` is for how many seconds a side has been away. ``silent_seconds``
    is for how long its newest summary, of ``updated_at``, has been its newest.
    """

    evidence: Evidence = field(default_factory=Evidence)
    started_at: str = ""
    decided: int = 0
    faults: int = 0
    faults_by_class: Mapping[str, int] = field(default_factory=dict)
    coverage: float | None = None
    p99_seconds: tuple[float | None, float | None] = (None, None)
    problem: str = "the comparison has not said anything yet"
    down_seconds: Mapping[str, float] = field(default_factory=dict)
    updated_at: str = ""
    silent_seconds: float = 0.0

    def seen(self, said: Mapping[str, Any] | None, now: float, elapsed: float, policy: Policy) -> Comparison:
        """Return it with the newest summary; ``now`` is the wall clock."""
        if said is not None and said.get("state") == "idle":
            return replace(self, problem=str(said.get("reason")), down_seconds={})
        if said is None or not isinstance(live := said.get("live"), Mapping):
            return replace(self, problem="the comparison has not said anything yet", down_seconds={})
        updated_at = str(said.get("updated_at"))
        # By both clocks: one that was set back would make a summary of long ago look new for as long.
        silent = self.silent_seconds + elapsed if updated_at == self.updated_at else 0.0
        age = now - _seconds(updated_at, now)
        heard = replace(self, updated_at=updated_at, silent_seconds=silent)
        if max(age, silent) > STALE_SECONDS:
            problem = f"the comparison has said nothing for {max(age, silent):.0f} s"
            return replace(heard, problem=problem, down_seconds={})
        if age < -STALE_SECONDS:
            problem = f"the comparison's newest word is dated {-age:.0f} s ahead: the clock was set back"
            return replace(heard, problem=problem, down_seconds={})
        down = {
            side: self.down_seconds.get(side, 0.0) + elapsed for side, is_live in live.items() if not is_live
        }
        total = said.get("total")
        if said.get("state") != "comparing" or not isinstance(total, Mapping):
            away = ", ".join(down) or "both sides"
            return replace(heard, problem=f"the comparison waits for {away}", down_seconds=down)
        faults = _faults(said, total)
        decided, count = int(total["decided"]), sum(faults.values())
        again = total["started_at"] != self.started_at
        base = (0, 0) if again else (self.decided, self.faults)
        evidence = self.evidence
        if self.started_at and decided > base[0]:
            evidence = _grown(evidence, decided - base[0], max(0, count - base[1]), trip_standard(policy))
        sides = said.get("sides", {})
        return Comparison(
            evidence=evidence,
            started_at=str(total["started_at"]),
            decided=decided,
            faults=count,
            faults_by_class=faults,
            coverage=said.get("coverage"),
            p99_seconds=(_p99(sides, "legacy"), _p99(sides, "supabase")),
            problem="it is suspended: too many events are open" if said.get("suspended") else "",
            down_seconds=down,
            updated_at=updated_at,
            silent_seconds=silent,
        )

    def trip(self, policy: Policy) -> str:
        """Return why everybody has to leave the new path; empty when nobody has to."""
        away = self.down_seconds.get("supabase", 0.0)
        if away >= policy.silence_seconds:
            return f"supabase is down: the comparison has not been able to follow it for {away:.0f} s"
        if self.evidence.tripped_at_events is not None:
            worst = max(self.faults_by_class, key=lambda name: self.faults_by_class[name], default="")
            return f"the comparison: {worst}: {_tripped(self.evidence, policy)}"
        return ""

    def legacy_problem(self, policy: Policy) -> str:
        """Return why the legacy server could not take clients back; empty when it could."""
        away = self.down_seconds.get("legacy", 0.0)
        return f"legacy is down for {away:.0f} s" if away >= policy.silence_seconds else ""

    def gates(self, policy: Policy) -> Iterable[Gate]:
        """Give what the comparison has to say about going on."""
        if self.problem:
            yield Gate("comparison", Answer.ERROR, self.problem)
            return
        if self.down_seconds:
            yield Gate("comparison", Answer.INCONCLUSIVE, f"{', '.join(self.down_seconds)} is away")
        coverage = self.coverage if isinstance(self.coverage, int | float) else None
        yield Gate(
            "coverage",
            _answer(coverage, lambda share: share >= policy.min_coverage),
            "nothing was decided" if coverage is None else f"{coverage:.2%} of {policy.min_coverage:.0%}",
        )
        old, new = self.p99_seconds
        budget = None if old is None or new is None else new - old
        shown = "no latency was measured" if old is None or new is None else (
            f"p99 {new * 1000:.0f} ms against {old * 1000:.0f} ms, {policy.latency_budget_seconds * 1000:.0f} ms more "
            "are allowed"
        )  # fmt: skip
        yield Gate("latency", _answer(budget, lambda more: more <= policy.latency_budget_seconds), shown)
        clean = self.evidence.tripped_at_events is None
        yield Gate(
            "parity",
            Answer.FAIL if not clean else Answer.NO_DATA if not self.evidence.events else Answer.PASS,
            f"{self.evidence.findings} of {self.evidence.events} events are the new path's fault",
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a restart needs of it."""
        return {
            "evidence": self.evidence.to_json(),
            "started_at": self.started_at,
            "decided": self.decided,
            "faults": self.faults,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Comparison:
        """Read ``to_json``; raises KeyError, TypeError or InvalidFigures."""
        return cls(
            evidence=Evidence.from_json(value["evidence"]),
            started_at=str(value["started_at"]),
            decided=int(value["decided"]),
            faults=int(value["faults"]),
        )


def sight(
    position: Position,
    evidence: CohortEvidence,
    growth: Growth,
    common: tuple[Gate, ...],
    policy: Policy,
) -> Sight:
    """Return what the controller is told of one cohort."""
    judged = judge(replace(evidence.blocks, tripped_at_events=None), pass_standard(policy, position.attempts))
    seen = len(evidence.clients)
    enough = seen >= policy.min_clients
    share = evidence.errors / evidence.blocks.blocks if evidence.blocks.blocks else None
    gates = (
        *common,
        Gate(
            "clients",
            Answer.PASS if enough else Answer.NO_DATA,
            f"{seen} have shown something here, {policy.min_clients} are needed",
        ),
        Gate("evidence", Answer(str(judged.verdict)), judged.reason),
        Gate(
            "errors",
            _answer(share, lambda value: value <= policy.max_errors),
            "no block was seen" if share is None else f"{evidence.errors} in {evidence.blocks.blocks} blocks",
        ),
    )
    tripped = evidence.trips.tripped_at_events is not None
    why = f"its clients: {_tripped(evidence.trips, policy)}; {evidence.note}" if tripped else ""
    return Sight(gates, why, growth.clients, growth.on_supabase, growth.astray)


def _blocks(growth: Growth) -> Iterable[Block]:
    """Give blocks as they may have been.

    Which events stood in which block is not reported: clean blocks share the events evenly, disturbed ones the findings.
    """
    each = max(1, growth.events // growth.blocks) if growth.blocks else 0
    yield from (Block(each) for _ in range(growth.blocks - growth.disturbed))
    findings = growth.findings + growth.errors
    for index in range(growth.disturbed):
        share = max(1, findings // growth.disturbed + (index < findings % growth.disturbed))
        yield Block(max(each, share), share, 1)


def _tripped(evidence: Evidence, policy: Policy) -> str:
    """Say what tripped in events: since when good times are forgotten, the share of all of them says little."""
    return (
        f"{evidence.findings} of {evidence.events} events, the newest of them too dense for {policy.trip_limit:.1%} "
        f"(CUSUM, tripped after {evidence.tripped_at_events})"
    )


def _with(evidence: Evidence, blocks: Iterable[Block], standard: Standard) -> Evidence:
    for block in blocks:
        evidence = evidence.add(block, standard)
    return evidence


def barred(flags: Flags) -> str:
    """Return why somebody has to stay on the legacy server; empty when nobody has."""
    if flags.kill:
        return "kill is true"
    return f"{len(flags.deny)} clients are denied" if flags.deny else ""


def _grown(evidence: Evidence, events: int, findings: int, standard: Standard) -> Evidence:
    findings = min(findings, events)
    # Where the findings stood is not reported: as many incidents as could stand apart among what was good.
    apart = max(1, (events - findings) // BURST_EVENTS + 1)
    return evidence.add(Block(events, findings, min(findings, apart)), standard)


def _faults(said: Mapping[str, Any], total: Mapping[str, Any]) -> dict[str, int]:
    counts = total.get("counts", {})
    side = said.get("sides", {}).get("supabase", {})
    found = {name: int(counts.get(name, 0)) for name in LOST}
    found |= {name: int(side.get(name, 0)) for name in _SIDE}
    return {name: count for name, count in found.items() if count}


def _p99(sides: Mapping[str, Any], side: str) -> float | None:
    value = sides.get(side, {}).get("latency", {}).get("p99_seconds")
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _answer(value: float | None, holds: Callable[[float], bool]) -> Answer:
    if value is None:
        return Answer.NO_DATA
    return Answer.PASS if holds(value) else Answer.FAIL


def _seconds(text: object, default: float) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return default
