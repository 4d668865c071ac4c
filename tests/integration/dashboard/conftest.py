"""A dashboard page without a browser: Streamlit's own AppTest over a hub and the replayed service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.hub import Frame, Hub, Sources
from monitoring.flags.model import ClientId, Flags
from tests.fakes.dashboard_service import ReplayedService, connected

DEADLINE_SECONDS = 20.0


def script(hub, path):
    from dashboard import app  # noqa: PLC0415 - AppTest runs this body as a script of its own

    app.configure()
    app.draw_page(hub, path)


class Page:
    """A hub and the page over it."""

    def __init__(self, hub: Hub, path: str) -> None:
        self.hub = hub
        self.app = AppTest.from_function(script, args=(hub, path), default_timeout=DEADLINE_SECONDS)

    def when(self, condition: Callable[[Frame], bool]) -> AppTest:
        """Draw the page once the hub's picture fulfils the condition."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        frame = self.hub.latest()
        while not condition(frame):
            assert time.monotonic() < deadline, frame
            frame = self.hub.wait(condition, 0.2)
        app: AppTest = self.app.run()
        assert not app.exception, [each.value for each in app.exception]
        return app


MakePage = Callable[..., Page]


@pytest.fixture
def open_page() -> Iterator[MakePage]:
    """Make a page over a replayed service; keywords replace what the hub gets."""
    hubs: list[Hub] = []

    def make(service: ReplayedService, path: str = "overview", **replaced: Any) -> Page:
        wished = Flags(weight=100_000, allow=frozenset({ClientId("ops@example.com")}))
        given: dict[str, Any] = {
            "client_id": "viewer-1",
            "connect": lambda: connected(service),
            "flags": lambda: (wished, None),
            "parity": lambda: None,
            "collect": lambda: None,
            "processes": lambda: None,
        }
        hub = Hub(Sources(**(given | replaced)))
        hubs.append(hub)
        hub.start()
        return Page(hub, path)

    yield make
    for hub in hubs:
        hub.close()
