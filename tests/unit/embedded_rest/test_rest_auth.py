"""Who is asking: tokens and keys, and the answers to those that do not hold."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.keys import generate
from embedded.rest.auth import authenticate
from embedded.rest.errors import RestError

KEYS = generate()
# keys are random: numbers name the cases, so that every test process gives them the same names


def token(secret: str = KEYS.jwt_secret, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode(claims, secret, algorithm=algorithm)


def bearer(value: str) -> str:
    return f"Bearer {value}"


@pytest.mark.parametrize(
    ("authorization", "apikey", "role"),
    [
        (bearer(KEYS.anon_key), KEYS.anon_key, "anon"),
        (bearer(KEYS.service_role_key), KEYS.service_role_key, "service_role"),
        (bearer(token(role="authenticated", sub="u")), KEYS.anon_key, "authenticated"),
        (bearer(token(role="authenticated")), KEYS.publishable_key, "authenticated"),
        (bearer(KEYS.publishable_key), KEYS.publishable_key, "anon"),
        (bearer(KEYS.secret_key), KEYS.secret_key, "service_role"),
        (None, KEYS.anon_key, "anon"),
        (None, KEYS.secret_key, "service_role"),
        (bearer(KEYS.anon_key), None, "anon"),
        (bearer(token(sub="nobody")), None, "anon"),
        (bearer(token(algorithm="HS512", role="x")), None, "x"),
    ],
    ids=itertools.count(),
)
def test_roles(authorization: str | None, apikey: str | None, role: str) -> None:
    caller = authenticate(authorization, apikey, KEYS)
    assert caller.role == role
    assert json.loads(caller.claims)["role"] == role


def test_a_token_that_expired_within_the_skew_of_clocks_is_taken() -> None:
    assert authenticate(bearer(token(role="x", exp=time.time() - 10)), None, KEYS).role == "x"


def test_policies_see_the_whole_token() -> None:
    caller = authenticate(bearer(token(role="authenticated", sub="u", app_metadata={"a": [1]})), None, KEYS)
    assert json.loads(caller.claims) == {"role": "authenticated", "sub": "u", "app_metadata": {"a": [1]}}


@pytest.mark.parametrize(
    ("authorization", "apikey", "code", "message"),
    [
        (None, None, "PGRST302", "No API key found in request"),
        ("Basic x", None, "PGRST302", "No API key found in request"),
        (None, "wrong", "PGRST301", "Invalid API key"),
        (bearer(KEYS.anon_key), "sb_publishable_wrong", "PGRST301", "Invalid API key"),
        (bearer("sb_secret_wrong"), None, "PGRST301", "Invalid API key"),
        (bearer(""), None, "PGRST301", "Empty JWT is sent in Authorization header"),
        (bearer("a.b"), None, "PGRST301", "Expected 3 parts in JWT; got 2"),
        (bearer("a.b.c"), None, "PGRST301", "JWT couldn't be decoded"),
        (bearer(token(secret="x" * 40, role="x")), None, "PGRST301", "No suitable key or wrong key type"),
        (bearer(token(role="x", exp=time.time() - 3600)), None, "PGRST303", "JWT expired"),
        (bearer(token(role="x", nbf=time.time() + 3600)), None, "PGRST303", "JWT not yet valid"),
        (bearer(token(role="x", iat=time.time() + 3600)), None, "PGRST303", "JWT issued at future"),
        (bearer(token(role="x", exp="soon")), None, "PGRST303", "Parsing claims failed"),
        (bearer(token(role=1)), None, "PGRST303", "Parsing claims failed"),
    ],
    ids=itertools.count(),
)
def test_refusals(authorization: str | None, apikey: str | None, code: str, message: str) -> None:
    with pytest.raises(RestError) as caught:
        authenticate(authorization, apikey, KEYS)
    assert (caught.value.status, caught.value.code, caught.value.message) == (401, code, message)
    assert dict(caught.value.headers)["WWW-Authenticate"].startswith("Bearer")


def test_a_token_without_a_signature_is_refused() -> None:
    unsigned = jwt.encode({"role": "service_role"}, None, algorithm="none")
    with pytest.raises(RestError) as caught:
        authenticate(bearer(unsigned), None, KEYS)
    assert caught.value.status == 401


@given(
    authorization=st.one_of(st.none(), st.text(), st.text().map(bearer)),
    apikey=st.one_of(st.none(), st.text()),
)
def test_garbage_is_refused_and_nothing_else_happens(authorization: str | None, apikey: str | None) -> None:
    with pytest.raises(RestError) as caught:
        authenticate(authorization, apikey, KEYS)
    assert caught.value.status == 401
