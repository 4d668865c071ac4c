"""Samples to ECharts options. Pure: plain JSON values, in the form that ``st.echarts_chart`` takes.

A point stands for a fixed slice of the clock, so that what was drawn does not move when a new reading comes, and a
pause in the data breaks the line instead of bridging it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dashboard import figures
from dashboard.model import WINDOW
from dashboard.readings import Sample

SLICE_SECONDS = 4
"""Width of a point: two readings of the usual interval."""

_EPOCH = datetime.fromtimestamp(0, UTC)
_SHORTEST = timedelta(minutes=1)
_LABELS = (
    (timedelta(minutes=4), "{HH}:{mm}:{ss}"),
    (timedelta(hours=30), "{HH}:{mm}"),
    (timedelta(days=5), "{MM}-{dd} {HH}:{mm}"),
    (timedelta.max, "{yyyy}-{MM}-{dd}"),
)
"""How a time is written on an axis that is at most so long."""
_LINES = ("solid", "dashed", "dotted")  # told apart without colour
LEGEND = {"right": 0, "top": 0, "itemWidth": 18, "itemHeight": 8, "textStyle": {"fontSize": 11}}
_BREAK_SECONDS = 15
_SPARK_POINTS = 40

Read = Callable[[Sample], float | None]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Everything that is drawn from samples: options of charts, and values of sparklines by quantity."""

    cpu: Mapping[str, Any]
    memory: Mapping[str, Any]
    network: Mapping[str, Any]
    network_unit: str
    sparks: Mapping[str, Sequence[float]]


def drawn(samples: Sequence[Sample]) -> Drawn:
    """Return the charts and sparklines of the samples; the same until another slice is over."""
    samples = over(samples)
    network, unit = network_chart(samples)
    return Drawn(
        cpu=percent_chart(samples, "CPU", lambda each: each.cpu_percent),
        memory=percent_chart(samples, "memory", lambda each: each.memory_percent),
        network=network,
        network_unit=unit,
        sparks={
            "cpu": spark(samples, lambda each: each.cpu_percent),
            "memory": spark(samples, lambda each: each.memory_percent, 1),
            "load": spark(samples, lambda each: each.load_per_core),
            "received": spark(samples, lambda each: each.received),
            "sent": spark(samples, lambda each: each.sent),
            "disk": spark(samples, lambda each: each.disk_percent, 0),
        },
    )


