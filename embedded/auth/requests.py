"""What clients ask of the auth server, read from JSON bodies. Pure; raises `AuthError`."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from embedded.auth import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

MINIMUM_PASSWORD_CHARACTERS: Final = 6
_MOST_PASSWORD_BYTES: Final = 72  # what hosted projects take; a bound for the work too
_MOST_EMAIL_CHARACTERS: Final = 255
# deliberately simple: one @ between things without spaces, and a dot or localhost behind it
_EMAIL: Final = re.compile(
    r"[^\s@<>\"(),:;\\\[\]\x00-\x1f]+@(?:[^\s@<>\"(),:;\\\[\]\x00-\x1f]+\.[^\s@.]+|localhost)"
)
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?)(h|m|s)")
_UNIT_SECONDS: Final = {"h": 3600, "m": 60, "s": 1}
_MOST_BAN_SECONDS: Final = 200 * 365 * 24 * 3600
NO_BAN: Final = timedelta()


@dataclass(frozen=True, slots=True)
class Credentials:
    """An address and a password, and at sign-up what the application wants to remember of the user."""

    email: str
    password: str = field(repr=False)
    user_metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UserChanges:
    """What is to be changed of a user; None leaves a field, and `ban` of zero lifts one."""

    id: uuid.UUID | None = None
    email: str | None = None
    password: str | None = field(default=None, repr=False)
    user_metadata: Mapping[str, Any] | None = None
    app_metadata: Mapping[str, Any] | None = None
    role: str | None = None
    email_confirm: bool = False
    ban: timedelta | None = None


def parse_body(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object of a body; no body at all is an empty one."""
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise errors.bad_json(f"Could not parse request body as JSON: {error}") from None
    if not isinstance(found, dict):
        raise errors.bad_json("Could not parse request body as JSON: it has to be an object")
    return found


def parse_signup(body: Mapping[str, Any]) -> Credentials:
    """Read a sign-up."""
    if not body.get("email"):
        raise errors.phone_disabled() if body.get("phone") else errors.anonymous_disabled()
    password = _text(body, "password")
    if not password:
        raise errors.invalid("Signup requires a valid password")
    return Credentials(_email(body), _password(password), _object(body, "data") or {})


def parse_sign_in(body: Mapping[str, Any]) -> Credentials:
    """Read a sign-in; a password that cannot be right is for the caller to find wrong."""
    if not body.get("email"):
        raise errors.phone_disabled() if body.get("phone") else errors.invalid("missing email or phone")
    return Credentials(_normal(_text(body, "email") or ""), _text(body, "password") or "")


def parse_refresh(body: Mapping[str, Any]) -> str:
    """Read the refresh token of a renewal."""
    token = _text(body, "refresh_token")
    if not token:
        raise errors.invalid("refresh_token required")
    return token


def parse_own_changes(body: Mapping[str, Any]) -> UserChanges:
    """Read what a user changes of itself."""
    if body.get("phone"):
        raise errors.phone_disabled()
    password = _text(body, "password")
    return UserChanges(
        email=_email(body) if body.get("email") else None,
        password=_password(password) if password else None,
        user_metadata=_object(body, "data"),
    )


def parse_admin_changes(body: Mapping[str, Any]) -> UserChanges:
    """Read what an administrator creates or changes."""
    for name in ("phone", "password_hash"):
        if body.get(name):
            raise errors.invalid(f"The embedded auth server does not take {name}")
    password = _text(body, "password")
    return UserChanges(
        id=_uuid(body),
        email=_email(body) if body.get("email") else None,
        password=_password(password) if password else None,
        user_metadata=_object(body, "user_metadata"),
        app_metadata=_object(body, "app_metadata"),
        role=_text(body, "role") or None,
        email_confirm=body.get("email_confirm") is True,
        ban=_ban(_text(body, "ban_duration")),
    )


def parse_page(query: Mapping[str, str]) -> tuple[int, int]:
    """Read page (from 1) and size of a listing of users."""
    page, per_page = _number(query, "page", 1), _number(query, "per_page", 50)
    return page, per_page


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= 10**9):
        raise errors.invalid(f"Bad Pagination Parameters: {name} has to be a positive number")
    return int(text)


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise errors.bad_json(f"Could not parse request body as JSON: {name} has to be a string")
    _check_characters(name, value)
    return value


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise errors.bad_json(f"Could not parse request body as JSON: {name} has to be an object")
    _check_characters(name, json.dumps(value, ensure_ascii=False).replace("\\u0000", "\x00"))
    return value


def _check_characters(name: str, text: str) -> None:
    """Refuse what JSON can say and PostgreSQL cannot keep: the zero character and halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise errors.invalid(f"{name} holds a character that is not Unicode text") from None
    if "\x00" in text:
        raise errors.invalid(f"{name} holds a character that PostgreSQL cannot keep: \\u0000")


def _normal(email: str) -> str:
    return email.strip().lower()


def _email(body: Mapping[str, Any]) -> str:
    email = _normal(_text(body, "email") or "")
    if len(email) > _MOST_EMAIL_CHARACTERS or not _EMAIL.fullmatch(email):
        raise errors.invalid("Unable to validate email address: invalid format")
    return email


def _password(password: str) -> str:
    if len(password) < MINIMUM_PASSWORD_CHARACTERS:
        raise errors.weak_password(MINIMUM_PASSWORD_CHARACTERS)
    if len(password.encode()) > _MOST_PASSWORD_BYTES:
        raise errors.invalid(f"Password cannot be longer than {_MOST_PASSWORD_BYTES} characters")
    return password


def _uuid(body: Mapping[str, Any]) -> uuid.UUID | None:
    text = _text(body, "id")
    if not text:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        raise errors.invalid("ID must conform to the uuid v4 format") from None


def _ban(text: str | None) -> timedelta | None:
    """Read a duration as Go writes it (24h, 1h30m), or none."""
    if not text:
        return None
    if text == "none":
        return NO_BAN
    parts = _DURATION_PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise errors.invalid(f"invalid format for ban duration: {text!r}; say for example 24h, 90m, or none")
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    return timedelta(seconds=min(seconds, _MOST_BAN_SECONDS))
