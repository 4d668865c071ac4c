"""What a person decides of a rollout, from a command or a page: tried or made, recorded. One way for all.

None of it needs the controller but what needs its evidence: ``advance`` and ``complete``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.rollout_journal import Journal
from crossfade import plan
from crossfade.errors import CrossfadeError
from crossfade.paths import read_json
from crossfade.wiring import Wiring, open_flags
from monitoring.errors import InvalidRollout
from monitoring.flags.model import Flags
from monitoring.flags.stages import Extent
from monitoring.rollout.controller import Decided, next_extent
from monitoring.rollout.ledger import resumed
from monitoring.rollout.observations import Answer, Decision, Gate, Observations, Sight
from monitoring.rollout.state import NONE, Rollout

_FRESH_SECONDS = 10.0
"""A controller that has said nothing for so long does not run."""

Command = Callable[[Rollout], Decided]
"""One of `monitoring.rollout.commands`, with all but the state."""


@dataclass(frozen=True, slots=True)
class Change:
    """What was decided, or would be: the decisions, and the state after them. ``number`` is the journal's newest entry."""

    number: int
    state: Rollout
    decisions: Sequence[Decision]


def tried(wired: Wiring, command: Command) -> Change:
    """Return what a command would decide now; nothing is kept. Raises CrossfadeError with the reason why not."""
    entry = Journal(wired.data.rollout_journal).read()
    try:
        state, decisions = command(resumed(entry.state, _checkpoint(wired)))
    except InvalidRollout as error:
        raise CrossfadeError(str(error)) from error
    return Change(entry.number, state, decisions)


def made(wired: Wiring, command: Command, who: str) -> Change:
    """Let a command decide, and keep it in the journal. Raises CrossfadeError with the reason why not, JournalUnusable."""
    try:
        kept, decisions = Journal(wired.data.rollout_journal).decide(
            who, lambda state: command(resumed(state, _checkpoint(wired)))
        )
    except InvalidRollout as error:
        raise CrossfadeError(str(error)) from error
    return Change(kept.number, kept.state, tuple(decisions))


def wish(wired: Wiring) -> Flags:
    """Return the flags of the file; raises CrossfadeError when it is refused: nothing is decided from a broken wish."""
    found = open_flags(wired.data, plan.flags_file(wired.data, wired.settings), wired.settings.switches)
    flags = found.refresh()
    if problem := found.problem():
        raise CrossfadeError(problem)
    return flags


def report(wired: Wiring) -> Mapping[str, Any] | None:
    """Return what the controller says of itself; None when none runs."""
    said = read_json(wired.data.rollout)
    if said is None:
        return None
    try:
        age = time.time() - wired.data.rollout.stat().st_mtime
    except OSError:
        return None
    return said if age < _FRESH_SECONDS else None


def observations(wired: Wiring) -> Observations:
    """Return what the controller saw last; raises CrossfadeError when none runs, for then nothing is known."""
    said = report(wired)
    if said is None:
        raise CrossfadeError("no controller runs here, so there is no evidence; start it with crossfade up")
    sights = {}
    for name, found in said["cohorts"].items():
        seen = said["sights"][name]
        gates = tuple(Gate(each["name"], Answer(each["answer"]), each["reason"]) for each in found["gates"])
        sights[name] = Sight(gates, seen["trip"], seen["clients"], seen["on_supabase"], seen["astray"])
    return Observations(
        now=time.time(),
        elapsed=0.0,
        wishes=wish(wired).wishes(),
        cohorts=sights,
        trip=said["trip"],
        legacy_problem=said["legacy_problem"],
        publishers=tuple(said["publishers"]),
        barred=said["barred"],
    )


def steps(state: Rollout, cohort: str, wished: Extent) -> list[str]:
    """Return every step of a cohort from where it stands to its wish."""
    position, found = state.position(cohort), []
    while (target := next_extent(position, wished, state.policy)) is not None:
        found.append(str(target))
        position = position.moved(target)
    return found


def _checkpoint(wired: Wiring) -> Rollout:
    """Return what the controller has seen since its last decision, the dwell above all; nothing when it never ran."""
    try:
        return Rollout.from_json((read_json(wired.data.rollout_checkpoint) or {})["state"])
    except (KeyError, InvalidRollout):
        return NONE
