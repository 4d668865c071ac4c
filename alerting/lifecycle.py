r"""The life of one alert: a state machine, pure. One per rule and target.

::

    ok --breach--> pending --held--> firing --calm--> ok (resolved)
     \                 \               |
      +--- readings stay away: no_data -+   and back to what it was with the next reading

A target that flaps is held back: from the fourth firing in quick succession on it must stay calm for 30 s to be resolved,
then 60, 120 ... up to an hour. It is one long alert then, and not a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

FREE_FLAPS = 3
"""Firings in quick succession that are taken as they come."""
FIRST_HOLD = timedelta(seconds=30)
LONGEST_HOLD = timedelta(hours=1)
SUCCESSION = timedelta(minutes=10)
"""A firing this soon after a resolve is in quick succession."""

_ZERO = timedelta()


class Key(NamedTuple):
    """Which alert: the rule, and its target."""

    rule: str
    device: str
    item: str


class State(StrEnum):
    """How an alert is."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    NO_DATA = "no_data"


class Verdict(StrEnum):
    """What the newest readings say of a rule."""

    BREACH = "breach"
    BETWEEN = "between"
    """Neither: between the limit and where it clears."""
    CALM = "calm"
    MISSING = "missing"
    """The readings stay away."""
    UNKNOWN = "unknown"
    """Not enough is known yet; changes nothing."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert, with what its next step needs. Times are aware."""

    key: Key
    state: State = State.OK
    since: datetime | None = None
    """When it came into its state."""
    verdict: Verdict = Verdict.UNKNOWN
    value: float | str | None = None
    read_at: datetime | None = None
    """When the newest reading came, and how long after the one before."""
    interval: timedelta = _ZERO
    started_at: datetime | None = None
    """The breach that this episode began with; None while all is well."""
    fired_at: datetime | None = None
    resolved_at: datetime | None = None
    before_silence: State = State.OK
    """What it was before its readings stayed away."""
    calm_since: datetime | None = None
    level: int = 0
    """Firings in quick succession."""
    revision: int = 0
    """Raised with each change that is told as an event."""
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    told: bool = False
    """Whether people were told that it fires, and not yet that it is resolved."""
    told_at: datetime | None = None

    @property
    def firing(self) -> bool:
        """Whether it fires, as far as is known: also while readings stay away since."""
        return self.state is State.FIRING or (
            self.state is State.NO_DATA and self.before_silence is State.FIRING
        )

    @property
    def flapping(self) -> bool:
        """Whether its resolve is held back."""
        return self.level >= FREE_FLAPS

    @property
    def hold(self) -> timedelta:
        """How long it must be calm to be resolved."""
        if not self.flapping:
            return _ZERO
        return min(FIRST_HOLD * (1 << min(self.level - FREE_FLAPS, 10)), LONGEST_HOLD)


def step(alert: Alert, verdict: Verdict, at: datetime, held: timedelta) -> Alert:
    """Return the alert after a verdict at a time; ``held`` is how long a breach must last to fire."""
    if verdict is Verdict.UNKNOWN:
        return alert
    now = replace(alert, verdict=verdict)
    if verdict is Verdict.MISSING:
        return _missing(now, at)
    if now.state is State.NO_DATA:
        back = now.before_silence
        now = replace(now, state=back, since=now.fired_at if back is State.FIRING else at)
    match now.state:
        case State.OK:
            return _breached(now, at, held) if verdict is Verdict.BREACH else now
        case State.PENDING:
            if verdict is not Verdict.BREACH:
                return replace(now, state=State.OK, since=at, started_at=None)
            return _breached(now, at, held)
        case _:
            return _fires_on(now, verdict, at)


def pass_time(alert: Alert, at: datetime, held: timedelta) -> Alert:
    """Return the alert as time alone makes it: what is pending fires, what has been calm for long is resolved."""
    if alert.state in {State.PENDING, State.FIRING}:
        return step(alert, alert.verdict, at, held)
    return alert


def _missing(alert: Alert, at: datetime) -> Alert:
    if alert.state is State.NO_DATA:
        return alert
    before = State.FIRING if alert.state is State.FIRING else State.OK
    started = alert.started_at if before is State.FIRING else None
    return replace(
        alert, state=State.NO_DATA, since=at, before_silence=before, calm_since=None, started_at=started
    )


def _breached(alert: Alert, at: datetime, held: timedelta) -> Alert:
    started = alert.started_at if alert.state is State.PENDING and alert.started_at else at
    if at - started < held:
        since = alert.since if alert.state is State.PENDING else at
        return replace(alert, state=State.PENDING, since=since, started_at=started)
    again = alert.resolved_at is not None and at - alert.resolved_at <= max(SUCCESSION, alert.hold)
    return replace(
        alert,
        state=State.FIRING,
        since=at,
        started_at=started,
        fired_at=at,
        resolved_at=None,
        calm_since=None,
        level=alert.level + 1 if again else 0,
        acknowledged_by=None,
        acknowledged_at=None,
    )


def _fires_on(alert: Alert, verdict: Verdict, at: datetime) -> Alert:
    if verdict is not Verdict.CALM:
        return replace(alert, calm_since=None)
    calm = alert.calm_since or at
    if at - calm < alert.hold:
        return replace(alert, calm_since=calm)
    return replace(alert, state=State.OK, since=at, started_at=None, resolved_at=at, calm_since=None)


def gone(alert: Alert, at: datetime) -> Alert:
    """Return the alert of a target that is no longer there: resolved, whatever was held."""
    resolved = at if alert.firing else alert.resolved_at
    return replace(
        alert,
        state=State.OK,
        since=at,
        verdict=Verdict.CALM,
        read_at=None,
        started_at=None,
        resolved_at=resolved,
        calm_since=None,
    )
