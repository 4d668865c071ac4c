"""What a person tells a rollout: (state, wish) -> (state, decisions), or InvalidRollout with the reason. Pure.

A command never needs the controller: it is written to the journal, where every process finds the new ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from monitoring.errors import InvalidRollout
from monitoring.flags.model import DEFAULT_COHORT
from monitoring.flags.stages import Extent, Stage
from monitoring.rollout.controller import Decided, judged, next_extent
from monitoring.rollout.observations import Answer, Decision, Gate, Observations
from monitoring.rollout.state import NONE, Policy, Position, Rollout

_STEP_OF_ALL = ("off", "dualwrite", "shadow")


def start(state: Rollout, policy: Policy, stage: Stage, wishes: Mapping[str, Extent]) -> Decided:
    """Begin a rollout: from now on the file's wish is where it goes to, not where clients are.

    Every cohort begins at ``stage`` (shadow at most), or at its wish where that is less.
    """
    if state.completed:
        raise InvalidRollout("the migration is complete: there is nothing to roll out any more")
    if state.active:
        raise InvalidRollout(
            "a rollout runs already; see crossfade rollout status, and crossfade rollout end"
        )
    if stage not in _STEP_OF_ALL:
        raise InvalidRollout(f"a rollout begins at {', '.join(_STEP_OF_ALL)}, where no client is moved")
    first = Extent(stage, policy.ladder[0]) if stage is Stage.SHADOW else Extent(stage)
    cohorts = {name: Position(first.lowered_to(wish)) for name, wish in wishes.items()}
    begun = Rollout(active=True, policy=policy, cohorts=cohorts)
    decisions = tuple(
        Decision(
            "start", name, "(no rollout)", str(position.extent), f"the flag file wishes for {wishes[name]}"
        )
        for name, position in cohorts.items()
    )
    return begun, decisions


def hold(state: Rollout, why: str) -> Decided:
    """Keep every cohort where it is. Trips still take clients back."""
    _require_active(state)
    return replace(state, hold=why), (_of_all("hold", state, why),)


def resume(state: Rollout, *, acknowledge: bool, why: str = "") -> Decided:
    """End a hold, and, if the reasons are acknowledged, every latch."""
    _require_active(state)
    latched = {name: each for name, each in state.cohorts.items() if each.latch}
    if latched and not acknowledge:
        reasons = "; ".join(f"{name}: {each.latch}" for name, each in latched.items())
        raise InvalidRollout(f"taken back by a trip ({reasons}); say --ack when that has been dealt with")
    if not latched and not state.hold:
        raise InvalidRollout("nothing is held")
    decisions = [
        Decision(
            "resume", name, str(each.ceiling), str(each.extent), _because(f"acknowledged: {each.latch}", why)
        )
        for name, each in latched.items()
    ]
    if state.hold:
        decisions.append(_of_all("resume", state, _because(f"no longer held: {state.hold}", why)))
    freed = {name: replace(each, latch="", dwelt=0.0) for name, each in latched.items()}
    return replace(state, hold="", cohorts={**state.cohorts, **freed}), tuple(decisions)


def rollback(state: Rollout, to: Stage, why: str, cohort: str | None = None) -> Decided:
    """Take everybody, or one cohort, back to a stage at once, and hold there. Off ends the rollout's claim to anything."""
    _require_active(state)
    if to.rank >= Stage.LIVE.rank:
        raise InvalidRollout(f"back to {', '.join(_STEP_OF_ALL)}; a lower percentage is set in the flag file")
    chosen = state.cohorts if cohort is None else {cohort: _known(state, cohort)}
    target = Extent(to, state.policy.ladder[0]) if to is Stage.SHADOW else Extent(to)
    decisions: list[Decision] = []
    for name, position in chosen.items():
        lowered = position.extent.lowered_to(target)
        after = position.moved(lowered, rehearsal="", attempts=position.attempts + 1)
        after = replace(after, latch=position.latch or why)
        decisions.append(Decision("rollback", name, str(position.extent), str(after.ceiling), why))
        state = state.moved(name, after)
    return replace(state, completing=False), tuple(decisions)


def advance(state: Rollout, seen: Observations, cohort: str | None = None, why: str = "") -> Decided:
    """Take the next step without waiting for the dwell. Gates are not asked for mercy: nothing but PASS advances."""
    _require_active(state)
    if state.hold:
        raise InvalidRollout(f"held: {state.hold}; crossfade rollout resume first")
    if state.unsafe:
        raise InvalidRollout(f"ROLLBACK UNSAFE: {state.unsafe}")
    moved = state
    found = [cohort] if cohort is not None else list(seen.wishes)
    decisions: list[Decision] = []
    refusals: list[str] = []
    for name in found:
        position = _known(state, name)
        wish = seen.wishes.get(name)
        target = None if wish is None else next_extent(position, wish, state.policy)
        if refusal := _refusal(position, target, seen, name):
            refusals.append(f"{name}: {refusal}")
            continue
        moved = moved.moved(
            name, replace(position, dwelt=max(position.dwelt, state.policy.min_dwell_seconds))
        )
        decisions.append(
            Decision(
                "hasten",
                name,
                str(position.extent),
                str(target),
                _because("a person waives the rest of the dwell", why),
            )
        )
    if not decisions:
        raise InvalidRollout("; ".join(refusals) or "there is no cohort")
    return moved, tuple(decisions)


