"""The arithmetic of reconnects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.backoff import Backoff


def test_bounds_double_from_the_first_to_the_cap():
    backoff = Backoff(first=0.2, cap=30, random=lambda: 1.0)
    assert [backoff.next() for _ in range(10)] == pytest.approx(
        [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]
    )


def test_a_reset_makes_the_next_retry_quick_again():
    backoff = Backoff(random=lambda: 1.0)
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.next() == pytest.approx(0.2)


@given(st.integers(0, 5000), st.floats(0, 1, exclude_max=True))
def test_no_delay_is_ever_negative_or_beyond_the_cap(attempts, drawn):
    backoff = Backoff(random=lambda: drawn)
    backoff.attempts = attempts
    assert 0 <= backoff.next() <= 30


def test_the_default_draws_are_spread_over_the_whole_bound():
    delays = [Backoff(first=1, cap=1).next() for _ in range(200)]
    assert min(delays) < 0.2
    assert max(delays) > 0.8


@pytest.mark.parametrize(("first", "cap"), [(0, 1), (-1, 1), (2, 1)])
def test_senseless_bounds_are_refused(first, cap):
    with pytest.raises(ValueError, match="backoff needs"):
        Backoff(first=first, cap=cap)
