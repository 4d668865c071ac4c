"""Users and sessions as the auth server knows them, and the JSON it shows of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

AUDIENCE: Final = "authenticated"
DEFAULT_ROLE: Final = "authenticated"
EMAIL_PROVIDER: Final = "email"


@dataclass(frozen=True, slots=True)
class Identity:
    """One way in which a user signs in."""

    id: UUID
    user_id: UUID
    provider_id: str
    provider: str
    data: Mapping[str, Any]
    created_at: datetime | None = None
    updated_at: datetime | None = None
    last_sign_in_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A user; the password's hash stays out of `repr` and JSON."""

    id: UUID
    email: str | None
    created_at: datetime
    updated_at: datetime
    role: str = DEFAULT_ROLE
    audience: str = AUDIENCE
    phone: str | None = None
    password_hash: str | None = field(default=None, repr=False)
    email_confirmed_at: datetime | None = None
    phone_confirmed_at: datetime | None = None
    last_sign_in_at: datetime | None = None
    banned_until: datetime | None = None
    deleted_at: datetime | None = None
    app_metadata: Mapping[str, Any] = field(default_factory=dict)
    user_metadata: Mapping[str, Any] = field(default_factory=dict)
    anonymous: bool = False
    identities: tuple[Identity, ...] = ()

    def is_banned(self, now: datetime) -> bool:
        """Say whether the user may not sign in now."""
        return self.banned_until is not None and now < self.banned_until


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in of one user; `refresh_counter` is how often it was renewed."""

    id: UUID
    user_id: UUID
    created_at: datetime
    refresh_counter: int = 0
    refreshed_at: datetime | None = None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a client gets for its credentials; `expires_at` is in seconds since 1970."""

    user: User
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in_seconds: int
    expires_at: int


def instant(at: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def user_json(user: User) -> dict[str, Any]:
    """Return a user as clients see it; times that are not set are left out."""
    confirmed = [at for at in (user.email_confirmed_at, user.phone_confirmed_at) if at is not None]
    shown: dict[str, Any] = {
        "id": str(user.id),
        "aud": user.audience,
        "role": user.role,
        "email": user.email or "",
        "email_confirmed_at": instant(user.email_confirmed_at),
        "phone": user.phone or "",
        "phone_confirmed_at": instant(user.phone_confirmed_at),
        "confirmed_at": instant(min(confirmed, default=None)),
        "last_sign_in_at": instant(user.last_sign_in_at),
        "app_metadata": dict(user.app_metadata),
        "user_metadata": dict(user.user_metadata),
        "identities": [identity_json(identity) for identity in user.identities],
        "created_at": instant(user.created_at),
        "updated_at": instant(user.updated_at),
        "banned_until": instant(user.banned_until),
        "deleted_at": instant(user.deleted_at),
        "is_anonymous": user.anonymous,
    }
    return {name: value for name, value in shown.items() if value is not None}


def identity_json(identity: Identity) -> dict[str, Any]:
    """Return an identity as clients see it: what is `id` in the table is `identity_id` here, as in hosted projects."""
    return {
        "identity_id": str(identity.id),
        "id": identity.provider_id,
        "user_id": str(identity.user_id),
        "identity_data": dict(identity.data),
        "provider": identity.provider,
        "last_sign_in_at": instant(identity.last_sign_in_at),
        "created_at": instant(identity.created_at),
        "updated_at": instant(identity.updated_at),
        "email": identity.data.get("email"),
    }


def signed_in_json(signed_in: SignedIn) -> dict[str, Any]:
    """Return the answer to a sign-in or a renewal."""
    return {
        "access_token": signed_in.access_token,
        "token_type": "bearer",
        "expires_in": signed_in.expires_in_seconds,
        "expires_at": signed_in.expires_at,
        "refresh_token": signed_in.refresh_token,
        "user": user_json(signed_in.user),
        "weak_password": None,
    }


def merged(present: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return metadata with changes laid over it; a key that is null goes."""
    return {name: value for name, value in {**present, **(changes or {})}.items() if value is not None}
