"""Plans: who is found for a change, whichever way it is looked up."""

import json
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from embedded.phoenix.bindings import Binding
from embedded.phoenix.channel import Token
from embedded.phoenix.filters import Filter
from embedded.phoenix.frames import Vsn
from embedded.phoenix.matching import ColumnType, compile_filter
from embedded.realtime_access import Access
from embedded.realtime_audiences import Plan, Subscription, entries
from embedded.realtime_bindings import Resolved
from embedded.wal import Change, Column, Relation
from embedded.wal.types import BUILTIN_TYPES

RELATION = Relation(
    1,
    "public",
    "t",
    (
        Column("id", 23, "int4", True, True, BUILTIN_TYPES[23]),
        Column("name", 25, "text", False, False, BUILTIN_TYPES[25]),
    ),
    "default",
)
TYPES = {"id": ColumnType("int4", "integer"), "name": ColumnType("text", "text")}
ALL = Access(frozenset(("id", "name")), row_security=False, checked=False, policy_columns=())


def token(claims="{}"):
    return Token("x", "anon", claims, 2e9)


def change(kind, number, name):
    row = (str(number), name)
    if kind == "DELETE":
        return Change(RELATION, kind, None, b"{}", None, (str(number), None))
    return Change(RELATION, kind, b"{}", None, row, None)


filters = st.one_of(
    st.builds(
        lambda operator, value, negated: Filter("id", operator, (str(value),), negated),
        st.sampled_from(["eq", "neq", "lt", "gte"]),
        st.integers(0, 4),
        st.booleans(),
    ),
    st.builds(
        lambda values, negated: Filter("id", "in", tuple(map(str, values)), negated),
        st.lists(st.integers(0, 4), min_size=1, max_size=3),
        st.booleans(),
    ),
    st.builds(lambda value: Filter("name", "eq", (value,), False), st.sampled_from("ab")),
)
bindings = st.lists(
    st.tuples(st.sampled_from([None, "INSERT", "UPDATE", "DELETE"]), st.lists(filters, max_size=2)),
    min_size=1,
    max_size=3,
)


@dataclass
class Wanting:
    subscription: Subscription
    bound: list


def subscribed(number, wanted):
    resolved = []
    for place, (event, conditions) in enumerate(wanted):
        binding = Binding(number * 10 + place + 1, event, "public", "t", tuple(conditions))
        compiled = tuple(compile_filter(condition, TYPES[condition.column]) for condition in conditions)
        resolved.append(Resolved(binding, {("public", "t"): compiled}))
    return Subscription(None, Vsn.V2, f"realtime:{number}", False, token(), tuple(resolved))


def plan_for(subscriptions):
    interested = [(each, entries(each, RELATION)) for each in subscriptions]
    return Plan.of(RELATION, 1, 0.0, interested, {"anon": ALL})


def wanted_by_brute_force(subscription, changed):
    row = changed.new if changed.new is not None else changed.old
    ids = []
    for resolved in reversed(subscription.bindings):
        binding = resolved.binding
        conditions = resolved.conditions["public", "t"]
        if binding.event not in (None, changed.type):
            continue
        if changed.type == "DELETE" and any(condition.column == "name" for condition in conditions):
            continue
        if all(condition.test(row[condition.column == "name"]) is True for condition in conditions):
            ids.append(binding.id)
    return tuple(ids)


@given(
    st.lists(bindings, max_size=6),
    st.sampled_from(["INSERT", "UPDATE", "DELETE"]),
    st.integers(0, 4),
    st.none() | st.sampled_from("ab"),
)
def test_the_index_finds_those_that_looking_at_everybody_finds(wanted, kind, number, name):
    subscriptions = [subscribed(place, each) for place, each in enumerate(wanted)]
    changed = change(kind, number, name)
    found = {}
    for hit in plan_for(subscriptions).hits(changed, {}):
        for room in hit.audience.rooms.values():
            found[json.loads(room.topic)] = hit.ids
    expected = {each.topic: ids for each in subscriptions if (ids := wanted_by_brute_force(each, changed))}
    assert found == expected


def test_many_filters_on_one_column_are_one_lookup():
    subscriptions = [
        subscribed(number, [("INSERT", [Filter("id", "eq", (str(number),), False)])]) for number in range(500)
    ]
    plan = plan_for(subscriptions)
    looked_at = list(plan._candidates(change("INSERT", 123, "a")))
    assert [json.loads(room.topic) for audience in looked_at for room in audience.rooms.values()] == [
        "realtime:123"
    ]


def test_those_that_differ_in_topic_only_share_an_audience():
    binding = Resolved(Binding(7, None, "public", "t"), {("public", "t"): ()})
    subscriptions = [
        Subscription(None, Vsn.V2, f"realtime:{number % 2}", False, token(f'{{"n": {number}}}'), (binding,))
        for number in range(4)
    ]
    (audience,) = plan_for(subscriptions).audiences
    assert [len(room.members) for room in audience.rooms.values()] == [2, 2]
    assert audience.size == 4
