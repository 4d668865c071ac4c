"""The capacity plan: arithmetic that a person can follow, against limits that were published or measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.capacity import (
    CHANGES_A_SECOND,
    MODES,
    PLANS,
    Load,
    changes_a_second,
    predict,
    recommend,
    to_json,
)


def test_the_designs_own_example_uses_up_a_free_project() -> None:
    """20 containers at 0.5 Hz, each an event of its own, for ten viewers."""
    load = Load(clients=10, streams=20, rate=10, devices=1)
    mode, found = recommend(load, PLANS["free"])
    assert mode is None
    first = found["changes"].first_to_break
    assert first is not None
    assert first.name == "messages a month"
    messages = next(use for use in found["changes"].uses if use.name == "messages a second")
    assert messages.needed == pytest.approx(10 * (10 + 1 / 15))
    assert messages.share > 1
    assert found["broadcast"].mode == "broadcast"


def test_one_event_a_device_and_tick_fits() -> None:
    mode, found = recommend(Load(clients=10, streams=1, rate=0.5), PLANS["free"])
    assert mode == "changes"
    assert found["changes"].verdict == "fits, with more messages than a month includes"
    _, few = recommend(Load(clients=1, streams=1, rate=0.1), PLANS["free"])
    assert few["changes"].verdict == "fits"
    _, many = recommend(Load(clients=250, streams=1, rate=0.1), PLANS["free"])
    assert many["changes"].verdict == "does not fit"


def test_many_clients_need_broadcast_because_row_changes_are_checked_for_each() -> None:
    load = Load(clients=1_000, streams=50, rate=25, devices=25)
    mode, found = recommend(load, PLANS["own"])
    assert mode == "broadcast"
    first = found["changes"].first_to_break
    assert first is not None
    assert (first.name, first.source) == ("row changes a second", "measured")


def test_a_plan_breaks_first_where_it_is_smallest() -> None:
    uses = predict(Load(clients=250, streams=1, rate=0.01), PLANS["free"], "changes").uses
    assert [use.name for use in uses if use.share > 1] == ["messages a month", "connections"]
    joins = predict(Load(clients=400, streams=400, rate=0.1, devices=20), PLANS["pro"], "broadcast").uses
    assert next(use for use in joins if use.name.startswith("joins")).needed == pytest.approx(400 * 21 / 30)


@pytest.mark.parametrize(("subscribers", "rate"), CHANGES_A_SECOND)
def test_what_was_measured_is_what_is_said(subscribers: int, rate: float) -> None:
    assert changes_a_second(subscribers) == pytest.approx(rate)


@given(st.floats(1, 100_000), st.floats(1, 100_000))
def test_more_subscribers_are_never_faster(one: float, other: float) -> None:
    few, many = sorted((one, other))
    assert changes_a_second(many) <= changes_a_second(few) * 1.000001


@given(
    st.integers(1, 20_000),
    st.integers(1, 500),
    st.floats(0, 5_000),
    st.sampled_from(sorted(PLANS)),
    st.sampled_from(MODES),
)
def test_what_fits_fits_for_fewer_clients_too(
    clients: int, streams: int, rate: float, plan: str, mode: str
) -> None:
    load = Load(clients, streams, rate)
    if predict(load, PLANS[plan], mode).fits:
        assert predict(Load(max(1, clients // 2), streams, rate), PLANS[plan], mode).fits
    assert to_json(load, PLANS[plan])["plan"] == plan
