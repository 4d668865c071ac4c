"""Signing in to a real project's auth endpoint, and renewing what it gave out."""

from __future__ import annotations

import socket
import time
import uuid

import httpx
import jwt
import pytest

from crossfade import signing_in
from monitoring.control import ActionFailed, SignInNeeded
from tests.conftest import EmbeddedSupabase

PASSWORD = "correct horse battery"

# supabase itself passes its HTTP options to postgrest in the form that postgrest has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' parameter is deprecated:DeprecationWarning")


@pytest.fixture
def ann(embedded_supabase: EmbeddedSupabase) -> dict[str, str]:
    """A user who is an operator."""
    return _administer(
        embedded_supabase,
        "POST",
        email=f"ann-{uuid.uuid4().hex[:8]}@example.com",
        password=PASSWORD,
        email_confirm=True,
        app_metadata={"crossfade_role": "operator"},
    )


def _administer(project: EmbeddedSupabase, method: str, path: str = "", **body: object) -> dict[str, str]:
    answer = httpx.request(
        method,
        f"{project.url}/auth/v1/admin/users{path}",
        headers={"apikey": project.keys.service_role_key},
        json=body,
    )
    answer.raise_for_status()
    return answer.json()


def test_a_session_is_renewed_as_often_as_asked(
    embedded_supabase: EmbeddedSupabase, ann: dict[str, str]
) -> None:
    url, key = embedded_supabase.url, embedded_supabase.keys.anon_key
    granted = signing_in.with_password(url, key, ann["email"], PASSWORD)
    for _ in range(3):
        renewal = granted.renewal
        granted = signing_in.renewed(url, key, renewal)
        assert granted.renewal != renewal
        claims = jwt.decode(
            granted.token, embedded_supabase.keys.jwt_secret, ["HS256"], audience="authenticated"
        )
        assert claims["app_metadata"]["crossfade_role"] == "operator"
        assert claims["exp"] > time.time() + 3500
    assert granted.token not in repr(granted)
    assert granted.renewal not in repr(granted)


def test_who_is_gone_or_wrong_has_to_sign_in(
    embedded_supabase: EmbeddedSupabase, ann: dict[str, str]
) -> None:
    url, key = embedded_supabase.url, embedded_supabase.keys.anon_key
    with pytest.raises(SignInNeeded, match="does not let"):
        signing_in.with_password(url, key, ann["email"], "wrong")
    granted = signing_in.with_password(url, key, ann["email"], PASSWORD)
    _administer(embedded_supabase, "DELETE", f"/{ann['id']}")
    with pytest.raises(SignInNeeded, match="does not renew"):
        signing_in.renewed(url, key, granted.renewal)


def test_a_project_that_is_away_is_no_refusal(embedded_supabase: EmbeddedSupabase) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ActionFailed, match="does not answer") as caught:
            signing_in.renewed(url, embedded_supabase.keys.anon_key, "x")
    assert not isinstance(caught.value, SignInNeeded)
