"""Passwords are kept so that they can be checked and not read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.auth.passwords import hash_password, is_understood, matches


def test_a_password_matches_its_own_hash_only() -> None:
    kept = hash_password("correct horse")
    assert kept.startswith("$scrypt$ln=14,r=8,p=5$")
    assert "correct" not in kept
    assert matches("correct horse", kept)
    assert not matches("correct horsE", kept)
    assert kept != hash_password("correct horse"), "each hash has a salt of its own"


def test_the_form_is_the_common_one() -> None:
    """The second vector of RFC 7914, section 12, in the PHC string format."""
    kept = (
        "$scrypt$ln=10,r=8,p=16$TmFDbA$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2D"
        "YMvfoswGQA"
    )
    assert matches("password", kept)
    assert not matches("Password", kept)


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
        "$scrypt$ln=14,r=8,p=5$c2FsdA",
        "$scrypt$ln=30,r=8,p=1$c2FsdA$aGFzaA",  # 128 GB of work
        "$scrypt$ln=14,r=8,p=1$c$aGFzaA",
        "$scrypt$ln=0,r=8,p=1$c2FsdA$aGFzaA",
    ],
)
def test_hashes_of_other_kinds_are_known_as_such(kept: str) -> None:
    assert not is_understood(kept)


@pytest.mark.parametrize("kept", [None, "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"])
def test_nothing_matches_what_is_no_hash_of_ours(kept: str | None) -> None:
    assert not matches("password", kept)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_text_is_refused_or_understood(text: str) -> None:
    assert is_understood(text) is False or text.startswith("$scrypt$")
