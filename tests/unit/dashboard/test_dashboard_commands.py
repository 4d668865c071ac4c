"""Agents and commands: rows and pushed changes put together, and in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.commands import COMMANDS_KEPT, Agent, Command, agents, applied, commands, merged
from dashboard.model import State
from dashboard.model import applied as with_event
from dashboard.views import commands as view
from monitoring.commands import CommandState, Offer, Parameter
from monitoring.events import Event, StreamId
from tests.fakes.dashboard_records import AGENT, command
from tests.fakes.dashboard_service import event

NOW = datetime(2026, 11, 26, 8, 30, tzinfo=UTC)
STREAM = StreamId("crossfade/commands")


def changed(seq: int, id_: str, state: str, revision: int, **more: Any) -> Event:
    told = {
        "id": id_,
        "agent": "web-1",
        "command": "restart-shop",
        "state": state,
        "revision": revision,
        **more,
    }
    return event(STREAM, seq, "command_changed", NOW + timedelta(seconds=seq), told)


def test_a_command_is_followed_as_it_is_pushed() -> None:
    known = applied({}, changed(1, "a", "queued", 1))
    known = applied(known, changed(2, "a", "running", 3, progress=40.0, message="half"))
    (told,) = known.values()
    assert (told.state, told.progress, told.message) == ("running", 40.0, "half")
    assert told.submitted == NOW + timedelta(seconds=1)
    assert not told.ended
    late = applied(known, changed(3, "a", "taken", 2))
    assert late is known
    assert applied(known, changed(4, "", "queued", 1)) is known
    assert applied(known, changed(4, "b", "queued", "one")) is known  # type: ignore[arg-type]  # another version


def test_the_page_keeps_the_newest() -> None:
    known: Any = {}
    for number in range(COMMANDS_KEPT + 5):
        known = applied(known, changed(number + 1, f"c{number}", "queued", 1))
    assert len(known) == COMMANDS_KEPT
    assert "c4" not in known


def test_commands_are_no_host() -> None:
    state = with_event(State(), changed(1, "a", "queued", 1), NOW)
    assert list(state.commands) == ["a"]
    assert not state.hosts
    stranger = event(StreamId("box-1/commands"), 1, "command_changed", NOW, {"id": "x", "revision": 1})
    assert not with_event(State(), stranger, NOW).commands


def test_the_newer_of_row_and_push_counts_and_what_only_rows_have_stays() -> None:
    rows = commands([command(1, "running"), command(2, "queued"), {"id": 7}])
    pushed = applied({}, changed(1, rows[0].id, "succeeded", 4, exit_code=0))
    pushed = applied(pushed, changed(2, rows[1].id, "queued", 1))
    pushed = applied(pushed, changed(3, "new", "queued", 1))
    found = merged(rows, pushed)
    assert [each.id for each in found] == ["new", rows[1].id, rows[0].id]
    assert [each.state for each in found] == ["queued", "queued", "succeeded"]
    assert found[2].parameters == {"instance": "a", "wait": "5"}
    assert found[0].parameters is None


def test_agents_are_read_with_what_they_offer() -> None:
    (agent,) = agents([AGENT, {"version": "1"}])
    assert agent.offers["restart-shop"].parameters["instance"].choices == ("a", "b")
    assert agents([{"name": "x", "offers": {"odd": {"timeout_seconds": "soon"}}}])[0].offers == {}
    rows = view.agents([agent, replace(agent, heard=False, heard_at=NOW - timedelta(minutes=5))], NOW)
    assert rows["State"] == ["heard", "silent for 5 min"]
    assert rows["May run"][0] == "restart-shop, disk-usage"
    assert view.agents([Agent("x")], NOW)["May run"] == ["nothing"]
    assert view.agents([], NOW) == {}


def test_a_command_in_words() -> None:
    running, done = commands(
        [command(2, "running", progress=40.0, cancel_asked_by="bob"), command(1, "succeeded")]
    )
    rows = view.rows([running, done], NOW)
    assert rows["State"] == ["running, asked to end", "succeeded"]
    assert rows["Progress"] == [40.0, 100.0]
    assert rows["Submitted"] == ["28 min ago", "29 min ago"]
    assert rows["Parameters"][0] == "instance=a wait=5"
    assert view.rows([], NOW) == {}
    facts = dict(view.facts(replace(running, exit_code=3), NOW))
    assert facts["Asked to end by"] == "bob"
    assert facts["Exit status"] == "3"
    assert view.title(running).startswith("restart-shop on web-1 · ")
    assert view.title(Command("abcdefghij", "a", "c", "queued", 1)) == "c on a · abcdefgh"


@pytest.mark.parametrize("state", CommandState)
def test_every_state_has_a_look_of_its_own(state: CommandState) -> None:
    badge = view.badge(Command("a", "a", "c", str(state), 1))
    assert badge.text == state.replace("_", " ")
    assert (badge.icon == ":material/help:") == (state is CommandState.LOST)
    assert Command("a", "a", "c", str(state), 1).ended == state.final


def test_mistakes_are_said_before_anybody_is_asked() -> None:
    offer = Offer(
        (), {"path": Parameter(max_characters=3), "n": Parameter(minimum=1, maximum=3, default="2")}
    )
    assert view.mistakes(offer, {"path": "/"}) == []
    assert view.mistakes(offer, {}) == ["path is missing"]
    assert view.mistakes(offer, {"path": "-rf", "n": "9"}) == [
        "path must not begin with a dash, which programs take for an option",
        "n must be from 1 to 3",
    ]


@pytest.mark.parametrize(
    ("of", "found"),
    [
        (Parameter(minimum=1, maximum=9, default="5"), (1, 5, 9)),
        (Parameter(minimum=3), (3, 3, 2**53 - 1)),
        (Parameter(maximum=-3), (-(2**53) + 1, -3, -3)),
        (Parameter(minimum=1, maximum=9, default="50"), (1, 1, 9)),
    ],
)
def test_a_number_begins_within_its_bounds(of: Parameter, found: tuple[int, int, int]) -> None:
    assert view.bounds(of) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(sorted(command(1, "queued"))), JSON),
    st.dictionaries(st.sampled_from(sorted(AGENT)), JSON),
)
def test_whatever_another_version_writes_is_no_error(row: dict[str, Any], agent: dict[str, Any]) -> None:
    found = commands([row, row | {"id": "a", "revision": 1}])
    view.rows(found, NOW)
    view.facts(found[-1], NOW)
    view.agents(agents([agent | {"name": "x"}]), NOW)
