"""The /ws codec against seed 001's JSON, round trips, and garbage."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legacy_ws.errors import MalformedMessage, UnknownMessage
from legacy_ws.protocol import dashboard as ws
from monitoring.cursor import Cursor
from monitoring.events import Position, StreamId, to_json
from monitoring.service import Gap
from monitoring.topics import GLOBAL, Field, Topic
from tests.fakes.dialect_host import told
from tests.fakes.event_factory import START, event
from tests.fakes.seeds import seed

SEED_EVENT = seed("001_event")
SEED_STATS = seed("001_initial_stats")

streams = st.builds(
    "{}/{}".format,
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True),
    st.sampled_from(["system", "x"]),
)
cursors = st.dictionaries(
    streams.map(StreamId), st.builds(Position, st.integers(0, 9), st.integers(0, 99))
).map(Cursor)
topics = st.frozensets(
    st.one_of(
        st.just(GLOBAL),
        st.builds(
            Topic,
            st.sampled_from([Field.DEVICE, Field.CATEGORY]),
            st.none() | st.from_regex(r"[a-z]{1,9}", fullmatch=True),
        ),
    ),
    min_size=1,
)
gaps = st.builds(
    Gap, streams.map(StreamId), st.integers(1, 9), st.integers(1, 9), st.none() | st.integers(1, 9)
)
events = st.builds(event, streams, st.integers(1, 99), st.integers(1, 9), note=st.text(max_size=20))
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - made aware by timezones
client_messages = st.one_of(
    st.just(ws.StatsRequest()),
    st.just(ws.Ping()),
    st.builds(ws.ExportRequest, topics),
    st.builds(ws.TestEventRequest, st.dictionaries(st.text(), st.integers(-9, 9), max_size=3)),
    st.builds(ws.SnapshotRequest, topics),
    st.builds(ws.Subscribe, topics, st.none() | cursors),
)
server_messages = st.one_of(
    st.just(ws.Pong()),
    st.builds(ws.Subscribed, cursors, st.lists(gaps, max_size=3).map(tuple)),
    st.builds(ws.SnapshotAnswer, st.lists(events, max_size=3).map(tuple), cursors),
    st.builds(ws.ErrorMessage, st.text(max_size=20), times),
    st.builds(ws.Waiting, st.text(max_size=20)),
    st.builds(ws.ExportComplete, st.text(), st.text(), st.integers(0, 9), st.integers(0, 9), times),
    st.builds(ws.TestEvent, st.dictionaries(st.text(), st.integers(-9, 9), max_size=3), times),
    st.builds(ws.event_message, events, times),
)


def test_the_seeds_event_is_read_and_written_unchanged():
    message = ws.decode_server(json.dumps(SEED_EVENT))
    assert isinstance(message, ws.EventMessage)
    assert message.event() is None
    again = json.loads(ws.encode(message))
    assert list(again) == list(SEED_EVENT)
    assert {**again, "broadcast_time": SEED_EVENT["broadcast_time"]} == SEED_EVENT


def test_the_seeds_initial_stats_is_read_and_written_unchanged():
    message = ws.decode_server(json.dumps(SEED_STATS))
    assert isinstance(message, ws.InitialStats)
    again = json.loads(ws.encode(message))
    assert list(again) == list(SEED_STATS)
    assert {**again, "timestamp": SEED_STATS["timestamp"]} == SEED_STATS


def test_an_event_of_ours_stands_in_the_seeds_keys():
    one = event("web-1/containers", 7, 2, name="größe", error="boom")
    sent = json.loads(ws.encode(ws.event_message(one, one.occurred_at + timedelta(milliseconds=150))))
    assert list(sent) == list(SEED_EVENT)
    assert sent["connection_type"] == "containers"
    assert sent["direction"] == "inbound"
    assert sent["script_name"] == "web-1"
    assert sent["function_name"] == "metric_collected"
    assert sent["data_size_bytes"] == len('{"name":"größe","error":"boom"}'.encode())
    assert sent["response_time_ms"] == 150
    assert sent["error"] == "boom"
    assert sent["metadata"] == {"event": json.loads(json.dumps(to_json(one)))}


def test_a_clock_behind_the_events_does_not_make_a_negative_delay():
    one = event()
    assert ws.event_message(one, one.occurred_at - timedelta(seconds=1)).response_time_ms == 0


@given(client_messages)
def test_client_messages_round_trip(message):
    assert ws.decode_client(ws.encode(message)) == message


@given(server_messages)
def test_server_messages_round_trip(message):
    assert ws.decode_server(ws.encode(message)) == message


@given(st.one_of(st.text(), st.binary()))
def test_garbage_raises_only_malformed_message(data):
    for decode in (ws.decode_client, ws.decode_server):
        with pytest.raises(MalformedMessage):
            decode(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "topics",
    "cursor",
    "heads",
    "gaps",
    "state",
    "stats",
    "metadata",
    "error",
    "timestamp",
    "recent_events",
    "reason",
]
TYPES = [
    "subscribe",
    "snapshot",
    "stats",
    "ping",
    "subscribed",
    "event",
    "initial_stats",
    "error",
    "pong",
    "waiting",
]


@given(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(KEYS), json_values))
def test_well_formed_json_of_the_wrong_shape_raises_only_malformed_message(type_, rest):
    data = json.dumps({**rest, "type": type_})
    for decode in (ws.decode_client, ws.decode_server):
        try:
            message = decode(data)
            if isinstance(message, ws.EventMessage):
                message.event()
        except MalformedMessage as error:
            if len(error.reason) > 700:
                raise AssertionError("too long to send back") from error


def test_a_deeply_nested_message_is_malformed_not_a_crash():
    with pytest.raises(MalformedMessage):
        ws.decode_client("[" * 100_000)


def test_an_unknown_type_names_what_is_understood_and_is_cut_short():
    with pytest.raises(
        UnknownMessage, match="understands stats, subscribe, snapshot, export, test_event, ping"
    ) as caught:
        ws.decode_client(json.dumps({"type": "x" * 10_000}))
    assert len(caught.value.reason) < 300


def test_server_messages_of_unknown_type_are_passed_over():
    assert ws.decode_server('{"type":"export_complete","file":"x"}') == ws.Other("export_complete")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "subscribe", "topics": "global"}, "topics must be a list"),
        ({"type": "subscribe", "topics": ["nonsense.x"]}, "nonsense"),
        ({"type": "subscribe", "topics": ["global"] * 1001}, "at most 1000 topics"),
        ({"type": "subscribe", "cursor": [1]}, "cursor"),
        ({"type": "subscribe", "cursor": {"a/b": [1, True]}}, r"must be \[epoch, seq\]"),
        ({"type": 5}, "type must be str"),
        ({}, "type is missing"),
    ],
)
def test_a_bad_request_says_what_is_wrong(message, reason):
    with pytest.raises(MalformedMessage, match=reason):
        ws.decode_client(json.dumps(message))


def test_a_request_without_topics_or_cursor_means_everything_from_now_on():
    assert ws.decode_client('{"type":"subscribe"}') == ws.Subscribe(frozenset({GLOBAL}), None)


def test_times_without_a_zone_are_taken_as_utc():
    message = ws.decode_server(json.dumps({**SEED_EVENT, "broadcast_time": "2026-11-21T08:00:00"}))
    assert isinstance(message, ws.EventMessage)
    assert message.broadcast_time == START


def test_a_connection_event_of_an_application_is_told_as_it_says():
    fields = {
        "direction": "outbound",
        "script_name": "worker.py",
        "function_name": "fetch",
        "data_size_bytes": 1024,
        "response_time_ms": 150,
        "error": "timed out",
        "metadata": {"key": "user:7"},
    }
    one = told("app-7/redis", "connection_event", **fields)
    sent = json.loads(ws.write_event(one, one.occurred_at + timedelta(seconds=3)))
    assert list(sent) == list(SEED_EVENT)
    assert sent["connection_type"] == "redis"
    assert {key: sent[key] for key in fields if key != "metadata"} == {
        key: value for key, value in fields.items() if key != "metadata"
    }
    assert sent["metadata"]["key"] == "user:7"
    assert sent["metadata"]["event"]["payload"] == fields


def test_a_connection_event_with_wrong_fields_is_told_all_the_same():
    one = told(
        "app-7/redis",
        "connection_event",
        direction=3,
        data_size_bytes=True,
        response_time_ms="x",
        metadata=[],
    )
    sent = json.loads(ws.write_event(one, one.occurred_at))
    assert (sent["direction"], sent["script_name"], sent["response_time_ms"]) == ("inbound", "app-7", 0)
    assert sent["data_size_bytes"] > 4
