"""What a project answers, as our errors: "not now" is waited out, "not you" is told with what to change."""

from __future__ import annotations

import pytest
from postgrest.exceptions import APIError
from realtime import RealtimeSubscribeStates
from websockets.exceptions import ConnectionClosedError

from adapters.supabase_feed import Feed, _failure, filters
from adapters.supabase_history import _translated
from monitoring.errors import Refused, Unreachable
from monitoring.events import metric_type_of, to_json
from monitoring.topics import parse_topics
from tests.fakes.event_factory import event


@pytest.mark.parametrize(
    "code", ["", "503", "520", "429", "PGRST001", "08006", "53300", "57P01", "57014", "40001"]
)
def test_not_now_is_unreachable(code: str) -> None:
    assert isinstance(_translated(APIError({"code": code, "message": "m"}), "cf_heads"), Unreachable)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("401", "SUPABASE_KEY"),
        ("PGRST301", "SUPABASE_KEY"),
        ("PGRST303", "expired"),
        ("PGRST202", "supabase/migrations"),
        ("42501", "crossfade_role"),
        ("404", ""),
    ],
)
def test_not_you_is_refused_with_what_to_change(code: str, hint: str) -> None:
    error = _translated(APIError({"code": code, "message": "m"}), "cf_heads")
    assert isinstance(error, Refused)
    assert hint in error.hint


@pytest.mark.parametrize(
    ("state", "error", "kind"),
    [
        (RealtimeSubscribeStates.TIMED_OUT, None, Unreachable),
        (RealtimeSubscribeStates.CLOSED, None, Unreachable),
        (RealtimeSubscribeStates.CHANNEL_ERROR, ConnectionClosedError(None, None), Unreachable),
        (
            RealtimeSubscribeStates.CHANNEL_ERROR,
            Exception("ClientJoinRateLimitReached: Too many"),
            Unreachable,
        ),
        (RealtimeSubscribeStates.CHANNEL_ERROR, Exception("Unable to subscribe to changes"), Refused),
    ],
)
def test_a_channel_that_failed(
    state: RealtimeSubscribeStates, error: Exception | None, kind: type[Exception]
) -> None:
    assert isinstance(_failure(state, error), kind)


def test_one_filter_a_topic_and_none_when_everything_is_asked_for() -> None:
    asked = parse_topics(["devices.web-1", "categories.system", "metrics.container"])
    assert filters(asked) == ["category=eq.system", "device=eq.web-1", "metric_type=eq.container"]
    assert filters(parse_topics(["devices.web-1", "devices.*"])) == [None]
    assert filters(parse_topics(["devices.a,b"])) == ['device=eq."a,b"']


def test_a_feed_keeps_order_and_counts_what_it_cannot_read_or_hold() -> None:
    feed = Feed()
    row = {**to_json(event(seq=2)), "metric_type": metric_type_of(event().stream)}
    feed.arrived({"data": {"record": row}})
    feed.arrived({"data": {"record": {}}})
    feed.arrived({})
    assert feed.take() == [event(seq=2)]
    assert feed.take() == []
    assert feed.unreadable == 2
    feed.end("first")
    feed.end("second")
    assert feed.ended == "first"
