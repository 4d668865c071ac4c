"""When a connected client changes its route: the decision alone, pure.

A client has one *active* leg and sometimes a *candidate*, opened on another route at the cursor the client stands at.
Both feed one sequencer, so a switch loses nothing and doubles nothing; the only question is when.

===================================  =====================================================================
the flags want another route         open a candidate there; switch once it is ready
the active leg is down               after a moment, open a candidate on the first fallback; switch once it is
                                     ready; one that does not get anywhere is left for the next
the active leg is a fallback         keep a candidate on what ranks before it; go back when that has held
the active leg has lost history      look for it on the fallbacks before the client is told a Gap
back where the flags want it         drop the candidate
a planned move would lose something  give it up, say so, try again later
a planned move takes too long        the same
===================================  =====================================================================

Ready means: live, having delivered everything the client had when it became live, less than two seconds behind. A
client that was moved by a failure goes back only when its own route has been live for a while (hysteresis). While the
active leg is down, a candidate that is live and not ready for some seconds will do, and one that would lose something
is left for the others; only when none of them can do better does the client take it, and is told its Gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from monitoring.route import Route


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the router is, in seconds."""

    failover_after: float = 2.0
    """An active leg may be down this long before another route is tried."""
    next_after: float = 4.0
    """A fallback that is not live and brings nothing for this long is left for the next one."""
    return_after: float = 5.0
    """After a failover, a better route must have been live this long before the client goes back."""
    give_up_after: float = 30.0
    """A planned move that takes longer is given up; it is tried again after as long."""
    lag: float = 2.0
    """How far a candidate may be behind when it takes over."""
    spread: float = 0.0
    """A planned move begins at a random moment within this long, so that clients elsewhere do not all come at once."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A leg that may take over. ``ready`` is defined above; times are in seconds."""

    route: Route
    ready: bool
    open_for: float
    live_for: float
    obstacle: str | None = None
    """Why it is not ready yet."""
    quiet_for: float = 0.0
    """How long ago it last brought anything, or was opened."""
    loss: str | None = None
    """What the client would lose by it."""
    refusal: str | None = None
    """Why it will never be ready."""

    @property
    def problem(self) -> str | None:
        """Why it should not take over."""
        return self.refusal or self.loss


@dataclass(frozen=True, slots=True)
class View:
    """Everything the decision looks at."""

    wish: Route
    active: Route
    active_down_for: float
    """0 while the active leg is live, infinite when it was refused."""
    failed_over: bool
    """Whether the client is where it is because a better route failed."""
    candidate: Candidate | None
    cooling: bool
    """Whether a planned move may not begin yet: one was given up a moment ago, or others go first."""
    tried: Sequence[Route] = ()
    """The routes that were tried and left since the active leg is down, or lacks something; the one tried longest ago
    first."""
    lacking: str | None = None
    """What the active leg has lost and the client waits for."""


class Step(StrEnum):
    """What the router does next."""

    KEEP = "keep"
    OPEN = "open"
    """Open a candidate on ``Decision.route``; one that is open is left for it."""
    SWITCH = "switch"
    CONCEDE = "concede"
    """Tell the client what the active leg has lost: nobody else has it either."""
    DROP = "drop"
    ABANDON = "abandon"


@dataclass(frozen=True, slots=True)
class Decision:
    """A step and its reason, in a sentence for people."""

    step: Step
    reason: str = ""
    route: Route | None = None


KEEP = Decision(Step.KEEP)


def decide(view: View, limits: Limits) -> Decision:
    """Return the next step for a client."""
    if view.active_down_for >= limits.failover_after:
        return _escape(view, limits)
    if view.lacking is not None:
        return _look_elsewhere(view, view.lacking, limits)
    if view.candidate is None:
        return _begin(view)
    if view.candidate.route not in _better(view):
        if view.active_down_for:
            return KEEP  # the active leg may be about to fail, and here is somebody to take over
        return Decision(Step.DROP, f"{view.active} answers, and nobody wants {view.candidate.route}")
    return _return(view, view.candidate, limits) if view.failed_over else _move(view, view.candidate, limits)


def _begin(view: View) -> Decision:
    better = _better(view)
    if not better or view.cooling:
        return KEEP
    return Decision(Step.OPEN, _why(view, better[0]), better[0])


