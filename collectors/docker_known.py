"""The containers as they are known now, for whoever has to wait until one is different."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from collectors.docker_state import Container, Engine


class KnownContainers:
    """What the collector knows. Used from one event loop."""

    def __init__(self) -> None:
        self.containers: Mapping[str, Container] = {}
        """By full id."""
        self.available = False
        """Whether the engine answers; if not, the containers are as they were last seen."""
        self.asked = False
        """Whether it is known if it answers."""
        self.engine = Engine.DOCKER
        self.reason = "it was not asked yet"
        """Why it is not available."""
        self._news = asyncio.Event()

    def update(self, containers: Mapping[str, Container]) -> None:
        """Take what is known now, and wake who waits."""
        self.containers = containers
        self._wake()

    def came(self, engine: Engine) -> None:
        """Note that the engine answers."""
        self.available, self.asked, self.engine = True, True, engine
        self._wake()

    def went(self, reason: str) -> None:
        """Note that it does not."""
        self.available, self.asked, self.reason = False, True, reason
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    @property
    def news(self) -> asyncio.Event:
        """Set at the next change; take it before looking, so that nothing is missed in between."""
        return self._news
