"""What a person who has just been woken reads."""

from __future__ import annotations

from typing import Any

import pytest

from crossfade.alert_lines import doubts, lines

ALERT: dict[str, Any] = {
    "id": "1a2b3c4d-0000-5000-8000-000000000000",
    "rule": "disk-full",
    "device": "web-frontend-12.example.com",
    "item": "/var/lib/docker",
    "severity": "warning",
    "state": "firing",
    "since": "2026-11-27T03:04:05.678Z",
    "value": 91.23456,
    "expected": "above 90",
    "summary": "",
    "flapping": False,
    "acknowledged_by": None,
    "silenced_by": None,
    "inhibited_by": None,
}
UP = {"parts": [{"name": "alerts"}]}
STATUS: dict[str, Any] = {
    "file": "alerts.yaml",
    "problem": None,
    "channels": {"ops": {"waiting": 0, "last_error": None}},
}


def said(**given: Any) -> list[str]:
    usual: dict[str, Any] = {"heard": True, "up": UP, "status": STATUS, "age_seconds": 0.5, "option": ""}
    return list(doubts(**(usual | given)))


def test_an_alert_has_its_id_its_time_its_target_and_its_reading_whatever_the_width() -> None:
    assert list(lines(ALERT)) == [
        "1a2b3c4d  warning, firing since 2026-11-27 03:04:05 UTC",
        "          disk-full: web-frontend-12.example.com /var/lib/docker: 91.23, above 90",
    ]


def test_an_alert_says_what_its_rule_says_and_why_it_is_quiet() -> None:
    alert = ALERT | {
        "item": "",
        "value": None,
        "expected": "",
        "summary": "the host does not answer",
        "flapping": True,
    }
    alert |= {"acknowledged_by": "ann@example.com", "inhibited_by": "host-down"}
    assert list(lines(alert)) == [
        "1a2b3c4d  warning, firing, flapping since 2026-11-27 03:04:05 UTC",
        "          disk-full: web-frontend-12.example.com - the host does not answer",
        "          not told: acknowledged by ann@example.com; caused by host-down",
    ]


def test_a_row_of_history_that_lacks_what_only_the_stream_has_is_a_line_too() -> None:
    row = {key: ALERT[key] for key in ALERT if key not in {"expected", "silenced_by", "inhibited_by"}}
    assert next(lines(row | {"since": None, "state": "no_data"})) == "1a2b3c4d  warning, no data"


def test_where_all_works_nothing_is_in_doubt() -> None:
    assert said() == []


def test_a_process_that_never_spoke_is_not_taken_for_peace() -> None:
    assert said(heard=False, up=None, status=None, age_seconds=None) == [
        "the alerting process has told nothing yet: see crossfade status"
    ]


@pytest.mark.parametrize(("age", "shown"), [(31.0, "said nothing for 31 s,"), (None, "said nothing,")])
def test_a_process_that_fell_silent_is_told_and_its_old_word_is_not(age: float | None, shown: str) -> None:
    (only,) = said(age_seconds=age, status=STATUS | {"channels": {}}, option=" --data-dir d")
    assert shown in only
    assert only.endswith("see crossfade status --data-dir d")


def test_where_nothing_runs_here_the_process_may_run_elsewhere() -> None:
    assert said(up=None, age_seconds=9000.0) == []
    assert said(up={"parts": [{"name": "legacy"}]}, age_seconds=None) == []


def test_it_is_told_why_nobody_was_told() -> None:
    assert said(status=STATUS | {"channels": {}}) == [
        "nobody is told of anything: alerts.yaml names no channel"
    ]
    stuck = {"ops": {"waiting": 3, "last_error": "ntfy does not answer"}, "mail": {"last_error": None}}
    assert said(status=STATUS | {"channels": stuck, "problem": "alerts.yaml:7: no such key"}) == [
        "the alerting process says: alerts.yaml:7: no such key",
        "channel ops does not take messages, and 3 wait for it: ntfy does not answer",
    ]
