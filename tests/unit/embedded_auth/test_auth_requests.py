"""What clients send is read strictly, and refused in words."""

from __future__ import annotations

import contextlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.auth import errors, requests
from embedded.auth.errors import AuthError
from embedded.auth.model import Identity, User, instant, merged, user_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
READERS = [
    requests.parse_signup,
    requests.parse_sign_in,
    requests.parse_refresh,
    requests.parse_own_changes,
    requests.parse_admin_changes,
]
FIELDS = [
    "email",
    "password",
    "data",
    "phone",
    "refresh_token",
    "user_metadata",
    "app_metadata",
    "role",
    "ban_duration",
    "id",
]


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(AuthError) as caught:
        call(*arguments)
    return caught.value.code


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_object_is_read_or_refused(body: dict[str, Any]) -> None:
    for read in READERS:
        with contextlib.suppress(AuthError):
            read(body)


@given(st.binary())
def test_any_body_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(AuthError):
        assert isinstance(requests.parse_body(body), dict)


@pytest.mark.parametrize(
    ("email", "fine"),
    [
        ("Ada@Example.COM", True),
        (" ada+tag@sub.example.com ", True),
        ("ada@localhost", True),
        ("größe@example.com", True),
        ("ada", False),
        ("@example.com", False),
        ("ada@example", False),
        ("a da@example.com", False),
        ("ada@@example.com", False),
        ("<ada@example.com>", False),
        ("a" * 250 + "@example.com", False),
        ("ada\x00@example.com", False),
        ("\ud800@example.com", False),
    ],
)
def test_addresses(email: str, fine: bool) -> None:  # noqa: FBT001 - a table's column
    body = {"email": email, "password": "long enough"}
    if fine:
        assert requests.parse_signup(body).email == email.strip().lower()
    else:
        assert refused(requests.parse_signup, body) == "validation_failed"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"password": "x"}, "anonymous_provider_disabled"),
        ({"phone": "+49", "password": "x"}, "phone_provider_disabled"),
        ({"email": "a@b.c"}, "validation_failed"),
        ({"email": "a@b.c", "password": "five5"}, "weak_password"),
        ({"email": "a@b.c", "password": "x" * 73}, "validation_failed"),
        ({"email": "a@b.c", "password": 7}, "bad_json"),
        ({"email": "a@b.c", "password": "long enough", "data": []}, "bad_json"),
        ({"email": "a@b.c", "password": "long enough", "data": {"a": "\x00"}}, "validation_failed"),
        ({"email": "a@b.c", "password": "long enough", "data": {"\ud800": 1}}, "validation_failed"),
    ],
)
def test_refused_sign_ups(body: dict[str, Any], code: str) -> None:
    assert refused(requests.parse_signup, body) == code


def test_an_administrator_sets_more() -> None:
    user_id = uuid.uuid4()
    changes = requests.parse_admin_changes(
        {
            "id": str(user_id),
            "email": "A@b.c",
            "email_confirm": True,
            "role": "editor",
            "ban_duration": "1h30m",
        }
    )
    assert (changes.id, changes.email, changes.role) == (user_id, "a@b.c", "editor")
    assert changes.ban == timedelta(minutes=90)
    assert requests.parse_admin_changes({"ban_duration": "none"}).ban == requests.NO_BAN
    for wrong in ({"id": "7"}, {"ban_duration": "soon"}, {"phone": "+49"}, {"password_hash": "$2a$"}):
        assert refused(requests.parse_admin_changes, wrong) == "validation_failed"


@pytest.mark.parametrize("query", [{"page": "0"}, {"per_page": "x"}, {"page": "-1"}, {"per_page": "9" * 30}])
def test_bad_pages_are_refused(query: dict[str, str]) -> None:
    assert refused(requests.parse_page, query) == "validation_failed"
    assert requests.parse_page({"page": "2", "per_page": "10"}) == (2, 10)


def test_errors_have_both_forms() -> None:
    weak = errors.weak_password(6)
    assert weak.body(None) == {
        "code": 422,
        "error_code": "weak_password",
        "msg": "Password should be at least 6 characters.",
        "weak_password": {"reasons": ["length"]},
    }
    assert weak.body("2024-01-01")["code"] == "weak_password"
    assert weak.body("2023-01-01")["code"] == 422


def test_metadata_is_merged_and_nulls_go() -> None:
    assert merged({"a": 1, "b": 2}, {"b": None, "c": 3}) == {"a": 1, "c": 3}


def test_a_user_is_shown_without_its_password() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    identity = Identity(uuid.UUID(int=3), uuid.UUID(int=1), "1", "email", {"email": "a@b.c"}, at, at)
    user = User(uuid.UUID(int=1), "a@b.c", at, at, password_hash="$scrypt$secret", identities=(identity,))
    shown = user_json(user)
    assert "secret" not in json.dumps(shown)
    assert "secret" not in repr(user)
    assert shown["created_at"] == instant(at) == "2026-01-02T03:04:05.000678Z"
    assert "last_sign_in_at" not in shown
    assert shown["identities"][0]["identity_id"] == str(identity.id)
