"""Events survive the wire; whatever is not one is refused with its reason."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.errors import InvalidEvent
from monitoring.events import (
    BEGINNING,
    Event,
    Position,
    StreamId,
    category_of,
    device_of,
    from_json,
    metric_type_of,
    stream_id,
    to_json,
    uuid7,
)
from tests.fakes.event_factory import event, opened

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,20}", fullmatch=True)
payloads = st.dictionaries(
    st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=9), max_size=4
)
events = st.builds(
    Event,
    id=st.uuids(),
    stream=st.builds(stream_id, names, names),
    epoch=st.integers(1, 2**40),
    seq=st.integers(1, 2**40),
    kind=st.sampled_from(["metric_collected", "x"]),
    occurred_at=st.datetimes(timezones=st.just(UTC)),
    payload=payloads,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=8,
)


@given(events)
def test_an_event_survives_the_wire(original: Event) -> None:
    assert from_json(json.loads(json.dumps(to_json(original)))) == original


@given(json_values)
def test_foreign_json_raises_invalid_event_only(value: object) -> None:
    with pytest.raises(InvalidEvent):
        from_json(value)


@given(st.sampled_from(sorted(to_json(event()))), json_values)
def test_an_event_with_one_odd_field_is_read_or_refused(field: str, value: object) -> None:
    with suppress(InvalidEvent):
        assert isinstance(from_json({**to_json(event()), field: value}), Event)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("stream", "web-1", "device/category"),
        ("stream", "/system", "device ''"),
        ("epoch", 0, "integers from 1"),
        ("seq", True, "integers from 1"),
        ("kind", "", "kind must be text"),
        ("payload", [], "payload must be an object"),
        ("occurred_at", "2026-11-21T08:00:00", "no time zone"),
        ("id", "7", "badly formed"),
    ],
)
def test_the_reason_names_the_rule(field: str, value: object, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason):
        from_json({**to_json(event()), field: value})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidEvent, match="payload is missing"):
        from_json({key: value for key, value in to_json(event()).items() if key != "payload"})


def test_times_are_in_utc_with_microseconds() -> None:
    at = datetime(2026, 11, 21, 9, 0, tzinfo=timezone(timedelta(hours=1)))
    assert (
        to_json(Event(**{f: getattr(event(), f) for f in Event.__slots__} | {"occurred_at": at}))[
            "occurred_at"
        ]
        == "2026-11-21T08:00:00.000000Z"
    )


def test_a_stream_tells_device_category_and_metric_type() -> None:
    stream = stream_id("web-1.example.com", "containers")
    assert (device_of(stream), category_of(stream), metric_type_of(stream)) == (
        "web-1.example.com",
        "containers",
        "container",
    )
    assert metric_type_of(StreamId("a/checks")) == "checks"


def test_only_the_first_event_of_an_epoch_names_the_one_before() -> None:
    assert opened(epoch=2, previous=(1, 57)).previous == Position(1, 57)
    assert opened().previous == BEGINNING
    assert event(seq=2).previous is None


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
def test_uuid7_carries_its_time_and_version(unix_ms: int, random: int) -> None:
    made = uuid7(unix_ms, random)
    assert (made.version, made.variant, made.int >> 80) == (7, "specified in RFC 4122", unix_ms)
    assert (made.int >> 64 & 0xFFF) << 62 | made.int & 2**62 - 1 == random


def test_an_event_without_identity_is_read_only_where_it_is_expected() -> None:
    nameless = replace(event(), epoch=0)
    assert not nameless.identified
    assert event().identified
    with pytest.raises(InvalidEvent, match="epoch and seq"):
        from_json(to_json(nameless))
    assert from_json(to_json(nameless), identified=False) == nameless
    assert from_json(to_json(event()), identified=False) == event()


def test_only_an_opening_event_that_says_so_follows_an_epoch_that_was_not_drained() -> None:
    assert opened(epoch=2, previous=(1, 57)).follows_drained
    assert not opened(epoch=2, previous=(1, 57), drained=False).follows_drained
    assert event(seq=2, drained=False).follows_drained  # a payload of an application's own
