"""The two serialisations, byte for byte as recorded from the real server."""

import itertools
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.phoenix import elixir, frames
from embedded.phoenix.broadcast import BinaryBroadcast, Room, UserBroadcast
from embedded.phoenix.frames import Message, UserPush, Vsn

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, Vsn.V1),
        ("1.0.0", Vsn.V1),
        ("2.0.0", Vsn.V2),
        ("3.0.0", None),
        ("2.1.0", None),
        ("1.5.0", None),
        ("abc", None),
        ("", None),
        ("2.0", None),
    ],
)
def test_versions(asked, expected):
    assert frames.parse_vsn(asked) == expected


def test_server_frames_have_the_measured_key_order():
    reply = frames.reply(Message(None, "1", "phoenix", "heartbeat", {}), None, status="ok", response={})
    assert frames.encode(Vsn.V1, reply) == (
        b'{"ref":"1","event":"phx_reply","payload":{"status":"ok","response":{}},"topic":"phoenix"}'
    )
    assert frames.encode(Vsn.V2, reply) == b'[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]'
    told = frames.system(
        "1", "realtime:x", extension="postgres_changes", status="ok", text="Subscribed to PostgreSQL"
    )
    assert frames.encode(Vsn.V2, told) == (
        b'["1",null,"realtime:x","system",{"message":"Subscribed to PostgreSQL","status":"ok",'
        b'"extension":"postgres_changes","channel":"x"}]'
    )
    assert frames.encode(Vsn.V1, frames.close("4", "realtime:x")) == (
        b'{"ref":"4","event":"phx_close","payload":{},"topic":"realtime:x"}'
    )


@pytest.mark.parametrize(
    "text",
    ["not json", "{}", "[]", "null", '"x"', "[1,2,3]", "", '{"topic":"realtime:x","event":"phx_join"}'],
)
@pytest.mark.parametrize("vsn", list(Vsn))
def test_malformed_frames_are_nothing(vsn, text):
    assert frames.decode(vsn, text) is None


def test_the_other_versions_frames_are_malformed():
    assert frames.decode(Vsn.V1, '["1","1","realtime:x","phx_join",{}]') is None
    assert frames.decode(Vsn.V2, '{"topic":"t","event":"e","payload":{},"ref":"1","join_ref":"1"}') is None


@given(json_values, json_values, st.text(), st.text(), json_values)
def test_v2_messages_survive(join_ref, ref, topic, event, payload):
    message = Message(join_ref, ref, topic, event, payload)
    assert frames.decode(Vsn.V2, frames.encode(Vsn.V2, message)) == message


@given(st.text(), st.text(), st.text(), json_values, st.none() | st.text())
def test_v1_messages_survive(ref, topic, event, payload, join_ref):
    sent = {"topic": topic, "event": event, "payload": payload, "ref": ref, "join_ref": join_ref}
    message = frames.decode(Vsn.V1, json.dumps(sent))
    assert message == Message(join_ref, ref, topic, event, payload)
    told = frames.decode(Vsn.V1, frames.encode(Vsn.V1, message))
    assert told == Message(None, ref, topic, event, payload)  # 1.0.0 has no join_ref on its way back


short = st.text(max_size=60)  # at most 240 bytes; a size is one byte


@given(short, short, short, short, st.binary(max_size=300))
def test_pushes_of_bytes_survive(join_ref, ref, topic, event, data):
    fields = [field.encode() for field in (join_ref, ref, topic, event)]
    frame = bytes((0, *map(len, fields))) + b"".join(fields) + data
    assert frames.decode_binary(Vsn.V2, frame) == Message(join_ref, ref, topic, event, data)


@given(short, short, short, short, st.binary(max_size=60), st.booleans(), st.binary(max_size=300))
def test_broadcasts_of_the_clients_own_survive(join_ref, ref, topic, event, meta, is_json, data):
    fields = [*(field.encode() for field in (join_ref, ref, topic, event)), meta.decode("latin-1").encode()]
    frame = bytes((3, *map(len, fields), is_json)) + b"".join(fields) + data
    expected = Message(join_ref, ref, topic, "broadcast", UserPush(event, data, is_json))
    assert frames.decode_binary(Vsn.V2, frame) == expected


@given(short, short, st.none() | st.just(b'{"id":"1"}'), st.booleans(), st.binary(max_size=70_000))
def test_the_servers_broadcasts_can_be_taken_apart(topic, event, meta, is_json, data):
    room = Room(topic, private=False)
    frame = UserBroadcast(event, data, is_json, meta).frame(Vsn.V2, room)
    payload = unframed(frame, 0x82)
    kind, *sizes, encoding = payload[:5]
    assert (kind, encoding) == (4, is_json)
    ends = list(itertools.accumulate(sizes, initial=5))
    parts = [payload[start:end] for start, end in itertools.pairwise(ends)]
    assert parts == [room.channel_topic.encode(), event.encode(), meta or b""]
    assert payload[ends[-1] :] == data
    binary = unframed(BinaryBroadcast(data).frame(Vsn.V2, room), 0x82)
    head = bytes((2, len(room.channel_topic.encode()), 9)) + room.channel_topic.encode() + b"broadcast"
    assert binary == head + data


def unframed(frame, first):
    """Return the payload of one whole WebSocket frame."""
    assert frame[0] == first
    start, size = {126: (4, frame[2:4]), 127: (10, frame[2:10])}.get(frame[1], (2, frame[1:2]))
    assert int.from_bytes(size) == len(frame) - start
    return frame[start:]


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_garbage_never_raises(data):
    for vsn in Vsn:
        frames.decode(vsn, data)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 70000])
def test_websocket_header_says_the_length(size):
    frame = frames.text_frame(b"x" * size)
    assert frame[0] == 0x81
    if size < 126:
        header, length = 2, frame[1]
    elif size < 65536:
        header, length = 4, int.from_bytes(frame[2:4])
    else:
        header, length = 10, int.from_bytes(frame[2:10])
    assert length == size == len(frame) - header


def test_elixir_prints():
    assert elixir.inspect(None) == "nil"
    assert elixir.inspect({"event": "*", "schema": 1, "filter": None}) == (
        '%{"event" => "*", "filter" => nil, "schema" => 1}'
    )
    assert elixir.inspect([("id", "eq", "abc", False)]) == '[{"id", "eq", "abc", false}]'


def test_elixir_breaks_long_prints_as_recorded():
    literal = "{" + ",".join(map(str, range(101))) + "}"
    assert elixir.inspect([("id", "in", literal, False)]) == (
        f'[\n  {{"id", "in",\n   "{literal}",\n   false}}\n]'
    )


@given(json_values)
def test_elixir_prints_anything(value):
    assert elixir.inspect(value)
    assert orjson.loads(json.dumps(value)) == value
