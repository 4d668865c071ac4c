"""What a project answers, as our errors: "not now" is waited out, "not you" is told with what to change."""

from __future__ import annotations

import pytest
from postgrest.exceptions import APIError
from realtime import RealtimeSubscribeStates
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.http11 import Response

from adapters.supabase_errors import Mode, ModeChanged, RateLimited, of_channel, of_handshake, of_rpc
from monitoring.errors import Refused, Unreachable


@pytest.mark.parametrize(
    "code", ["", "503", "520", "429", "PGRST001", "08006", "53300", "57P01", "57014", "40001"]
)
def test_not_now_is_unreachable(code: str) -> None:
    assert isinstance(of_rpc(APIError({"code": code, "message": "m"}), "cf_heads"), Unreachable)


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
    error = of_rpc(APIError({"code": code, "message": "m"}), "cf_heads")
    assert isinstance(error, Refused)
    assert hint in error.hint


CHANNEL_ERROR = RealtimeSubscribeStates.CHANNEL_ERROR


@pytest.mark.parametrize(
    ("state", "error", "kind"),
    [
        (RealtimeSubscribeStates.TIMED_OUT, None, Unreachable),
        (RealtimeSubscribeStates.CLOSED, None, Unreachable),
        (CHANNEL_ERROR, ConnectionClosedError(None, None), Unreachable),
        (CHANNEL_ERROR, Exception('{"reason": "ClientJoinRateLimitReached: Too many joins"}'), RateLimited),
        (CHANNEL_ERROR, Exception('{"reason": "ChannelRateLimitReached: Too many channels"}'), RateLimited),
        (CHANNEL_ERROR, Exception('{"message": "Too many messages per second"}'), RateLimited),
        (CHANNEL_ERROR, Exception('{"reason": "InitializingProjectConnection: Realtime is"}'), Unreachable),
        (CHANNEL_ERROR, Exception('{"reason": "channel_crash"}'), Unreachable),
        (CHANNEL_ERROR, Exception("Unable to subscribe to changes"), Refused),
        (CHANNEL_ERROR, Exception("Unauthorized: You do not have permissions to read from this"), Refused),
    ],
)
def test_a_channel_that_failed(
    state: RealtimeSubscribeStates, error: Exception | None, kind: type[Exception]
) -> None:
    assert type(of_channel(state, error)) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Refused), (403, Refused), (404, Unreachable), (429, RateLimited), (503, Unreachable)],
)
def test_a_handshake_that_was_refused(status: int, kind: type[Exception]) -> None:
    error = of_handshake(InvalidStatus(Response(status, "no", Headers(), b'{"error":"why"}')), "http://x")
    assert type(error) is kind
    assert "why" in error.reason


def test_a_limit_and_a_change_of_mode_are_not_refusals() -> None:
    assert issubclass(RateLimited, Unreachable)
    assert ModeChanged(Mode.BROADCAST).mode is Mode.BROADCAST
