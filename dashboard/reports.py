"""What other parts of Crossfade say about themselves, as the page shows it: the live comparison, the flags, Docker.

The reports are JSON files that another process, maybe of another version, replaces while it runs: unknown fields are
ignored and missing ones are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dashboard.readings import mapping, number, text, time_of
from monitoring.flags.evaluation import bucket_of, evaluate, explain
from monitoring.flags.model import Flags
from monitoring.flags.stages import TOTAL_WEIGHT, percent_text
from monitoring.service import PUSHING, Backend

_NO_FINDINGS = frozenset({"matched", "excluded"})
"""Classes that are no finding; every other is shown."""

_PARITY_STALE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the comparison. Latencies in seconds."""

    delivered: int | None
    p50_seconds: float | None
    p99_seconds: float | None


@dataclass(frozen=True, slots=True)
class Parity:
    """The newest result of the live comparison. ``coverage_percent`` is 0 to 100."""

    verdict: str
    reason: str
    matched: int | None
    decided: int | None
    pending: int | None
    coverage_percent: float | None
    findings: tuple[tuple[str, int], ...]
    sides: Mapping[Backend, Side]
    at: datetime | None

    def old(self, now: datetime) -> bool:
        """Tell whether the comparison has stopped writing results."""
        return self.at is not None and now - self.at > _PARITY_STALE


@dataclass(frozen=True, slots=True)
class Waiting:
    """A comparison that has not begun: the sides it waits for, or why there is nothing to compare."""

    sides: tuple[Backend, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What the flags say, and where they put this viewer. ``percent`` is 0 to 100."""

    percent: float
    percent_text: str
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    kill: bool
    problem: str | None
    wish: Backend
    reason: str
    why: str
    bucket_percent: str | None
    """The viewer's place in the split, in percent; below `percent` is on Supabase."""


def rollout(flags: Flags, problem: str | None, client_id: str) -> Rollout:
    """Return what the flags mean for everybody and for this viewer."""
    decision, bucket = evaluate(flags, client_id), bucket_of(client_id)
    return Rollout(
        percent=100 * flags.weight / TOTAL_WEIGHT,
        percent_text=flags.percent,
        allow=tuple(sorted(flags.allow)),
        deny=tuple(sorted(flags.deny)),
        kill=flags.kill,
        problem=problem,
        wish=decision.value,
        reason=decision.reason.value,
        why=explain(flags, client_id).rpartition("): ")[2],
        bucket_percent=None if bucket is None else percent_text(bucket),
    )


def parity(summary: Mapping[str, Any] | None) -> Parity | Waiting | None:
    """Read the summary of the live comparison, or the report of one run; None while there is neither."""
    if not summary:
        return None
    if summary.get("state") == "waiting":
        live = mapping(summary.get("live"))
        return Waiting(tuple(side for side in PUSHING if live.get(side.value) is not True))
    if summary.get("state") == "idle":
        return Waiting(reason=text(summary.get("reason")))
    report = mapping(summary.get("report")) or summary
    if not isinstance(report.get("verdict"), str):
        return None
    counts = mapping(report.get("counts"))
    coverage = number(report.get("coverage"))
    reasons = report.get("reasons")
    return Parity(
        verdict=report["verdict"],
        reason="; ".join(map(str, reasons)) if isinstance(reasons, list) else "",
        matched=_count(counts.get("matched")),
        decided=_count(report.get("decided")),
        pending=_count(report.get("pending")),
        coverage_percent=None if coverage is None else 100 * coverage,
        findings=tuple(
            (str(name).replace("_", " "), found)
            for name, value in counts.items()
            if (found := _count(value)) is not None and name not in _NO_FINDINGS
        ),
        sides={side: _side(mapping(report.get("sides")).get(side.value)) for side in PUSHING},
        at=time_of(report.get("ended_at")),
    )


def docker_note(report: Mapping[str, Any] | None) -> str | None:
    """Return the sentence with which the collectors explain why there are no containers; None when they do not."""
    docker = mapping((report or {}).get("docker"))
    if docker.get("available") is True:
        return None
    detail = docker.get("detail")
    return detail if isinstance(detail, str) and detail else None


def _side(value: object) -> Side:
    side = mapping(value)
    latency = mapping(side.get("latency"))
    return Side(
        delivered=_count(side.get("delivered")),
        p50_seconds=number(latency.get("p50_seconds")),
        p99_seconds=number(latency.get("p99_seconds")),
    )


def _count(value: object) -> int | None:
    known = number(value)
    return None if known is None else int(known)
