"""Who may connect, and how fast a client may speak."""

from __future__ import annotations

import pytest

from legacy_ws.admission import Allowance, admits, shows_token


@pytest.mark.parametrize(
    ("origin", "host", "admitted"),
    [
        (None, "10.0.0.1:8001", True),
        ("http://localhost:3000", "10.0.0.1:8001", True),
        ("http://10.0.0.1:8003", "10.0.0.1:8001", True),
        ("http://10.0.0.2:8003", "10.0.0.1:8001", False),
        ("http://dash.example", "dash.example:8001", False),
        ("https://good.example", "10.0.0.1", True),
        ("http://[::1", "10.0.0.1", False),
        ("", "10.0.0.1", False),
    ],
)
def test_pages_come_from_here_or_are_named(origin, host, admitted):
    assert admits(origin, host, {"https://good.example"}) is admitted


@pytest.mark.parametrize(
    ("authorization", "subprotocols", "shown"),
    [
        (["Bearer t"], [], True),
        ([], ["bearer, t"], True),
        ([], ["bearer", "t"], True),
        (["Bearer x"], ["bearer, t"], False),
        (["Bearer t", "Bearer t"], [], False),
        (["t"], [], False),
        (["Bearer \udcff"], [], False),
        ([], ["t, bearer"], False),
        ([], ["bearer"], False),
        ([], [], False),
    ],
)
def test_a_token_is_shown_in_one_of_two_places(authorization, subprotocols, shown):
    assert shows_token(authorization, subprotocols, "t") is shown


def test_a_burst_is_read_at_once_and_then_fifty_a_second():
    allowance = Allowance(0.0)
    assert [allowance.spend(0.0) for _ in range(100)] == [0.0] * 100
    assert allowance.spend(0.0) == pytest.approx(0.02)
    assert allowance.spend(0.02) == pytest.approx(0.02)
    assert allowance.spend(10.0) == 0.0
