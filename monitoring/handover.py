"""When a connected client changes its backend: the decision alone, pure.

A client has one *active* feed and sometimes a *candidate*, opened on the other backend at the cursor the client stands
at. Both feed one sequencer, so a switch loses nothing and doubles nothing; the only question is when.

===================================  =====================================================================
the flags want the other backend     open a candidate there; switch once it is ready
the active feed is down              after a moment, open a candidate on the other; switch once it is ready
back where the flags want it         drop the candidate
a planned move takes too long        give it up, say so, try again later
===================================  =====================================================================

Ready means: live, having delivered everything the client had when it became live, less than two seconds behind. A
client that was moved by a failure goes back only when its own backend has been live for a while (hysteresis).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from monitoring.service import Backend


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the router is, in seconds."""

    failover_after: float = 2.0
    """An active feed may be down this long before the other backend is tried."""
    return_after: float = 5.0
    """After a failover, the wished backend must have been live this long before the client goes back."""
    give_up_after: float = 30.0
    """A planned move that takes longer is given up."""
    lag: float = 2.0
    """How far a candidate may be behind when it takes over."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A feed that may take over. ``ready`` is defined above; times are in seconds."""

    backend: Backend
    ready: bool
    open_for: float
    live_for: float
    problem: str | None = None
    """Why it cannot take over without a loss, or at all."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything the decision looks at."""

    wish: Backend
    active: Backend
    active_down_for: float
    """0 while the active feed is live."""
    failed_over: bool
    """Whether the client is where it is because its wished backend failed."""
    candidate: Candidate | None
    cooling: bool
    """Whether a planned move was given up a moment ago."""


class Step(StrEnum):
    """What the router does next."""

    KEEP = "keep"
    OPEN = "open"
    SWITCH = "switch"
    DROP = "drop"
    ABANDON = "abandon"


@dataclass(frozen=True, slots=True)
class Decision:
    """A step and its reason, in a sentence for people."""

    step: Step
    reason: str = ""


KEEP = Decision(Step.KEEP)


def decide(view: View, limits: Limits) -> Decision:
    """Return the next step for a client."""
    down = view.active_down_for >= limits.failover_after
    if view.wish is view.active:
        return _stay(view, down=down)
    if view.candidate is None:
        reason = f"the flags say {view.wish}"
        return KEEP if view.cooling and not down else Decision(Step.OPEN, reason)
    return _move(view, view.candidate, limits, down=down)


def _stay(view: View, *, down: bool) -> Decision:
    """The client is where the flags want it: leave only if that backend fails."""
    candidate = view.candidate
    if not down:
        if candidate is None or view.active_down_for:
            return KEEP
        return Decision(Step.DROP, f"{view.active} answers and the flags want it")
    if candidate is None:
        return KEEP if view.cooling else Decision(Step.OPEN, f"{view.active} is down")
    if candidate.problem is not None:
        return Decision(Step.ABANDON, candidate.problem)
    if candidate.ready:
        return Decision(Step.SWITCH, f"{view.active} is down")
    return KEEP


def _move(view: View, candidate: Candidate, limits: Limits, *, down: bool) -> Decision:
    """The client is to move: switch when it costs nothing, give up when it would cost something."""
    if candidate.problem is not None:
        return Decision(Step.ABANDON, candidate.problem)
    if candidate.ready and (not view.failed_over or down or candidate.live_for >= limits.return_after):
        reason = f"{view.wish} is back" if view.failed_over else f"the flags say {view.wish}"
        return Decision(Step.SWITCH, reason)
    if not view.failed_over and not down and candidate.open_for >= limits.give_up_after:
        return Decision(
            Step.ABANDON, f"{candidate.backend} was not ready within {limits.give_up_after:.0f} s"
        )
    return KEEP
