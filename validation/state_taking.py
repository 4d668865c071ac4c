"""Pairs of snapshots of both sides, taken until they stand alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from monitoring.errors import MonitoringError
from monitoring.service import PUSHING, Backend, MonitoringService, Snapshot
from monitoring.topics import Topic

SECONDS = 5.0
"""How long pairs are taken, and how long one may take."""
_PAUSE_SECONDS = 0.2


async def take_states(
    services: Mapping[Backend, MonitoringService],
    topics: Collection[Topic],
    take: Callable[[Snapshot, Snapshot], bool],
) -> str:
    """Hand pairs to ``take`` until it returns False or time is up; return why there was none, empty if there were."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SECONDS
    while True:
        pair = []
        try:
            async with asyncio.timeout(SECONDS):
                found = await asyncio.gather(
                    *(services[side].snapshot(topics) for side in PUSHING), return_exceptions=True
                )
        except TimeoutError:
            return f"a snapshot took longer than {SECONDS:g} s"
        for each in found:
            if isinstance(each, MonitoringError):
                return f"a snapshot could not be had: {each}"
            if isinstance(each, BaseException):
                raise each
            pair.append(each)
        if not take(*pair) or loop.time() >= deadline:
            return ""
        await asyncio.sleep(_PAUSE_SECONDS)
