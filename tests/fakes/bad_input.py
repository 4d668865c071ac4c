"""What no client should send, and that whoever is sent it answers and disturbs nobody else: for each host of dialects."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from hypothesis import strategies as st

from tests.unit.legacy_ws.test_dialect_fuzz import texts

BAD = [
    "", "{", "null", "[1]", '"text"', "7", "{}", '{"type":7}', '{"type":null}', '{"type":"launch"}', b"\x00\x01",
    "[" * 50_000, '{"a":' * 2_000 + "1" + "}" * 2_000, '{"type":"subscribe","topics":{}}',
    '{"type":"subscription"}', '{"type":"subscribe_logs","container":["x"]}', '{"type":"\\ud83d"}',
]  # fmt: skip

anything = st.lists(
    texts
    | st.binary(max_size=40)
    | st.integers(1, 3_000).map(lambda depth: '{"type":' * depth + "1" + "}" * depth)
    | st.integers(1, 3_000).map(lambda depth: "[" * depth),
    max_size=12,
)
"""What one client sends."""

Connect = Callable[[], AbstractAsyncContextManager[Any]]
"""Connects a client with ``send``, ``next`` and ``socket``, as ``tests.integration.legacy.conftest.dashboard``."""


async def is_answered_and_so_is_its_neighbour(connect: Connect, messages: list[str | bytes]) -> None:
    """Send messages; then both clients are still answered, in the dialect's form."""
    async with connect() as neighbour, connect() as client:
        for message in messages:
            await client.socket.send(message)
        for each, nonce in ((client, "ours"), (neighbour, "theirs")):
            await each.send(type=f"nonsense-{nonce}")
            while True:
                told = await each.next()
                assert isinstance(told["type"], str)
                if told["type"] == "error" and nonce in told["error"]:
                    break


async def ends_its_own_connection_only(connect: Connect, data: bytes) -> None:
    """Write bytes that are no WebSocket; another client is still answered."""
    async with connect() as neighbour, connect() as client:
        client.socket.transport.write(data)
        client.socket.transport.write_eof()
        await client.socket.wait_closed()
        await neighbour.send(type="nonsense")
        await neighbour.next("error")


async def is_answered_with_errors(connect: Connect, path: str) -> None:
    """Send all that is bad; each is answered with an error in the dialect's form, and another client is served."""
    async with connect() as other, connect() as client:
        for bad in BAD:
            await client.socket.send(bad)
        for bad in BAD:
            # what is bad in one dialect may be a request in another; every other is answered with an error
            subscribes = isinstance(bad, str) and bad.startswith('{"type":"subscribe"')
            if path in {"/ws", "/ws/metrics"} and subscribes:
                continue
            error = await client.next("error")
            assert list(error) == ["type", "error", "timestamp"]
        await client.send(type="nonsense")
        await client.next("error")
        await other.send(type="nonsense")
        assert "nonsense" in (await other.next("error"))["error"]
