"""The live comparison's report in full, read and drawn. Pure.

The report is JSON that another process, maybe of another version, replaces while it runs: unknown fields are ignored
and missing ones are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dashboard.charts import LEGEND
from dashboard.readings import mapping, mappings, number, text, time_of
from dashboard.seen import Seen, States, seen, states
from monitoring.service import PUSHING, Backend

_MATCHED = "matched"
_POINTS = 60
"""Of one latency curve."""
_BARS = 90


@dataclass(frozen=True, slots=True)
class Sample:
    """A finding: where, and what differs."""

    kind: str
    stream: str
    epoch: int | None
    seq: int | None
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one comparison found. Shares are 0 to 1, times in seconds; a class's counts are by category."""

    upper_bound: float | None = None
    """With 95 % confidence at most this share of events is not the same on both sides."""
    began: datetime | None = None
    total_decided: int | None = None
    """Since the comparison began; the rest is of its window."""
    window_seconds: float | None = None
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    latencies: Mapping[Backend, tuple[tuple[float, int], ...]] = field(default_factory=dict)
    """Buckets of (latency, events), ascending."""
    bucket_seconds: float | None = None
    timeline: tuple[Mapping[str, float], ...] = ()
    """Buckets of time: ``at``, in seconds since it began, and how many of each class."""
    samples: tuple[Sample, ...] = ()
    not_compared: tuple[str, ...] = ()
    seen: Seen | None = None
    """What clients saw; None where it is not said."""
    states: States | None = None
    """Snapshot against snapshot, which is for the end of a run."""


def comparison(report: Mapping[str, Any] | None) -> Comparison:
    """Read the report; everything is unknown where there is none."""
    report = report or {}
    total, timeline = mapping(report.get("total")), mapping(report.get("timeline"))
    classes: dict[str, dict[str, int]] = {}
    for category, counts in mapping(report.get("categories")).items():
        for kind, count in mapping(counts).items():
            if (known := number(count)) is not None:
                classes.setdefault(str(kind), {})[str(category)] = int(known)
    not_compared = report.get("not_compared")
    decided = number(total.get("decided"))
    return Comparison(
        upper_bound=number(report.get("upper_bound_95")),
        began=time_of(total.get("started_at")),
        total_decided=None if decided is None else int(decided),
        window_seconds=number(report.get("window_seconds")),
        classes=classes,
        latencies={side: _histogram(mapping(report.get("sides")).get(side.value)) for side in PUSHING},
        bucket_seconds=number(timeline.get("seconds")),
        timeline=tuple(_numbers(row) for row in mappings(timeline.get("rows"))),
        samples=tuple(
            _sample(str(kind), each)
            for kind, found in mapping(report.get("samples")).items()
            for each in mappings(found)
        ),
        not_compared=tuple(map(str, not_compared)) if isinstance(not_compared, list) else (),
        seen=seen(report),
        states=states(report),
    )


def latency_chart(found: Comparison) -> dict[str, Any]:
    """Return the option of both sides' latency: the share of events that took at most so long."""
    series = [
        {
            "type": "line",
            "name": side.value,
            "data": _cumulative(buckets),
            "showSymbol": False,
            "lineStyle": {"width": 1.5, "type": "solid" if side is Backend.SUPABASE else "dashed"},
        }
        for side in (Backend.SUPABASE, Backend.LEGACY)  # in the order of the theme's blue and orange
        if (buckets := found.latencies.get(side))
    ]
    return {
        "animation": False,
        # the last label stands over the end of its axis, and half of it beyond
        "grid": {"left": 4, "right": 30, "top": 26, "bottom": 2, "containLabel": True},
        "legend": LEGEND,
        "tooltip": {"trigger": "axis", "confine": True},
        "xAxis": {
            "type": "log",
            "axisLabel": {"fontSize": 11, "formatter": "{value} ms"},
            "splitLine": {"show": False},
        },
        "yAxis": {
            "type": "value",
            "min": 0,
            "max": 100,
            "axisLabel": {"formatter": "{value} %", "fontSize": 11},
        },
        "series": series,
    }


def timeline_chart(found: Comparison) -> dict[str, Any]:
    """Return the option of what was decided over time: the same on both sides, and each kind of finding."""
    rows = found.timeline[-_BARS:]
    kinds = [_MATCHED, *sorted({kind for row in rows for kind in row if kind not in {"at", _MATCHED}})]
    return {
        "animation": False,
        "grid": {"left": 4, "right": 16, "top": 26, "bottom": 2, "containLabel": True},
        "legend": LEGEND,
        "tooltip": {"trigger": "axis", "confine": True},
        "xAxis": {
            "type": "category",
            "data": [_minutes(row.get("at", 0.0)) for row in rows],
            "axisLabel": {"fontSize": 11, "hideOverlap": True},
        },
        "yAxis": {"type": "value", "min": 0, "axisLabel": {"fontSize": 11}},
        "series": [
            {
                "type": "bar",
                "name": kind.replace("_", " "),
                "stack": "all",
                "data": [int(row.get(kind, 0)) for row in rows],
            }
            for kind in kinds
        ],
    }


def _cumulative(buckets: Sequence[tuple[float, int]]) -> list[list[float]]:
    """Return (milliseconds, percent of events that took at most so long), at most sixty points, the last of them 100."""
    total = sum(count for _, count in buckets)
    rows: list[list[float]] = []
    step, passed = max(1, -(-len(buckets) // _POINTS)), 0
    for place, (seconds, count) in enumerate(buckets, 1):
        passed += count
        if place % step == 0 or place == len(buckets):
            rows.append([round(max(seconds * 1000, 0.01), 2), round(100 * passed / total, 2)])
    return rows


def _histogram(side: object) -> tuple[tuple[float, int], ...]:
    rows = mapping(mapping(side).get("latency")).get("histogram")
    found: list[tuple[float, int]] = []
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, list) and len(row) == 2:  # noqa: PLR2004 - a pair
            seconds, count = number(row[0]), number(row[1])
            if seconds is not None and count is not None and count > 0:
                found.append((seconds, int(count)))
    return tuple(sorted(found))


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {str(key): known for key, value in row.items() if (known := number(value)) is not None}


def _sample(kind: str, each: Mapping[str, Any]) -> Sample:
    epoch, seq = number(each.get("epoch")), number(each.get("seq"))
    details = each.get("details")
    return Sample(
        kind=kind,
        stream=text(each.get("stream")),
        epoch=None if epoch is None else int(epoch),
        seq=None if seq is None else int(seq),
        details=tuple(map(str, details)) if isinstance(details, list) else (),
    )


def _minutes(seconds: float) -> str:
    whole = max(int(seconds), 0)
    return f"{whole // 60}:{whole % 60:02}"
