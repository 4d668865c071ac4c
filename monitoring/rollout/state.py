"""Where a rollout stands: a value that a journal can keep, and the ceiling that follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from monitoring.errors import InvalidRollout
from monitoring.flags.model import DEFAULT_COHORT, PERCENT_SCALE, UNLIMITED, Ceiling
from monitoring.flags.stages import TOTAL_WEIGHT, Extent, Paths, Stage

LADDER = (1_000, 5_000, 10_000, 25_000, 50_000, TOTAL_WEIGHT)
"""The steps of stage live: 1, 5, 10, 25, 50 and 100 %."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a rollout asks for before it goes on. Durations in seconds; fixed when the rollout starts."""

    ladder: tuple[int, ...] = LADDER
    min_dwell_seconds: float = 900.0
    min_clients: int = 1
    """Clients that have to have shown something in the present step."""
    no_data_seconds: float = 3600.0
    """A step that has not seen anything for this long is extended once, then left for the stage before."""
    rehearsal_seconds: float = 120.0
    """How long a rehearsal of the rollback may take, each way."""
    reverse_window_seconds: float = 7 * 86_400.0
    """How long in rampdown the way back stays open before ``complete`` is possible."""
    max_disturbed: float = 1e-3
    """The share of disturbed blocks that has to be ruled out before a step."""
    hoped_disturbed: float = 2e-4
    """The share that a good path is expected to have at most: the further below, the sooner it passes."""
    trip_limit: float = 1e-3
    """The share, of events, that a trip must not be caused by."""
    trip_share: float = 1e-2
    """The share, of events, that a trip is to notice soon."""
    alpha: float = 0.05
    """How probable it may be that a path at the limit passes, ever."""
    min_coverage: float = 0.99
    latency_budget_seconds: float = 0.25
    """By how much the new path's p99 may exceed the old one's."""
    max_errors: float = 0.01
    """The share of blocks in which the new path may fail."""
    silence_seconds: float = 6.0
    """How long a path may be away before that counts: three heartbeats of the embedded Supabase."""

    def __post_init__(self) -> None:
        steps = list(self.ladder)
        if steps != sorted(set(steps)) or not steps or steps[0] < 1 or steps[-1] != TOTAL_WEIGHT:
            raise InvalidRollout("the ladder must rise, from more than 0 %, to 100 %")
        for name in self.__slots__:
            if name != "ladder" and not 0 <= getattr(self, name) < math.inf:
                raise InvalidRollout(f"{name} must be a number that is not negative")
        shares = (self.hoped_disturbed, self.max_disturbed, self.trip_limit, self.trip_share, self.alpha)
        rising = self.hoped_disturbed < self.max_disturbed and self.trip_limit < self.trip_share
        if not rising or not all(0 < share < 1 for share in shares):
            raise InvalidRollout(
                "hoped_disturbed must be below max_disturbed and trip_limit below trip_share; these and alpha are shares "
                "between 0 and 1"
            )

    def steps(self) -> tuple[Extent, ...]:
        """Return every step of the rollout, in order; in shadow the clients of the first live step open the new path."""
        return (
            Extent(Stage.OFF),
            Extent(Stage.DUALWRITE),
            Extent(Stage.SHADOW, self.ladder[0]),
            *(Extent(Stage.LIVE, weight) for weight in self.ladder),
            Extent(Stage.RAMPDOWN),
        )


@dataclass(frozen=True, slots=True)
class Position:
    """Where one cohort stands.

    ``number`` rises with every change of ``extent`` within the rollout: evidence belongs to one number. ``dwelt`` is
    the time spent there as the controller saw it, so that neither a clock that jumps nor a night without a controller
    counts. ``latch`` is why the cohort was taken back; a person has to acknowledge it. ``rehearsal`` is "", "out",
    "back" or "done"; while one runs, ``dwelt`` is its own.
    """

    extent: Extent
    number: int = 0
    dwelt: float = 0.0
    latch: str = ""
    rehearsal: str = ""
    extended: bool = False
    attempts: int = 1
    """How often the cohort has begun to collect evidence after a setback, and once: it shares out the error allowed."""

    def moved(self, extent: Extent, **changes: Any) -> Position:
        """Return the position after a change of its extent."""
        fresh = replace(self, extent=extent, number=self.number + 1, dwelt=0.0, extended=False)
        return replace(fresh, **changes)

    @property
    def ceiling(self) -> Extent:
        """How far the cohort may go: a latched one opens nothing on the new path."""
        return (
            replace(self.extent, weight=0)
            if self.latch and self.extent.stage is Stage.SHADOW
            else self.extent
        )


