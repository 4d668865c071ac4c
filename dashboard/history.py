"""Charts of a host over any range, from the series that the query service answers. Pure.

A range ends at a moment of the clock that stays the same for one step of its series, so that nothing is asked again, drawn
again or sent again before there is something new.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dashboard import charts, figures
from dashboard.readings import Disk, number

LIVE = "10 min"
OWN = "Own"
LENGTHS: Mapping[str, timedelta] = {
    "1 h": timedelta(hours=1),
    "6 h": timedelta(hours=6),
    "24 h": timedelta(days=1),
    "7 d": timedelta(days=7),
    "30 d": timedelta(days=30),
    "1 y": timedelta(days=365),
}

_POINTS = 300
_SHORTEST_STEP = 10.0
_MOST_LINES = 4
_BREAK_STEPS = 2.5
_LOOPBACK = "networks[lo]"
_PRESSURE = ("cpu", "memory", "io")

Ask = Callable[[str, datetime, datetime, int], Mapping[str, Any]]
"""The series of a field, over a range, in about so many steps."""


@dataclass(frozen=True, slots=True)
class Range:
    """A range of time and about how many steps it is drawn in."""

    start: datetime
    end: datetime
    points: int = _POINTS


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart of a range; ``option`` is None where there is no sample in it."""

    key: str
    title: str
    unit: str
    option: Mapping[str, Any] | None
    alt: str


def lately(length: timedelta, now: datetime) -> Range:
    """Return the range of some length that ends now: the same for one step."""
    step = max(length.total_seconds() / _POINTS, _SHORTEST_STEP)
    end = datetime.fromtimestamp(math.ceil(now.timestamp() / step) * step, UTC)
    return Range(end - length, end)


def between(first: datetime, last: datetime) -> Range | None:
    """Return the range between two moments, in whichever order; None when they are the same."""
    start, end = sorted((first, last))
    return None if start == end else Range(start, end)


def host_charts(fields: Sequence[str], disks: Sequence[Disk], span: Range, ask: Ask) -> list[Chart]:
    """Return the charts of a host over a range, of those of its fields that are known."""
    return list(_host_charts(fields, disks, span, ask))


def _host_charts(fields: Sequence[str], disks: Sequence[Disk], span: Range, ask: Ask) -> Iterator[Chart]:

    def lines(wanted: Mapping[str, Sequence[str]]) -> dict[str, Points]:
        return {
            name: _summed([_points(ask(field, span.start, span.end, span.points)) for field in those])
            for name, those in wanted.items()
            if those
        }

    def named(group: str, leaf: str) -> list[str]:
        return [
            each
            for each in fields
            if each.startswith(f"{group}[") and each.endswith(f"].{leaf}") and not each.startswith(_LOOPBACK)
        ]

    for key, title, field in (("cpu", "CPU", "cpu_usage"), ("memory", "Memory", "memory_usage")):
        if field in fields:
            yield _percents(
                key,
                title,
                "mean and highest, %",
                span,
                _mean_and_highest(ask(field, span.start, span.end, span.points)),
            )
    yield _rates(
        "network",
        "Network",
        span,
        lines(
            {
                "received": named("networks", "rx_bytes_per_second"),
                "sent": named("networks", "tx_bytes_per_second"),
            }
        ),
    )
    totals = {disk.mount: disk.total_bytes for disk in disks if disk.total_bytes}
    used = {mount: [field] for mount in sorted(totals) if (field := f"disks[{mount}].used_bytes") in fields}
    shares = {
        mount: {at: (100 * low / totals[mount], high) for at, (low, high) in points.items()}
        for mount, points in lines(dict(list(used.items())[:_MOST_LINES])).items()
    }
    yield _percents("disks", "Disks", "in use, %", span, shares)
    yield _rates(
        "io",
        "Disk I/O",
        span,
        lines(
            {
                "read": named("disk_io", "read_bytes_per_second"),
                "written": named("disk_io", "written_bytes_per_second"),
            }
        ),
    )
    busy = {
        field.removeprefix("disk_io[").partition("]")[0]: [field]
        for field in named("disk_io", "busy_percent")
    }
    if busy:
        yield _percents(
            "busy", "Drives busy", "of the time, %", span, lines(dict(list(busy.items())[:_MOST_LINES]))
        )
    pressure = {
        resource: [field] for resource in _PRESSURE if (field := f"pressure.{resource}.some_avg10") in fields
    }
    if pressure:
        yield _percents(
            "pressure", "Pressure", "time that somebody waited, %", span, lines(pressure), whole=False
        )
    if "load[0]" in fields:
        yield _plain("load", "Load", "1 min", span, lines({"load": ["load[0]"]}))


