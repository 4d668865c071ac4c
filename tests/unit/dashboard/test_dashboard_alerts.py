"""Alerts folded from the events of the alerting process, and shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from dashboard import alerts, reports
from dashboard.alerts import Alert, applied
from dashboard.hub import Frame
from dashboard.model import Connection, State
from dashboard.views import alerts as view
from monitoring.events import Event, StreamId
from monitoring.flags.model import Flags

NOW = datetime(2026, 11, 21, 8, 0, 30, tzinfo=UTC)
EMPTY = Frame(1, "viewer-1", Connection(), State(), reports.rollout(Flags(), None, "viewer-1"))


def document(key: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": key,
        "rule": "disk-full",
        "device": "web-1",
        "item": "/",
        "severity": "warning",
        "state": "firing",
        "firing": True,
        "fired_at": "2026-11-21T08:00:00Z",
        "value": 97.25,
        "expected": "below 90",
        "summary": "make room",
        **fields,
    }


def event(kind: str, payload: dict[str, Any], second: int) -> Event:
    return Event(
        UUID(int=second),
        StreamId("crossfade/alerts"),
        1,
        second + 1,
        kind,
        NOW - timedelta(seconds=60 - second),
        payload,
    )


def changed(second: int, key: str, **fields: Any) -> Event:
    return event("alert_changed", document(key, **fields), second)


def collected(second: int, *keys: str) -> Event:
    return event("alerts_collected", {"alerts": [document(key) for key in keys]}, second)


def run(*events: Event) -> dict[str, Alert]:
    known: Any = {}
    for each in events:
        known = applied(known, each)
    return dict(known)


def test_what_fires_is_open_until_it_is_over() -> None:
    known = run(changed(1, "a"), changed(2, "b"), changed(3, "a", firing=False, state="ok"))
    assert list(known) == ["b"]
    assert known["b"].value == "97.25"


def test_what_is_pending_is_shown_and_does_not_fire() -> None:
    known = run(changed(1, "a", firing=False, state="pending"))
    assert [each.state for each in known.values()] == ["pending"]
    assert view.firing(replace(EMPTY, state=State(alerts=known))) == []


def test_the_collection_replaces_what_is_older_and_keeps_what_is_newer() -> None:
    assert set(run(changed(1, "old"), changed(9, "new"), collected(5, "c"))) == {"c", "new"}
    assert set(run(changed(9, "a", acknowledged_by="ann"), changed(3, "a"))) == {"a"}
    assert run(changed(9, "a", acknowledged_by="ann"), changed(3, "a"))["a"].acknowledged_by == "ann"


def test_the_worst_stands_first_and_every_page_says_it() -> None:
    known = run(
        changed(1, "a"), changed(2, "b", severity="critical", rule="host-down", item="", flapping=True)
    )
    frame = replace(EMPTY, state=State(alerts=known))
    rows = view.rows(frame, NOW)
    assert rows["Severity"] == ["critical", "warning"]
    assert rows["State"] == ["firing, flapping", "firing"]
    assert rows["For"] == ["30 s", "30 s"]
    badge = view.badge(frame)
    assert badge is not None
    assert (badge.text, badge.color, badge.help) == ("1 critical · 1 warning", "red", "host-down: web-1")
    assert view.badge(EMPTY) is None
    assert view.rows(EMPTY, NOW) == {}


JSON = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=4)
    | st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=3)), max_size=2)
)


@given(
    st.sampled_from(sorted(alerts.KINDS)), st.dictionaries(st.sampled_from(("alerts", *document("a"))), JSON)
)
def test_whatever_is_told_is_no_error(kind: str, payload: dict[str, Any]) -> None:
    frame = replace(EMPTY, state=State(alerts=applied({}, event(kind, payload, 1))))
    view.rows(frame, NOW)
    view.badge(frame)
