"""The guarded rollout as the page shows it: where each cohort stands, what holds it there, what it rests on. Pure.

Read from what `Records.rollout` and `Records.decisions` return; what is missing is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dashboard.readings import mapping, mappings, number, text, time_of


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition for going on, with the sentence it rests on; ``answer`` is PASS, FAIL, INCONCLUSIVE, NO_DATA, ERROR."""

    name: str
    answer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cohort:
    """One cohort of clients. ``steps`` lead from where it stands to the wish; ``dwelt_seconds`` of ``dwell_seconds``."""

    name: str
    extent: str
    wish: str
    next: str
    held_by: str
    latch: str
    dwelt_seconds: float | None
    dwell_seconds: float | None
    clients: float | None
    on_supabase: float | None
    steps: tuple[str, ...]
    gates: tuple[Gate, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision that the journal keeps."""

    number: float | None
    at: datetime | None
    by: str
    action: str
    cohort: str
    before: str
    after: str
    reason: str
    gates: tuple[Gate, ...]


@dataclass(frozen=True, slots=True)
class Steering:
    """The whole rollout. Without ``active`` nobody steers: the flag file alone decides."""

    active: bool = False
    completed: bool = False
    completing: bool = False
    hold: str = ""
    unsafe: str = ""
    problem: str = ""
    controlled: bool = False
    """Whether a controller runs."""
    cohorts: tuple[Cohort, ...] = ()
    completion: tuple[Gate, ...] = ()

    @property
    def latched(self) -> tuple[str, ...]:
        """The cohorts that a trip took back."""
        return tuple(each.name for each in self.cohorts if each.latch)


def steering(found: Mapping[str, Any]) -> Steering:
    """Read the state of the rollout and what its controller says."""
    state, said = mapping(found.get("state")), mapping(found.get("controller"))
    policy = mapping(state.get("policy"))
    active = state.get("active") is True
    names = mapping(state.get("cohorts")) if active else mapping(said.get("cohorts"))
    return Steering(
        active=active,
        completed=state.get("completed") is True,
        completing=state.get("completing") is True,
        hold=text(state.get("hold")),
        unsafe=text(state.get("unsafe")),
        problem=text(said.get("problem")) or text(said.get("database")) or text(said.get("trip")),
        controlled=bool(said),
        cohorts=tuple(
            _cohort(str(name), mapping(position), said, mapping(found.get("steps")), policy)
            for name, position in names.items()
        ),
        completion=_gates(said.get("completion")),
    )


def entries(found: Sequence[Mapping[str, Any]]) -> tuple[Entry, ...]:
    """Read entries of the journal, in the order they come in."""
    return tuple(
        Entry(
            number=number(each.get("n")),
            at=time_of(each.get("at")),
            by=text(each.get("by")),
            action=text(each.get("action")),
            cohort=text(each.get("cohort")),
            before=text(each.get("before")),
            after=text(each.get("after")),
            reason=text(each.get("reason")),
            gates=_gates(each.get("gates")),
        )
        for each in found
    )


def _cohort(
    name: str,
    position: Mapping[str, Any],
    said: Mapping[str, Any],
    steps: Mapping[str, Any],
    policy: Mapping[str, Any],
) -> Cohort:
    told = mapping(mapping(said.get("cohorts")).get(name))
    sight = mapping(mapping(said.get("sights")).get(name))
    left = steps.get(name)
    return Cohort(
        name=name,
        extent=text(told.get("at")) or _extent(position),
        wish=text(told.get("wish")),
        next=text(told.get("next")),
        held_by=text(told.get("held_by")),
        latch=text(position.get("latch")),
        dwelt_seconds=number(told.get("dwelt_seconds", position.get("dwelt"))),
        dwell_seconds=number(policy.get("min_dwell_seconds")),
        clients=number(sight.get("clients")),
        on_supabase=number(sight.get("on_supabase")),
        steps=tuple(map(str, left)) if isinstance(left, list | tuple) else (),
        gates=_gates(told.get("gates")),
    )


def _extent(position: Mapping[str, Any]) -> str:
    stage, percent = text(position.get("stage")), number(position.get("percent"))
    return f"{stage} {percent:g} %" if stage and percent else stage


def _gates(found: object) -> tuple[Gate, ...]:
    return tuple(
        Gate(text(each.get("name")), text(each.get("answer")), text(each.get("reason")))
        for each in mappings(found)
    )
