import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.events import Event, StreamId, from_json, to_json
from validation.comparison import MAX_VALUE_CHARACTERS, first_difference, show

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(payload: dict[str, object]) -> Event:
    return Event(UUID(int=1), StreamId("a/system"), 1, 2, "k", AT, payload)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)
payloads = st.dictionaries(st.text(), values, max_size=5)


@UNHURRIED
@given(payloads)
def test_an_event_equals_itself_after_the_wire(payload):
    sent = event(payload)
    assert first_difference(sent, from_json(json.loads(json.dumps(to_json(sent))))) is None


@UNHURRIED
@given(payloads)
def test_the_order_of_keys_means_nothing(payload):
    assert first_difference(event(payload), event(dict(reversed(payload.items())))) is None


@UNHURRIED
@given(payloads, st.text())
def test_a_key_more_is_found(payload, name):
    more = {**payload, name + "!": 1}
    if name + "!" in payload:
        return
    found = first_difference(event(payload), event(more))
    assert found is not None
    assert (found.path, found.expected, found.actual) == (f"payload.{name}!", "(absent)", "1")


@pytest.mark.parametrize(
    ("expected", "actual"),
    [(1, 1.0), (1e2, 100), (0.0, -0.0), ([1, {"a": 2}], [1.0, {"a": 2}]), ((1, 2), [1, 2])],
)
def test_numbers_are_compared_by_value(expected, actual):
    assert first_difference(event({"v": expected}), event({"v": actual})) is None


@pytest.mark.parametrize(
    ("expected", "actual", "path", "texts"),
    [
        (1, True, "payload.v", ("1", "true")),
        (0, False, "payload.v", ("0", "false")),
        (1, "1", "payload.v", ("1", '"1"')),
        (None, 0, "payload.v", ("null", "0")),
        ({}, [], "payload.v", ("{}", "[]")),
        ("ab", ["a", "b"], "payload.v", ('"ab"', '["a","b"]')),
        ([1, 2], [1], "payload.v[1]", ("2", "(absent)")),
        ([1], [1, None], "payload.v[1]", ("(absent)", "null")),
        ({"b": 1, "a": [{"x": 1}]}, {"b": 2, "a": [{"x": 3}]}, "payload.v.a[0].x", ("1", "3")),
    ],
)
def test_finds_the_first_field_that_differs(expected, actual, path, texts):
    found = first_difference(event({"v": expected}), event({"v": actual}))
    assert found is not None
    assert (found.path, (found.expected, found.actual)) == (path, texts)


def test_the_envelope_is_compared_too():
    other = replace(event({}), occurred_at=AT.replace(year=2027))
    found = first_difference(event({}), other)
    assert found is not None
    assert (found.path, found.actual) == ("occurred_at", "2027-01-01T00:00:00.000000Z")


def test_long_values_are_cut():
    assert len(show("x" * 1000)) == MAX_VALUE_CHARACTERS
    assert show("x" * 1000).endswith("…")
