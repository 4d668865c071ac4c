"""Ranges, and the charts of a host over them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dashboard import history
from dashboard.readings import Disk

NOW = datetime(2026, 11, 26, 8, 0, 3, tzinfo=UTC)
SPAN = history.lately(timedelta(hours=1), NOW)


def answering(points: list[list[float]]) -> history.Ask:
    return lambda _field, _start, _end, _points: {"step_seconds": 12, "points": points}


def rows(chart: history.Chart) -> list[list[float | None]]:
    assert chart.option is not None
    return list(chart.option["dataset"]["source"])


def test_a_range_is_the_same_until_its_next_step() -> None:
    later = history.lately(timedelta(hours=1), NOW + timedelta(seconds=8))
    assert later == SPAN
    assert history.lately(timedelta(hours=1), NOW + timedelta(seconds=10)) != SPAN
    assert SPAN.end >= NOW
    assert SPAN.end - SPAN.start == timedelta(hours=1)


def test_a_range_of_ones_own_has_an_order() -> None:
    before = NOW - timedelta(days=2)
    assert history.between(NOW, before) == history.Range(before, NOW)
    assert history.between(NOW, NOW) is None


def test_a_percentage_has_its_mean_and_its_highest() -> None:
    (chart,) = history.host_charts(["cpu_usage"], (), SPAN, answering([[100, 40, 10, 80, 5]]))[:1]
    assert rows(chart) == [[100_000, 40.0, 80.0]]
    assert chart.option is not None
    assert chart.option["yAxis"]["max"] == 100


def test_interfaces_are_summed_and_the_loopback_is_none() -> None:
    asked: list[str] = []

    def ask(field: str, _start: datetime, _end: datetime, _points: int) -> dict[str, Any]:
        asked.append(field)
        return {"step_seconds": 12, "points": [[100, 2e6, 1e6, 3e6, 5]]}

    fields = [f"networks[{name}].rx_bytes_per_second" for name in ("lo", "eth0", "eth1")]
    found = {chart.key: chart for chart in history.host_charts(fields, (), SPAN, ask)}
    assert asked == fields[1:]
    assert rows(found["network"]) == [[100_000, 4.0]]
    assert found["network"].unit == "MB/s"


def test_disks_are_shares_of_their_size() -> None:
    disk = Disk("/", "/dev/vda", "ext4", 200.0, 50.0)
    found = history.host_charts(["disks[/].used_bytes"], [disk], SPAN, answering([[100, 50, 50, 50, 1]]))
    assert rows(next(chart for chart in found if chart.key == "disks")) == [[100_000, 25.0]]


def test_a_pause_breaks_the_line() -> None:
    points = [[at, 1.0, 1.0, 1.0, 1] for at in (0, 12, 24, 600, 612)]
    (chart,) = history.host_charts(["cpu_usage"], (), SPAN, answering(points))[:1]
    assert [row[0] for row in rows(chart)] == [0, 12_000, 24_000, 36_000, 600_000, 612_000]
    assert rows(chart)[3][1:] == [None, None]


@pytest.mark.parametrize("answer", [{}, {"points": "x"}, {"points": [[1]]}, {"points": [["a", None, 3, 4]]}])
def test_what_cannot_be_read_is_an_empty_chart(answer: dict[str, Any]) -> None:
    found = history.host_charts(list_of_fields(), (), SPAN, lambda *_: answer)
    assert found
    assert all(chart.option is None for chart in found)
    assert all("nothing was recorded" in chart.alt for chart in found)


def list_of_fields() -> list[str]:
    return [
        "cpu_usage",
        "memory_usage",
        "load[0]",
        "pressure.cpu.some_avg10",
        "disk_io[vda].read_bytes_per_second",
    ]
