"""The two tokens of a session: the access token that REST and Realtime read, and the refresh token that renews it.

Pure. A refresh token is the session's id, a counter and a signature over both, so that the database holds nothing one
could sign in with. Each use moves the session's counter on; which older ones still count is `rotation`'s rule, that of
hosted projects with rotation enabled: the last but one always (its answer may have been lost on the way), any other
within ten seconds of the last renewal (tabs of one browser renew at once), and whatever comes later ends the session.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from embedded.keys import sign

if TYPE_CHECKING:
    from embedded.auth.model import Session, User

ACCESS_SECONDS: Final = 3600
REUSE_INTERVAL: Final = timedelta(seconds=10)

_BODY: Final = struct.Struct(">16sQ")
_MAC_BYTES: Final = 16
_PURPOSE: Final = b"embedded auth refresh token 1:"


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What a refresh token says: which session, and how often that was renewed before."""

    session_id: uuid.UUID
    counter: int

    def text(self, secret: str) -> str:
        """Return the token as clients keep it."""
        body = _BODY.pack(self.session_id.bytes, self.counter)
        return base64.urlsafe_b64encode(body + _mac(body, secret)).decode().rstrip("=")


def parse_refresh_token(text: str, secret: str) -> RefreshToken | None:
    """Return what a token of ours says, or None for anything else."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    if len(raw) != _BODY.size + _MAC_BYTES:
        return None
    body = raw[: _BODY.size]
    if not hmac.compare_digest(raw[_BODY.size :], _mac(body, secret)):
        return None
    session, counter = _BODY.unpack(body)
    return RefreshToken(uuid.UUID(bytes=session), counter)


def _mac(body: bytes, secret: str) -> bytes:
    return hmac.digest(secret.encode(), _PURPOSE + body, hashlib.sha256)[:_MAC_BYTES]


class Rotation(Enum):
    """What a refresh token is good for."""

    RENEW = auto()
    """It is the newest: the counter moves on."""
    REPEAT = auto()
    """Its successor is handed out once more."""
    STOLEN = auto()
    """It was replaced long ago: the session ends."""


def rotation(counter: int, session: Session, now: datetime) -> Rotation:
    """Decide about a refresh token with this counter."""
    if counter == session.refresh_counter:
        return Rotation.RENEW
    if counter == session.refresh_counter - 1:
        return Rotation.REPEAT
    renewed_at = session.refreshed_at or session.created_at
    if counter < session.refresh_counter and now - renewed_at <= REUSE_INTERVAL:
        return Rotation.REPEAT
    return Rotation.STOLEN


def access_token(user: User, session: Session, *, secret: str, issuer: str, now: datetime) -> tuple[str, int]:
    """Return a signed access token and the second since 1970 at which it ends."""
    issued_at = int(now.timestamp())
    ends_at = issued_at + ACCESS_SECONDS
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": str(user.id),
        "aud": user.audience,
        "exp": ends_at,
        "iat": issued_at,
        "email": user.email or "",
        "phone": user.phone or "",
        "app_metadata": dict(user.app_metadata),
        "user_metadata": dict(user.user_metadata),
        "role": user.role,
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": int(session.created_at.timestamp())}],
        "session_id": str(session.id),
        "is_anonymous": user.anonymous,
    }
    return sign(claims, secret), ends_at
