"""What is made once for all tabs."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from dashboard.made_once import MOST_ASKED, MadeOnce
from dashboard.model import HostView, State, applied
from tests.fakes.dashboard_service import reading

NOW = datetime(2026, 11, 27, 8, tzinfo=UTC)
DEADLINE_SECONDS = 10.0


def host(readings: int) -> HostView:
    state = State()
    for seq in range(1, readings + 1):
        state = applied(state, reading(seq, NOW + timedelta(seconds=2 * seq)), NOW)
    return state.hosts["box-1"]


def test_an_answer_is_asked_for_once_and_the_oldest_is_forgotten() -> None:
    made, asked = MadeOnce(), []
    for key in [*range(MOST_ASKED), *range(MOST_ASKED), MOST_ASKED, 0]:
        assert made.answer(key, lambda key=key: asked.append(key) or -key) == -key
    assert asked == [*range(MOST_ASKED), MOST_ASKED, 0]


def test_what_failed_is_asked_for_again() -> None:
    made = MadeOnce()
    with pytest.raises(ZeroDivisionError):
        made.answer("a", lambda: 1 / 0)
    assert made.answer("a", lambda: 1) == 1


def test_who_wants_the_same_waits_and_who_wants_something_else_does_not() -> None:
    made, entered, go_on, found = MadeOnce(), threading.Event(), threading.Event(), []

    def slow() -> int:
        entered.set()
        assert go_on.wait(DEADLINE_SECONDS)
        return 7

    threads = [threading.Thread(target=lambda: found.append(made.answer("slow", slow))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert entered.wait(DEADLINE_SECONDS)
    assert made.answer("quick", lambda: 1) == 1
    assert not found
    go_on.set()
    for thread in threads:
        thread.join(DEADLINE_SECONDS)
    assert found == [7, 7]


def test_charts_are_drawn_once_for_the_same_samples_whosever_they_are() -> None:
    made, two = MadeOnce(), host(2)
    first = made.drawn(two)
    assert made.drawn(two) is made.drawn(host(2)) is first
    assert made.drawn(host(3)) is not first
    assert made.drawn(two) is first
    for readings in range(4, 8):
        made.drawn(host(readings))
    assert made.drawn(two) is not first
