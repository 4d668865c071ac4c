"""Hosts over any range, and comparisons that were kept: everything but the browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dashboard.hub import Frame
from tests.fakes.dashboard_records import Kept
from tests.fakes.dashboard_service import ReplayedService, clients_report, parity_report, states_report
from tests.integration.dashboard.test_dashboard_page import frames, text

pytestmark = [
    pytest.mark.filterwarnings("ignore:::streamlit"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def live(frame: Frame) -> bool:
    return frame.connection.ever_live and bool(frame.state.hosts)


def test_a_range_is_asked_for_once_and_drawn(open_page: Any) -> None:
    records = Kept()
    page = open_page(ReplayedService(history=3, interval=None), "hosts", records=records)
    app = page.when(live)
    assert len(app.get("echarts_chart")) == 3
    assert not records.asked
    app.segmented_control[0].set_value("7 d").run()
    assert len(app.get("echarts_chart")) == 8
    assert "mean and highest, %" in text(app)
    asked = len(records.asked)
    assert {end - start for _, start, end in records.asked} == {timedelta(days=7)}
    app.run()
    assert len(records.asked) == asked


def test_a_range_of_ones_own(open_page: Any) -> None:
    records = Kept()
    page = open_page(ReplayedService(history=3, interval=None), "hosts", records=records)
    app = page.when(live)
    app.segmented_control[0].set_value("Own").run()
    first = app.get("date_time_input")[0]
    chosen = datetime(2026, 11, 1, 8).astimezone()  # the widget is in the machine's zone
    first.set_value(chosen.replace(tzinfo=None)).run()
    assert not app.exception
    assert min(start for _, start, _ in records.asked) == chosen


def test_history_that_cannot_be_asked_says_why(open_page: Any) -> None:
    records = Kept()
    records.away = True
    page = open_page(ReplayedService(history=3, interval=None), "hosts", records=records)
    app = page.when(live)
    app.segmented_control[0].set_value("1 h").run()
    assert "does not answer" in text(app)
    records.away = False
    app.run()
    assert app.get("echarts_chart")


def test_past_runs_are_listed_and_a_finding_is_shown_field_by_field(open_page: Any) -> None:
    records = Kept()
    report = parity_report(datetime.now(UTC), "FAIL")
    records.reports["20261126T080000Z-0a1b"] = {
        **report,
        "samples": {
            "mismatch": [
                {
                    "stream": "web-1/system",
                    "epoch": 1,
                    "seq": 7,
                    "details": ["supabase payload.cpu_usage: expected 12, got 13"],
                }
            ]
        },
    }
    records.events[("web-1/system", 1, 7)] = {
        "kind": "metric_collected",
        "payload": {"cpu_usage": 12, "cores": 4},
    }
    page = open_page(ReplayedService(history=1, interval=None), "validation", records=records)
    app = page.when(live)
    tables = frames(app)
    assert "20261126T080000Z-0a1b" in tables
    assert "payload.cpu_usage" in tables
    assert "payload.cores" in tables
    assert app.get("download_button")
    assert len(app.get("echarts_chart")) == 2


def test_no_run_yet_says_how_to_make_one(open_page: Any) -> None:
    page = open_page(ReplayedService(history=1, interval=None), "validation", records=Kept())
    assert "crossfade validate live" in text(page.when(live))


def test_any_number_over_any_range(open_page: Any) -> None:
    records = Kept()
    page = open_page(ReplayedService(history=3, interval=None), "analytics", records=records)
    app = page.when(live)
    assert {field for field, _, _ in records.asked} == {"cpu_usage"}
    assert "samples" in text(app)
    next(each for each in app.selectbox if each.key == "field-box-1/system").set_value("load[0]").run()
    app.segmented_control[0].set_value("30 d").run()
    field, start, end = records.asked[-1]
    assert (field, end - start) == ("load[0]", timedelta(days=30))
    assert "Lowest" in frames(app)


def test_our_tables_are_read_page_by_page(open_page: Any) -> None:
    records = Kept()
    records.tables["cf_events"] = [{"stream": f"s-{place}", "payload": {"n": place}} for place in range(150)]
    page = open_page(ReplayedService(history=1, interval=None), "analytics", records=records)
    app = page.when(live)
    assert "Rows 1 to 100" in text(app)
    app.number_input[0].set_value(2).run()
    assert "Rows 101 to 150" in text(app)
    assert '{"n":149}' in frames(app)
    next(each for each in app.selectbox if each.key == "table").set_value("cf_alerts").run()
    assert "no row here" in text(app)
    records.away = True
    app.run()
    assert "does not answer" in text(app)


def test_a_project_leaves_its_hosts_alone_on_the_page(open_page: Any) -> None:
    records = Kept()
    records.grouped = [("shop", ["box-1", "app-7"]), ("elsewhere", ["box-9"])]
    page = open_page(ReplayedService(history=3, interval=None), "hosts", records=records)
    app = page.when(live)
    project = next(each for each in app.selectbox if each.key == "project")
    project.set_value("shop").run()
    assert "8 cores" in text(app)
    next(each for each in app.selectbox if each.key == "project").set_value("elsewhere").run()
    assert "8 cores" not in text(app)


def test_what_clients_saw_is_beside_what_the_taps_say(open_page: Any) -> None:
    report = parity_report(datetime.now(UTC)) | {"clients": clients_report()}
    page = open_page(ReplayedService(history=1, interval=None), "validation", parity=lambda: report)
    app = page.when(lambda frame: live(frame) and frame.comparison.seen)
    written, tables = text(app), frames(app)
    assert "clients contradict the taps" in written
    assert "2 of 180 blocks of 3 clients differ from what was published" in written
    assert "reports of clients that cannot be read" in written
    assert "ops-1" in tables
    assert "1 of 2 did not come" in tables
    assert "nothing known" not in tables


def test_a_cohort_that_nobody_reports_of_is_named(open_page: Any) -> None:
    report = parity_report(datetime.now(UTC)) | {"clients": {"clients": 0, "blocks": 0, "differ": 0}}
    page = open_page(ReplayedService(history=1, interval=None), "validation", parity=lambda: report)
    app = page.when(lambda frame: live(frame) and frame.comparison.seen)
    assert "no client reported" in text(app)
    assert "nothing known" in frames(app)


def test_a_past_run_shows_clients_and_states(open_page: Any) -> None:
    records = Kept()
    report = parity_report(datetime.now(UTC), "FAIL")
    records.reports["20261126T080000Z-0a1b"] = {
        **report,
        "clients": clients_report(),
        "states": states_report(),
    }
    records.reports["20261125T080000Z-0a1b"] = report
    page = open_page(ReplayedService(history=1, interval=None), "validation", records=records)
    app = page.when(live)
    assert "clients saw it, too" in text(app)
    assert "states differ" in text(app)
    assert "11 of 14 entries match, 1 differ, 2 not compared." in text(app)
    assert "legacy has 8, supabase has 4" in frames(app)
    next(each for each in app.selectbox if each.key == "run").set_value("20261125T080000Z-0a1b").run()
    assert "The snapshots of both backends were not compared in this run." in text(app)
    assert "crossfade validate state" in text(app)


def test_a_stage_without_a_comparison_says_so(open_page: Any) -> None:
    idle = {"state": "idle", "reason": "nothing is compared in stage off; it begins with shadow"}
    page = open_page(ReplayedService(history=1, interval=None), "validation", parity=lambda: idle)
    app = page.when(lambda frame: live(frame) and frame.parity)
    assert "Nothing is compared in stage off; it begins with shadow." in text(app)
