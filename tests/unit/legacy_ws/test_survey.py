"""What a recording tells of a server, and that what is drafted from it runs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.foreign import load_dialect
from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol.draft import draft
from legacy_ws.protocol.foreign import Memory, Reply
from legacy_ws.protocol.json_dialect import JsonDialect
from legacy_ws.protocol.socketio import SocketIoDialect, event
from legacy_ws.protocol.survey import survey
from tests.fakes.event_factory import event as made
from tests.fakes.plain_server import message


def recorded(*messages, every=0.5):
    return [(index * every, json.dumps(each)) for index, each in enumerate(messages)]


def drafted(found, tmp_path):
    file = tmp_path / "drafted.py"
    file.write_text(draft(found))
    return load_dialect(str(file))


def test_types_rates_fields_and_roles_are_found():
    told = [{"type": "reading", "uuid": f"u{n}", "host": "web-1", "ts": 1_790_000_000 + n, "level": "warn"} for n in range(9)]  # fmt: skip
    found = survey(recorded({"type": "hello"}, *told, {"type": "bye"}))
    assert (found.tag, found.messages, found.seconds) == ("type", 11, 5.0)
    assert list(found.types) == ["hello", "reading", "bye"]
    reading = found.types["reading"]
    assert (reading.count, reading.rate) == (9, 2.0)
    assert [reading.role(role) for role in ("time", "id", "device", "kind")] == [
        "ts",
        "uuid",
        "host",
        "level",
    ]


def test_an_id_that_repeats_is_none_and_a_number_of_now_and_then_no_time():
    found = survey(recorded(*({"id": "same", "at": 5 if n else 1_790_000_000} for n in range(9))))
    assert [found.types["message"].role(role) for role in ("time", "id")] == [None, None]


def test_a_draft_says_what_the_messages_say(tmp_path):
    messages = [message(made(seq=n)) for n in range(1, 6)]
    dialect = drafted(survey(recorded({"type": "initial_stats"}, *messages)), tmp_path)
    (seen,) = dialect.decode(json.dumps(messages[0]))
    assert (seen.stream, seen.kind, seen.occurred_at) == (
        "web-1/event",
        "metric_collected",
        made(seq=1).occurred_at,
    )
    assert dialect.decode('{"type": "initial_stats"}') == (Memory(),)
    assert dialect.decode('{"type": "never seen"}') == ()
    with pytest.raises(MalformedMessage, match="drafted: KeyError: 'script_name'"):
        dialect.decode('{"type": "event"}')


def test_events_are_recognised_by_their_times_too_whether_or_not_the_greeting_tells_one(tmp_path):
    readings = [{"type": "cpu", "ts": 1_790_000_000 + n} for n in range(5)]
    timed = drafted(survey(recorded({"type": "hello"}, *readings)), tmp_path)
    assert timed.likeness.resolution is not None
    mixed = drafted(
        survey(recorded({"type": "hello"}, *readings, {"type": "bye"}, {"type": "bye"})), tmp_path
    )
    assert mixed.likeness.resolution is None


def test_a_server_of_socket_io_is_drafted_as_one(tmp_path):
    frames = ['0{"sid":"x"}', "40", '42["tick",{"n":1}]', '42["tick",{"n":2}]', "3"]
    found = survey([(float(n), frame) for n, frame in enumerate(frames)], protocol=4)
    assert (found.socketio, list(found.types), found.unreadable) == (4, ["tick"], 0)
    dialect = drafted(found, tmp_path)
    assert dialect.decode('0{"sid":"x"}') == (Reply(b"40"),)
    assert dialect.decode("2") == (Reply(b"3"),)
    assert [seen.payload for seen in dialect.decode('42["tick",{"n":3}]')] == [{"n": 3}]
    assert dialect.decode('44{"message":"no"}')[0].reason == '{"message":"no"}'


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ('42["a",1,2]', ("a", [1, 2])),
        ('42/admin,["a"]', ("a", [])),
        ('4217["a"]', ("a", [])),
        ("40", None),
        ("", None),
        ('43["ack"]', None),
    ],
)
def test_events_of_socket_io_are_read(frame, said):
    assert event(frame) == said


def test_what_is_no_event_is_malformed():
    for frame in ("42[", "42[]", b"\xff"):
        with pytest.raises(MalformedMessage):
            event(frame)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(JSON.map(json.dumps) | st.text() | st.binary(), max_size=12), st.sampled_from((0, 3, 4)))
def test_whatever_a_server_says_is_surveyed_and_its_draft_is_python(frames, protocol):
    text = draft(survey([(float(n), frame) for n, frame in enumerate(frames)], protocol))
    compile(text, "drafted.py", "exec")


class Trusting(JsonDialect):
    name = "trusting"

    def read(self, message):
        return [message["a"]["b"] / message["c"]]


@given(JSON)
def test_what_a_dialect_trips_over_is_a_malformed_message(value):
    with pytest.raises(MalformedMessage):
        Trusting().decode(json.dumps(value))


def test_the_old_protocol_is_pinged_and_the_new_one_is_not():
    class Old(SocketIoDialect):
        protocol = 3

        def on(self, event, arguments):
            return ()

    class New(Old):
        protocol = 4

    assert (Old().heartbeat.frame, Old().heartbeat.regularly) == (b"2", True)
    assert New().heartbeat.frame is None
    assert Old().decode('0{"sid":"x"}') == ()
