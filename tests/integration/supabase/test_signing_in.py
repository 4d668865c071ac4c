"""Signing in to a real project's auth endpoint, and renewing what it gave out."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid

import jwt
import pytest

from crossfade import signing_in
from crossfade.accounts import accounts
from crossfade.wiring import Role
from monitoring.control import ActionFailed, SignInNeeded
from tests.conftest import EmbeddedSupabase

PASSWORD = "correct horse battery"

# supabase itself passes its HTTP options to postgrest in the form that postgrest has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' parameter is deprecated:DeprecationWarning")


@pytest.fixture
def ann(embedded_supabase: EmbeddedSupabase) -> str:
    """A user who is an operator."""
    email = f"ann-{uuid.uuid4().hex[:8]}@example.com"
    _with_user(embedded_supabase, email)
    return email


def _with_user(project: EmbeddedSupabase, email: str, *, remove: bool = False) -> None:
    async def made() -> None:
        async with accounts(project.url, project.keys.service_role_key) as known:
            if remove:
                await known.remove(await known.known(email))
            else:
                await known.add(email, Role.OPERATOR, PASSWORD)

    asyncio.run(made())


def test_a_session_is_renewed_as_often_as_asked(embedded_supabase: EmbeddedSupabase, ann: str) -> None:
    url, key = embedded_supabase.url, embedded_supabase.keys.anon_key
    granted = signing_in.with_password(url, key, ann, PASSWORD)
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


def test_who_is_gone_or_wrong_has_to_sign_in(embedded_supabase: EmbeddedSupabase, ann: str) -> None:
    url, key = embedded_supabase.url, embedded_supabase.keys.anon_key
    with pytest.raises(SignInNeeded, match="does not let"):
        signing_in.with_password(url, key, ann, "wrong")
    granted = signing_in.with_password(url, key, ann, PASSWORD)
    _with_user(embedded_supabase, ann, remove=True)
    with pytest.raises(SignInNeeded, match="does not renew"):
        signing_in.renewed(url, key, granted.renewal)


def test_a_project_that_is_away_is_no_refusal(embedded_supabase: EmbeddedSupabase) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ActionFailed, match="does not answer") as caught:
            signing_in.renewed(url, embedded_supabase.keys.anon_key, "x")
    assert not isinstance(caught.value, SignInNeeded)
