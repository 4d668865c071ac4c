from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.durations import format_seconds, parse_duration
from crossfade.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("1.5m", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("250ms", 0.25),
        (" 2H ", 7200),
        ("1d", 86400),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "s", "-3", "3 s s", "10x", "1e3", "nan", "inf", "99999999d", "٣"]
)
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


@given(st.text(max_size=20))
def test_garbage_raises_nothing_but_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_duration(text) > timedelta()


@given(st.integers(min_value=1, max_value=3_000_000))
def test_seconds_survive_a_round_trip(seconds: int) -> None:
    assert parse_duration(f"{seconds}s").total_seconds() == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-5, "0s"), (59.9, "59s"), (250, "4m 10s"), (7500, "2h 5m"), (90000, "1d 1h"), (3600, "1h")],
)
def test_durations_are_shown_in_two_units(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
