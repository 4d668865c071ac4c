from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.supervisor.model import (
    TRANSITIONS,
    BecameReady,
    Begun,
    Ended,
    GaveUp,
    Part,
    RestartPolicy,
    Spawned,
    State,
    StopAsked,
    Stopped,
    step,
)

POLICY = RestartPolicy()


def lived(*happenings: tuple[float, object], part: Part | None = None) -> Part:
    current = part or Part("x")
    for at, happening in happenings:
        current = step(current, happening, at, POLICY)  # type: ignore[arg-type]
    return current


def test_a_part_starts_and_becomes_ready() -> None:
    part = lived((1, Begun()), (1, Spawned(7)), (3, BecameReady("2 applied")))
    assert (part.state, part.pid, part.since, part.detail, part.restarts) == (
        State.READY,
        7,
        3,
        "2 applied",
        0,
    )


def test_restarts_back_off_from_200_ms_to_ten_seconds() -> None:
    delays, part, now = [], Part("x"), 0.0
    for _ in range(9):
        part = lived((now, Begun()), (now, Ended("exit status 1")), part=part)
        assert part.retry_at is not None
        delays.append(round(part.retry_at - now, 3))
        now = part.retry_at
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10]


def test_a_crash_loop_is_named_and_forgotten_after_thirty_seconds_of_health() -> None:
    part = Part("x")
    for _ in range(5):
        part = lived((0, Begun()), (0, Ended("exit status 3")), part=part)
    assert part.describe() == "crash loop, ended 5 times in a row: exit status 3"
    healthy = lived((10, Begun()), (10, BecameReady()), (40, Ended("killed by SIGKILL")), part=part)
    assert (healthy.failures, healthy.crash_loop, healthy.retry_at) == (1, False, 40.2)


def test_less_than_thirty_seconds_of_health_do_not_end_a_crash_loop() -> None:
    part = lived((0, Begun()), (0, Ended("a")), (1, Begun()), (1, BecameReady()), (30.9, Ended("b")))
    assert part.failures == 2


def test_a_part_that_was_asked_to_stop_stops_without_a_restart() -> None:
    part = lived((0, Begun()), (0, Spawned(7)), (1, BecameReady()), (2, StopAsked()), (3, Stopped()))
    assert (part.state, part.pid, part.retry_at, part.over) == (State.STOPPED, None, None, True)


def test_a_part_that_was_given_up_says_why() -> None:
    part = lived((0, Begun()), (1, GaveUp("read-only")))
    assert (part.over, part.describe()) == (True, "read-only")


def test_what_cannot_happen_is_refused() -> None:
    with pytest.raises(ValueError, match="x is waiting: BecameReady cannot happen"):
        lived((0, BecameReady()))


ANY = st.sampled_from([Begun(), Spawned(1), BecameReady(), Ended("e"), StopAsked(), Stopped(), GaveUp("g")])


@given(st.lists(ANY, max_size=60))
def test_whatever_happens_the_invariants_hold(happenings: list[object]) -> None:
    part, now = Part("x"), 0.0
    for happening in happenings:
        now += 1
        if part.state not in TRANSITIONS[type(happening)]:  # type: ignore[index]
            continue
        part = lived((now, happening), part=part)
        assert (part.retry_at is not None) == (part.state is State.BACKOFF)
        assert part.pid is None or part.state in {State.STARTING, State.READY, State.STOPPING}
        assert part.retry_at is None or 0 < part.retry_at - now <= POLICY.longest_seconds
        assert part.restarts <= part.failures + 60


@given(st.integers(min_value=1, max_value=10**9))
def test_the_delay_never_overflows(failures: int) -> None:
    assert 0.2 <= POLICY.delay(failures) <= 10
