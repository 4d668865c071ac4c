import json
from dataclasses import replace
from datetime import UTC, date, datetime
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.events import Event, StreamId, from_json, to_json
from validation.comparison import MAX_VALUE_CHARACTERS, Comparison, compare, digest, encode, show
from validation.errors import InvalidRules
from validation.rules import parse_rules

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

AT = datetime(2026, 1, 1, tzinfo=UTC)


def first_difference(expected: Event, actual: Event):
    return compare(encode(expected), encode(actual)).difference


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
    assert (found.path, found.actual) == ("occurred_at", '"2027-01-01T00:00:00+00:00"')


def test_a_time_is_the_same_in_another_zone_and_precision():
    one = b'{"occurred_at":"2026-01-01T00:00:00Z","payload":{}}'
    same = b'{"payload":{},"occurred_at":"2026-01-01T01:00:00.000000+01:00"}'
    assert compare(one, same) == Comparison()
    assert digest(one) == digest(same)


def test_large_integers_keep_all_their_digits():
    assert first_difference(event({"v": 2**70}), event({"v": 2**70 + 1})) is not None
    assert first_difference(event({"v": 2**63 + 1}), event({"v": 2**63 + 2})) is not None


def test_deep_contents_are_compared_without_exhausting_the_stack():
    deep: dict[str, object] = {}
    for _ in range(240):
        deep = {"d": deep}
    assert first_difference(event(deep), event({**deep, "e": 1})) is not None
    assert compare(encode(event(deep)), encode(event({"d": deep}))).difference is not None


@UNHURRIED
@given(payloads, payloads)
def test_digests_are_equal_when_contents_are(one, other):
    same = first_difference(event(one), event(other)) is None
    assert (digest(encode(event(one))) == digest(encode(event(other)))) == same
    assert digest(encode(event(one))) == digest(encode(event(dict(reversed(one.items())))))


RULES = parse_rules(
    [
        {"path": "payload.load", "tolerance": 0.5},
        {"path": "payload.disks[*].used", "relative": 0.1},
        {"path": "payload.tags", "unordered": True},
        {"path": "payload.*_ms", "ignore": True, "owner": "ann", "expires": "2026-12-31"},
        {"path": "payload.gone", "ignore": True, "owner": "ann", "expires": "2026-01-31"},
    ],
    date(2026, 6, 1),
)


@pytest.mark.parametrize(
    ("expected", "actual", "path", "passed"),
    [
        ({"load": 1}, {"load": 1.5}, None, ("payload.load",)),
        ({"load": 1}, {"load": 1.6}, "payload.load", ()),
        ({"load": 1}, {"load": "1"}, "payload.load", ()),
        ({"load": 1}, {}, "payload.load", ()),
        ({"disks": [{"used": 100}]}, {"disks": [{"used": 91}]}, None, ("payload.disks[0].used",)),
        ({"disks": [{"used": 100}]}, {"disks": [{"used": 89}]}, "payload.disks[0].used", ()),
        ({"tags": ["a", "b"]}, {"tags": ["b", "a"]}, None, ("payload.tags",)),
        ({"tags": ["a", "b"]}, {"tags": ["b", "b"]}, "payload.tags[0]", ()),
        ({"took_ms": 1, "n": 1}, {"took_ms": 2, "n": 2}, "payload.n", ()),
        ({"took_ms": 1, "n": 1}, {"n": 1}, None, ("payload.took_ms",)),
        ({"gone": 1}, {"gone": 2}, "payload.gone", ()),
    ],
)
def test_rules_let_pass_what_they_say_and_nothing_else(expected, actual, path, passed):
    one, other = encode(event(expected)), encode(event(actual))
    found = compare(one, other, RULES)
    assert (found.difference.path if found.difference else None) == path
    assert found.passed == passed or path is not None
    if path is None:
        assert digest(one, RULES) == digest(other, RULES)
        assert compare(digest(one, RULES), other, RULES) == Comparison()


def test_a_rule_that_expired_is_named_and_not_applied():
    assert [rule.path for rule in RULES.expired] == ["payload.gone"]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("payload", "rules are a list"),
        ([1], "rule 1 is no object"),
        ([{"ignore": True}], "rule 1 needs a path"),
        ([{"path": "a", "ignore": True}], "needs an owner and expires"),
        ([{"path": "a", "ignore": True, "owner": "x", "expires": "soon"}], "must be a day"),
        ([{"path": "a", "tolerance": -1}], "must be a number above 0"),
        ([{"path": "a", "tolerance": True}], "must be a number above 0"),
        ([{"path": "a", "tolerance": 1, "unordered": True}], "must say one of"),
        ([{"path": "a", "unordered": "yes"}], "must be true"),
        ([{"path": "a", "ignored": True}], "unknown ignored"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(rules, message):
    with pytest.raises(InvalidRules, match=message):
        parse_rules(rules, date(2026, 6, 1))


def test_long_values_are_cut():
    assert len(show("x" * 1000)) == MAX_VALUE_CHARACTERS
    assert show("x" * 1000).endswith("…")
