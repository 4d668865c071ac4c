"""The decision of the rollout: (state, observations) -> (state, decisions). Pure: live, in the tests and in a replay.

Per cohort, in this order, for what goes back comes before what goes on:

1. A wish that is lower than where the cohort stands is followed at once.
2. A trip takes the cohort back to shadow and latches it; a trip that one cohort explains takes back that one alone, one
   of the path itself everybody. When the legacy server could not take the clients, nobody is sent there: that is said
   (ROLLBACK UNSAFE), and done as soon as it can.
3. A latch or a hold keeps the cohort where it is. So does everything but PASS.
4. A step that shows nothing is extended once, then left for the stage before.
5. Before the first client is live for good, the rollback is rehearsed: out, back, each seen to happen.
6. With every gate at PASS and the dwell over: one step, never past the wish.
"""

from __future__ import annotations

from dataclasses import replace

from monitoring.flags.model import DEFAULT_COHORT
from monitoring.flags.stages import Extent, Stage
from monitoring.rollout.observations import Answer, Decision, Gate, Observations, Sight
from monitoring.rollout.state import Policy, Position, Rollout

MAX_ELAPSED_SECONDS = 60.0
"""A longer time between two looks counts as this: nobody knows what was in between."""

Decided = tuple[Rollout, tuple[Decision, ...]]

_ORDER = (Answer.FAIL, Answer.ERROR, Answer.NO_DATA, Answer.INCONCLUSIVE, Answer.PASS)


def decide(state: Rollout, seen: Observations) -> Decided:
    """Return the next state and what was decided on the way, in order; nothing when there is nothing to decide."""
    if not state.active or state.completed:
        return state, ()
    elapsed = min(max(seen.elapsed, 0.0), MAX_ELAPSED_SECONDS)
    state = replace(state, seen_at=max(state.seen_at, seen.now))
    decisions: list[Decision] = []
    state = _safety(state, seen, decisions)
    if state.completing:
        return _completing(state, seen, decisions)
    for cohort, wish in seen.wishes.items():
        if cohort not in state.cohorts:
            state = state.moved(cohort, state.position(cohort))
        before = state.cohorts[cohort]
        position = replace(before, dwelt=before.dwelt + elapsed)
        after, decision = _decide_one(state, position, cohort, wish, seen)
        state = state.moved(cohort, after)
        if decision is not None:
            decisions.append(decision)
    kept = {
        name: each for name, each in state.cohorts.items() if name in seen.wishes or name == DEFAULT_COHORT
    }
    return replace(state, cohorts=kept), tuple(decisions)


def next_extent(position: Position, wish: Extent, policy: Policy) -> Extent | None:
    """Return the next step towards a wish; None at its end. ``complete`` is never a step: a person confirms it."""
    for step in policy.steps():
        lowered = step.lowered_to(wish)
        if lowered.place > position.extent.place and (lowered.served or lowered.stage is not Stage.LIVE):
            return lowered
    return None


def judged(gates: tuple[Gate, ...]) -> Gate:
    """Return the gate that stands most in the way; without any, nothing is known."""
    if not gates:
        return Gate("evidence", Answer.NO_DATA, "nothing was observed yet")
    return min(gates, key=lambda gate: _ORDER.index(gate.answer))


def _safety(state: Rollout, seen: Observations, decisions: list[Decision]) -> Rollout:
    """Say when clients could not be taken back, and when they can again."""
    exposed = any(position.extent.served for position in state.cohorts.values())
    unsafe = seen.legacy_problem if exposed and not state.completed else ""
    if bool(unsafe) is not bool(state.unsafe):
        reason = f"ROLLBACK UNSAFE: {unsafe}" if unsafe else "the legacy server can take clients back again"
        decisions.append(Decision("alarm" if unsafe else "safe", "", "", "", reason))
    return replace(state, unsafe=unsafe)


def _completing(state: Rollout, seen: Observations, decisions: list[Decision]) -> Decided:
    """Wait for the publishers; then, and only then, the legacy server is done with."""
    if seen.trip:
        reason = f"not completed: {seen.trip}"
        decisions.append(Decision("abort", "", Stage.RAMPDOWN, Stage.RAMPDOWN, reason))
        return replace(state, completing=False), tuple(decisions)
    if seen.publishers:
        return state, tuple(decisions)
    decisions.append(
        Decision("complete", "", Stage.RAMPDOWN, Stage.COMPLETE, "every publisher has left the legacy server")
    )
    return replace(state, completing=False, completed=True), tuple(decisions)


