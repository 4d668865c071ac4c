"""When a client changes its route, as a table."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.handover import Candidate, Limits, Step, View, decide
from monitoring.route import Route
from monitoring.service import Backend

LIMITS = Limits()
LEGACY, SUPABASE, POLLING = (Route(backend) for backend in Backend)
SPLIT = Route(Backend.LEGACY, frozenset({"containers"}))

CALM = View(LEGACY, LEGACY, 0.0, failed_over=False, candidate=None, cooling=False)
READY = Candidate(SUPABASE, ready=True, open_for=1.0, live_for=1.0)
WAITING = replace(READY, ready=False, live_for=0.0)
STUCK = replace(WAITING, open_for=9.0, quiet_for=4.0)
WISHED = replace(CALM, wish=SUPABASE)
DOWN = replace(CALM, active_down_for=3.0)
LOST = replace(STUCK, quiet_for=30.0)
LACKING = replace(CALM, lacking="it has no history of web-1/system before seq 9")
AWAY = replace(CALM, active=POLLING, failed_over=True)


@pytest.mark.parametrize(
    ("view", "step", "route"),
    [
        # Where the flags want it
        (CALM, Step.KEEP, None),
        (replace(CALM, candidate=READY), Step.DROP, None),
        (replace(CALM, candidate=READY, active_down_for=0.1), Step.KEEP, None),
        (replace(CALM, active_down_for=1.9), Step.KEEP, None),
        # A planned move
        (WISHED, Step.OPEN, SUPABASE),
        (replace(CALM, wish=SPLIT), Step.OPEN, SPLIT),
        (replace(WISHED, cooling=True), Step.KEEP, None),
        (replace(WISHED, candidate=WAITING), Step.KEEP, None),
        (replace(WISHED, candidate=READY), Step.SWITCH, None),
        (replace(WISHED, candidate=replace(READY, loss="a gap")), Step.ABANDON, None),
        (replace(WISHED, candidate=replace(WAITING, refusal="no")), Step.ABANDON, None),
        (replace(WISHED, candidate=replace(WAITING, open_for=31)), Step.ABANDON, None),
        (replace(WISHED, wish=SPLIT, candidate=READY), Step.DROP, None),
        (replace(WISHED, candidate=WAITING, active_down_for=1.0), Step.KEEP, None),
        # The active leg is down
        (DOWN, Step.OPEN, SUPABASE),
        (replace(DOWN, cooling=True), Step.OPEN, SUPABASE),
        (replace(DOWN, tried=(SUPABASE,)), Step.OPEN, POLLING),
        (replace(DOWN, tried=(SUPABASE, POLLING)), Step.OPEN, SUPABASE),
        (replace(DOWN, tried=(POLLING, SUPABASE)), Step.OPEN, POLLING),
        (replace(DOWN, candidate=WAITING), Step.KEEP, None),
        (replace(DOWN, candidate=READY), Step.SWITCH, None),
        (replace(DOWN, candidate=STUCK), Step.OPEN, POLLING),
        (replace(DOWN, candidate=replace(WAITING, live_for=4.0)), Step.SWITCH, None),
        (replace(DOWN, candidate=replace(STUCK, live_for=1.0)), Step.KEEP, None),
        (replace(DOWN, candidate=replace(WAITING, refusal="no")), Step.OPEN, POLLING),
        (replace(DOWN, candidate=replace(READY, loss="a gap")), Step.OPEN, POLLING),
        (
            replace(DOWN, candidate=replace(READY, loss="a gap"), tried=(POLLING,)),
            Step.SWITCH,
            None,
        ),
        (
            replace(DOWN, candidate=replace(WAITING, refusal="no"), tried=(POLLING, SUPABASE)),
            Step.KEEP,
            None,
        ),
        (replace(WISHED, active_down_for=3.0, candidate=READY), Step.SWITCH, None),
        (replace(CALM, wish=Route(Backend.LEGACY, fallbacks=()), active_down_for=9.0), Step.KEEP, None),
        (replace(DOWN, active_down_for=math.inf, tried=(SUPABASE, POLLING)), Step.OPEN, LEGACY),
        # The active leg works and has lost something
        (LACKING, Step.OPEN, SUPABASE),
        (replace(LACKING, tried=(SUPABASE,)), Step.OPEN, POLLING),
        (replace(LACKING, tried=(SUPABASE, POLLING)), Step.CONCEDE, None),
        (replace(LACKING, candidate=WAITING), Step.KEEP, None),
        (replace(LACKING, candidate=READY), Step.OPEN, POLLING),
        (replace(LACKING, candidate=STUCK), Step.KEEP, None),
        (replace(LACKING, candidate=LOST, tried=(POLLING,)), Step.CONCEDE, None),
        (replace(LACKING, candidate=replace(WAITING, refusal="no")), Step.OPEN, POLLING),
        (replace(LACKING, wish=SUPABASE, candidate=READY), Step.SWITCH, None),
        (replace(LACKING, active_down_for=3.0, candidate=READY), Step.SWITCH, None),
        # On a fallback
        (AWAY, Step.OPEN, LEGACY),
        (replace(AWAY, candidate=replace(WAITING, route=LEGACY)), Step.KEEP, None),
        (replace(AWAY, candidate=replace(STUCK, route=LEGACY)), Step.OPEN, SUPABASE),
        (replace(AWAY, candidate=STUCK, tried=(LEGACY,)), Step.OPEN, LEGACY),
        (replace(AWAY, candidate=replace(READY, route=LEGACY)), Step.KEEP, None),
        (replace(AWAY, candidate=replace(READY, route=LEGACY, live_for=5.0)), Step.SWITCH, None),
        (replace(AWAY, candidate=replace(READY, route=LEGACY, loss="a gap")), Step.ABANDON, None),
        (replace(AWAY, candidate=replace(READY, route=POLLING)), Step.DROP, None),
        (replace(AWAY, active=SUPABASE, candidate=replace(STUCK, route=LEGACY)), Step.KEEP, None),
        (replace(AWAY, active_down_for=3.0, candidate=replace(READY, route=LEGACY)), Step.SWITCH, None),
    ],
)
def test_the_table(view: View, step: Step, route: Route | None) -> None:
    decision = decide(view, LIMITS)
    assert (decision.step, decision.route) == (step, route)
    assert bool(decision.reason) is (step is not Step.KEEP)


routes = st.sampled_from([LEGACY, SUPABASE, POLLING, SPLIT])
seconds = st.floats(0, 100) | st.just(0.0)
views = st.builds(
    View,
    wish=routes,
    active=routes,
    active_down_for=seconds,
    failed_over=st.booleans(),
    candidate=st.none()
    | st.builds(
        Candidate,
        route=routes,
        ready=st.booleans(),
        open_for=seconds,
        live_for=seconds,
        quiet_for=seconds,
        loss=st.none() | st.just("a gap"),
        refusal=st.none() | st.just("no"),
    ),
    cooling=st.booleans(),
    tried=st.lists(routes, unique=True),
)


@given(views)
def test_nobody_is_moved_to_a_leg_that_is_not_ready(view: View) -> None:
    decision = decide(view, LIMITS)
    if decision.step is Step.SWITCH:
        assert view.candidate is not None
        assert view.candidate.ready or (view.active_down_for >= 2.0 and view.candidate.live_for >= 4.0)
    if decision.step is Step.OPEN:
        assert view.candidate is None or view.candidate.route != decision.route or view.candidate.refusal


@given(views)
def test_something_is_lost_only_when_the_active_leg_is_down_and_everything_else_was_tried(view: View) -> None:
    if decide(view, LIMITS).step is Step.SWITCH and view.candidate and view.candidate.loss:
        assert view.active_down_for >= LIMITS.failover_after
        assert set(view.wish.ranked()) <= {*view.tried, view.active, view.candidate.route}


@given(views)
def test_a_live_leg_is_left_only_for_the_flags_or_for_something_better(view: View) -> None:
    if decide(view, LIMITS).step is Step.SWITCH and view.active_down_for == 0:
        assert view.wish != view.active


def test_a_move_that_is_given_up_for_its_time_says_what_it_waited_for() -> None:
    late = replace(WAITING, open_for=31, obstacle="it is behind in web-1/system")
    decision = decide(replace(WISHED, candidate=late), LIMITS)
    assert decision.reason == "supabase was not ready within 30 s: it is behind in web-1/system"
