"""What a client missed, as far as a server remembers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.fingerprint import Fingerprint
from monitoring.recall import Recalled, recall


def marks(text: str) -> list[Fingerprint]:
    return [Fingerprint(letter.encode()) for letter in text]


@pytest.mark.parametrize(
    ("had", "remembered", "news", "complete"),
    [
        ("abc", "abcde", "de", True),
        ("abc", "cde", "de", True),
        ("abcdef", "defgh", "gh", True),
        ("bc", "abcd", "d", True),
        ("abc", "abc", "", True),
        ("abc", "de", "de", False),  # too long away
        ("abc", "", "", False),  # a server that remembers nothing
        ("", "abc", "abc", False),  # we had nothing: who knows what came before
        ("abc", "acbd", "d", False),  # another order: what we never had is news
        ("aab", "aabab", "ab", True),  # the earliest place that fits
        ("abb", "xbbby", "xby", False),
    ],
)
def test_news_is_what_follows_on_from_what_we_had(
    had: str, remembered: str, news: str, *, complete: bool
) -> None:
    recalled = recall(marks(had), marks(remembered))
    assert "".join(remembered[index] for index in recalled.news) == news
    assert recalled.complete == complete


@given(st.text("abc", max_size=30), st.integers(0, 30), st.integers(0, 30), st.integers(1, 30))
def test_nothing_is_lost_without_a_word_and_unique_events_come_once(
    letters: str, began: int, ended: int, capacity: int
) -> None:
    truth = [Fingerprint(f"{letter}{index}".encode()) for index, letter in enumerate(letters)]
    ended = max(began, min(ended, len(truth)))
    had, missed = truth[began:ended], truth[ended:]
    remembered = truth[-capacity:]
    recalled = recall(had, remembered)
    news = [remembered[index] for index in recalled.news]
    if recalled.complete:
        assert news == missed
    assert set(remembered) & set(missed) <= set(news)
    assert not set(news) & set(had)


def test_without_anything_nothing_is_known() -> None:
    assert recall([], []) == Recalled((), complete=False)