def over(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples without those of the newest slice, whose mean is not final; all while there is but one slice.

    Charts that stay the same are not sent again. The newest reading is in the figures above them.
    """
    begun = next(
        (at for at in range(len(samples), 0, -1) if _slice(samples[at - 1]) != _slice(samples[-1])), 0
    )
    return samples[:begun] if begun else samples


def points(samples: Sequence[Sample], *reads: Read) -> list[list[float | None]]:
    """Return rows of (time in ms, mean of each quantity in the slice), with an empty row in every pause."""
    rows: list[list[float | None]] = []
    bucket: list[Sample] = []
    for sample in samples:
        if bucket and _slice(sample) != _slice(bucket[0]):
            rows.append(_row(bucket, reads))
            if (sample.at - bucket[-1].at).total_seconds() > _BREAK_SECONDS:
                rows.append([_slice(bucket[0]) * SLICE_SECONDS * 1000.0 + 1, *[None] * len(reads)])
            bucket = []
        bucket.append(sample)
    if bucket:
        rows.append(_row(bucket, reads))
    return rows


def spark(samples: Sequence[Sample], read: Read, digits: int = 2) -> list[float]:
    """Return the newest known means of a quantity for a sparkline, which fills its height with whatever changes.

    Fewer ``digits`` keep the noise of a quantity that hardly moves from looking like news.
    """
    known = [round(value, digits) for _, value in points(samples, read) if value is not None]
    return known[-_SPARK_POINTS:]


def percent_chart(samples: Sequence[Sample], name: str, read: Read) -> dict[str, Any]:
    """Return the option of one percentage over the window, always on a scale of 0 to 100."""
    option = in_percent(_option(samples, points(samples, read), (name,)))
    option["series"][0]["areaStyle"] = {"opacity": 0.12}
    return option


def network_chart(samples: Sequence[Sample]) -> tuple[dict[str, Any], str]:
    """Return the option of both directions of the network, and the unit it is drawn in."""
    rows = points(samples, lambda each: each.received, lambda each: each.sent)
    return in_bytes(rows, ("received", "sent"), *_window(samples))


def _option(
    samples: Sequence[Sample], rows: list[list[float | None]], names: tuple[str, ...]
) -> dict[str, Any]:
    return time_chart(rows, names, *_window(samples))


def _window(samples: Sequence[Sample]) -> tuple[datetime, datetime]:
    newest = samples[-1].at if samples else _EPOCH
    # A young chart is not a speck at the edge of ten empty minutes: it begins with its data, and grows.
    return min(
        newest - _SHORTEST, max(newest - WINDOW, samples[0].at)
    ) if samples else newest - WINDOW, newest


def time_chart(
    rows: Sequence[Sequence[float | None]], names: Sequence[str], first: datetime, last: datetime
) -> dict[str, Any]:
    """Return the option of lines over a range of time; rows are (time in ms, a value for each name).

    With Ctrl held, the wheel zooms; what is zoomed is moved with the mouse.
    """
    return {
        "animation": False,  # a point a second that slides in would never rest
        "grid": {
            "left": 4,
            "right": 12,
            "top": 24 if len(names) > 1 else 8,
            "bottom": 2,
            "containLabel": True,
        },
        "tooltip": {"trigger": "axis", "confine": True},
        "dataset": {"source": [list(row) for row in rows], "dimensions": ["time", *names]},
        "dataZoom": [{"type": "inside", "zoomOnMouseWheel": "ctrl", "filterMode": "none"}],
        "xAxis": {
            "type": "time",
            "min": _milliseconds(first),
            "max": _milliseconds(last),
            "splitNumber": 4,
            "axisLabel": {"formatter": _label(last - first), "hideOverlap": True, "fontSize": 11},
            "splitLine": {"show": False},
        },
        "yAxis": {"type": "value", "splitNumber": 4, "axisLabel": {"fontSize": 11}},
        "series": [
            {
                "type": "line",
                "name": name,
                "encode": {"x": "time", "y": name},
                "showSymbol": False,
                "connectNulls": False,
                "lineStyle": {"width": 1.5, "type": _LINES[place % len(_LINES)]},
            }
            for place, name in enumerate(names)
        ],
        **({"legend": LEGEND} if len(names) > 1 else {}),
    }


def in_percent(option: dict[str, Any]) -> dict[str, Any]:
    """Return a chart's option with a scale of 0 to 100 %."""
    option["yAxis"] |= {
        "min": 0,
        "max": 100,
        "interval": 25,
        "axisLabel": {"formatter": "{value} %", "fontSize": 11},
    }
    option["tooltip"]["valueFormatter"] = "%.1f %%"
    return option


def in_bytes(
    rows: Sequence[Sequence[float | None]], names: Sequence[str], first: datetime, last: datetime
) -> tuple[dict[str, Any], str]:
    """Return the option of rates in bytes a second, and the unit it is drawn in."""
    highest = max((value for row in rows for value in row[1:] if value is not None), default=0.0)
    unit = figures.scale(highest)
    divisor = figures.per_unit(unit)
    scaled = [
        [row[0], *(None if value is None else round(value / divisor, 2) for value in row[1:])] for row in rows
    ]
    option = time_chart(scaled, names, first, last)
    option["yAxis"] |= {"min": 0}
    option["tooltip"]["valueFormatter"] = f"%.2f {unit}/s"
    return option, f"{unit}/s"


def _label(span: timedelta) -> str:
    return next(label for longest, label in _LABELS if span <= longest)


def _row(bucket: list[Sample], reads: tuple[Read, ...]) -> list[float | None]:
    return [_slice(bucket[0]) * SLICE_SECONDS * 1000.0, *(_mean(bucket, read) for read in reads)]


def _mean(bucket: list[Sample], read: Read) -> float | None:
    known = [value for sample in bucket if (value := read(sample)) is not None]
    return round(sum(known) / len(known), 2) if known else None


def _slice(sample: Sample) -> int:
    return int(sample.at.timestamp()) // SLICE_SECONDS


def _milliseconds(at: datetime) -> int:
    return int((at - _EPOCH) / timedelta(milliseconds=1))
