"""The key file and the tokens."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from embedded import keys
from embedded.errors import InvalidToken, KeysUnusable

SECRET = "a-secret-for-tests-with-at-least-32-characters"
NOW = 1_800_000_000


def token(**claims):
    return keys.sign({"role": "anon", "exp": NOW + 60, **claims}, SECRET)


def test_the_file_is_made_once_private_and_kept(tmp_path):
    first = keys.load_or_create(tmp_path / "supabase")
    path = tmp_path / "supabase" / "keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.load_or_create(tmp_path / "supabase") == first
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


def test_racing_callers_all_get_the_same_keys(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: keys.load_or_create(tmp_path), range(16)))
    assert set(found) == {found[0]}


def test_both_role_tokens_verify_and_last_ten_years():
    made = keys.generate(now_seconds=NOW)
    for text, role in ((made.anon_key, "anon"), (made.service_role_key, "service_role")):
        claims = keys.verify(text, made.jwt_secret, now_seconds=NOW + 9 * 365 * 86400)
        assert claims["role"] == role
        assert claims["iss"] == "supabase"
    assert made.publishable_key.startswith("sb_publishable_")
    assert made.secret_key.startswith("sb_secret_")
    assert made.jwt_secret not in repr(made)
    assert made.db_password.isascii()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("not json", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"jwt_secret": "x"}', "anon_key"),
        (json.dumps(dict.fromkeys(keys.Keys.__slots__, "short")), "shorter than 32"),
    ],
)
def test_a_damaged_file_is_refused_and_not_overwritten(tmp_path, content, says):
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(KeysUnusable, match=says):
        keys.load_or_create(tmp_path)
    assert path.read_text() == content


def test_a_directory_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KeysUnusable):
        keys.load_or_create(tmp_path / "file" / "supabase")


@pytest.mark.parametrize(
    ("text", "reason", "fault"),
    [
        ("", "The token provided is not a valid JWT", "malformed"),
        ("garbage", "The token provided is not a valid JWT", "malformed"),
        ("a.b.c", "The token provided is not a valid JWT", "malformed"),
        (
            keys.sign({"role": "anon", "exp": NOW + 60}, "x" * 40),
            "Failed to validate JWT signature",
            "signature",
        ),
        (token(exp=NOW - 52), "Token has expired", "expired"),
        (token(role=None), "Fields `role` and `exp` are required in JWT", "fields"),
        (keys.sign({"role": "anon"}, SECRET), "Fields `role` and `exp` are required in JWT", "fields"),
        (
            jwt.encode({"role": "anon", "exp": NOW + 60}, None, algorithm="none"),
            "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
            "signer",
        ),
    ],
)
def test_refusals_have_the_texts_of_the_real_server(text, reason, fault):
    with pytest.raises(InvalidToken) as caught:
        keys.verify(text, SECRET, now_seconds=NOW)
    assert (caught.value.reason, caught.value.fault) == (reason, fault)


def test_expiry_says_how_long_ago():
    with pytest.raises(InvalidToken) as caught:
        keys.verify(token(exp=NOW - 52), SECRET, now_seconds=NOW)
    assert caught.value.expired_seconds == 52


def test_claims_come_back_whole():
    claims = keys.verify(
        token(sub="u1", aud="authenticated", app_metadata={"a": [1]}), SECRET, now_seconds=NOW
    )
    assert claims["app_metadata"] == {"a": [1]}
    assert claims["aud"] == "authenticated"


def test_rest_accepts_a_token_without_role_and_end():
    assert keys.verify_signature(keys.sign({"sub": "x"}, SECRET), SECRET) == {"sub": "x"}
