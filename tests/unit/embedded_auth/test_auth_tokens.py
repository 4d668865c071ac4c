"""Refresh tokens cannot be made up, and an old one ends its session."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.auth.model import Session, User
from embedded.auth.tokens import (
    RefreshToken,
    Rotation,
    access_token,
    parse_refresh_token,
    rotation,
)

SECRET = "a secret of more than thirty-two characters"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
USER = User(
    id=uuid.UUID(int=1),
    email="ada@example.com",
    created_at=NOW,
    updated_at=NOW,
    app_metadata={"crossfade_role": "viewer"},
)


@given(st.uuids(), st.integers(0, 2**63))
def test_a_refresh_token_says_its_session_and_counter(session: uuid.UUID, counter: int) -> None:
    token = RefreshToken(session, counter)
    assert parse_refresh_token(token.text(SECRET), SECRET) == token
    assert parse_refresh_token(token.text(SECRET), SECRET + "x") is None


@given(st.uuids(), st.integers(0, 1000), st.integers(0, 39), st.integers(1, 255))
def test_no_byte_of_it_can_be_changed(session: uuid.UUID, counter: int, place: int, change: int) -> None:
    import base64  # noqa: PLC0415 - for this test alone

    raw = bytearray(base64.urlsafe_b64decode(RefreshToken(session, counter).text(SECRET) + "=="))
    raw[place] ^= change
    assert parse_refresh_token(base64.urlsafe_b64encode(raw).decode(), SECRET) is None


@given(st.text(max_size=100))
def test_anything_else_is_no_token(text: str) -> None:
    assert parse_refresh_token(text, SECRET) is None


@pytest.mark.parametrize(
    ("counter", "renewed_ago_seconds", "outcome"),
    [
        (5, 0, Rotation.RENEW),
        (5, 10**6, Rotation.RENEW),
        (4, 10**6, Rotation.REPEAT),
        (3, 9, Rotation.REPEAT),
        (3, 11, Rotation.STOLEN),
        (0, 11, Rotation.STOLEN),
        (6, 0, Rotation.STOLEN),
    ],
)
def test_what_a_refresh_token_is_good_for(counter: int, renewed_ago_seconds: int, outcome: Rotation) -> None:
    renewed = NOW - timedelta(seconds=renewed_ago_seconds)
    session = Session(uuid.uuid4(), USER.id, NOW - timedelta(days=30), 5, renewed)
    assert rotation(counter, session, NOW) is outcome


def test_an_access_token_has_what_policies_look_at() -> None:
    session = Session(uuid.UUID(int=2), USER.id, NOW - timedelta(hours=1), 3)
    token, ends_at = access_token(USER, session, secret=SECRET, issuer="http://x/auth/v1", now=NOW)
    off = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(token, SECRET, ["HS256"], audience="authenticated", options=off)
    assert claims == {
        "iss": "http://x/auth/v1",
        "sub": str(USER.id),
        "aud": "authenticated",
        "exp": ends_at,
        "iat": int(NOW.timestamp()),
        "email": "ada@example.com",
        "phone": "",
        "app_metadata": {"crossfade_role": "viewer"},
        "user_metadata": {},
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": int(NOW.timestamp()) - 3600}],
        "session_id": str(session.id),
        "is_anonymous": False,
    }
    assert ends_at == int(NOW.timestamp()) + 3600
