"""The session of somebody who signed in: its token is renewed before it expires, and one that has ended says so. Pure.

What pages hold is the session and not the token, so that a switch that was drawn an hour ago acts with today's token.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from dashboard import figures
from dashboard.actions import Operator
from monitoring.control import ControlError, SignInNeeded

_DUE = 0.75
"""Of a token's life: a quarter is left for trying again, and for tabs that the browser lets sleep."""
_AGAIN = timedelta(seconds=30)
"""How soon it is tried again after it failed."""
_WARNING = timedelta(minutes=5)
"""How long before its end a session that is not renewed says so."""

Renew = Callable[[str], Operator]


class Session:
    """Who signed in, at one tab. An `Operator` itself, with the token of this moment."""

    def __init__(self, known: Operator, now: datetime) -> None:
        self._known = known
        self._since = now
        self._try_at = now
        self._failure = ""
        self._over = False
        """Whether it was refused to renew it: then it is not tried again."""

    @property
    def name(self) -> str:
        """How records call them."""
        return self._known.name

    @property
    def role(self) -> str:
        """As whom they read."""
        return self._known.role

    @property
    def token(self) -> str:
        """What says so now; after the end of the session the last one, which is refused wherever it is shown."""
        return self._known.token

    @property
    def writes(self) -> bool:
        """Whether they may change anything; also after its end, so that what they have entered stays on the page."""
        return self._known.writes

    @property
    def expires_at(self) -> datetime | None:
        """When the token of this moment expires; None when nobody knows."""
        return self._known.expires_at

    @property
    def renewal(self) -> str:
        """What the next token is asked for with; empty when it is not renewed."""
        return self._known.renewal

    def due(self, now: datetime) -> bool:
        """Tell whether it is time to renew the token."""
        ends = self.expires_at
        if ends is None or not self.renewal or self._over or now < self._try_at:
            return False
        return now >= self._since + _DUE * (ends - self._since)

    def tend(self, renew: Renew, now: datetime) -> None:
        """Renew the token when it is time. What goes wrong is told by `note`, and tried again."""
        if not self.due(now):
            return
        try:
            self._known = renew(self.renewal)
        except ControlError as problem:
            self._failure, self._over = str(problem), isinstance(problem, SignInNeeded)
            self._try_at = now + _AGAIN
        else:
            self._since, self._failure = now, ""

    def ended(self, now: datetime) -> bool:
        """Tell whether the token has expired."""
        return self.expires_at is not None and now >= self.expires_at

    def note(self, now: datetime) -> str:
        """Return what should be known about the session, in a sentence or two; empty while all is well."""
        ends = self.expires_at
        if ends is None:
            return ""
        why = f": {self._failure}" if self._failure else ""
        if now >= ends:
            return (
                f"The session of {self.name} ended at {figures.clock(ends)}{why}. "
                "Sign in again to act; what is entered here stays."
            )
        if (self._failure or not self.renewal) and ends - now <= _WARNING:
            return f"The session of {self.name} ends in {figures.span((ends - now).total_seconds())}{why}."
        return ""