def _move(view: View, candidate: Candidate, limits: Limits) -> Decision:
    """A planned move: switch when it costs nothing, give up when it would cost something."""
    if candidate.problem is not None:
        return Decision(Step.ABANDON, candidate.problem)
    if candidate.ready:
        return Decision(Step.SWITCH, _why(view, candidate.route))
    if candidate.open_for >= limits.give_up_after:
        late = f"{candidate.route} was not ready within {limits.give_up_after:.0f} s"
        return Decision(Step.ABANDON, f"{late}: {candidate.obstacle}" if candidate.obstacle else late)
    return KEEP


def _return(view: View, candidate: Candidate, limits: Limits) -> Decision:
    """The client is on a fallback that does its work: go back to something better, once that has held."""
    better = _better(view)
    if candidate.loss is not None or (candidate.refusal is not None and len(better) == 1):
        return Decision(Step.ABANDON, candidate.problem or "")
    if candidate.ready and candidate.live_for >= limits.return_after:
        return Decision(Step.SWITCH, f"{candidate.route} is back")
    if _stuck(candidate, limits):  # also one that was refused: nobody is in a hurry
        return _next(view, candidate, better, limits)
    return KEEP


def _escape(view: View, limits: Limits) -> Decision:
    """The active leg is down: find another."""
    others = [route for route in view.wish.ranked() if route != view.active]
    if math.isinf(
        view.active_down_for
    ):  # it was refused, and will not come back by itself: begin it anew, last of all
        others.append(view.active)
    candidate = view.candidate
    if candidate is None:
        if not others:
            return KEEP
        first = min(others, key=lambda route: view.tried.index(route) + 1 if route in view.tried else 0)
        return Decision(Step.OPEN, f"{view.active} is down", first)
    left = [route for route in others if route not in view.tried and route != candidate.route]
    usable = candidate.ready or candidate.live_for >= limits.next_after
    if usable and candidate.refusal is None and (candidate.loss is None or not left):
        return Decision(Step.SWITCH, f"{view.active} is down")
    if candidate.problem is not None or _stuck(candidate, limits):
        return _next(view, candidate, others, limits)
    return KEEP


def _look_elsewhere(view: View, lacking: str, limits: Limits) -> Decision:
    """The active leg works, but has lost something: let a fallback bring it. The client waits for that alone."""
    candidate = view.candidate
    others = [route for route in view.wish.ranked() if route.backend is not view.active.backend]
    left = [route for route in others if route not in view.tried]
    if candidate is None:
        if not left:
            return Decision(Step.CONCEDE, f"{view.active}: {lacking}")
        return Decision(Step.OPEN, f"{view.active}: {lacking}", left[0])
    if candidate.route == view.wish and candidate.ready and candidate.problem is None:
        return Decision(Step.SWITCH, _why(view, candidate.route))
    if candidate.ready or candidate.problem is not None or candidate.quiet_for >= limits.give_up_after:
        # It has brought all it has, or will not: had that been enough, nothing would be lacking any more. Patient,
        # because only the stream that lacks something waits, and what is told as lost is lost.
        after = [route for route in left if route != candidate.route]
        reason = candidate.problem or f"{candidate.route} does not have it either"
        return Decision(Step.OPEN, reason, after[0]) if after else Decision(Step.CONCEDE, reason)
    return KEEP


def _better(view: View) -> Sequence[Route]:
    """Return what the client should rather be on than on its active leg, best first."""
    if view.active == view.wish:
        return ()
    if not view.failed_over:
        return (view.wish,)
    ranked = list(view.wish.ranked())
    return ranked[: ranked.index(view.active)] if view.active in ranked else ranked


def _next(view: View, candidate: Candidate, routes: Sequence[Route], limits: Limits) -> Decision:
    """Leave a candidate that gets nowhere for the one that follows it, in a ring; the second time round at a pace."""
    at = routes.index(candidate.route) if candidate.route in routes else -1
    following = routes[(at + 1) % len(routes)]
    hopeless = candidate.refusal is not None or following != candidate.route
    if hopeless and (following not in view.tried or candidate.quiet_for >= limits.next_after):
        return Decision(Step.OPEN, candidate.problem or f"{candidate.route} is not live either", following)
    return KEEP


def _stuck(candidate: Candidate, limits: Limits) -> bool:
    return candidate.live_for == 0 and candidate.quiet_for >= limits.next_after


def _why(view: View, route: Route) -> str:
    return f"{route} is back" if view.failed_over else f"the flags say {route}"
