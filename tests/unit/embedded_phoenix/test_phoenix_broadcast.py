"""Broadcasts: their frames as recorded, the binary kinds, and numbers that keep their digits."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.phoenix import frames, numbers
from embedded.phoenix.broadcast import BinaryBroadcast, Room, TextBroadcast, UserBroadcast
from embedded.phoenix.frames import Message, UserPush, Vsn

ROOM = Room("bin", private=False)
short = st.text(max_size=60)


def content(frame):
    """Return the opcode of a WebSocket frame and what is in it."""
    size = frame[1]
    start = {126: 4, 127: 10}.get(size, 2)
    return frame[0] & 0x0F, frame[start:]


def test_a_text_broadcast_as_recorded():
    message = TextBroadcast(b'{"event":"msg","payload":{"hello":"world","n":1},"type":"broadcast"}')
    assert content(message.frame(Vsn.V1, ROOM)) == (
        1,
        (
            b'{"ref":null,"event":"broadcast","payload":{"event":"msg","payload":{"hello":"world","n":1},'
            b'"type":"broadcast"},"topic":"realtime:bin"}'
        ),
    )
    assert content(message.frame(Vsn.V2, ROOM)) == (
        1,
        (
            b'[null,null,"realtime:bin","broadcast",{"event":"msg","payload":{"hello":"world","n":1},'
            b'"type":"broadcast"}]'
        ),
    )


def test_user_broadcasts_as_recorded():
    message = UserBroadcast("evj", b'{"a":1}')
    assert content(message.frame(Vsn.V2, ROOM)) == (
        2,
        bytes.fromhex("040c0300017265616c74696d653a62696e65766a7b2261223a317d"),
    )
    assert json.loads(content(message.frame(Vsn.V1, ROOM))[1])["payload"] == {
        "event": "evj",
        "payload": {"a": 1},
        "type": "broadcast",
    }
    assert content(UserBroadcast("evb", b"\0\1\xff", is_json=False).frame(Vsn.V2, ROOM)) == (
        2,
        bytes.fromhex("040c0300007265616c74696d653a62696e6576620001ff"),
    )


def test_a_message_of_the_database_says_its_id():
    message = UserBroadcast("ev1", b'{"id": "ba35", "hello": "x"}', meta=b'{"id":"ba35"}', trusted=True)
    assert content(message.frame(Vsn.V1, Room("room-1", private=True)))[1] == (
        b'{"ref":null,"event":"broadcast","payload":{"event":"ev1","meta":{"id":"ba35"},"payload":'
        b'{"id": "ba35", "hello": "x"},"type":"broadcast"},"topic":"realtime:room-1"}'
    )
    kind4 = content(message.frame(Vsn.V2, Room("room-1", private=True)))[1]
    assert kind4[:5] == bytes((4, 15, 3, 13, 1))
    assert kind4[5:].startswith(b'realtime:room-1ev1{"id":"ba35"}{"id": ')


def test_bytes_do_not_reach_clients_of_1_0_0():
    assert UserBroadcast("e", b"\0", is_json=False).frame(Vsn.V1, ROOM) is None
    assert BinaryBroadcast(b"x").frame(Vsn.V1, ROOM) is None


@pytest.mark.parametrize(
    "payload", [b"not json", b"\xff", b'{}},"topic":"realtime:other"}', b'{},"x":1', b""]
)
def test_what_only_claims_to_be_json_breaks_nobodys_frame(payload):
    assert UserBroadcast("e", payload).frame(Vsn.V1, ROOM) is None
    assert content(UserBroadcast("e", payload).frame(Vsn.V2, ROOM))[1].endswith(b"e" + payload)


def test_kind_0_is_handed_on_as_kind_2():
    assert content(BinaryBroadcast(b'{"type":"broadcast","event":"e","payload":{}}').frame(Vsn.V2, ROOM)) == (
        2,
        b'\x02\x0c\trealtime:binbroadcast{"type":"broadcast","event":"e","payload":{}}',
    )


def test_what_does_not_fit_into_kind_4_is_text():
    message = UserBroadcast("e" * 256, b'{"a":1}')
    opcode, text = content(message.frame(Vsn.V2, ROOM))
    assert opcode == 1
    assert json.loads(text)[3:] == [
        "broadcast",
        {"event": "e" * 256, "payload": {"a": 1}, "type": "broadcast"},
    ]
    assert UserBroadcast("e" * 256, b"\0", is_json=False).frame(Vsn.V2, ROOM) is None


# -- binary frames of clients


@given(short, short, short, short, short, st.booleans(), st.binary(max_size=300))
def test_kind_3_frames_survive(join_ref, ref, topic, event, meta, is_json, data):
    fields = [text.encode() for text in (join_ref, ref, topic, event, meta)]
    frame = bytes((3, *map(len, fields), is_json)) + b"".join(fields) + data
    assert frames.decode_binary(Vsn.V2, frame) == Message(
        join_ref, ref, topic, "broadcast", UserPush(event, data, is_json)
    )
    assert frames.decode_binary(Vsn.V1, frame) is None
    for end in range(7 + sum(map(len, fields))):
        assert frames.decode_binary(Vsn.V2, frame[:end]) is None


@given(short, short, short, short, st.binary(max_size=300))
def test_kind_0_frames_survive(join_ref, ref, topic, event, data):
    fields = [text.encode() for text in (join_ref, ref, topic, event)]
    frame = bytes((0, *map(len, fields))) + b"".join(fields) + data
    assert frames.decode_binary(Vsn.V2, frame) == Message(join_ref, ref, topic, event, data)


def test_fields_that_are_not_text_are_malformed():
    assert frames.decode_binary(Vsn.V2, b"\x03\x01\x00\x00\x00\x00\x01\xff{}") is None
    assert frames.decode_binary(Vsn.V2, b"\x03\x01\x00\x00\x00\x00\x021{}") is None


def test_numbers_that_cannot_be_read_again_are_left():
    assert numbers.exact("not json") is None
    assert numbers.exact("[1, 2.5]") is None
    assert numbers.exact("[" * 1010 + "1e20" + "]" * 1010) is None


@given(st.binary(max_size=80))
def test_binary_garbage_never_raises(data):
    for vsn in Vsn:
        frames.decode_binary(vsn, data)


@given(short, short, st.binary(max_size=200), st.booleans())
def test_kind_4_frames_can_be_read_again(topic, event, payload, is_json):
    room = Room(topic, private=False)
    _, kind4 = content(UserBroadcast(event, payload, is_json).frame(Vsn.V2, room))
    kind, topic_size, event_size, meta_size, encoding = kind4[:5]
    assert (kind, meta_size, encoding) == (4, 0, is_json)
    rest = kind4[5:]
    assert rest[:topic_size].decode() == "realtime:" + topic
    assert rest[topic_size : topic_size + event_size].decode() == event
    assert rest[topic_size + event_size :] == payload


# -- numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e5, "1.0e5"),
        (1000.0, "1.0e3"),
        (100.0, "100.0"),
        (0.001, "0.001"),
        (1.5, "1.5"),
        (1e-5, "1.0e-5"),
        (2.0**53, "9.007199254740992e15"),
        (-0.0, "-0.0"),
        (5e-324, "5.0e-324"),
        (123456.789, "123456.789"),
    ],
)
def test_floats_are_written_as_erlang_does(value, text):
    assert numbers.erlang_float(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_their_value(value):
    text = numbers.erlang_float(value)
    assert float(text) == value
    assert math.copysign(1, float(text)) == math.copysign(1, value)
    assert json.loads(text) == value


def test_numbers_of_a_broadcast_keep_their_digits():
    text = '[null,"1","realtime:x","broadcast",{"n":123456789012345678901234567890,"f":1e5,"g":0.5,"i":7}]'
    payload = frames.decode(Vsn.V2, text).payload
    assert frames.encode(Vsn.V2, Message(None, None, "t", "e", payload)) == (
        b'[null,null,"t","e",{"n":123456789012345678901234567890,"f":1.0e5,"g":0.5,"i":7}]'
    )
    assert (
        frames.decode(Vsn.V1, '{"topic":"t","event":"presence","ref":"1","payload":{"f":2.50}}') is not None
    )


@pytest.mark.parametrize("depth", [150, 230, 240, 250, 260, 900, 1500])
@pytest.mark.parametrize("event", ["broadcast", "phx_join"])
def test_deep_nesting_is_dropped_or_can_be_written(depth, event):
    deep = "[" * depth + "1.25" + "]" * depth
    message = frames.decode(Vsn.V2, f'["1","1","realtime:x","{event}",{{"payload":{deep}}}]')
    if depth <= 230:
        assert frames.encode(Vsn.V2, frames.reply(message, "1", status="ok", response=message.payload))
    elif depth >= 260:
        assert message is None
