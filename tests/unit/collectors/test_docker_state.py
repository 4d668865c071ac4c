from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.docker_state import (
    Change,
    Container,
    Engine,
    apply_event,
    engine_of,
    inspected,
    parse_listing,
    reconcile,
)

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
        "previous": {"name": "web", "status": "running", "health": None, "running": True},
        "current": {"name": "web", "status": "exited", "health": None, "running": False},
        "action": "die",
        "exit_code": 1,
        "signal": None,
        "oom_killed": False,
    }


def test_an_event_that_says_nothing_new_changes_nothing() -> None:
    assert apply_event({ID: WEB}, event("start"))[1] is None
    assert apply_event({}, event("destroy"))[1] is None


def test_a_new_name_is_told_with_the_old_one() -> None:
    known, change = apply_event({ID: WEB}, event("rename", name="web-2", oldName="/web"))
    assert change is not None
    told = change.payload()
    assert (told["previous"]["name"], told["current"]["name"], told["container"]["name"]) == (
        "web",
        "web-2",
        "web-2",
    )
    assert known[ID].name == "web-2"
    assert reconcile(known, parse_listing([entry(Names=["/web-3"])]))[1][0].action == "listed"


def test_an_end_says_what_ended_it() -> None:
    known, change = apply_event({ID: WEB}, event("kill", signal="9"))
    assert change is None
    known, change = apply_event(known, event("die", exitCode="137"))
    assert change is not None
    assert (change.payload()["signal"], change.payload()["oom_killed"]) == ("9", False)
    known, _ = apply_event(known, event("start"))
    assert (known[ID].signal, known[ID].exit_code) == (None, None)


def test_a_process_that_the_kernel_killed_is_told_even_when_the_container_lives_on() -> None:
    known, change = apply_event({ID: WEB}, event("oom"))
    assert change is not None
    told = change.payload()
    assert (told["action"], told["oom_killed"], told["current"]["status"]) == ("oom", True, "running")
    _, change = apply_event(known, event("die", exitCode="137"))
    assert change is not None
    assert change.payload()["oom_killed"] is True


def test_an_inspection_tells_how_a_container_ended_before_we_came() -> None:
    (exited,) = parse_listing([entry(State="exited", Status="Exited (137) 3 minutes ago")]).values()
    state = {"Status": "exited", "ExitCode": 137, "OOMKilled": True, "StartedAt": "2026-11-21T01:40:06.2Z"}
    seen = inspected(exited, {"State": state, "RestartCount": 0})
    assert (seen.exit_code, seen.oom_killed) == (137, True)


PODMAN = Path(__file__).parents[2] / "fixtures" / "podman-4.3"


def test_podman_is_told_from_docker() -> None:
    assert engine_of(json.loads((PODMAN / "version.json").read_text())) is Engine.PODMAN
    assert engine_of({"Components": [{"Name": "Engine"}], "Version": "20.10.24"}) is Engine.DOCKER
    assert engine_of({}) is Engine.DOCKER


def test_podman_s_events_are_a_life_told_step_by_step() -> None:
    known: dict[str, Container] = {}
    told = []
    for line in (PODMAN / "events.jsonl").read_text().splitlines():
        known, change = apply_event(known, json.loads(line))
        if change:
            payload = change.payload()
            told.append((payload["container"]["name"], payload["action"], payload["exit_code"]))
    assert told == [
        ("two", "create", None), ("two", "start", None), ("two", "pause", None), ("two", "unpause", None),
        ("one", "health_status", None), ("deux", "rename", None), ("deux", "die", 137), ("one", "die", 137),
        ("one", "start", None), ("deux", "start", None), ("deux", "die", 137), ("deux", "destroy", None),
    ]  # fmt: skip
    assert [container.name for container in known.values()] == ["one"]


def test_podman_s_list_leaves_the_health_that_is_known() -> None:
    listed = parse_listing(json.loads((PODMAN / "containers.json").read_text()))
    (key,) = listed
    detail = json.loads((PODMAN / "inspect.json").read_text())
    known = {key: inspected(listed[key], detail)}
    assert known[key].health == "starting"
    assert reconcile(known, listed, Engine.PODMAN) == (known, [])
    assert reconcile(known, listed)[1] != []


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
