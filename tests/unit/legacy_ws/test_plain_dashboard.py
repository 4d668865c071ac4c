"""Seed 001's JSON, as a client reads it that knows no ids."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol.foreign import Complaint, Memory, Observation
from legacy_ws.protocol.plain_dashboard import PlainDashboard
from monitoring.errors import InvalidEvent
from monitoring.events import Draft
from monitoring.fingerprint import fingerprint
from monitoring.topics import GLOBAL

AT = datetime(2025, 11, 1, 12, 34, 56, tzinfo=UTC)
EVENT = {
    "type": "event",
    "connection_type": "websocket",
    "direction": "inbound",
    "script_name": "src/daemon/ws_server.py",
    "function_name": "handle",
    "data_size_bytes": 1024,
    "response_time_ms": 150,
    "error": None,
    "metadata": {},
    "broadcast_time": "2025-11-01T12:34:56Z",
}
STATS = {
    "type": "initial_stats",
    "stats": {"websocket": {"connections": 3}, "redis": {}, "supabase": {}, "kimi": {}, "glm": {}},
    "session_metrics": {"active": 2},
    "semaphore_metrics": {},
    "websocket_health": {},
    "recent_events": [EVENT],
    "timestamp": "2025-11-01T12:34:56Z",
}
PLAIN = PlainDashboard()


def decode(message: object, dialect: PlainDashboard = PLAIN) -> object:
    return dialect.decode(json.dumps(message))


def test_the_seeds_event_says_which_stream_when_and_everything_it_said() -> None:
    payload = {key: value for key, value in EVENT.items() if key not in ("type", "broadcast_time")}
    (seen,) = decode(EVENT)
    assert seen == Observation("src-daemon-ws_server.py/websocket", "handle", AT, payload)
    assert seen.draft == Draft(seen.stream, "handle", AT, payload)


def test_the_device_can_be_given() -> None:
    (seen,) = decode(EVENT, PlainDashboard(device="daemon-1"))
    assert seen.stream == "daemon-1/websocket"
    with pytest.raises(InvalidEvent, match="device 'not one'"):
        PlainDashboard(device="not one")


def test_the_greeting_is_memory_and_figures_that_are_empty_are_no_state() -> None:
    (memory,) = decode(STATS)
    assert isinstance(memory, Memory)
    assert memory.recent == tuple(decode(EVENT))
    assert [(each.stream, each.kind, each.payload) for each in memory.state] == [
        ("legacy/websocket", "stats", {"connections": 3}),
        ("legacy/session_metrics", "stats", {"active": 2}),
    ]


def test_recent_events_in_another_form_interrupt_what_is_remembered() -> None:
    (memory,) = decode({**STATS, "recent_events": [EVENT, {"what": "else"}, "text", EVENT]})
    assert len(memory.recent) == 1
    (memory,) = decode({**STATS, "recent_events": None})
    assert memory.recent == ()


@pytest.mark.parametrize("kind", ["stats", "export_complete", "test_event", "something newer"])
def test_other_messages_are_no_news(kind: str) -> None:
    assert decode({"type": kind}) == ()


def test_an_error_is_a_complaint() -> None:
    assert decode({"type": "error", "error": "no"}) == (Complaint("no"),)


@pytest.mark.parametrize("key", ["connection_type", "script_name", "function_name", "broadcast_time"])
def test_an_event_without_what_places_it_is_malformed(key: str) -> None:
    with pytest.raises(MalformedMessage, match=key):
        decode({name: value for name, value in EVENT.items() if name != key})


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=20))
def test_any_names_make_a_stream_that_topics_can_address(script: str, connection: str, function: str) -> None:
    (seen,) = decode(
        {**EVENT, "script_name": script, "connection_type": connection, "function_name": function}
    )
    assert seen.stream.count("/") == 1
    assert all(seen.stream.split("/"))
    assert seen.kind


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
    )
)
def test_garbage_raises_only_malformed_message(value: object) -> None:
    for message in (
        value,
        {**EVENT, "script_name": value},
        {**STATS, "stats": value, "recent_events": value},
    ):
        with suppress(MalformedMessage):
            decode(message)


def test_it_says_nothing_and_lives_on_pings() -> None:
    assert (PLAIN.hello(), PLAIN.subscribe([GLOBAL]), PLAIN.greets, PLAIN.name) == (
        (),
        (),
        True,
        "plain-dashboard",
    )
    assert PLAIN.heartbeat.frame is None


def test_times_of_a_millisecond_apart_make_two_events() -> None:
    (one,) = decode(EVENT)
    (other,) = decode({**EVENT, "broadcast_time": (AT + timedelta(milliseconds=1)).isoformat()})
    assert fingerprint(one, PLAIN.likeness) != fingerprint(other, PLAIN.likeness)
