"""The switches of what is pushed: read strictly, set by program, overridden by the environment, made part of routes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.errors import InvalidFlags
from monitoring.flags.description import describe
from monitoring.flags.editing import edit
from monitoring.flags.evaluation import evaluate
from monitoring.flags.loading import load
from monitoring.flags.model import KEYS, SWITCHES, ClientId, Flags, overridden
from monitoring.flags.routing import evaluate_route, explain_route
from monitoring.flags.stages import TOTAL_WEIGHT
from monitoring.route import Route
from monitoring.service import PUSHING, Backend

SHIPPED = (Path(__file__).parents[3] / "flags.yaml").read_text()
BEFORE = "version: 1\nkill: false\nlive:\n  percent: 5\n  allow: []\n  deny: []\n\n# last\nend: true\n"
"""A file of the version without switches."""

switches = st.frozensets(st.sampled_from(sorted(SWITCHES)))
flags = st.builds(
    Flags,
    st.booleans(),
    st.integers(0, TOTAL_WEIGHT),
    st.just(frozenset({ClientId("friend")})),
    st.just(frozenset({ClientId("foe")})),
    switches,
    switches,
)
clients = st.sampled_from(["", "friend", "foe", *(f"web-{number}" for number in range(20))])


def test_everything_is_pushed_unless_somebody_said_otherwise() -> None:
    assert load(SHIPPED) == load(BEFORE.replace("percent: 5", "percent: 0")) == Flags()


@pytest.mark.parametrize("name", SWITCHES)
def test_each_switch_is_read_and_set_and_changes_only_its_value(name: str) -> None:
    off = edit(SHIPPED, name, "false")
    assert load(off) == Flags(switched_off=frozenset({name}))
    changed = [
        (one, other)
        for one, other in zip(SHIPPED.splitlines(), off.splitlines(), strict=True)
        if one != other
    ]
    assert len(changed) == 1
    assert edit(off, name, "true") == SHIPPED
    assert {each.key: each.value for each in describe(load(off))}[name] is False


@pytest.mark.parametrize("name", SWITCHES)
def test_a_file_that_has_lost_one_switch_is_refused(name: str) -> None:
    lines = [line for line in SHIPPED.splitlines(keepends=True) if not line.startswith(name)]
    with pytest.raises(InvalidFlags, match=f"{name} is missing"):
        load("".join(lines))


def test_an_older_file_gets_all_switches_with_the_first_that_is_set() -> None:
    edited = edit(BEFORE, "websocket_system_alerts", "false")
    assert load(edited) == Flags(weight=5000, switched_off=frozenset({"websocket_system_alerts"}))
    assert edited.startswith("version: 2\nkill: false\nlive:\n  percent: 5\n")
    assert edited.endswith("websocket_system_alerts: false\n\nend: true\n")
    assert edit(BEFORE, "live.percent", "5") == BEFORE


@pytest.mark.parametrize("value", ["no", "False", "0", ""])
def test_a_switch_is_true_or_false(value: str) -> None:
    with pytest.raises(InvalidFlags, match="true or false"):
        edit(SHIPPED, "websocket_enabled", value)
    with pytest.raises(InvalidFlags):
        load(SHIPPED.replace("websocket_enabled: true", f"websocket_enabled: {value}"))


@given(flags, clients)
def test_a_switched_off_category_is_polled_and_moves_no_client(given_flags: Flags, client: str) -> None:
    route = evaluate_route(given_flags, client)
    if "websocket_enabled" in given_flags.switched_off:
        assert (route, route.fallbacks) == (Route(Backend.POLLING), ())
        return
    assert route.backend is evaluate(given_flags, client).value
    assert route.polled == frozenset().union(*(SWITCHES[name] for name in given_flags.switched_off))
    assert route.fallbacks[-1] is Backend.POLLING
    assert route.backend not in route.fallbacks


@given(flags, clients)
def test_who_is_kept_off_supabase_is_so_while_the_legacy_server_is_down_too(
    given_flags: Flags, client: str
) -> None:
    route = evaluate_route(given_flags, client)
    kept_off = given_flags.kill or client == "foe"
    assert not (kept_off and Backend.SUPABASE in (route.backend, *route.fallbacks))
    if not kept_off and route.backend in PUSHING:
        assert {route.backend, *route.fallbacks} == set(Backend)


@given(flags, st.dictionaries(st.sampled_from(sorted(SWITCHES)), st.booleans()))
def test_the_environment_wins_and_is_named(given_flags: Flags, environment: dict[str, bool]) -> None:
    found = overridden(given_flags, environment)
    for name in SWITCHES:
        assert (name not in found.switched_off) is environment.get(name, name not in given_flags.switched_off)
        assert (name in found.from_environment) is (name in environment)
    explained = explain_route(found, "web-1")
    for name in found.switched_off:
        where = "environment" if name in environment else "flag file"
        said = f"{name} is false in the {where}"
        assert said in explained or "websocket_enabled" in found.switched_off


def test_reasons_are_sentences() -> None:
    off = frozenset({"websocket_container_stats"})
    assert explain_route(Flags(switched_off=off), "web-1").splitlines() == [
        "web-1: legacy (DEFAULT): live.percent is 0",
        "  containers polled: websocket_container_stats is false in the flag file",
    ]
    everything = overridden(Flags(), {"websocket_enabled": False})
    assert explain_route(everything, "") == (
        "(no id): polling: websocket_enabled is false in the environment: nothing is pushed to anybody"
    )


def test_every_switch_is_a_key() -> None:
    assert set(SWITCHES) <= set(KEYS)