def complete(state: Rollout, seen: Observations, *, confirmed: bool) -> Decided:
    """Begin the one step that cannot be undone: publishers leave the legacy server, then it is stopped."""
    if state.completed:
        raise InvalidRollout("the migration is complete already")
    _require_active(state)
    gates = completion_gates(state, seen)
    if missing := [gate for gate in gates if gate.answer is not Answer.PASS]:
        raise InvalidRollout("; ".join(f"{gate.name}: {gate.reason}" for gate in missing))
    if not confirmed:
        raise InvalidRollout("this cannot be undone: the legacy server is stopped for good; say --confirm")
    decision = Decision(
        "completing",
        "",
        Stage.RAMPDOWN,
        Stage.COMPLETE,
        "confirmed; publishers leave the legacy server",
        gates,
    )
    return replace(state, completing=True), (decision,)


def completion_gates(state: Rollout, seen: Observations) -> tuple[Gate, ...]:
    """Return what has to hold before ``complete``, each with how it is."""

    def gate(name: str, reason: str, *, holds: bool) -> Gate:
        return Gate(name, Answer.PASS if holds else Answer.INCONCLUSIVE, reason)

    window = state.policy.reverse_window_seconds
    behind = [name for name, each in state.cohorts.items() if each.extent.stage is not Stage.RAMPDOWN]
    dwelt = min((each.dwelt for each in state.cohorts.values()), default=0.0)
    unwished = [name for name, wish in seen.wishes.items() if wish.stage is not Stage.COMPLETE]
    left = sum(sight.clients - sight.on_supabase for sight in seen.cohorts.values())
    worst = [judged(seen.sight(name).gates) for name in seen.wishes]
    unproven = [each for each in worst if each.answer is not Answer.PASS]
    return (
        gate("rampdown", f"not there yet: {', '.join(behind)}" if behind else "everybody", holds=not behind),
        gate(
            "wish",
            f"the flag file does not wish for complete: {', '.join(unwished)}"
            if unwished
            else "as the flag file has it",
            holds=not unwished,
        ),
        gate("reverse window", f"{dwelt:.0f} of {window:.0f} s in rampdown", holds=dwelt >= window),
        gate("clients", f"{left} on the legacy server", holds=not left),
        gate("barred", seen.barred or "nobody is kept on the legacy server", holds=not seen.barred),
        gate("latch", state.ceiling().reason or "none", holds=not state.ceiling().reason),
        gate(
            "evidence",
            "; ".join(f"{each.name}: {each.reason}" for each in unproven) or "every gate passed",
            holds=not unproven,
        ),
    )


def _refusal(position: Position, target: Extent | None, seen: Observations, name: str) -> str:
    if position.latch:
        return f"taken back: {position.latch}; crossfade rollout resume --ack first"
    if target is None:
        return f"at {position.extent}, which is as far as the flag file wishes"
    if position.rehearsal in {"out", "back"}:
        return "the rollback is being rehearsed"
    worst = judged(seen.sight(name).gates)
    if position.extent.stage.rank >= Stage.SHADOW.rank and worst.answer is not Answer.PASS:
        return f"{worst.name} is {worst.answer}: {worst.reason}"
    return ""


def _because(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what


def _require_active(state: Rollout) -> None:
    if state.completed:
        raise InvalidRollout("the migration is complete: that cannot be undone")
    if not state.active:
        raise InvalidRollout(
            "no rollout has been started, the flag file alone decides; crossfade rollout start begins one, "
            "crossfade flags set kill true takes everybody back"
        )


def _known(state: Rollout, cohort: str) -> Position:
    if cohort not in state.cohorts:
        raise InvalidRollout(f"there is no cohort {cohort!r}; there are {', '.join(state.cohorts)}")
    return state.cohorts[cohort]


def _of_all(action: str, state: Rollout, reason: str) -> Decision:
    place = str(state.position(DEFAULT_COHORT).extent)
    return Decision(action, "", place, place, reason)


def end(state: Rollout, wishes: Mapping[str, Extent]) -> Decided:
    """End a rollout: from now on the flag file alone decides. Only where that moves nobody."""
    _require_active(state)
    for name, wish in wishes.items():
        allowed = state.position(name).ceiling
        now = wish.lowered_to(allowed)
        if wish.served > now.served or wish.stage.rank > max(Stage.LIVE.rank, now.stage.rank):
            raise InvalidRollout(
                f"cohort {name} is at {allowed} and the flag file wishes for {wish}: lower the file first, else clients "
                "would be moved without evidence"
            )
    return NONE, (_of_all("end", state, "the flag file alone decides from now on"),)
