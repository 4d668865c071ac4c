from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.health import Finding, detailed, percentiles, polling

AT = datetime(2026, 11, 27, tzinfo=UTC)
GOOD = Finding("database", ok=True, latency_ms=1.5, detail="answers")
BAD = Finding(
    "flags", ok=False, latency_ms=0.1, detail="broken", required=False, last_error="broken", last_error_at=AT
)


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ((GOOD,), "ok"),
        ((GOOD, BAD), "degraded"),
        ((Finding("database", ok=False, latency_ms=3000), BAD), "down"),
    ],
)
def test_a_service_is_down_only_with_what_it_cannot_do_without(
    findings: tuple[Finding, ...], status: str
) -> None:
    told = detailed("query", "1", 12.0, findings)
    assert told["status"] == status
    assert list(told["components"]) == [finding.name for finding in findings]


def test_a_component_tells_its_latency_and_last_error_with_its_time() -> None:
    assert BAD.to_json() == {
        "status": "degraded",
        "required": False,
        "latency_ms": 0.1,
        "detail": "broken",
        "last_error": "broken",
        "last_error_at": "2026-11-27T00:00:00.000000Z",
    }


TICKS = {"read": 9, "failed": 1, "timed_out": 0, "late": 2, "skipped": 0, "last_error": None, "status": "up"}


def report(**more: object) -> dict[str, object]:
    return {"running": True, "detail": "collecting", "collectors": {"web-1/system": TICKS | more}}


@pytest.mark.parametrize(
    ("given_report", "age", "status"),
    [
        (None, None, "off"),
        (report() | {"running": False}, 1.0, "off"),
        (report(), 1.0, "ok"),
        (report(last_error="no route to host"), 1.0, "degraded"),
        (report(), 60.0, "down"),
    ],
)
def test_the_polling_is_judged_by_its_report_and_the_age_of_that(
    given_report: dict[str, object] | None, age: float | None, status: str
) -> None:
    told = polling(given_report, age)
    assert told["status"] == status
    assert set(told) == {"status", "detail", "age_seconds", "cycles", "by_status", "collectors"}


def test_cycles_are_summed_over_the_collectors() -> None:
    told = polling({"running": True, "collectors": {"a": TICKS, "b": TICKS}}, 1.0)
    assert told["cycles"] == {
        "read": 18, "failed": 2, "timed_out": 0, "late": 4, "skipped": 0, "success_share": 0.9,
    }  # fmt: skip
    assert told["by_status"] == {"up": 2}


def test_percentiles_are_of_nearest_rank_in_milliseconds() -> None:
    told = percentiles([number / 1000 for number in range(1, 101)])
    assert told == {"count": 100, "mean": 50.5, "p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
    assert percentiles([])["p99"] is None


@given(st.lists(st.floats(0, 100), min_size=1))
def test_percentiles_are_durations_that_there_were_in_order(seconds: list[float]) -> None:
    told = percentiles(seconds)
    ranks = [told[name] for name in ("p50", "p90", "p95", "p99", "max")]
    assert ranks == sorted(ranks)
    assert set(ranks) <= {round(1000 * each, 3) for each in seconds}
