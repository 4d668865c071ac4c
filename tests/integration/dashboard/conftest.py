"""A dashboard page without a browser: Streamlit's own AppTest over a hub and the replayed service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.hub import Frame
from dashboard.identity import Viewer
from dashboard.sources import Sources
from dashboard.viewers import Viewers
from monitoring.flags.model import ClientId, Flags
from tests.fakes.dashboard_service import ReplayedService, connected

DEADLINE_SECONDS = 20.0


def script(hub, path):
    from dashboard import app  # noqa: PLC0415 - AppTest runs this body as a script of its own

    app.configure()
    app.draw_page(hub, path)


class Page:
    """A viewer's hub and the page over it."""

    def __init__(self, viewers: Viewers, path: str) -> None:
        self._viewers = viewers
        self.hub = viewers.hub(Viewer("viewer-1"))
        self.app = AppTest.from_function(script, args=(self.hub, path), default_timeout=DEADLINE_SECONDS)

    def do(self, act: Callable[..., object], *given: object) -> None:
        """Do something in the loop where the service lives."""
        loop = self._viewers._loop
        assert loop is not None
        loop.call_soon_threadsafe(act, *given)

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
    made: list[Viewers] = []

    def make(service: ReplayedService, path: str = "overview", **replaced: Any) -> Page:
        wished = Flags(weight=100_000, allow=frozenset({ClientId("ops@example.com")}))
        given: dict[str, Any] = {
            "connect": lambda _: connected(service),
            "flags": lambda: (wished, None),
            "parity": lambda: None,
            "collect": lambda: None,
            "processes": lambda: None,
        }
        viewers = Viewers(Sources(**(given | replaced)))
        made.append(viewers)
        viewers.start()
        return Page(viewers, path)

    yield make
    for viewers in made:
        viewers.close()
