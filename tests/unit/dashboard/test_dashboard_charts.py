"""Samples to chart options."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from dashboard import charts
from dashboard.readings import Sample

T0 = datetime(2026, 11, 21, 8, tzinfo=UTC)


def sample(second: float, cpu: float | None = 10.0, received: float | None = 2e6) -> Sample:
    return Sample(T0 + timedelta(seconds=second), cpu, 50.0, 0.5, received, 1e3, 60.0)


def cpu(each: Sample) -> float | None:
    return each.cpu_percent


def test_a_point_is_the_mean_of_a_fixed_slice_of_the_clock() -> None:
    rows = charts.points([sample(0, 10), sample(2, 20), sample(4, 40)], cpu)
    start = T0.timestamp() * 1000
    assert rows == [[start, 15.0], [start + 4000, 40.0]]


def test_drawn_points_do_not_move_when_a_reading_comes() -> None:
    samples = [sample(second, second) for second in range(0, 60, 2)]
    before = charts.points(samples[:-2], cpu)
    after = charts.points(samples, cpu)
    assert after[: len(before) - 1] == before[:-1]


def test_what_is_drawn_is_the_same_until_another_slice_is_over() -> None:
    samples = [sample(second, second) for second in range(0, 62, 2)]
    assert charts.drawn(samples[:-1]) == charts.drawn(samples[:-2])
    assert charts.drawn(samples) != charts.drawn(samples[:-1])
    assert charts.over(samples[:1]) == samples[:1]
    assert charts.over([]) == []


def test_a_pause_breaks_the_line() -> None:
    rows = charts.points([sample(0), sample(60)], cpu)
    assert [row[1] for row in rows] == [10.0, None, 10.0]


def test_unknown_values_stay_unknown_and_leave_the_sparkline() -> None:
    samples = [sample(0, None), sample(4, 5.0)]
    assert [row[1] for row in charts.points(samples, cpu)] == [None, 5.0]
    assert charts.spark(samples, cpu) == [5.0]


def test_sparklines_are_short() -> None:
    assert len(charts.spark([sample(second) for second in range(0, 600, 2)], cpu)) == 40


def test_noise_is_no_news() -> None:
    samples = [replace(sample(second), disk_percent=60 + second / 100) for second in range(0, 40, 4)]
    assert set(charts.spark(samples, lambda each: each.disk_percent, 0)) == {60.0}


def test_percentages_are_always_on_the_same_scale_and_the_window_is_ten_minutes() -> None:
    option = charts.percent_chart([sample(0), sample(900)], "CPU", cpu)
    assert (option["yAxis"]["min"], option["yAxis"]["max"]) == (0, 100)
    assert option["xAxis"]["max"] - option["xAxis"]["min"] == 600_000
    json.dumps(option, allow_nan=False)


def test_a_young_chart_begins_with_its_data() -> None:
    def width(*seconds: float) -> int:
        axis = charts.percent_chart([sample(second) for second in seconds], "CPU", cpu)["xAxis"]
        return int(axis["max"] - axis["min"])

    assert (width(0), width(0, 90)) == (60_000, 90_000)


def test_the_network_is_drawn_in_a_unit_that_fits() -> None:
    option, unit = charts.network_chart([sample(0, received=2e6)])
    assert unit == "MB/s"
    assert option["dataset"]["source"][0][1:] == [2.0, 0.0]
    assert option["series"][1]["lineStyle"]["type"] == "dashed"


def test_charts_without_samples() -> None:
    option, unit = charts.network_chart([])
    assert option["dataset"]["source"] == []
    assert unit == "B/s"


def test_options_for_full_windows_stay_small() -> None:
    option = charts.percent_chart([sample(second) for second in range(0, 600, 2)], "CPU", cpu)
    assert len(json.dumps(option)) < 6_000
