"""A result as text for people and as plain JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monitoring.events import format_time
from validation.comparison import cut
from validation.observation import MEANINGS, MISSED_BY, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from monitoring.service import Backend
    from validation.latency import LatencyFigures
    from validation.result import Result, SideResult


def to_text(result: Result) -> str:
    """Return the report that `crossfade validate` prints: the verdict first, then what it rests on."""
    return "\n".join(_lines(result)) + "\n"


def to_json(result: Result) -> dict[str, Any]:
    """Return the report as plain JSON; durations are in seconds, shares from 0 to 1."""
    return {
        "verdict": str(result.verdict),
        "exit_code": result.exit_code,
        "reasons": list(result.reasons),
        "started_at": format_time(result.started_at),
        "ended_at": format_time(result.ended_at),
        "published": result.published,
        "decided": result.decided,
        "pending": result.pending,
        "coverage": result.coverage,
        "upper_bound_95": result.upper_bound,
        "suspended": result.suspended,
        "counts": {str(outcome): count for outcome, count in result.counts.items()},
        "sides": {str(side): _side_json(figures) for side, figures in result.sides.items()},
        "samples": {
            str(outcome): [
                {
                    "stream": sample.key.stream,
                    "epoch": sample.key.epoch,
                    "seq": sample.key.seq,
                    "details": [*sample.details],
                }
                for sample in samples
            ]
            for outcome, samples in result.samples.items()
        },
        "not_compared": list(result.not_compared),
        "thresholds": {
            "min_decided": result.thresholds.min_decided,
            "min_coverage": result.thresholds.min_coverage,
            "grace_seconds": result.grace_seconds,
        },
    }


def _lines(result: Result) -> Iterator[str]:
    seconds = (result.ended_at - result.started_at).total_seconds()
    yield f"{result.verdict}: {'; '.join(result.reasons)}"
    yield f"{result.published} published, {result.decided} decided, {result.pending} pending in {seconds:.1f} s"
    for side, of_side in result.sides.items():
        if of_side.figures.outages:
            yield _outages_text(side, of_side, result)
    if result.published:
        yield f"coverage {result.coverage:.2%} (at least {result.thresholds.min_coverage:.0%} is needed)"
    if result.upper_bound is not None:
        yield f"0 of {result.decided} differ: below {result.upper_bound:.3%} (95 %)"
    yield ""
    for outcome, count in result.counts.items():
        yield f"  {outcome:<17}{count:>9}  {MEANINGS[outcome]}"
    yield f"  {'pending':<17}{result.pending:>9}  younger than the grace of {result.grace_seconds:.1f} s"
    yield f"  {'= published':<17}{result.published:>9}  every class but {Outcome.EXTRA}"
    yield ""
    for side, of_side in result.sides.items():
        yield f"  {side:<9}{_side_text(of_side)}"
    for outcome, samples in result.samples.items():
        yield ""
        yield f"{outcome}: {result.counts[outcome]}, of which {len(samples)}:"
        for sample in samples:
            yield f"  {sample.key}  {'; '.join(cut(detail) for detail in sample.details)}".rstrip()
    yield ""
    yield "Not compared:"
    for line in result.not_compared:
        yield f"  - {line}"


def _outages_text(side: Backend, of_side: SideResult, result: Result) -> str:
    """Say that a side was away, and whether that cost anything."""
    times = "1 time" if of_side.figures.outages == 1 else f"{of_side.figures.outages} times"
    missed = sum(result.counts[outcome] for outcome in MISSED_BY[side])
    cost = f"{missed} events were missed" if missed else "nothing was missed"
    if not missed and result.pending:
        cost += f" so far, {result.pending} pending"
    return f"{side} was away {times}, {cost}"


def _side_text(side: SideResult) -> str:
    figures, latency = side.figures, side.latency
    text = f"{figures.delivered} delivered, latency {_latency_text(latency)}"
    for name, count in (
        ("duplicate", figures.duplicates),
        ("reordered", figures.reordered),
        ("late", figures.late),
        ("told gaps", figures.gaps),
        ("outages", figures.outages),
        ("repeats on the wire, dropped by the client", figures.raw_repeats),
    ):
        if count:
            text += f", {count} {name}"
    return text


def _latency_text(latency: LatencyFigures) -> str:
    if latency.p50_seconds is None or latency.p99_seconds is None or latency.max_seconds is None:
        return "unknown"
    return " ".join(
        f"{name} {seconds * 1000:.0f} ms"
        for name, seconds in (
            ("p50", latency.p50_seconds),
            ("p99", latency.p99_seconds),
            ("max", latency.max_seconds),
        )
    )


def _side_json(side: SideResult) -> dict[str, Any]:
    figures, latency = side.figures, side.latency
    return {
        "delivered": figures.delivered,
        "duplicates": figures.duplicates,
        "reordered": figures.reordered,
        "late": figures.late,
        "gaps": figures.gaps,
        "outages": figures.outages,
        "raw": figures.raw,
        "raw_repeats": figures.raw_repeats,
        "latency": {
            "count": latency.count,
            "p50_seconds": latency.p50_seconds,
            "p99_seconds": latency.p99_seconds,
            "max_seconds": latency.max_seconds,
        },
    }
