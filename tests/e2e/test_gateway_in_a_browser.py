"""A page that was written against the old server, in a real browser, moved between backends without knowing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from embedded.ports import free_port
from tests.e2e.installation import Installation, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.chromium, pytest.mark.xdist_group("e2e-own")]

MOVES = 6


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def old_pages() -> Iterator[str]:
    """The URL of the old web server: a page that does not come from this machine may not talk to it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=Path(__file__).parent)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


def test_an_old_page_that_is_moved_six_times_shows_every_event_once(
    make_installation: Callable[[], Installation], page: Page, old_pages: str
) -> None:
    port = free_port("127.0.0.1")
    made = make_installation()
    made.start("--no-docker", "--without", "dashboard,parity", "--gateway", f"{port}/ws=dashboard")
    assert made.part("gateway")["address"] == f"ws://127.0.0.1:{port}/ws"
    page.goto(f"{old_pages}/old_page.html?server=ws://127.0.0.1:{port}/ws")
    lines = page.locator("#events li")

    def shown() -> int:
        return lines.count()

    def health() -> dict[str, object]:
        told: dict[str, object] = httpx.get(f"http://127.0.0.1:{port}/health").json()
        return told

    for move in range(1, MOVES + 1):
        before = shown()
        wait_until("the page shows more events", lambda at=before: shown() >= at + 3)
        done = made.run("flags", "set", "live.percent", "100" if move % 2 else "0")
        assert done.returncode == 0, done.stderr
        there = {"supabase" if move % 2 else "legacy": 1}
        wait_until(f"move {move}", lambda at=there: health()["clients_by_backend"] == at)
    before = shown()
    wait_until("the page shows more events", lambda: shown() >= before + 3)
    assert {key: health()[key] for key in ("moves", "moves_abandoned", "gaps")} == {
        "moves": MOVES, "moves_abandoned": 0, "gaps": 0,
    }  # fmt: skip
    expect(page.locator("#status")).to_have_text("connected")
    expect(page.locator("#opened")).to_have_text("1")
    recent, live = shown_as(page, "recent"), shown_as(page, "live")
    assert live
    for stream in live:
        first = max(recent.get(stream, [(1, 0)]))
        assert live[stream] == [(first[0], first[1] + step) for step in range(1, len(live[stream]) + 1)]
        assert len(set(recent.get(stream, []))) == len(recent.get(stream, []))
    made.stop()


def shown_as(page: Page, how: str) -> dict[str, list[tuple[int, int]]]:
    """Return the places of the events that the page shows, by stream."""
    script = "how => [...document.querySelectorAll(`#events li.${how}`)].map(line => line.dataset.event)"
    places: dict[str, list[tuple[int, int]]] = {}
    for text in page.evaluate(script, how):
        event = json.loads(text)["metadata"]["event"]
        places.setdefault(event["stream"], []).append((event["epoch"], event["seq"]))
    return places
