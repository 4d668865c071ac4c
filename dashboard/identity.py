"""Who looks: what the flags know a viewer by, and as whom it reads. Pure.

Whoever has signed in is the same client wherever they look. Everybody else is known by their browser: Streamlit gives
each a random token in a cookie, against forged requests, and that stays the same over reloads and from tab to tab.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from dashboard.session import Session
from monitoring.flags.model import CLIENT_ID

COOKIE = "_streamlit_xsrf"
LOOKS = "viewer"
"""The role of whoever has not signed in: looking takes no more."""

_PARTS = 4
_ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class Viewer:
    """A client of the monitoring stream that people look through."""

    client_id: str
    role: str = LOOKS


def viewer_of(browser: str, session: Session | None, now: datetime) -> Viewer:
    """Return the viewer that somebody is; ``browser`` is any text that stays the same for theirs.

    Whose session has ended is still who they are, and reads as whoever has not signed in.
    """
    role = LOOKS if session is None or session.ended(now) else session.role
    if session is not None and CLIENT_ID.match(session.name):
        return Viewer(session.name, role)
    known = hashlib.blake2b(browser.encode(), digest_size=_ID_BYTES).hexdigest()
    return Viewer(f"dashboard-{known}", role)


def browser_of(cookie: str | None) -> str | None:
    """Return what stays the same of the cookie's value; None where it is not of the known form.

    The form is ``2|MASK|TOKEN|TIME`` in hexadecimal digits, and the mask is another one each time: the token is the
    exclusive or of both (streamlit/web/server/starlette/starlette_app_utils.py).
    """
    parts = (cookie or "").strip("\"'").split("|")
    if len(parts) != _PARTS or parts[0] != "2":
        return None
    try:
        mask, masked = bytes.fromhex(parts[1]), bytes.fromhex(parts[2])
    except ValueError:
        return None
    if not mask or not masked:
        return None
    return bytes(byte ^ mask[place % len(mask)] for place, byte in enumerate(masked)).hex()
