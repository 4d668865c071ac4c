"""Containers folded from events: what is told of a change, however it was learned."""

from __future__ import annotations

from datetime import timedelta

import pytest

from legacy_ws.protocol.container_states import ContainerState, ContainerStates, span
from tests.fakes.dialect_host import NOW, told

WEB = "web-1/containers"


def entry(name, status="running", health=None, id_="abc", **more):
    return {
        "id": id_,
        "name": name,
        "status": status,
        "health": health,
        "running": status == "running",
        **more,
    }


def listed(*entries, available=True):
    return told(WEB, "containers_collected", available=available, containers=list(entries))


def changed(name, status, *, health=None, id_="abc", action="start", exit_code=None):
    current = status and {"status": status, "health": health, "running": status == "running"}
    return told(
        WEB,
        "container_status_changed",
        container={"id": id_, "name": name, "image": "i"},
        previous=None,
        current=current,
        action=action,
        exit_code=exit_code,
    )


def words(changes):
    return [
        (one.now.full_name, one.before.status if one.before else None, one.now.status, one.now.health)
        for one in changes
    ]


def test_a_list_tells_what_is_new_what_changed_and_what_is_gone():
    states = ContainerStates()
    assert words(states.take(listed(entry("a"), entry("b")))) == [
        ("a", None, "running", None),
        ("b", None, "running", None),
    ]
    assert words(states.take(listed(entry("a", health="healthy"), entry("c", "exited")))) == [
        ("b", "running", "removed", None),
        ("a", "running", "running", "healthy"),
        ("c", None, "exited", None),
    ]


def test_the_same_again_and_new_numbers_are_no_change():
    states = ContainerStates()
    states.take(listed(entry("a", cpu_percent=1.0)))
    assert states.take(listed(entry("a", cpu_percent=2.5))) == ()
    assert states.all[0].cpu_percent == 2.5


def test_a_change_is_told_once_the_list_after_it_says_nothing_new():
    states = ContainerStates()
    states.take(listed(entry("a")))
    assert words(states.take(changed("a", "exited", action="die", exit_code=137))) == [
        ("a", "running", "exited", None)
    ]
    assert states.take(listed(entry("a", "exited"))) == ()
    assert states.all[0].exit_code == 137


def test_a_container_with_a_new_name_is_one_that_went_and_one_that_came():
    states = ContainerStates()
    states.take(listed(entry("a", "exited", exit_code=3)))
    assert words(states.take(changed("b", "exited", action="rename"))) == [
        ("a", "exited", "removed", None),
        ("b", None, "exited", None),
    ]
    assert [state.full_name for state in states.all] == ["b"]
    assert states.take(listed(entry("b", "exited", exit_code=3))) == ()
    assert states.all[0].exit_code == 3


def test_a_docker_that_is_away_leaves_the_last_known_state():
    states = ContainerStates()
    states.take(listed(entry("a")))
    assert states.take(listed(available=False)) == ()
    assert [one.full_name for one in states.all] == ["a"]
    assert states.stale
    states.take(listed(entry("a")))
    assert not states.stale


def test_the_removal_of_a_predecessor_does_not_remove_its_successor():
    states = ContainerStates()
    states.take(changed("a", "running", id_="old"))
    states.take(changed("a", "running", id_="new"))
    assert states.take(changed("a", None, id_="old", action="destroy")) == ()
    assert [one.id for one in states.all] == ["new"]
    assert words(states.take(changed("a", None, id_="new", action="destroy"))) == [
        ("a", "running", "removed", None)
    ]


@pytest.mark.parametrize(
    "payload",
    [
        {"containers": [1, {"name": 3}, {"name": "x"}]},
        {"containers": "many"},
        {},
        {"available": True, "containers": None},
    ],
)
def test_lists_that_cannot_be_read_change_nothing(payload):
    states = ContainerStates()
    assert states.take(told(WEB, "containers_collected", **payload)) == ()
    assert states.all == ()


@pytest.mark.parametrize("current", [3, {}, {"status": 4}, "gone"])
def test_changes_that_cannot_be_read_change_nothing(current):
    one = told(WEB, "container_status_changed", container={"id": "x", "name": "a"}, current=current)
    states = ContainerStates()
    assert states.take(one) == ()
    assert states.all == ()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (5, "5 seconds"),
        (60, "About a minute"),
        (150, "2 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (2 * 365 * 86400, "2 years"),
        (-5, "Less than a second"),
    ],
)
def test_durations_are_told_in_dockers_words(seconds, text):
    assert span(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("status", "health", "more", "text"),
    [
        ("running", "healthy", {"started_at": NOW - timedelta(hours=2)}, "Up 2 hours (healthy)"),
        (
            "running",
            "starting",
            {"started_at": NOW - timedelta(seconds=5)},
            "Up 5 seconds (health: starting)",
        ),
        ("running", None, {}, "Up"),
        ("paused", None, {"started_at": NOW - timedelta(minutes=3)}, "Up 3 minutes (Paused)"),
        (
            "exited",
            None,
            {"exit_code": 0, "ended_at": NOW - timedelta(minutes=5)},
            "Exited (0) 5 minutes ago",
        ),
        ("exited", None, {}, "Exited"),
        ("created", None, {}, "Created"),
    ],
)
def test_the_detail_reads_as_docker_ps_shows_it(status, health, more, text):
    state = ContainerState("web-1", "a", "abc", status, health, status == "running", **more)
    assert state.detail(NOW) == text
