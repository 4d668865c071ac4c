"""One alert's life: what flaps is held back, and every step follows from the one before."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from alerting.lifecycle import Alert, Key, State, Verdict, pass_time, step
from tests.fakes.alert_events import at

ALERT = Alert(Key("cpu", "web-1", ""))
NONE = timedelta()


def test_a_target_that_flaps_is_resolved_three_times_and_then_only_when_it_stays_calm() -> None:
    alert, resolves = ALERT, []
    for second in range(600):
        before = alert
        alert = step(alert, Verdict.CALM if second % 4 else Verdict.BREACH, at(second), NONE)
        if before.state is State.FIRING and alert.state is State.OK:
            resolves.append(second)
    assert len(resolves) == 3
    assert alert.flapping
    assert alert.hold == timedelta(seconds=30)
    calm = step(alert, Verdict.CALM, at(600), NONE)
    assert pass_time(calm, at(600 + 26), NONE).state is State.FIRING
    assert pass_time(calm, at(600 + 31), NONE).state is State.OK


def test_the_hold_doubles_up_to_an_hour_and_is_forgotten_when_all_was_well_for_long() -> None:
    alert, now, holds = ALERT, 0.0, []
    for _ in range(14):
        alert = step(alert, Verdict.BREACH, at(now), NONE)
        holds.append(alert.hold.total_seconds())
        now += 1
        alert = step(alert, Verdict.CALM, at(now), NONE)
        now += alert.hold.total_seconds()
        alert = pass_time(alert, at(now), NONE)
        assert alert.state is State.OK
        now += 1
    assert holds[:6] == [0, 0, 0, 30, 60, 120]
    assert holds[-1] == 3600
    rested = step(alert, Verdict.BREACH, at(now + 3700), NONE)
    assert (rested.level, rested.flapping) == (0, False)


def test_what_is_unknown_changes_nothing() -> None:
    assert step(ALERT, Verdict.UNKNOWN, at(0), NONE) is ALERT


def test_a_breach_that_ends_while_pending_begins_anew() -> None:
    held = timedelta(seconds=10)
    pending = step(ALERT, Verdict.BREACH, at(0), held)
    calm = step(pending, Verdict.BETWEEN, at(5), held)
    again = step(calm, Verdict.BREACH, at(6), held)
    assert (pending.state, calm.state, again.state) == (State.PENDING, State.OK, State.PENDING)
    assert pass_time(again, at(15), held).state is State.PENDING
    assert pass_time(again, at(16), held).state is State.FIRING


def test_a_new_firing_takes_back_the_acknowledgement() -> None:
    firing = replace(step(ALERT, Verdict.BREACH, at(0), NONE), acknowledged_by="ann")
    calm = step(firing, Verdict.CALM, at(1), NONE)
    assert calm.acknowledged_by == "ann"
    assert step(calm, Verdict.BREACH, at(2), NONE).acknowledged_by is None
