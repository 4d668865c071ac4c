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
_SECONDS_SHOWN = timedelta(minutes=4)
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
    """Return the charts and sparklines of the samples."""
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
    option = _option(samples, points(samples, read), (name,))
    option["yAxis"] |= {
        "min": 0,
        "max": 100,
        "interval": 25,
        "axisLabel": {"formatter": "{value} %", "fontSize": 11},
    }
    option["tooltip"]["valueFormatter"] = "%.1f %%"
    option["series"][0]["areaStyle"] = {"opacity": 0.12}
    return option


def network_chart(samples: Sequence[Sample]) -> tuple[dict[str, Any], str]:
    """Return the option of both directions of the network, and the unit it is drawn in."""
    rows = points(samples, lambda each: each.received, lambda each: each.sent)
    highest = max((value for row in rows for value in row[1:] if value is not None), default=0.0)
    unit = figures.scale(highest)
    divisor = figures.per_unit(unit)
    scaled: list[list[float | None]] = [
        [row[0], *(None if value is None else round(value / divisor, 2) for value in row[1:])] for row in rows
    ]
    option = _option(samples, scaled, ("received", "sent"))
    option["yAxis"] |= {"min": 0, "splitNumber": 4, "axisLabel": {"fontSize": 11}}
    option["tooltip"]["valueFormatter"] = f"%.2f {unit}/s"
    option["legend"] = {"right": 0, "top": 0, "itemWidth": 18, "itemHeight": 8, "textStyle": {"fontSize": 11}}
    option["series"][1]["lineStyle"] = {"width": 1.5, "type": "dashed"}  # told apart without colour
    return option, f"{unit}/s"


def _option(
    samples: Sequence[Sample], rows: list[list[float | None]], names: tuple[str, ...]
) -> dict[str, Any]:
    newest = samples[-1].at if samples else _EPOCH
    # A young chart is not a speck at the edge of ten empty minutes: it begins with its data, and grows.
    first = min(newest - _SHORTEST, max(newest - WINDOW, samples[0].at)) if samples else newest - WINDOW
    label = "{HH}:{mm}" if newest - first > _SECONDS_SHOWN else "{HH}:{mm}:{ss}"
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
        "dataset": {"source": rows, "dimensions": ["time", *names]},
        "xAxis": {
            "type": "time",
            "min": _milliseconds(first),
            "max": _milliseconds(newest),
            "splitNumber": 4,
            "axisLabel": {"formatter": label, "hideOverlap": True, "fontSize": 11},
            "splitLine": {"show": False},
        },
        "yAxis": {"type": "value"},
        "series": [
            {
                "type": "line",
                "name": name,
                "encode": {"x": "time", "y": name},
                "showSymbol": False,
                "connectNulls": False,
                "lineStyle": {"width": 1.5},
            }
            for name in names
        ],
    }


def _row(bucket: list[Sample], reads: tuple[Read, ...]) -> list[float | None]:
    return [_slice(bucket[0]) * SLICE_SECONDS * 1000.0, *(_mean(bucket, read) for read in reads)]


def _mean(bucket: list[Sample], read: Read) -> float | None:
    known = [value for sample in bucket if (value := read(sample)) is not None]
    return round(sum(known) / len(known), 2) if known else None


def _slice(sample: Sample) -> int:
    return int(sample.at.timestamp()) // SLICE_SECONDS


def _milliseconds(at: datetime) -> int:
    return int((at - _EPOCH) / timedelta(milliseconds=1))
