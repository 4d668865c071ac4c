"""The secrets of one embedded Supabase, and the tokens made and checked with them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt

from embedded.errors import InvalidToken, KeysUnusable

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALGORITHM = "HS256"
_ISSUER = "supabase"
_TEN_YEARS_SECONDS = 10 * 365 * 24 * 3600
_MINIMUM_SECRET_BYTES = 32
FILE_NAME = "keys.json"


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What a Supabase project shows on its API settings page, and the database password.

    ``anon_key`` and ``service_role_key`` are tokens signed with ``jwt_secret``; ``publishable_key`` and
    ``secret_key`` are the opaque successors that stand for the same two roles.
    """

    jwt_secret: str
    anon_key: str
    service_role_key: str
    publishable_key: str
    secret_key: str
    db_password: str

    def __repr__(self) -> str:
        """Name the public half only: a repr ends up in logs."""
        return f"Keys(publishable_key={self.publishable_key!r}, ...)"


def generate(*, now_seconds: int | None = None) -> Keys:
    """Make new keys from the system's randomness; the tokens are valid for ten years."""
    issued_at = int(time.time()) if now_seconds is None else now_seconds
    secret = secrets.token_urlsafe(48)

    def role_token(role: str) -> str:
        times = {"iat": issued_at, "exp": issued_at + _TEN_YEARS_SECONDS}
        return sign({"iss": _ISSUER, "role": role, **times}, secret)

    return Keys(
        jwt_secret=secret,
        anon_key=role_token("anon"),
        service_role_key=role_token("service_role"),
        publishable_key=f"sb_publishable_{secrets.token_urlsafe(24)}",
        secret_key=f"sb_secret_{secrets.token_urlsafe(24)}",
        db_password=secrets.token_urlsafe(24),
    )


def load_or_create(directory: Path) -> Keys:
    """Return the keys kept in ``directory/keys.json``, made on the first call (mode 0600).

    Of several processes calling at once, all get the same keys. Raises KeysUnusable.
    """
    path = Path(directory) / FILE_NAME
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_once(path, generate())
    except OSError as error:
        raise KeysUnusable(path, f"writing failed: {error.strerror or error}") from error
    return _read(path)


def _read(path: Path) -> Keys:
    try:
        loaded: object = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeysUnusable(path, f"reading failed: {error.strerror or error}") from error
    except ValueError as error:
        raise KeysUnusable(
            path, f"it is not JSON ({error}); restore it or delete it to get new keys"
        ) from error
    names = [field.name for field in fields(Keys)]
    if not isinstance(loaded, dict):
        raise KeysUnusable(path, "it is not a JSON object; restore it or delete it to get new keys")
    missing = [name for name in names if not isinstance(loaded.get(name), str) or not loaded[name]]
    if missing:
        raise KeysUnusable(path, f"{', '.join(missing)} missing; restore it or delete it to get new keys")
    if len(loaded["jwt_secret"].encode()) < _MINIMUM_SECRET_BYTES:
        raise KeysUnusable(path, f"jwt_secret is shorter than {_MINIMUM_SECRET_BYTES} bytes")
    return Keys(**{name: loaded[name] for name in names})


def _write_once(path: Path, keys: Keys) -> None:
    """Put the file there whole or not at all; a file that another process put there first stays."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".keys-")  # mkstemp makes it 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(keys), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # link, unlike rename, never replaces
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sign(claims: Mapping[str, Any], secret: str) -> str:
    """Return ``claims`` as a compact HS256 token."""
    return jwt.encode(dict(claims), secret, algorithm=_ALGORITHM)


def verify(token: str, secret: str, *, now_seconds: float | None = None) -> Mapping[str, Any]:
    """Return the claims of a token that Realtime would accept: signed, unexpired, with ``role`` and ``exp``.

    Raises InvalidToken with the text the real server answers with.
    """
    claims = verify_signature(token, secret, now_seconds=now_seconds)
    if not isinstance(claims.get("role"), str) or not isinstance(claims.get("exp"), int | float):
        raise InvalidToken("Fields `role` and `exp` are required in JWT", "fields")
    return claims


def verify_signature(token: str, secret: str, *, now_seconds: float | None = None) -> Mapping[str, Any]:
    """Return the claims of a token that is signed with ``secret`` and not expired, whatever it claims.

    For REST, which like PostgREST asks neither for a role nor for an end. Raises InvalidToken.
    """
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError) as error:
        raise InvalidToken("The token provided is not a valid JWT", "malformed") from error
    if header.get("alg") != _ALGORITHM:
        reason = "Failed to generate JWT signer, check your JWT secret or JWKS configuration"
        raise InvalidToken(reason, "signer")
    # expiry is checked below, against the caller's clock; the other claims are not Realtime's business
    off = {"verify_exp": False, "verify_aud": False, "verify_iat": False, "verify_nbf": False}
    off |= {"verify_sub": False, "verify_jti": False, "verify_iss": False}
    try:
        claims: dict[str, Any] = jwt.decode(token, secret, algorithms=[_ALGORITHM], options=off)  # type: ignore[arg-type]  # a TypedDict built in two steps
    except jwt.InvalidSignatureError as error:
        raise InvalidToken("Failed to validate JWT signature", "signature") from error
    except (jwt.InvalidTokenError, ValueError) as error:
        raise InvalidToken("The token provided is not a valid JWT", "malformed") from error
    ends_at = claims.get("exp")
    now = time.time() if now_seconds is None else now_seconds
    if isinstance(ends_at, int | float) and ends_at <= now:
        raise InvalidToken("Token has expired", "expired", expired_seconds=int(now - ends_at))
    return claims
