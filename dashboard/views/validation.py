"""The comparison in full: what was found, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dashboard import figures
from dashboard.comparison import Comparison, Sample
from dashboard.findings import differences, side_by_side
from dashboard.hub import Frame
from dashboard.reports import Parity, parity
from dashboard.views.words import Columns, Figure
from monitoring.service import Backend

_NO_FINDINGS = frozenset({"matched", "excluded"})


def key_figures(frame: Frame) -> list[Figure]:
    """Return the figures of the first row."""
    parity, found = frame.parity, frame.comparison
    if not isinstance(parity, Parity):
        return [
            Figure(label, figures.UNKNOWN) for label in ("Compared", "Findings", "Coverage", "Certain to")
        ]
    findings = sum(count for _, count in parity.findings)
    window = figures.span(found.window_seconds)
    coverage = figures.UNKNOWN if parity.coverage_percent is None else f"{parity.coverage_percent:.2f} %"
    return [
        Figure("Compared", figures.count(parity.decided), f"events of the last {window}"),
        Figure("Findings", figures.count(findings), "none" if not findings else "see below"),
        Figure("Coverage", coverage, "of what was published"),
        Figure(
            "Certain to",
            figures.UNKNOWN if found.upper_bound is None else f"{100 * found.upper_bound:.2g} %",
            "at most differ (95 %)",
        ),
        Figure("Since it began", figures.count(found.total_decided), "events compared"),
    ]


def classes(found: Comparison) -> Columns:
    """Return one row a class with a column for each category; empty without any event."""
    if not found.classes:
        return {}
    kinds = sorted(found.classes, key=lambda kind: (kind != "matched", kind))
    categories = sorted({category for counts in found.classes.values() for category in counts})
    return {
        "Class": [kind.replace("_", " ") for kind in kinds],
        **{category: [found.classes[kind].get(category, 0) for kind in kinds] for category in categories},
    }


def runs(found: Sequence[tuple[str, Mapping[str, Any]]], now: datetime) -> Columns:
    """Return one row a past run, in the order they come in; empty without any."""
    if not found:
        return {}
    read = [parity(report) for _, report in found]
    each = [one if isinstance(one, Parity) else None for one in read]
    return {
        "Run": [name for name, _ in found],
        "Verdict": [one.verdict.replace("_", " ") if one else figures.UNKNOWN for one in each],
        "Ended": [figures.UNKNOWN if one is None else f"{figures.age(one.at, now)} ago" for one in each],
        "Compared": [figures.count(one.decided if one else None) for one in each],
        "Findings": [sum(count for _, count in one.findings) if one else None for one in each],
        "Coverage": [one.coverage_percent if one else None for one in each],
        "Supabase p99": [_p99(one, Backend.SUPABASE) for one in each],
        "Legacy p99": [_p99(one, Backend.LEGACY) for one in each],
        "Because": [one.reason if one else "" for one in each],
    }


def _p99(one: Parity | None, side: Backend) -> str:
    figures_ = one.sides.get(side) if one else None
    return figures.milliseconds(figures_.p99_seconds if figures_ else None)


def finding(sample: Sample) -> str:
    """Return a finding in one line, to choose from."""
    return f"{sample.kind.replace('_', ' ')} · {sample.stream} {sample.epoch}:{sample.seq}"


def fields(event: Mapping[str, Any] | None, sample: Sample) -> Columns:
    """Return one row a field of a finding's event, what differs first; empty where nothing of it is known."""
    rows = side_by_side(event, sample)
    if not rows:
        return {}
    return {
        "Field": [row[0] for row in rows],
        "Published": [row[1] for row in rows],
        "On legacy": [row[2] or "same" for row in rows],
        "On Supabase": [row[3] or "same" for row in rows],
    }


def notes(sample: Sample) -> list[str]:
    """Return what else was said of a finding."""
    return differences(sample)[1]


def kept(found: Comparison) -> list[Sample]:
    """Return the findings that were kept as samples."""
    return [sample for sample in found.samples if sample.kind not in _NO_FINDINGS]


def samples(found: Comparison) -> Columns:
    """Return one row a finding that was kept; empty without any."""
    each = kept(found)
    if not each:
        return {}
    return {
        "Class": [sample.kind.replace("_", " ") for sample in each],
        "Stream": [sample.stream for sample in each],
        "Epoch": [sample.epoch for sample in each],
        "Seq": [sample.seq for sample in each],
        "What differs": ["; ".join(sample.details) for sample in each],
    }