def field_chart(
    field: str, span: Range, ask: Ask
) -> tuple[Chart, list[tuple[datetime, float, float, float, float]]]:
    """Return the chart of any number over a range, and its rows: (begin, mean, lowest, highest, samples)."""
    document = ask(field, span.start, span.end, span.points)
    option = _option(span, _mean_and_highest(document))
    if option is not None:
        option["dataZoom"].append({"type": "slider", "height": 18, "bottom": 4})
        option["grid"]["bottom"] = 34
        option["yAxis"]["scale"] = True
    step = number(document.get("step_seconds")) or 0.0
    unit = f"steps of {figures.span(step)} · level {document.get('level', figures.UNKNOWN)}"
    return _chart(field, field, unit, span, option), list(_table(document))


def _table(document: Mapping[str, Any]) -> Iterator[tuple[datetime, float, float, float, float]]:
    rows = document.get("points")
    for row in rows if isinstance(rows, list) else ():
        known = [number(each) for each in row] if isinstance(row, list) else []
        whole = [each for each in known if each is not None]
        if len(known) == len(whole) == 5:  # noqa: PLR2004 - begin, mean, lowest, highest, samples
            begin, mean, low, high, count = whole
            yield datetime.fromtimestamp(begin, UTC), mean, low, high, count


Points = dict[float, tuple[float, float]]
"""Begin of a step in seconds -> mean, highest."""


def _points(document: Mapping[str, Any]) -> tuple[float, Points]:
    """Read a series: the length of its steps, and its points."""
    found: Points = {}
    rows = document.get("points")
    for row in rows if isinstance(rows, list) else ():
        known = [number(each) for each in row] if isinstance(row, list) else []
        if len(known) >= 4 and known[0] is not None and known[1] is not None:  # noqa: PLR2004 - begin, mean, lowest, highest
            found[known[0]] = (known[1], known[1] if known[3] is None else known[3])
    return number(document.get("step_seconds")) or 1.0, found


def _summed(series: Sequence[tuple[float, Points]]) -> Points:
    """Return the sum of series with the same steps, where any has a point."""
    total: Points = {}
    for _, points in series:
        for at, (mean, high) in points.items():
            before = total.get(at, (0.0, 0.0))
            total[at] = (before[0] + mean, before[1] + high)
    return total


def _mean_and_highest(document: Mapping[str, Any]) -> dict[str, Points]:
    _, points = _points(document)
    return {"mean": points, "highest": {at: (high, high) for at, (_, high) in points.items()}}


def _rows(lines: Mapping[str, Points]) -> list[list[float | None]]:
    """Return rows of (ms, a value for each line), with an empty row where steps are missing."""
    times = sorted({at for points in lines.values() for at in points})
    steps = sorted(after - before for before, after in itertools.pairwise(times))
    usual = steps[len(steps) // 2] if steps else 0.0
    rows: list[list[float | None]] = []
    for place, at in enumerate(times):
        if place and at - times[place - 1] > _BREAK_STEPS * usual:
            rows.append([(times[place - 1] + usual) * 1000, *[None] * len(lines)])
        rows.append([at * 1000, *(_rounded(points.get(at)) for points in lines.values())])
    return rows


def _rounded(point: tuple[float, float] | None) -> float | None:
    return None if point is None else round(point[0], 3)


def _chart(key: str, title: str, unit: str, span: Range, option: dict[str, Any] | None) -> Chart:
    said = f"{title} from {span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M} UTC"
    return Chart(key, title, unit, option, said if option else f"{said}: nothing was recorded")


def _option(span: Range, lines: Mapping[str, Points]) -> dict[str, Any] | None:
    rows = _rows(lines)
    return charts.time_chart(rows, list(lines), span.start, span.end) if rows else None


def _percents(
    key: str, title: str, unit: str, span: Range, lines: Mapping[str, Points], *, whole: bool = True
) -> Chart:
    option = _option(span, lines)
    if option is not None:
        option = charts.in_percent(option)
        if not whole:  # a share that hardly ever comes near the whole
            option["yAxis"].pop("max")
            option["yAxis"].pop("interval")
    return _chart(key, title, unit, span, option)


def _plain(key: str, title: str, unit: str, span: Range, lines: Mapping[str, Points]) -> Chart:
    option = _option(span, lines)
    if option is not None:
        option["yAxis"] |= {"min": 0}
        option["tooltip"]["valueFormatter"] = "%.2f"
    return _chart(key, title, unit, span, option)


def _rates(key: str, title: str, span: Range, lines: Mapping[str, Points]) -> Chart:
    rows = _rows(lines)
    if not rows:
        return _chart(key, title, "", span, None)
    option, unit = charts.in_bytes(rows, list(lines), span.start, span.end)
    return _chart(key, title, unit, span, option)
