"""The controller as it runs: looks once a second, decides by `monitoring.rollout`, and has every decision on the disk first.

What it has seen since its last decision is kept in a checkpoint, so that a restart at any point goes on where it was. It
holds no lock and owns no state that is not in a file: kill it, and the rollout stands still; start it, and it goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from adapters import client_reports, flag_audit
from adapters.flag_file import FlagFile
from adapters.rollout_journal import Entry, Journal, JournalUnusable
from crossfade.paths import DataDir, read_json, write_json
from crossfade.rollout import load
from crossfade.rollout.evidence import CohortEvidence, Comparison, barred, sight
from crossfade.rollout.mirror import Mirror
from monitoring.capacity import PLANS, Plan, predict
from monitoring.errors import InvalidRollout
from monitoring.events import format_time
from monitoring.flags.description import differences
from monitoring.flags.evaluation import compiled
from monitoring.flags.model import Flags
from monitoring.flags.stages import TOTAL_WEIGHT, Extent, paths_of
from monitoring.rollout.commands import completion_gates
from monitoring.rollout.controller import decide, judged, next_extent
from monitoring.rollout.ledger import Growth, Ledger, resumed
from monitoring.rollout.observations import Answer, Gate, Observations
from monitoring.rollout.state import Position, Rollout
from validation.errors import InvalidFigures

LOOK_SECONDS = 1.0

_log = logging.getLogger("crossfade.rollout")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a controller is told when it is made."""

    plan: Plan = PLANS["own"]
    mode: str = "changes"
    look_seconds: float = LOOK_SECONDS


