"""Reports of other parts: tolerant of what is missing, silent about nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import reports
from monitoring.flags.model import ClientId, Flags
from monitoring.service import PUSHING, Backend

AT = datetime(2026, 11, 21, 8, tzinfo=UTC)
REPORT: dict[str, Any] = {
    "verdict": "FAIL",
    "reasons": ["2 missing_supabase", "1 mismatch"],
    "ended_at": "2026-11-21T08:00:00.000000Z",
    "decided": 100,
    "pending": 3,
    "coverage": 0.97,
    "counts": {"matched": 97, "missing_supabase": 2, "mismatch": 1, "excluded": 4},
    "sides": {"legacy": {"delivered": 100, "latency": {"p50_seconds": 0.004, "p99_seconds": None}}},
}


def test_a_report_in_full() -> None:
    parity = reports.parity(REPORT)
    assert isinstance(parity, reports.Parity)
    assert reports.parity({"state": "comparing", "report": REPORT}) == parity
    assert (parity.verdict, parity.matched, parity.decided, parity.pending) == ("FAIL", 97, 100, 3)
    assert parity.coverage_percent == 97
    assert parity.findings == (("missing supabase", 2), ("mismatch", 1))
    assert parity.sides[Backend.LEGACY] == reports.Side(100, 0.004, None)
    assert parity.sides[Backend.SUPABASE] == reports.Side(None, None, None)
    assert parity.reason == "2 missing_supabase; 1 mismatch"
    assert not parity.old(AT + timedelta(seconds=5))
    assert parity.old(AT + timedelta(minutes=5))


@pytest.mark.parametrize("report", [None, {}, {"verdict": None}])
def test_no_report_is_no_comparison(report: dict[str, Any] | None) -> None:
    assert reports.parity(report) is None


def test_a_comparison_that_waits_names_the_sides_it_waits_for() -> None:
    summary = {"state": "waiting", "live": {"legacy": True, "supabase": False}}
    assert reports.parity(summary) == reports.Waiting((Backend.SUPABASE,))
    assert reports.parity({"state": "waiting"}) == reports.Waiting(PUSHING)


@given(
    st.dictionaries(
        st.sampled_from(sorted(REPORT)),
        st.none() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2) | st.floats(),
    )
)
def test_no_report_raises(damaged: dict[str, Any]) -> None:
    parity = reports.parity({**REPORT, **damaged})
    if isinstance(parity, reports.Parity):
        parity.old(AT)


def test_a_time_without_a_zone_is_unknown() -> None:
    parity = reports.parity({**REPORT, "ended_at": "2026-11-21T08:00:00"})
    assert isinstance(parity, reports.Parity)
    assert parity.at is None
    assert not parity.old(AT)


@pytest.mark.parametrize(
    ("report", "note"),
    [
        (None, None),
        ({"docker": None}, None),
        ({"docker": {"available": True, "detail": "Docker is there"}}, None),
        (
            {"docker": {"available": False, "detail": "Docker is not there: no socket"}},
            "Docker is not there: no socket",
        ),
        ({"docker": {"available": False, "detail": 7}}, None),
    ],
)
def test_docker_note(report: dict[str, Any] | None, note: str | None) -> None:
    assert reports.docker_note(report) == note


def test_rollout_says_where_the_viewer_belongs_and_why() -> None:
    viewer = ClientId("dashboard-box-1")
    at_zero = reports.rollout(Flags(), None, viewer)
    assert (at_zero.percent_text, at_zero.wish, at_zero.reason) == ("0", Backend.LEGACY, "DEFAULT")
    assert at_zero.why == "live.percent is 0"
    allowed = reports.rollout(Flags(weight=12_500, allow=frozenset({viewer})), "line 3: no", viewer)
    assert (allowed.percent, allowed.wish, allowed.reason) == (12.5, Backend.SUPABASE, "ALLOWED")
    assert allowed.problem == "line 3: no"
    assert allowed.bucket_percent is not None
    assert reports.rollout(Flags(kill=True), None, "").bucket_percent is None
