from __future__ import annotations

import pytest

from adapters.access_token import expires_at, refresh_after
from embedded.keys import sign

NOW = 1_800_000_000.0
SECRET = "s" * 32


def token(seconds: float) -> str:
    return sign({"role": "authenticated", "exp": int(NOW + seconds)}, SECRET)


def test_the_end_is_the_token_s_own() -> None:
    assert expires_at(token(20)) == NOW + 20


@pytest.mark.parametrize("text", ["", "sb_secret_abc", "a.b.c", "a.e30.c", "a.bnVsbA.c", "a.\x00.c", "ä.ö.ü"])
def test_what_is_no_token_has_no_end(text: str) -> None:
    assert expires_at(text) is None
    assert refresh_after(text, NOW) == 600


@pytest.mark.parametrize(
    ("life", "wait"),
    [(20, 20 * 2 / 3), (150, 100), (300, 240), (3600, 600), (1, 1), (0, 1), (-50, 1)],
)
def test_a_token_is_replaced_before_its_end(life: float, wait: float) -> None:
    assert refresh_after(token(life), NOW) == pytest.approx(wait)


def test_asking_again_comes_closer_to_the_end_and_never_in_a_hurry() -> None:
    """As long as there is no successor: at least a second apart, and several times."""
    now, asked = NOW, 0
    while now < NOW + 20:
        now += refresh_after(token(20), now)
        asked += 1
    assert 4 <= asked <= 8
