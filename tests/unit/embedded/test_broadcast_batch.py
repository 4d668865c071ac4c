"""Batches of the REST broadcast: what is accepted, and how what is not is told."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.phoenix.broadcast import Room
from embedded.phoenix.frames import Vsn
from embedded.realtime_http import InvalidBatch, parse_batch

GOOD = {"topic": "t", "event": "e", "payload": {"b": 1, "a": {}}}
BLANK = ["can't be blank"]
INVALID = ["is invalid"]


def errors(body, limit=None):
    with pytest.raises(InvalidBatch) as caught:
        parse_batch(body, limit)
    return caught.value.errors["messages"]


def test_messages_keep_their_order_and_rooms():
    first, second = parse_batch({"messages": [GOOD, {**GOOD, "private": "true", "id": "x"}]}, None)
    assert (first.room, first.event, first.id) == (Room("t", False), "e", None)
    assert (second.room, second.id) == (Room("t", True), "x")
    assert first.broadcast().payload == b'{"event":"e","payload":{"a":{},"b":1},"type":"broadcast"}'
    assert b'"meta":{"id":"x"}' in second.broadcast().payload


@pytest.mark.parametrize("body", [{}, [], 5, None, {"messages": None}, {"messages": []}])
def test_no_messages(body):
    assert errors(body) == BLANK


@pytest.mark.parametrize("messages", [5, "x", {"a": 1}, [1], [GOOD, None]])
def test_not_a_list_of_objects(messages):
    assert errors({"messages": messages}) == INVALID


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"topic": " "}, {"topic": BLANK}),
        ({"topic": 5}, {"topic": INVALID}),
        ({"event": None}, {"event": BLANK}),
        ({"payload": [1]}, {"payload": INVALID}),
        ({"private": "maybe"}, {"private": INVALID}),
        ({"id": 5}, {"id": INVALID}),
    ],
)
def test_a_bad_field_is_named_beside_good_messages(change, told):
    assert errors({"messages": [GOOD, {**GOOD, **change}]}) == [{}, told]


def test_the_largest_payload_that_is_accepted():
    size = len(orjson.dumps(GOOD["payload"]))
    assert parse_batch({"messages": [GOOD]}, size)
    assert errors({"messages": [GOOD]}, size - 1) == [{"payload": ["Payload size exceeds tenant limit"]}]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(st.sampled_from(["topic", "event", "payload", "private", "id"]), values)


@given(values | st.builds(lambda messages: {"messages": messages}, st.lists(fields | values, max_size=4)))
def test_any_body_is_a_batch_or_told_what_is_wrong(body):
    try:
        wanted = parse_batch(body, 1000)
    except InvalidBatch as error:
        orjson.dumps(error.errors)
    else:
        assert len(wanted) == len(body["messages"])
        for message in wanted:
            assert message.broadcast().frame(Vsn.V2, message.room)
