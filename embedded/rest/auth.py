"""Who is asking: role and claims from the Authorization and apikey headers.

Pure. Does the work of two: the gateway of a hosted project, which checks the key and turns `sb_...` keys into
roles, and PostgREST, which checks the token (https://docs.postgrest.org/en/stable/references/auth.html).
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import jwt

from embedded.rest import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

ANONYMOUS_ROLE: Final = "anon"
SERVICE_ROLE: Final = "service_role"
CLOCK_SKEW_SECONDS: Final = 30

_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
_KEY_PREFIX: Final = "sb_"
_PARTS_OF_A_TOKEN: Final = 3


class ProjectKeys(Protocol):
    """What is needed of `embedded.keys.Keys`."""

    @property
    def jwt_secret(self) -> str:
        """The secret that tokens are signed with."""

    @property
    def publishable_key(self) -> str:
        """The key that stands for the role anon."""

    @property
    def secret_key(self) -> str:
        """The key that stands for the role service_role."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The role a request runs as, and the claims its policies see, as JSON text."""

    role: str
    claims: str

    @property
    def anonymous(self) -> bool:
        """True when nobody is signed in."""
        return self.role == ANONYMOUS_ROLE


def authenticate(authorization: str | None, apikey: str | None, keys: ProjectKeys) -> Caller:
    """Return who is asking, or raise `RestError` (401).

    A Bearer token decides; without one the key does. Both official clients send the key as both.
    """
    scheme, _, credentials = (authorization or "").strip().partition(" ")
    token = credentials.strip() if scheme.lower() == "bearer" else None
    if token is None and not apikey:
        raise errors.no_api_key()
    if apikey and apikey != token:
        by_key = _by_key(apikey, keys)
        if token is None:
            return by_key
    return _by_token(token or "", keys)


def _by_key(key: str, keys: ProjectKeys) -> Caller:
    """Return the role of an API key; anything we did not hand out is refused as the gateway does."""
    try:
        return _by_token(key, keys)
    except errors.RestError:
        raise errors.bad_api_key() from None


def _by_token(token: str, keys: ProjectKeys) -> Caller:
    if token.startswith(_KEY_PREFIX):
        if _same(token, keys.publishable_key):
            return _caller(ANONYMOUS_ROLE, {})
        if _same(token, keys.secret_key):
            return _caller(SERVICE_ROLE, {})
        raise errors.bad_api_key()
    claims = verify_token(token, keys.jwt_secret)
    role = claims.get("role", ANONYMOUS_ROLE)
    if not isinstance(role, str):
        raise errors.bad_token("Parsing claims failed", code="PGRST303")
    return _caller(role, claims)


def _caller(role: str, claims: Mapping[str, Any]) -> Caller:
    return Caller(role, json.dumps({**claims, "role": role}))


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="surrogateescape"), other.encode())


def verify_token(token: str, secret: str) -> Mapping[str, Any]:
    """Return the claims of a token signed with the secret and valid now, give or take 30 s.

    Raises `RestError` with PostgREST's code and text: PGRST301 for a token that cannot be trusted, PGRST303
    for claims that do not hold.
    """
    if not token:
        raise errors.bad_token("Empty JWT is sent in Authorization header")
    parts = token.count(".") + 1
    if parts != _PARTS_OF_A_TOKEN:
        raise errors.bad_token(f"Expected 3 parts in JWT; got {parts}")
    options: Any = {"verify_aud": False, "verify_sub": False, "verify_jti": False, "verify_iss": False}
    try:
        return jwt.decode(
            token, secret, algorithms=list(_ALGORITHMS), leeway=CLOCK_SKEW_SECONDS, options=options
        )
    except jwt.ExpiredSignatureError:
        raise errors.bad_token("JWT expired", code="PGRST303") from None
    except jwt.ImmatureSignatureError as error:
        about_issue = "iat" in str(error)
        text = "JWT issued at future" if about_issue else "JWT not yet valid"
        raise errors.bad_token(text, code="PGRST303") from None
    except jwt.InvalidSignatureError:
        raise errors.bad_token(
            "No suitable key or wrong key type", details="None of the keys was able to decode the JWT"
        ) from None
    except jwt.InvalidAlgorithmError:
        raise errors.bad_token("Wrong or unsupported encoding algorithm") from None
    except jwt.DecodeError as error:
        if "must be an integer" in str(error):  # PyJWT reports exp, nbf and iat of a wrong type like this
            raise errors.bad_token("Parsing claims failed", code="PGRST303") from None
        raise errors.bad_token("JWT couldn't be decoded") from None
    except (jwt.InvalidTokenError, ValueError):
        # ValueError: a token that is not even text, which PyJWT lets through
        raise errors.bad_token("JWT couldn't be decoded") from None