@dataclass(frozen=True, slots=True)
class Rollout:
    """The whole state. Without ``active`` there is no rollout, and nothing is limited."""

    active: bool = False
    policy: Policy = field(default_factory=Policy)
    cohorts: Mapping[str, Position] = field(default_factory=dict)
    hold: str = ""
    """Why a person holds it; empty when nobody does."""
    unsafe: str = ""
    """Why clients could not be taken back now; empty while they could."""
    completing: bool = False
    """A person has confirmed ``complete``; publishers are being asked to leave the legacy server."""
    completed: bool = False
    seen_at: float = 0.0
    """The wall clock of the newest look, in seconds: never goes back."""

    def position(self, cohort: str) -> Position:
        """Return where a cohort stands; one that is new stands where its clients came from."""
        return self.cohorts.get(cohort) or self.cohorts[DEFAULT_COHORT]

    def moved(self, cohort: str, position: Position) -> Rollout:
        """Return the state with one cohort somewhere else."""
        return replace(self, cohorts={**self.cohorts, cohort: position})

    def ceiling(self) -> Ceiling:
        """Return what routes are limited to."""
        if not self.active:
            return UNLIMITED
        return Ceiling(
            default=self.position(DEFAULT_COHORT).ceiling,
            cohorts=tuple(
                (name, position.ceiling)
                for name, position in sorted(self.cohorts.items())
                if name != DEFAULT_COHORT
            ),
            completed=self.completed,
            reason=self._reason(),
        )

    def _reason(self) -> str:
        latches = [f"{name}: {each.latch}" for name, each in sorted(self.cohorts.items()) if each.latch]
        return "; ".join(latches) or (f"held: {self.hold}" if self.hold else "")

    def paths(self, needed: Paths) -> Paths:
        """Return what is to be published, given what the extents need."""
        return replace(needed, legacy=False) if self.completing or self.completed else needed

    def to_json(self) -> dict[str, Any]:
        """Return its form in the journal."""
        policy = self.policy
        return {
            "active": self.active,
            "policy": {
                "ladder_percent": [weight / PERCENT_SCALE for weight in policy.ladder],
                **{name: getattr(policy, name) for name in policy.__slots__ if name != "ladder"},
            },
            "cohorts": {name: _position_json(each) for name, each in self.cohorts.items()},
            "hold": self.hold,
            "unsafe": self.unsafe,
            "completing": self.completing,
            "completed": self.completed,
            "seen_at": self.seen_at,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rollout:
        """Read ``to_json``; raises InvalidRollout."""
        try:
            policy = dict(value["policy"])
            ladder = tuple(round(percent * PERCENT_SCALE) for percent in policy.pop("ladder_percent"))
            made = cls(
                active=_typed(value["active"], bool),
                policy=Policy(ladder=ladder, **policy),
                cohorts={str(name): _position(each) for name, each in value["cohorts"].items()},
                hold=_typed(value["hold"], str),
                unsafe=_typed(value["unsafe"], str),
                completing=_typed(value["completing"], bool),
                completed=_typed(value["completed"], bool),
                seen_at=float(value["seen_at"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidRollout(f"not the state of a rollout: {type(error).__name__}: {error}") from error
        if made.active and DEFAULT_COHORT not in made.cohorts:
            raise InvalidRollout(f"not the state of a rollout: cohort {DEFAULT_COHORT} is missing")
        return made


NONE = Rollout()
"""No rollout has been started."""


def extent_json(extent: Extent) -> dict[str, Any]:
    """Return an extent as plain JSON."""
    return {"stage": str(extent.stage), "percent": extent.weight / PERCENT_SCALE}


def read_extent(value: Mapping[str, Any]) -> Extent:
    """Read ``extent_json``; raises KeyError, TypeError or ValueError."""
    weight = round(value["percent"] * PERCENT_SCALE)
    if not 0 <= weight <= TOTAL_WEIGHT:
        raise ValueError(f"{value['percent']} is no percentage")
    return Extent(Stage(value["stage"]), weight)


def _position_json(position: Position) -> dict[str, Any]:
    return {
        **extent_json(position.extent),
        "number": position.number,
        "dwelt": position.dwelt,
        "latch": position.latch,
        "rehearsal": position.rehearsal,
        "extended": position.extended,
        "attempts": position.attempts,
    }


def _position(value: Mapping[str, Any]) -> Position:
    rehearsal = _typed(value["rehearsal"], str)
    if rehearsal not in {"", "out", "back", "done"}:
        raise ValueError(f"{rehearsal!r} is no part of a rehearsal")
    return Position(
        extent=read_extent(value),
        number=_typed(value["number"], int),
        dwelt=float(value["dwelt"]),
        latch=_typed(value["latch"], str),
        rehearsal=rehearsal,
        extended=_typed(value["extended"], bool),
        attempts=_typed(value["attempts"], int),
    )


def _typed(value: Any, kind: type[Any]) -> Any:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {value!r}")
    return value
