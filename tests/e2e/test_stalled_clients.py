"""Clients that stall, at every HTTP part of a whole installation with the bounds that it has: closed in time, others undisturbed."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.installation import Installation

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-own")]

SECONDS = 60
"""The longest wait for a client is 30 s, for a body at the embedded Supabase; a machine may be slow."""
EACH = 25
PARTS = {
    "query": "/api/events/after",
    "push": "/api/events",
    "analytics": "/api/nothing",
    "control": "/api/commands",
    "mcp": "/mcp",
    "supabase": "/rest/v1/rpc/nothing",
}
"""Part -> where it takes bodies. Pushing is the query service's."""
HALVES = (
    b"",
    b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{",
)


def stalled(port: int, half: bytes) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port))
    made.sendall(half)
    made.setblocking(False)
    return made


def drip(waiting: set[socket.socket]) -> set[socket.socket]:
    """Send each a byte, and return those that the server has closed."""
    closed = set()
    for each in waiting:
        try:
            each.send(b" ")
        except OSError:
            closed.add(each)
    return closed


def test_clients_that_stall_are_closed_in_time_and_disturb_nobody(
    make_installation: Callable[[], Installation],
) -> None:
    made = make_installation()
    ports = [word for part in ("analytics", "mcp") for word in (f"--port-{part}", "0")]
    made.start(
        "--with", "analytics,control,mcp", "--without", "dashboard,parity", "--no-docker", *ports, seconds=200
    )
    addresses = json.loads((made.directory / ".crossfade/run/state.json").read_text())["addresses"]
    port = {part: addresses[f"port_{'query' if part == 'push' else part}"] for part in PARTS}
    made_all = [
        stalled(port[part], half % path.encode() if b"%s" in half else half)
        for part, path in PARTS.items()
        for half in HALVES
        for _ in range(EACH)
    ]
    waiting, dripping = set(made_all), set(made_all[::2])  # the others say nothing more
    longest = 0.0
    deadline = time.monotonic() + SECONDS
    with selectors.DefaultSelector() as selector, ThreadPoolExecutor(len(PARTS)) as others:
        for each in waiting:
            selector.register(each, selectors.EVENT_READ)

        def ask(part: str) -> float:
            began = time.monotonic()
            assert httpx.get(f"http://127.0.0.1:{port[part]}/health", timeout=30).status_code == 200
            return time.monotonic() - began

        while waiting:
            assert time.monotonic() < deadline, f"{len(waiting)} are still waited for"
            gone = drip(waiting & dripping)
            for key, _ in selector.select(0.5):
                assert isinstance(key.fileobj, socket.socket)
                try:
                    ended = not key.fileobj.recv(1 << 16)
                except OSError:
                    ended = True
                gone |= {key.fileobj} if ended else set()
            for each in gone:
                selector.unregister(each)
                each.close()
            waiting -= gone
            longest = max(longest, *others.map(ask, PARTS))
    assert longest < 5
    assert made.healthy()
