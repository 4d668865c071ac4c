"""What the client knows of a server by its address."""

from __future__ import annotations

import pytest

from adapters.legacy_dialect import is_here


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("ws://localhost:8001/ws", True),
        ("ws://127.0.0.1:8001/ws", True),
        ("ws://127.8.9.1/ws", True),
        ("ws://[::1]:8001/ws", True),
        ("ws://192.0.2.7:8001/ws", False),
        ("wss://shop.example/ws", False),
        ("ws://127.0.0.1.example/ws", False),
        ("", False),
    ],
)
def test_only_an_address_of_this_machine_is_here(url: str, *, here: bool) -> None:
    assert is_here(url) is here
