"""The comparison's report, read and drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dashboard import figures, reports
from dashboard.comparison import Comparison, comparison, latency_chart, timeline_chart
from dashboard.hub import Frame
from dashboard.model import Connection, State
from dashboard.views import validation
from monitoring.flags.model import Flags
from monitoring.service import Backend

EMPTY = Frame(1, "viewer-1", Connection(), State(), reports.rollout(Flags(), None, "viewer-1"))
REPORT: dict[str, Any] = {
    "verdict": "FAIL",
    "decided": 100,
    "coverage": 0.99,
    "upper_bound_95": 0.0123,
    "window_seconds": 600.0,
    "counts": {"matched": 97, "missing_supabase": 3},
    "categories": {"system": {"matched": 90, "missing_supabase": 3}, "containers": {"matched": 7}},
    "sides": {"legacy": {"latency": {"histogram": [[0.002, 3], [0.001, 1], [0.5, 0]]}}},
    "timeline": {"seconds": 8.0, "rows": [{"at": -3.0, "matched": 35}, {"at": 69.0, "matched": 2, "missing_supabase": 3}]},
    "samples": {"missing_supabase": [{"stream": "web-1/system", "epoch": 1, "seq": 7, "details": ["not there"]}]},
    "total": {"started_at": "2026-11-21T08:00:00Z", "decided": 5000},
    "not_compared": ["log lines"],
}  # fmt: skip
FULL = replace(EMPTY, parity=reports.parity(REPORT), comparison=comparison(REPORT))


def test_the_report_is_read() -> None:
    found = FULL.comparison
    assert found.began == datetime(2026, 11, 21, 8, tzinfo=UTC)
    assert found.latencies[Backend.LEGACY] == ((0.001, 1), (0.002, 3))
    assert found.latencies[Backend.SUPABASE] == ()
    assert found.not_compared == ("log lines",)


def test_the_page_says_what_was_found() -> None:
    shown = {each.label: each.value for each in validation.key_figures(FULL)}
    assert shown == {
        "Compared": "100",
        "Findings": "3",
        "Coverage": "99.00 %",
        "Certain to": "1.2 %",
        "Since it began": figures.count(5000),
    }
    classes = validation.classes(FULL.comparison)
    assert classes["Class"] == ["matched", "missing supabase"]
    assert classes["system"] == [90, 3]
    assert classes["containers"] == [7, 0]
    assert validation.samples(FULL.comparison)["What differs"] == ["not there"]


def test_nothing_compared_is_nothing_said() -> None:
    assert {each.value for each in validation.key_figures(EMPTY)} == {figures.UNKNOWN}
    assert validation.classes(Comparison()) == validation.samples(Comparison()) == {}


def test_the_charts_are_plain_json_and_end_at_all_events() -> None:
    latency = latency_chart(FULL.comparison)
    assert [each["name"] for each in latency["series"]] == ["legacy"]
    assert latency["series"][0]["data"] == [[1.0, 25.0], [2.0, 100.0]]
    timeline = timeline_chart(FULL.comparison)
    assert timeline["xAxis"]["data"] == ["0:00", "1:09"]
    assert [each["data"] for each in timeline["series"]] == [[35, 2], [0, 3]]
    json.dumps([latency, timeline], allow_nan=False)


def test_a_curve_stays_short_and_whole() -> None:
    many = comparison(
        {"sides": {"legacy": {"latency": {"histogram": [[n / 1000, 2] for n in range(1, 500)]}}}}
    )
    data = latency_chart(many)["series"][0]["data"]
    assert len(data) <= 61
    assert data[-1][1] == 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("latency", "histogram", "rows", "legacy", "at", "x")), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(REPORT)), JSON))
def test_whatever_another_version_writes_is_no_error(report: dict[str, Any]) -> None:
    frame = replace(EMPTY, parity=reports.parity(report), comparison=comparison(report))
    validation.key_figures(frame)
    validation.classes(frame.comparison)
    validation.samples(frame.comparison)
    json.dumps([latency_chart(frame.comparison), timeline_chart(frame.comparison)], allow_nan=False)
