"""Whatever a peer sends, and whatever events say, a session answers or refuses; nothing else happens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol.catalogue import catalogue
from legacy_ws.protocol.dialect import Announce, Arrival, AskFigures, AskReplay, AskSnapshot, Figures
from monitoring.cursor import Cursor
from tests.fakes.dialect_host import NOW, told

DIALECTS = catalogue("app-")
KINDS = [
    "stream_opened", "metric_collected", "containers_collected", "container_status_changed", "device_status_changed",
    "session_created", "session_updated", "session_destroyed", "http_requests", "semaphore_gauge", "alert_raised",
    "alert_resolved", "connection_event", "unheard_of",
]  # fmt: skip
TYPES = [
    "stats", "subscribe", "snapshot", "export", "test_event", "ping", "subscribe_logs", "unsubscribe_logs",
    "unsubscribe", "heartbeat", "subscription", "data", "", "event",
]  # fmt: skip
KEYS = [
    "topics", "cursor", "metadata", "container", "lines", "page", "sections", "form", "action", "timestamp",
    "available", "containers", "name", "id", "status", "health", "running", "current", "previous", "cpu_usage",
    "memory", "total_bytes", "used_bytes", "session_id", "count", "interval_seconds", "rule", "error", "started_at",
    "cpu_percent", "memory_used_bytes", "memory_limit_bytes", "exit_code", "data_size_bytes", "direction",
]  # fmt: skip
WORDS = [
    "global",
    "devices.web-1",
    "subscribe",
    "unsubscribe",
    "web",
    "dashboard",
    "metrics_update",
    "running",
    "2026-01-01",
]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=6)
texts = st.one_of(
    st.text(max_size=30),
    values.map(json.dumps),
    st.builds(lambda type_, rest: json.dumps({**rest, "type": type_}), st.sampled_from(TYPES), objects),
)
events = st.builds(
    lambda device, category, kind, payload: told(f"{device}/{category}", kind, **payload),
    st.sampled_from(["web-1", "app-7"]),
    st.sampled_from(["system", "containers", "sessions", "redis"]),
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from([key for key in KEYS if key != "id"]), values, max_size=8),
)
steps = st.lists(st.tuples(st.just("text"), texts) | st.tuples(st.just("event"), events), max_size=12)


def answered(answers: Iterable[object], session) -> list[bytes]:
    """Return the messages of answers, with asks answered as an empty host would."""
    messages = []
    for answer in answers:
        match answer:
            case bytes():
                messages.append(answer)
            case AskReplay():
                messages += [answer.waiting("x"), answer.granted(Cursor(), ())]
            case AskFigures():
                messages.append(answer.write(Figures({}, {}, {}, {}, (), NOW)))
            case AskSnapshot():
                messages.append(answer.write((), Cursor()))
            case Announce():
                messages.append(answer.telling(session.audience) or b'{"type":""}')
    return messages


@pytest.mark.parametrize("name", list(DIALECTS))
@given(steps=steps)
@settings(max_examples=60, deadline=None)
def test_whatever_comes_every_message_is_one_json_object_with_a_type(name, steps):
    dialect = DIALECTS[name]()
    session = dialect.session()
    messages = answered(session.opened(NOW), session)
    for what, value in steps:
        if what == "event":
            telling = dialect.take(Arrival(value, NOW), news=True)
            messages.append((telling and telling(session.audience)) or b'{"type":""}')
            continue
        try:
            messages += answered(session.received(value, NOW), session)
        except MalformedMessage as error:
            messages.append(session.refused(error.reason, NOW))
        hash(session.audience)
        assert all(isinstance(one, str) for one in dialect.subscriptions(session.audience))
    at = datetime(2026, 11, 22, tzinfo=UTC)
    messages += [message for telling in dialect.tick(at) if (message := telling(session.audience))]
    messages += [message for telling in dialect.filled(at) if (message := telling(session.audience))]
    for message in messages:
        parsed = json.loads(message)
        assert isinstance(parsed, dict)
        assert isinstance(parsed["type"], str)


@pytest.mark.parametrize("name", list(DIALECTS))
@given(first=texts, second=texts)
@settings(max_examples=25, deadline=None)
def test_a_refused_message_leaves_the_session_as_it_was(name, first, second):
    session = DIALECTS[name]().session()
    for text in (first, second):
        before = session.audience
        try:
            answered(session.received(text, NOW), session)
        except MalformedMessage:
            assert session.audience == before
        with suppress(MalformedMessage):
            answered(session.received("[]", NOW), session)
