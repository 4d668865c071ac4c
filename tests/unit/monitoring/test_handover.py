"""When a client changes its backend, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.handover import Candidate, Limits, Step, View, decide
from monitoring.service import Backend

LIMITS = Limits()
CALM = View(Backend.LEGACY, Backend.LEGACY, 0.0, failed_over=False, candidate=None, cooling=False)
READY = Candidate(Backend.SUPABASE, ready=True, open_for=1.0, live_for=1.0)
WAITING = replace(READY, ready=False, live_for=0.0)
WISHED = replace(CALM, wish=Backend.SUPABASE)


@pytest.mark.parametrize(
    ("view", "step"),
    [
        (CALM, Step.KEEP),
        (WISHED, Step.OPEN),
        (replace(WISHED, cooling=True), Step.KEEP),
        (replace(WISHED, cooling=True, active_down_for=3), Step.OPEN),
        (replace(WISHED, candidate=WAITING), Step.KEEP),
        (replace(WISHED, candidate=READY), Step.SWITCH),
        (replace(WISHED, candidate=replace(READY, problem="a gap")), Step.ABANDON),
        (replace(WISHED, candidate=replace(WAITING, open_for=31)), Step.ABANDON),
        (replace(WISHED, candidate=replace(WAITING, open_for=31), active_down_for=5), Step.KEEP),
        (replace(CALM, candidate=READY), Step.DROP),
        (replace(CALM, candidate=READY, active_down_for=0.1), Step.KEEP),
        (replace(CALM, active_down_for=1.9), Step.KEEP),
        (replace(CALM, active_down_for=2.0), Step.OPEN),
        (replace(CALM, active_down_for=2.0, cooling=True), Step.KEEP),
        (replace(CALM, active_down_for=5, candidate=WAITING), Step.KEEP),
        (replace(CALM, active_down_for=5, candidate=READY), Step.SWITCH),
        (replace(CALM, active_down_for=5, candidate=replace(READY, problem="refused")), Step.ABANDON),
        (replace(WISHED, failed_over=True, candidate=READY), Step.KEEP),
        (replace(WISHED, failed_over=True, candidate=replace(READY, live_for=5.0)), Step.SWITCH),
        (replace(WISHED, failed_over=True, candidate=replace(WAITING, open_for=99)), Step.KEEP),
        (replace(WISHED, failed_over=True, candidate=READY, active_down_for=3), Step.SWITCH),
    ],
)
def test_the_table(view: View, step: Step) -> None:
    decision = decide(view, LIMITS)
    assert decision.step is step
    assert bool(decision.reason) is (step is not Step.KEEP)


candidates = st.none() | st.builds(
    Candidate,
    backend=st.sampled_from(Backend),
    ready=st.booleans(),
    open_for=st.floats(0, 100),
    live_for=st.floats(0, 100),
    problem=st.none() | st.just("a gap"),
)
views = st.builds(
    View,
    wish=st.sampled_from(Backend),
    active=st.sampled_from(Backend),
    active_down_for=st.floats(0, 100),
    failed_over=st.booleans(),
    candidate=candidates,
    cooling=st.booleans(),
)


@given(views)
def test_nobody_is_moved_to_a_feed_that_is_not_ready_or_would_lose(view: View) -> None:
    decision = decide(view, LIMITS)
    if decision.step is Step.SWITCH:
        assert view.candidate is not None
        assert view.candidate.ready
        assert view.candidate.problem is None
    if decision.step is Step.OPEN:
        assert view.candidate is None


@given(views)
def test_a_live_feed_is_left_only_for_the_flags(view: View) -> None:
    if decide(view, LIMITS).step is Step.SWITCH and view.active_down_for == 0:
        assert view.wish is not view.active
