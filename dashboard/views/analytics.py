"""Numbers over a range: which there are, their rows, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dashboard.hub import Frame
from dashboard.views.words import Columns

Row = tuple[datetime, float, float, float, float]
"""Begin of a step, mean, lowest, highest, samples."""


def streams(frame: Frame) -> list[str]:
    """Return the streams that may have history: those that tell of machines."""
    found = []
    for host in frame.state.hosts.values():
        found += [f"{host.name}/system"] if host.newest else []
        found += [f"{host.name}/containers"] if host.containers_at else []
        found += [f"{host.name}/drives"] if host.drives_at else []
    return found


def rows(found: Sequence[Row]) -> Columns:
    """Return one row a step, newest first; empty without any."""
    if not found:
        return {}
    each = list(reversed(found))
    return {
        "From": [row[0].astimezone().strftime("%Y-%m-%d %H:%M:%S") for row in each],
        "Mean": [round(row[1], 3) for row in each],
        "Lowest": [row[2] for row in each],
        "Highest": [row[3] for row in each],
        "Samples": [int(row[4]) for row in each],
    }


def summary(found: Sequence[Row]) -> str:
    """Return what a range comes to."""
    count = sum(row[4] for row in found)
    if not count:
        return "no sample"
    mean = sum(row[1] * row[4] for row in found) / count
    low, high = min(row[2] for row in found), max(row[3] for row in found)
    return f"mean {mean:,.4g} · lowest {low:,.4g} · highest {high:,.4g} · {count:,.0f} samples"