def _decide_one(  # noqa: PLR0911 - one rule after another, in the order of the module's docstring
    state: Rollout, position: Position, cohort: str, wish: Extent, seen: Observations
) -> tuple[Position, Decision | None]:
    sight = seen.sight(cohort)
    if position.extent.lowered_to(wish) != position.extent:
        after = position.moved(wish, rehearsal="")
        return _told("follow", cohort, position, after, f"the flag file wishes for {wish}")
    why = sight.trip or seen.trip
    if why and position.extent.stage.rank >= Stage.SHADOW.rank and not position.latch:
        return _tripped(position, cohort, why, seen, state.policy)
    if why or position.latch or state.hold:
        return position, None
    if position.rehearsal in {"out", "back"}:
        return _rehearse(position, cohort, sight, state.policy)
    target = next_extent(position, wish, state.policy)
    widens = (
        target is not None and target.stage is Stage.SHADOW
    )  # more clients that discard: nobody is served by it
    if position.extent.stage.rank >= Stage.SHADOW.rank and not widens:
        worst = judged(sight.gates)
        if worst.answer is Answer.NO_DATA and position.dwelt >= state.policy.no_data_seconds:
            return _without_data(position, cohort, worst, state.policy)
        if worst.answer is not Answer.PASS:
            return position, None
    if target is None or position.dwelt < _dwell(position, state.policy) or state.unsafe:
        return position, None
    return _advanced(position, cohort, target, sight, seen)


def _dwell(position: Position, policy: Policy) -> float:
    """Return how long the cohort stays here at least: before both paths are compared there is nothing to wait for.

    Unless it has been here before: then it comes back to where something was missing, and no sooner than any step.
    """
    compared = position.extent.stage.rank >= Stage.SHADOW.rank
    return policy.min_dwell_seconds if compared or position.attempts > 1 else 0.0


def _advanced(
    position: Position, cohort: str, target: Extent, sight: Sight, seen: Observations
) -> tuple[Position, Decision | None]:
    if target.served and not position.extent.served and position.rehearsal != "done":
        if seen.legacy_problem:
            return position, None
        after = position.moved(target, rehearsal="out")
        reason = "every gate passed; the way back is rehearsed first"
        return _told("rehearse", cohort, position, after, reason, sight.gates)
    after = position.moved(target)
    return _told("advance", cohort, position, after, "every gate passed", sight.gates)


def _rehearse(
    position: Position, cohort: str, sight: Sight, policy: Policy
) -> tuple[Position, Decision | None]:
    """Go out with the clients of the first step, and back with all of them, each seen to happen."""
    arrived = not sight.astray and sight.clients > 0
    shadow = Extent(Stage.SHADOW, policy.ladder[0])
    if position.rehearsal == "out" and arrived and sight.on_supabase:
        after = position.moved(shadow, rehearsal="back")
        reason = f"{sight.on_supabase} of {sight.clients} clients are on Supabase: now back"
        return _told("rehearse", cohort, position, after, reason)
    if position.rehearsal == "back" and arrived and not sight.on_supabase:
        after = replace(position, rehearsal="done", dwelt=0.0)
        reason = "the clients are back on the legacy server: the way back works"
        return _told("rehearsed", cohort, position, after, reason)
    if position.dwelt < policy.rehearsal_seconds:
        return position, None
    if position.rehearsal == "out":
        # Nobody was there to move, or somebody did not: not a failure of the way back, but no proof of it either.
        after = position.moved(shadow, rehearsal="", attempts=position.attempts + 1)
        reason = (
            f"rehearsal given up after {policy.rehearsal_seconds:g} s: {sight.on_supabase} of {sight.clients} clients "
            f"on Supabase, {sight.astray} not where they should be"
        )
        return _told("retreat", cohort, position, after, reason)
    latch = (
        f"ROLLBACK UNSAFE: {sight.astray} of {sight.clients} clients did not come back from a rehearsal within "
        f"{policy.rehearsal_seconds:g} s"
    )
    after = replace(position, rehearsal="", latch=latch, attempts=position.attempts + 1)
    return _told("trip", cohort, position, after, latch)


def _tripped(
    position: Position, cohort: str, why: str, seen: Observations, policy: Policy
) -> tuple[Position, Decision | None]:
    if position.extent.served and seen.legacy_problem:
        return position, None  # the alarm has been said; sending clients to a dead server helps nobody
    back = Extent(Stage.SHADOW, policy.ladder[0])
    after = position.moved(
        back.lowered_to(position.extent), latch=why, rehearsal="", attempts=position.attempts + 1
    )
    return _told("trip", cohort, position, after, why)


def _without_data(
    position: Position, cohort: str, worst: Gate, policy: Policy
) -> tuple[Position, Decision | None]:
    if not position.extended:
        after = replace(position, extended=True, dwelt=0.0, attempts=position.attempts + 1)
        return _told("extend", cohort, position, after, f"{worst.name}: {worst.reason}", (worst,))
    earlier = [step for step in policy.steps() if step.stage.rank < position.extent.stage.rank]
    after = position.moved(earlier[-1], rehearsal="", attempts=position.attempts + 1)
    return _told("retreat", cohort, position, after, f"still no data: {worst.reason}", (worst,))


def _told(
    action: str,
    cohort: str,
    before: Position,
    after: Position,
    reason: str,
    gates: tuple[Gate, ...] = (),
) -> tuple[Position, Decision]:
    return after, Decision(action, cohort, str(before.extent), str(after.ceiling), reason, gates)
