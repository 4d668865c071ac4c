"""What a person tells a rollout: what each command does, and in which words it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from monitoring.errors import InvalidRollout
from monitoring.flags.stages import Extent, Stage
from monitoring.rollout import commands
from monitoring.rollout.controller import Decided
from monitoring.rollout.observations import Answer, Gate, Observations, Sight
from monitoring.rollout.state import NONE, Policy, Position, Rollout

POLICY = Policy(min_dwell_seconds=30, reverse_window_seconds=90)
WISHES = {"default": Extent(Stage.LIVE), "ops": Extent(Stage.LIVE, 50_000)}
SHADOW, LIVE = Extent(Stage.SHADOW, 1_000), Extent(Stage.LIVE, 10_000)
PASSES = (Gate("coverage", Answer.PASS, "fine"),)
FAILS = (Gate("coverage", Answer.FAIL, "40 % of 99 %"),)


def at(extent: Extent = LIVE, **changes: object) -> Rollout:
    position = replace(Position(extent, 3, 60.0, rehearsal="done"), **changes)
    return Rollout(active=True, policy=POLICY, cohorts=dict.fromkeys(WISHES, position))


def seen(gates: tuple[Gate, ...] = PASSES, **changes: object) -> Observations:
    sights = dict.fromkeys(WISHES, Sight(gates, "", 3, 3))
    return replace(Observations(0.0, 1.0, WISHES, sights), **changes)


def test_a_rollout_begins_where_no_client_is_moved() -> None:
    state, decisions = commands.start(NONE, POLICY, Stage.SHADOW, {**WISHES, "eu": Extent(Stage.OFF)})
    assert {name: str(each.extent) for name, each in state.cohorts.items()} == {
        "default": "shadow 1 %", "ops": "shadow 1 %", "eu": "off",
    }  # fmt: skip
    assert [decision.action for decision in decisions] == ["start"] * 3
    assert decisions[0].reason == "the flag file wishes for live 100 %"


def test_hold_keeps_and_resume_lets_go() -> None:
    held, _ = commands.hold(at(), "lunch")
    assert held.hold == "lunch"
    assert held.ceiling().reason == "held: lunch"
    free, (decision,) = commands.resume(held, acknowledge=False)
    assert (free, decision.reason) == (at(), "no longer held: lunch")


def test_an_acknowledgement_frees_every_latch_and_begins_the_dwell_anew() -> None:
    latched = at(SHADOW, latch="lost 3 of 100")
    assert latched.ceiling().default == Extent(Stage.SHADOW, 0)
    free, decisions = commands.resume(latched, acknowledge=True)
    assert free.ceiling().default == SHADOW
    assert {each.dwelt for each in free.cohorts.values()} == {0.0}
    assert [decision.reason for decision in decisions] == ["acknowledged: lost 3 of 100"] * 2


@pytest.mark.parametrize("cohort", [None, "ops"])
def test_a_rollback_takes_back_everybody_or_one_cohort_and_latches(cohort: str | None) -> None:
    state, decisions = commands.rollback(at(), Stage.SHADOW, "I do not like it", cohort)
    assert state.cohorts["ops"].ceiling == Extent(Stage.SHADOW, 0)
    assert state.cohorts["ops"].latch == "I do not like it"
    assert (state.cohorts["default"] == at().cohorts["default"]) is (cohort == "ops")
    assert len(decisions) == (1 if cohort else 2)


def test_a_rollback_never_goes_forward() -> None:
    state, _ = commands.rollback(at(Extent(Stage.OFF)), Stage.SHADOW, "enough")
    assert state.cohorts["default"].extent == Extent(Stage.OFF)


def test_advance_waives_the_dwell_and_nothing_else() -> None:
    state, decisions = commands.advance(at(dwelt=1.0), seen())
    assert {each.dwelt for each in state.cohorts.values()} == {30.0}
    assert {str(each.extent) for each in state.cohorts.values()} == {"live 10 %"}, "the controller goes"
    assert [decision.after for decision in decisions] == ["live 25 %", "live 25 %"]


def test_one_cohort_can_be_advanced_alone() -> None:
    state, (decision,) = commands.advance(at(dwelt=1.0), seen(), "ops")
    assert (decision.cohort, state.cohorts["default"].dwelt) == ("ops", 1.0)


def test_end_is_possible_where_it_moves_nobody() -> None:
    state, (decision,) = commands.end(at(Extent(Stage.LIVE)), WISHES)
    assert state == NONE
    assert decision.reason == "the flag file alone decides from now on"


def test_end_is_possible_below_the_wish_if_nobody_is_served_by_the_new_path_in_either() -> None:
    nobody = dict.fromkeys(WISHES, Extent(Stage.LIVE, 0))
    assert commands.end(at(SHADOW), nobody)[0] == NONE
    beyond = dict.fromkeys(WISHES, Extent(Stage.RAMPDOWN))
    with pytest.raises(InvalidRollout, match="lower the file first"):
        commands.end(at(Extent(Stage.LIVE)), beyond)  # the same clients, but the legacy server is to go


RAMPDOWN = at(Extent(Stage.RAMPDOWN), dwelt=100.0)
COMPLETE = dict.fromkeys(WISHES, Extent(Stage.COMPLETE))


def test_complete_asks_for_everything_and_a_confirmation() -> None:
    state, (decision,) = commands.complete(RAMPDOWN, seen(wishes=COMPLETE), confirmed=True)
    assert state.completing
    assert {gate.answer for gate in decision.gates} == {Answer.PASS}


Command = Callable[[], Decided]
REFUSALS: dict[str, Command] = {
    "a rollout runs already": lambda: commands.start(at(), POLICY, Stage.SHADOW, WISHES),
    "begins at off, dualwrite, shadow": lambda: commands.start(NONE, POLICY, Stage.LIVE, WISHES),
    "there is nothing to roll out any more": lambda: commands.start(
        replace(NONE, completed=True), POLICY, Stage.OFF, WISHES
    ),
    "crossfade rollout start begins one": lambda: commands.hold(NONE, "x"),
    "crossfade flags set kill true takes everybody back": lambda: commands.rollback(NONE, Stage.SHADOW, "x"),
    "nothing is held": lambda: commands.resume(at(), acknowledge=True),
    "say --ack when that has been dealt with": lambda: commands.resume(at(latch="x"), acknowledge=False),
    "back to off, dualwrite, shadow": lambda: commands.rollback(at(), Stage.LIVE, "x"),
    "there is no cohort 'eu'; there are default, ops": lambda: commands.rollback(at(), Stage.OFF, "x", "eu"),
    "that cannot be undone": lambda: commands.rollback(replace(at(), completed=True), Stage.OFF, "x"),
    "held: lunch; crossfade rollout resume first": lambda: commands.advance(
        replace(at(), hold="lunch"), seen()
    ),
    "ROLLBACK UNSAFE: legacy is down": lambda: commands.advance(
        replace(at(), unsafe="legacy is down"), seen()
    ),
    "resume --ack first": lambda: commands.advance(at(latch="x"), seen()),
    "coverage is FAIL: 40 % of 99 %": lambda: commands.advance(at(), seen(FAILS)),
    "as far as the flag file wishes": lambda: commands.advance(at(Extent(Stage.LIVE)), seen()),
    "the rollback is being rehearsed": lambda: commands.advance(at(rehearsal="out"), seen()),
    "lower the file first": lambda: commands.end(at(), WISHES),
    "rampdown: not there yet: default, ops": lambda: commands.complete(at(), seen(), confirmed=True),
    "wish: the flag file does not wish for complete": lambda: commands.complete(
        RAMPDOWN, seen(), confirmed=True
    ),
    "reverse window: 10 of 90 s": lambda: commands.complete(
        at(Extent(Stage.RAMPDOWN), dwelt=10.0), seen(wishes=COMPLETE), confirmed=True
    ),
    "clients: 2 on the legacy server": lambda: commands.complete(
        RAMPDOWN, seen(wishes=COMPLETE, cohorts={"ops": Sight(PASSES, "", 3, 1)}), confirmed=True
    ),
    "barred: kill is true": lambda: commands.complete(
        RAMPDOWN, seen(wishes=COMPLETE, barred="kill is true"), confirmed=True
    ),
    "evidence: coverage: 40 %": lambda: commands.complete(
        RAMPDOWN, seen(FAILS, wishes=COMPLETE), confirmed=True
    ),
    "say --confirm": lambda: commands.complete(RAMPDOWN, seen(wishes=COMPLETE), confirmed=False),
    "complete already": lambda: commands.complete(replace(at(), completed=True), seen(), confirmed=True),
}


@pytest.mark.parametrize("words", REFUSALS)
def test_what_cannot_be_is_refused_with_what_to_do(words: str) -> None:
    with pytest.raises(InvalidRollout) as refused:
        REFUSALS[words]()
    assert words in str(refused.value)