class Controller:
    """One controller of one installation; ``run`` looks until it is cancelled."""

    def __init__(
        self,
        data: DataDir,
        flags: FlagFile,
        setting: Setting,
        mirror: Mirror | None,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data = data
        self._flags = flags
        self._setting = setting
        self._mirror = mirror
        self._wall = wall
        self._clock = clock
        self._journal = Journal(data.rollout_journal)
        self._ledger = Ledger()
        self._entry = Entry(0, Rollout())
        self._comparison = Comparison()
        self._evidence: dict[str, CohortEvidence] = {}
        self._looked_at = clock()
        self._publishers: tuple[str, ...] = ("the database has not been asked yet",)
        self._wish: Flags | None = None
        self.problem: str | None = None
        self._recall()

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        while True:
            flags = await asyncio.to_thread(self._flags.refresh)
            try:
                self.look(flags)
                self._said(None)
            except JournalUnusable as error:
                self._said(str(error))
            if self._mirror is not None:
                effective = self._entry.state
                needed = paths_of(replace(flags, ceiling=effective.ceiling()).extents().values())
                unheard = await self._mirror.tell(effective.paths(needed))
                self._publishers = ("the database is away",) if unheard is None else unheard
            await asyncio.sleep(self._setting.look_seconds)

    def look(self, flags: Flags) -> None:
        """Look once, decide, and keep what was decided. Raises JournalUnusable with nothing decided."""
        now = self._clock()
        elapsed, self._looked_at = now - self._looked_at, now
        self._audit(flags)
        self._follow_journal()
        seen = self._observe(flags, elapsed)
        state, decisions = decide(self._entry.state, seen)
        if decisions:
            number = self._entry.number

            def once_more(newest: Rollout) -> Any:
                # Somebody's command may have come between: then it is decided from what that left.
                return (state, decisions) if self._journal.read().number == number else decide(newest, seen)

            self._entry, kept = self._journal.decide("controller", once_more)
            for decision in kept:
                level = logging.WARNING if decision.action in {"trip", "alarm", "abort"} else logging.INFO
                _log.log(
                    level,
                    "%s %s: %s -> %s: %s",
                    decision.action,
                    decision.cohort or "everybody",
                    decision.before,
                    decision.after,
                    decision.reason,
                )
        else:
            self._entry = replace(self._entry, state=state)
        self._keep(seen)

    # What is seen

    def _observe(self, flags: Flags, elapsed: float) -> Observations:
        state = self._entry.state
        policy = state.policy
        wishes = flags.wishes()
        effective = replace(flags, ceiling=state.ceiling())
        route = compiled(effective)
        reports = client_reports.read(self._data.client_reports, now=self._wall())
        growths = self._ledger.grown(
            reports, lambda client: route(client).cohort, lambda client: route(client).value
        )
        self._comparison = self._comparison.seen(read_json(self._data.parity), self._wall(), elapsed, policy)
        common = (*self._comparison.gates(policy),)
        cohorts = {}
        for name, wish in wishes.items():
            growth = growths.get(name, Growth())
            if not state.active:
                cohorts[name] = sight(Position(wish), CohortEvidence(""), growth, common, policy)
                continue
            position = state.position(name)
            evidence = self._evidence_of(name, position).add(growth, policy, position.attempts)
            self._evidence[f"{name}/{evidence.key}"] = evidence
            gates = (*common, self._capacity(flags, name, position, wish))
            cohorts[name] = sight(position, evidence, growth, gates, policy)
        return Observations(
            now=self._wall(),
            elapsed=elapsed,
            wishes=wishes,
            cohorts=cohorts,
            trip=self._comparison.trip(policy),
            legacy_problem=self._comparison.legacy_problem(policy),
            publishers=self._publishers,
            barred=barred(flags),
        )

    def _evidence_of(self, cohort: str, position: Position) -> CohortEvidence:
        """Return a cohort's evidence: kept over the steps of one stage and over a rehearsal, begun anew after a setback."""
        key = f"{position.extent.stage}/{position.attempts}"
        stale = [
            each
            for each in self._evidence
            if each.startswith(f"{cohort}/") and not each.endswith(f"/{position.attempts}")
        ]
        for each in stale:
            del self._evidence[each]
        found = self._evidence.get(f"{cohort}/{key}", CohortEvidence(key))
        return found.of_step(position.number)

    def _capacity(self, flags: Flags, cohort: str, position: Position, wish: Extent) -> Gate:
        """Predict what the next step needs: percentages prove parity, not load."""
        target = next_extent(position, wish, self._entry.state.policy)
        now = load.measured(self._data)
        if target is None or now is None:
            return Gate(
                "capacity", Answer.PASS, "no further step" if target is None else "no load is known yet"
            )
        everybody = max(1, now.clients)
        share = target.served / TOTAL_WEIGHT
        others = sum(
            1
            for client in client_reports.connected(self._data.client_reports)
            if (found := compiled(flags)(client)).cohort != cohort and found.value == "supabase"
        )
        after = replace(now, clients=max(1, round(everybody * share) + others + 1))
        prediction = predict(after, self._setting.plan, self._setting.mode)
        first = prediction.first_to_break
        shown = "nothing is limited" if first is None else f"{first.name} at {first.share:.0%}"
        return Gate(
            "capacity",
            Answer.PASS if prediction.fits else Answer.FAIL,
            f"{target} is about {after.clients} clients on {self._setting.plan.name}: {shown}",
        )

    # What is kept

    def _follow_journal(self) -> None:
        """Take over what others decided since the last look."""
        newest = self._journal.read()
        if newest.number == self._entry.number:
            return
        before, state = self._entry.state, resumed(newest.state, self._entry.state)
        freed = any(
            each.latch and not state.cohorts.get(name, each).latch for name, each in before.cohorts.items()
        )
        if freed or (state.active and not before.active):
            self._comparison = replace(
                self._comparison, evidence=self._comparison.evidence.acknowledged(), down_seconds={}
            )
        self._entry = Entry(newest.number, state)

    def _recall(self) -> None:
        """Take up where an earlier controller ended."""
        try:
            newest = self._journal.read()
        except JournalUnusable as error:
            self._said(str(error))
            return
        self._entry = newest
        kept = read_json(self._data.rollout_checkpoint)
        if kept is None:
            return
        try:
            if kept["n"] == newest.number:
                self._entry = Entry(newest.number, resumed(newest.state, Rollout.from_json(kept["state"])))
            self._comparison = Comparison.from_json(kept["comparison"])
            self._evidence = {name: CohortEvidence.from_json(each) for name, each in kept["evidence"].items()}
        except (KeyError, TypeError, ValueError, InvalidRollout, InvalidFigures) as error:
            _log.warning("the checkpoint is of no use (%s): evidence is collected anew", error)

    def _keep(self, seen: Observations) -> None:
        checkpoint = {
            "n": self._entry.number,
            "state": self._entry.state.to_json(),
            "comparison": self._comparison.to_json(),
            "evidence": {name: each.to_json() for name, each in self._evidence.items()},
        }
        try:
            write_json(self._data.rollout_checkpoint, checkpoint)
            write_json(self._data.rollout, self.report(seen))
        except OSError as error:
            self._said(f"{self._data.rollout_checkpoint} cannot be written: {error.strerror}")

    def report(self, seen: Observations) -> dict[str, Any]:
        """Return what the controller says of itself: where each cohort stands, and what holds it."""
        state = self._entry.state
        return {
            "updated_at": format_time(datetime.fromtimestamp(self._wall(), UTC)),
            "n": self._entry.number,
            "active": state.active,
            "hold": state.hold,
            "unsafe": state.unsafe,
            "completing": state.completing,
            "completed": state.completed,
            "trip": seen.trip,
            "legacy_problem": seen.legacy_problem,
            "publishers": list(seen.publishers),
            "barred": seen.barred,
            "problem": self.problem,
            "database": self._mirror.problem if self._mirror else None,
            "cohorts": {name: self._cohort_report(name, seen) for name in seen.wishes},
            "completion": [decision_gate(gate) for gate in completion_gates(state, seen)]
            if state.active
            else [],
            "sights": {
                name: {
                    "trip": each.trip,
                    "clients": each.clients,
                    "on_supabase": each.on_supabase,
                    "astray": each.astray,
                }
                for name, each in seen.cohorts.items()
            },
        }

    def _cohort_report(self, name: str, seen: Observations) -> Mapping[str, Any]:
        state, one = self._entry.state, seen.sight(name)
        if not state.active:
            return {"wish": str(seen.wishes[name]), "gates": [decision_gate(gate) for gate in one.gates]}
        position = state.position(name)
        target = next_extent(position, seen.wishes[name], state.policy)
        return {
            "wish": str(seen.wishes[name]),
            "at": str(position.extent),
            "ceiling": str(position.ceiling),
            "next": None if target is None else str(target),
            "dwelt_seconds": round(position.dwelt, 1),
            "latch": position.latch,
            "rehearsal": position.rehearsal,
            "attempts": position.attempts,
            "gates": [decision_gate(gate) for gate in one.gates],
            "held_by": holding(state, position, target, one.gates),
        }

    def _audit(self, flags: Flags) -> None:
        """Record a change that no command of ours made: an editor's, whose author is the file's owner."""
        before, self._wish = self._wish, flags
        if before is None or not (changes := list(differences(before, flags))):
            return
        newest = next(reversed(list(flag_audit.read(self._data.flag_audit))), None)
        if newest is None or newest["changes"] != changes:
            flag_audit.record(
                self._data.flag_audit, self._flags.path, changes, "in an editor", _owner(self._flags.path)
            )

    def _said(self, problem: str | None) -> None:
        if problem and problem != self.problem:
            _log.error("%s; the rollout stands still", problem)
        self.problem = problem


def holding(  # noqa: PLR0911 - the first that holds
    state: Rollout, position: Position, target: Extent | None, gates: tuple[Gate, ...]
) -> str:
    """Return in one sentence what keeps a cohort where it is."""
    if position.latch:
        return f"taken back: {position.latch}"
    if state.hold:
        return f"held: {state.hold}"
    if state.unsafe:
        return f"ROLLBACK UNSAFE: {state.unsafe}"
    if position.rehearsal in {"out", "back"}:
        return f"the rollback is rehearsed ({position.rehearsal})"
    if target is None:
        return "as far as the flag file wishes"
    worst = judged(gates)
    if position.extent.served or position.extent.stage == "shadow":
        if worst.answer is not Answer.PASS:
            return f"{worst.name} is {worst.answer}: {worst.reason}"
        if position.dwelt < state.policy.min_dwell_seconds:
            return f"dwelt {position.dwelt:.0f} of {state.policy.min_dwell_seconds:g} s"
    return "goes on at the next look"


def decision_gate(gate: Gate) -> dict[str, str]:
    """Return a gate as plain JSON."""
    return {"name": gate.name, "answer": str(gate.answer), "reason": gate.reason}


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError, NotImplementedError):
        return "(unknown)"
