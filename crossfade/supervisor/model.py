"""The life of a part, as a pure state machine: a transition table and the arithmetic of its restarts.

Times are seconds of one clock that never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a part stands."""

    WAITING = "waiting"
    """For the parts it comes after."""
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    """It ended by itself and is started again at ``retry_at``."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    """It cannot be started, and trying again will not help."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt to start the part begins."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """Its process exists."""

    pid: int


@dataclass(frozen=True, slots=True)
class BecameReady:
    """It does its work from now on."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """It ended, or could not be started, without having been asked to end."""

    reason: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """It has been asked to end."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """It ended as asked."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Trying again will not help."""

    reason: str


Happening = Begun | Spawned | BecameReady | Ended | StopAsked | Stopped | GaveUp

_W, _S, _R, _B, _Q = State.WAITING, State.STARTING, State.READY, State.BACKOFF, State.STOPPING

TRANSITIONS: Final[dict[type[Happening], dict[State, State]]] = {
    Begun: {_W: _S, _B: _S},
    Spawned: {_S: _S},
    BecameReady: {_S: _R},
    Ended: {_S: _B, _R: _B},
    StopAsked: {_W: _Q, _S: _Q, _R: _Q, _B: _Q, _Q: _Q},
    Stopped: {_Q: State.STOPPED},
    GaveUp: {_S: State.FAILED, _B: State.FAILED},
}
"""What can happen in which state, and where it leads; anything else is a mistake of the caller."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How soon a part that ended is started again."""

    first_seconds: float = 0.2
    factor: float = 2.0
    longest_seconds: float = 10.0
    healthy_seconds: float = 30.0
    """Once it has been ready for this long, the next end counts as the first."""
    loop_after: int = 5
    """From this many ends in a row it is called a crash loop."""

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after so many ends in a row (1 is the first)."""
        exponent = min(failures - 1, 64)  # far beyond the longest delay, and no overflow
        return min(self.longest_seconds, self.first_seconds * self.factor**exponent)


@dataclass(frozen=True, slots=True)
class Part:
    """A part at one moment."""

    name: str
    state: State = State.WAITING
    since: float = 0.0
    """When it came to this state."""
    pid: int | None = None
    restarts: int = 0
    """Starts after the first one."""
    failures: int = 0
    """Ends in a row without health between them."""
    ever_ready: bool = False
    reason: str = ""
    """Why it ended last; kept until it is ready again."""
    detail: str = ""
    retry_at: float | None = None
    crash_loop: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in {State.STOPPED, State.FAILED}

    def describe(self) -> str:
        """Return what there is to say about it beyond its state, in a few words; may be empty."""
        if self.state is State.FAILED:
            return self.reason
        if self.crash_loop and self.state is not State.READY:
            return f"crash loop, ended {self.failures} times in a row: {self.reason}"
        if self.state in {State.BACKOFF, State.STARTING}:
            return self.reason
        return self.detail


def step(part: Part, happening: Happening, now: float, policy: RestartPolicy) -> Part:
    """Return the part after something happened to it; raises ValueError when that cannot happen in its state."""
    target = TRANSITIONS[type(happening)].get(part.state)
    if target is None:
        raise ValueError(f"{part.name} is {part.state}: {type(happening).__name__} cannot happen")
    moved = replace(part, state=target, since=part.since if target is part.state else now, retry_at=None)
    match happening:
        case Begun():
            moved = replace(moved, restarts=part.restarts + (part.state is State.BACKOFF))
        case Spawned(pid):
            moved = replace(moved, pid=pid)
        case BecameReady(detail):
            moved = replace(moved, ever_ready=True, detail=detail)
        case Ended(reason):
            healthy = part.state is State.READY and now - part.since >= policy.healthy_seconds
            failures = 1 if healthy else part.failures + 1
            looping = failures >= policy.loop_after
            retry_at = now + policy.delay(failures)
            moved = replace(
                moved, pid=None, reason=reason, failures=failures, crash_loop=looping, retry_at=retry_at
            )
        case GaveUp(reason):
            moved = replace(moved, pid=None, reason=reason)
        case Stopped():
            moved = replace(moved, pid=None)
        case StopAsked():
            pass
    return moved
