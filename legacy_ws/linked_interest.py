"""Tells collectors' links which devices the server's clients watch by name."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from websockets.asyncio.server import ServerConnection

from legacy_ws.protocol import link
from monitoring.interest import DeviceNames, Watchers


class LinkedInterest:
    """Sends what is watched to each link that asked for it; what changes and changes back at once is not told."""

    def __init__(self, watchers: Watchers) -> None:
        self._watchers = watchers
        self._news = asyncio.Event()
        watchers.changed = self._wake

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def tell(self, connection: ServerConnection) -> NoReturn:
        """Send what is watched now, and again at each change. Raises ConnectionClosed."""
        told: DeviceNames | None = None
        while True:
            news = self._news
            if (devices := self._watchers.devices) != told:
                told = devices
                await connection.send(link.encode(link.Watched(devices)), text=True)
            await news.wait()
