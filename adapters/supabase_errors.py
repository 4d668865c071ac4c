"""What Supabase says when something fails, as our errors: wait, wait long, follow the mode, or tell the user.

::

    Unreachable            not now
    ├── RateLimited        a limit of the project was reached: come back after a long pause, not at once
    └── ModeChanged        the events go another way now: come back at once, in the other mode
    Refused                not you, or not with this schema; with what to change
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from postgrest.exceptions import APIError
from realtime import RealtimeSubscribeStates
from websockets.exceptions import InvalidStatus, WebSocketException

from monitoring.errors import Refused, Unreachable

BACKEND = "Supabase"
REALTIME = "Supabase Realtime"


class Mode(StrEnum):
    """How a project delivers events: as the feed's row changes, or as broadcasts."""

    CHANGES = "changes"
    BROADCAST = "broadcast"


class RateLimited(Unreachable):
    """A limit of the project was reached."""


class ModeChanged(Unreachable):
    """The project delivers in another mode than the one that was listened to."""

    def __init__(self, mode: Mode) -> None:
        super().__init__(REALTIME, f"events are delivered in {mode} mode now")
        self.mode = mode


_HINTS: Mapping[str, str] = {
    "PGRST202": "functions of Crossfade are not there: apply all of supabase/migrations to this project",
    "PGRST205": "tables of Crossfade are not there: apply all of supabase/migrations to this project",
    "PGRST301": "check SUPABASE_KEY: the project does not accept it",
    "PGRST303": "the access token has expired: sign in again",
    "42501": "this key or user may not read: it needs app_metadata.crossfade_role viewer, operator or admin",
    "401": "check SUPABASE_KEY: the project does not accept it",
}
_TRANSIENT_SQLSTATES = ("08", "40", "53", "57", "58")
"""Classes that say "not now": connection, serialisation, resources, operator's intervention, system."""
_HTTP_STATUS_DIGITS = 3

_LIMITS = re.compile(r"too many|ratelimitreached|rate limit", re.IGNORECASE)
"""Realtime's limits (ERROR_CODES of its source, and seen on the wire): messages, joins, channels, connections."""
_TRANSIENT = re.compile(
    r"initializ|restart|unable ?to ?connect|database|timeout|timed out|cancelled|replication|channel_crash|unmatched",
    re.IGNORECASE,
)
"""Words of Realtime's errors that say "not now" rather than "not you"."""


def of_rpc(error: APIError, function: str) -> Unreachable | Refused:
    """Return our error for PostgREST's; the code is PostgREST's own, an SQLSTATE, or the HTTP status."""
    code = str(error.code or "")
    reason = f"{function}: {error.message or 'no message'} ({code})"
    if _transient(code):
        return Unreachable(BACKEND, reason)
    return Refused(BACKEND, reason, _HINTS.get(code, error.hint or ""))


def _transient(code: str) -> bool:
    """Tell whether a code says "not now" rather than "not you"."""
    if len(code) == _HTTP_STATUS_DIGITS:  # from a gateway in front of PostgREST
        return code.startswith("5") or code in {"408", "429"}
    return not code or code.startswith(("PGRST00", *_TRANSIENT_SQLSTATES))


def of_handshake(error: InvalidStatus, url: str) -> Unreachable | Refused:
    """Return our error for a WebSocket handshake that was answered with a status."""
    status = error.response.status_code
    body = (error.response.body or b"").decode("utf-8", "replace")[:200]
    reason = f"{url}: HTTP {status} {body}".rstrip()
    if status == 429:  # noqa: PLR2004 - Too Many Requests
        return RateLimited(REALTIME, reason)
    if status in (401, 403):
        return Refused(REALTIME, reason, "check SUPABASE_KEY")
    return Unreachable(REALTIME, reason)


def of_channel(state: RealtimeSubscribeStates, error: Exception | None) -> Unreachable | Refused:
    """Return our error for a channel that did not become, or did not stay, subscribed."""
    reason = f"the channel went {state.value}" + (f": {error}" if error else "")
    told = state is RealtimeSubscribeStates.CHANNEL_ERROR and not isinstance(
        error, WebSocketException | OSError
    )
    if not told:
        return Unreachable(REALTIME, reason)
    if _LIMITS.search(reason):
        return RateLimited(REALTIME, reason)
    if _TRANSIENT.search(reason):
        return Unreachable(REALTIME, reason)
    return Refused(
        REALTIME,
        reason,
        "check that supabase/migrations are applied and that the token is valid and may read",
    )
