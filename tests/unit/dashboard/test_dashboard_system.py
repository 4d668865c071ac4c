"""What the processes say of themselves, read and shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dashboard import figures, reports
from dashboard.hub import Frame
from dashboard.model import Connection, State
from dashboard.system import System, system
from dashboard.views import system as view
from monitoring.flags.model import Flags

NOW = datetime(2026, 11, 21, 8, 0, 30, tzinfo=UTC)
EMPTY = Frame(1, "viewer-1", Connection(), State(), reports.rollout(Flags(), None, "viewer-1"))
STATE: dict[str, Any] = {
    "updated_at": "2026-11-21T08:00:29Z",
    "parts": [
        {
            "name": "postgres",
            "state": "ready",
            "seconds": 95.0,
            "restarts": 0,
            "address": "127.0.0.1:54322",
            "log": "data/logs/postgres.log",
        },
        {
            "name": "legacy",
            "state": "starting",
            "seconds": 1.0,
            "restarts": 6,
            "crash_loop": True,
            "detail": "exit 1",
        },
    ],
}
COLLECT: dict[str, Any] = {
    "paths": {
        "supabase": {"connected": False, "last_error": "connection refused", "events": 10, "pending": 1200, "tombstones": 1},
        "legacy": {"connected": True, "detail": "connected", "sent_events": 1210, "pending": 0, "unsendable_events": 2},
        "other": {"enabled": False},
    },
    "spool": {"retained": 1200, "limit": 200_000, "bytes": 434_176, "limit_bytes": 1_000_000_000, "held_back": None},
    "collectors": {"host": {"read": 40, "failed": 1, "late": 2, "skipped": 3, "last_success": "2026-11-21T08:00:25Z"}},
}  # fmt: skip
FULL = replace(EMPTY, system=system(STATE, COLLECT))


def test_the_figures() -> None:
    shown = {each.label: (each.value, each.note) for each in view.key_figures(FULL)}
    assert shown["Parts ready"] == ("1 of 2", "6 restarted")
    assert shown["On their way"][0] == figures.count(1200)
    assert shown["Not deliverable"][0] == "3"
    assert shown["Readings missed"][0] == "6"
    assert shown["Spool"] == ("434 kB", "of 1.0 GB")
    assert {each.value for each in view.key_figures(EMPTY)} == {figures.UNKNOWN}


def test_the_tables() -> None:
    assert view.parts(FULL)["State"] == ["ready", "crash loop"]
    assert view.parts(FULL)["For"] == ["95 s", "1 s"]
    assert view.parts(FULL)["Log"] == ["postgres.log", ""]
    assert view.log_places(FULL) == "Logs are in data/logs"
    assert not view.log_places(EMPTY)
    paths = view.paths(FULL)
    assert paths["Path"] == ["supabase", "legacy"]
    assert paths["State"] == ["connection refused", "connected"]
    assert paths["Sent"][0] == "10"
    assert view.collectors(FULL, NOW)["Newest"] == ["5 s"]
    assert view.parts(EMPTY) == view.paths(EMPTY) == view.collectors(EMPTY, NOW) == {}


def test_nothing_told_is_nothing_known() -> None:
    assert system(None, None) == System()
    assert FULL.system.told_at == NOW - timedelta(seconds=1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("parts", "paths", "spool", "collectors", "name", "seconds", "late")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
OBJECT = st.dictionaries(st.sampled_from(("parts", "paths", "spool", "collectors", "updated_at")), JSON)


@given(OBJECT, OBJECT)
def test_whatever_another_version_writes_is_no_error(state: dict[str, Any], collect: dict[str, Any]) -> None:
    frame = replace(EMPTY, system=system(state, collect))
    view.key_figures(frame)
    view.parts(frame)
    view.paths(frame)
    view.collectors(frame, NOW)
