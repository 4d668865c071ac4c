"""Who calls: a bearer token of the project, verified, and what it may do.

The rows are the database's to guard: each query runs as the token's role with the token's claims (`services.database`).
Here is only what has to be decided without it, so that routes are answered while the database is away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from services.problems import Kind, Problem

READERS = frozenset({"viewer", "operator", "admin", "agent"})
"""Roles in Crossfade (``app_metadata.crossfade_role``) that may read; ``cf_is_reader`` of the migrations has the same."""

WRITERS = frozenset({"operator", "admin"})
"""Roles in Crossfade that may hand events over."""

_ALGORITHM = "HS256"
_ROLES = frozenset({"authenticated", "service_role"})
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_OPTIONS = {"require": ["exp", "role"], "verify_aud": False, "verify_iat": False}
"""As Supabase's own services: the audience differs between kinds of key, and clocks differ a little."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified token: the database role it stands for, and its claims as JSON text."""

    role: str
    claims: str
    reads: bool
    """Whether it may read what Crossfade knows."""
    writes: bool
    """Whether it may hand events over."""
    name: str = ""
    """Who it is, for records: the name or address that the project gave it, else its subject."""
    administers: bool = False
    """Whether it may make and revoke keys."""


class Tokens:
    """Verifies the tokens of one project, which are signed with its JWT secret."""

    def __init__(self, jwt_secret: str) -> None:
        self._secret = jwt_secret

    def caller(self, authorization: str | None) -> Caller:
        """Return who an Authorization header stands for; raises Problem."""
        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("a bearer token is needed: Authorization: Bearer TOKEN")
        try:
            claims: dict[str, Any] = jwt.decode(
                token.strip(),
                self._secret,
                algorithms=[_ALGORITHM],
                options=_OPTIONS,  # type: ignore[arg-type]  # a TypedDict
            )
        except jwt.ExpiredSignatureError:
            raise _unauthorized("the token has expired; sign in again") from None
        except (jwt.InvalidTokenError, ValueError) as error:
            raise _unauthorized(f"the token is not valid here: {error}") from None
        role = claims["role"]
        if role not in _ROLES:
            raise Problem(Kind.FORBIDDEN, f"role {role!r} may not read; sign in, and use the access token")
        ours, everything = _crossfade_role(claims), role == "service_role"
        return Caller(
            role,
            json.dumps(claims),
            everything or ours in READERS,
            everything or ours in WRITERS,
            _name(claims),
            everything or ours == "admin",
        )


def require_reader(caller: Caller) -> None:
    """Raise Problem unless the caller may read."""
    if not caller.reads:
        raise Problem(
            Kind.FORBIDDEN,
            "this user may not read; its app_metadata.crossfade_role must be viewer, operator or admin",
        )


def require_writer(caller: Caller) -> None:
    """Raise Problem unless the caller may hand events over."""
    if not caller.writes:
        raise Problem(
            Kind.FORBIDDEN,
            "this user may not push events; its app_metadata.crossfade_role must be operator or admin "
            "(crossfade token NAME --role operator makes such a token)",
        )


def require_operator(caller: Caller) -> None:
    """Raise Problem unless the caller may have something done."""
    if not caller.writes:
        raise Problem(
            Kind.FORBIDDEN,
            "this user may not control anything; its app_metadata.crossfade_role must be operator or admin "
            "(crossfade token NAME --role operator makes such a token)",
        )


def _crossfade_role(claims: Mapping[str, Any]) -> object:
    metadata = claims.get("app_metadata")
    role = metadata.get("crossfade_role") if isinstance(metadata, dict) else None
    return role if isinstance(role, str) else None


def _name(claims: Mapping[str, Any]) -> str:
    metadata = claims.get("app_metadata")  # not user_metadata, which users can write themselves
    said = metadata.get("crossfade_name") if isinstance(metadata, dict) else None
    candidates = (said, claims.get("email"), claims.get("sub"), claims.get("role"))
    return next((found[:200] for found in candidates if isinstance(found, str) and found), "")


def _unauthorized(detail: str) -> Problem:
    return Problem(Kind.UNAUTHORIZED, detail, headers=_CHALLENGE)
