"""Numbers as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import figures

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, figures.UNKNOWN),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_940, "99.9 kB"),
        (99_960, "100 kB"),
        (999_600, "1.0 MB"),
        (25_769_803_776, "25.8 GB"),
        (5e18, "5000 PB"),
    ],
)
def test_sizes(value: float | None, text: str) -> None:
    assert figures.size(value) == text


@given(st.floats(0, 1e15))
def test_a_size_never_has_more_than_three_digits_before_the_point(value: float) -> None:
    assert float(figures.size(value).split()[0]) < 1000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, figures.UNKNOWN),
        (0.4, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (3_900, "1 h 05 min"),
        (372_000, "4 d 7 h"),
    ],
)
def test_spans(seconds: float | None, text: str) -> None:
    assert figures.span(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, figures.UNKNOWN), (0.0043, "4.3 ms"), (0.064, "64 ms"), (2.25, "2.2 s")]
)
def test_milliseconds(seconds: float | None, text: str) -> None:
    assert figures.milliseconds(seconds) == text


def test_the_rest() -> None:
    assert figures.percent(12.34) == "12.3 %"
    assert figures.percent(None) == figures.UNKNOWN
    assert figures.rate(1500) == "1.5 kB/s"
    assert figures.rate(None) == figures.UNKNOWN
    assert figures.plain(0.5) == "0.50"
    assert figures.plain(None) == figures.UNKNOWN
    assert [figures.short(each) for each in (0.0012, 71, 97.8068, 1234.5)] == [
        "0.0012",
        "71",
        "97.81",
        "1234",
    ]
    assert figures.count(18402) == "18\N{NARROW NO-BREAK SPACE}402"
    assert figures.count(None) == figures.UNKNOWN
    assert figures.age(NOW - timedelta(seconds=5), NOW) == "5 s"
    assert figures.age(NOW + timedelta(seconds=5), NOW) == "0 s"
    assert figures.age(None, NOW) == figures.UNKNOWN
    assert figures.per_unit("MB") == 1_000_000
    assert len(figures.clock(NOW)) == len("00:00:00")
