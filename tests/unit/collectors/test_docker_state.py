from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.docker_state import Change, Container, apply_event, inspected, parse_listing, reconcile

ID = "b2a7ae1dceb275ed7d9be32f124147c7249877bfabb85d0598a9636f7ca56867"


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "Id": ID,
        "Names": ["/web"],
        "Image": "nginx:1",
        "State": "running",
        "Status": "Up 2 hours",
        **changes,
    }


def event(action: str, **attributes: str) -> dict[str, Any]:
    """An event as Engine 20.10 sends it."""
    return {
        "Type": "container",
        "Action": action,
        "Actor": {"ID": ID, "Attributes": {"image": "nginx:1", "name": "web", **attributes}},
        "scope": "local",
        "time": 1763688010,
        "timeNano": 1763688010039244000,
    }


WEB = parse_listing([entry()])[ID]


def test_a_listing_is_read() -> None:
    assert Container(ID, "web", "nginx:1", "running") == WEB
    assert WEB.running


@pytest.mark.parametrize(
    ("fields", "health"),
    [
        ({"Status": "Up 2 hours (healthy)"}, "healthy"),
        ({"Status": "Up 2 hours (unhealthy)"}, "unhealthy"),
        ({"Status": "Up 3 seconds (health: starting)"}, "starting"),
        ({"Status": "Up 2 hours (Paused)", "State": "paused"}, None),
        ({"Status": "Exited (137) 3 minutes ago", "State": "exited"}, None),
        ({"Status": "Up", "Health": {"Status": "healthy", "FailingStreak": 0}}, "healthy"),
        ({"Status": "Up (healthy)", "Health": {"Status": "none"}}, None),
        ({}, None),
    ],
)
def test_health_is_read_from_old_and_new_engines(fields: dict[str, Any], health: str | None) -> None:
    assert parse_listing([entry(**fields)])[ID].health == health


def test_a_container_on_its_way_out_is_dead() -> None:
    assert parse_listing([entry(State="removing")])[ID].status == "dead"


def test_a_container_without_a_name_is_called_by_its_id() -> None:
    assert parse_listing([entry(Names=None)])[ID].name == ID[:12]


def test_a_life_is_told_step_by_step() -> None:
    known: dict[str, Container] = {}
    told = []
    for action, attributes in [
        ("create", {}), ("start", {}), ("health_status: healthy", {}), ("exec_start: sh", {}), ("pause", {}),
        ("unpause", {}), ("kill", {"signal": "15"}), ("die", {"exitCode": "143"}), ("stop", {}), ("destroy", {}),
    ]:  # fmt: skip
        known, change = apply_event(known, event(action, **attributes))
        if change:
            payload = change.payload()
            current = payload["current"]
            told.append(
                (payload["action"], current and (current["status"], current["health"]), payload["exit_code"])
            )
    assert told == [
        ("create", ("created", None), None),
        ("start", ("running", None), None),
        ("health_status", ("running", "healthy"), None),
        ("pause", ("paused", "healthy"), None),
        ("unpause", ("running", "healthy"), None),
        ("die", ("exited", None), 143),
        ("destroy", None, None),
    ]
    assert known == {}


def test_the_payload_names_both_sides() -> None:
    _, change = apply_event({ID: WEB}, event("die", exitCode="1"))
    assert change is not None
    assert change.payload() == {
        "container": {"id": ID[:12], "name": "web", "image": "nginx:1"},
        "previous": {"status": "running", "health": None, "running": True},
        "current": {"status": "exited", "health": None, "running": False},
        "action": "die",
        "exit_code": 1,
    }


def test_an_event_that_says_nothing_new_changes_nothing() -> None:
    assert apply_event({ID: WEB}, event("start"))[1] is None
    assert apply_event({}, event("destroy"))[1] is None


def test_a_new_name_is_kept_and_is_no_change_of_status() -> None:
    known, change = apply_event({ID: WEB}, event("rename", name="web-2", oldName="/web"))
    assert change is None
    assert known[ID].name == "web-2"


def test_a_start_asks_for_a_new_inspection() -> None:
    seen = inspected(WEB, {"State": {"StartedAt": "2026-11-21T01:40:06.2Z"}, "RestartCount": 3})
    assert (seen.started_at, seen.restarts) == ("2026-11-21T01:40:06.2Z", 3)
    stopped, _ = apply_event({ID: seen}, event("die"))
    started, _ = apply_event(stopped, event("start"))
    assert started[ID].restarts is None


def test_a_container_that_never_ran_has_no_start() -> None:
    created = parse_listing([entry(State="created", Status="Created")])[ID]
    detail = {"State": {"StartedAt": "0001-01-01T00:00:00Z"}, "RestartCount": 0}
    assert inspected(created, detail).started_at is None


def test_the_list_corrects_what_events_missed() -> None:
    other = Container("f" * 64, "gone", "x", "running")
    listed = parse_listing([entry(State="exited", Status="Exited (0) now")])
    after, changes = reconcile({ID: WEB, other.id: other}, listed)
    assert after == listed
    assert changes == [Change(WEB, listed[ID], "listed"), Change(other, None, "listed")]


def test_the_list_keeps_what_an_inspection_found() -> None:
    seen = inspected(WEB, {"State": {"StartedAt": "x"}, "RestartCount": 3})
    after, changes = reconcile({ID: seen}, {ID: WEB})
    assert after[ID].restarts == 3
    assert changes == []


actions = st.sampled_from(
    [
        "create",
        "start",
        "die",
        "pause",
        "unpause",
        "destroy",
        "rename",
        "health_status: healthy",
        "kill",
        "",
        "x: y",
    ]
)


@given(st.lists(actions, max_size=30))
def test_told_changes_always_join_up(sequence: list[str]) -> None:
    known: dict[str, Container] = {}
    last: Any = None
    for action in sequence:
        known, change = apply_event(known, event(action))
        if change:
            payload = change.payload()
            assert payload["previous"] == last
            assert payload["current"] != last
            last = payload["current"]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda x: st.dictionaries(st.text(), x, max_size=3),
        max_leaves=8,
    )
)
def test_a_strange_event_changes_nothing(strange: Any) -> None:
    if isinstance(strange, dict):
        assert apply_event({ID: WEB}, strange) == ({ID: WEB}, None)
