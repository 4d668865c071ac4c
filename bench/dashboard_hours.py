"""The pages over hours of readings that are played as fast as they are taken; a part of bench/dashboard_viewers.py."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import streamlit as st

from dashboard import app, tabs
from dashboard.sources import Sources
from dashboard.viewers import Viewers
from monitoring.cursor import Cursor
from monitoring.flags.model import Flags
from monitoring.service import Item
from monitoring.subscription import Subscription
from tests.fakes.dashboard_service import ReplayedService, connected, containers, reading

PACE_SECONDS = 0.004
"""Between two readings: 250 a second, five hundred times as fast as they come."""
_INTERVAL = 2.0


class Played(ReplayedService):
    """Readings of hours without their pauses. Their times are one interval apart, and begin where the history ends."""

    def __init__(self) -> None:
        super().__init__(history=10, interval=None)
        self._progress = Path(os.environ["BENCH_PROGRESS"])

    async def _feed(self, since: Cursor, out: Subscription[Item]) -> None:  # noqa: ARG002 - it has no history
        began, seq = datetime.now(UTC), self._seq
        out.live = True
        while True:
            seq += 1
            at = began + timedelta(seconds=_INTERVAL * (seq - self._seq))
            for each in (reading(seq, at), containers(seq, at)):
                await out.put(each)
            if seq % 100 == 0:
                told = {"seconds": _INTERVAL * (seq - self._seq), "events": 2 * (seq - self._seq)}
                self._progress.write_text(json.dumps(told))
            await asyncio.sleep(PACE_SECONDS)


@st.cache_resource(on_release=Viewers.close, show_spinner=False)
def _viewers() -> Viewers:
    service = Played()
    viewers = Viewers(
        Sources(
            connect=lambda _: connected(service),
            flags=lambda: (Flags(), None),
            parity=lambda: None,
            collect=lambda: None,
            processes=lambda: None,
        ),
        redraw=tabs.redraw,
    )
    viewers.start()
    return viewers


@st.cache_resource(show_spinner=False)
def _settle() -> None:
    gc.collect()
    gc.freeze()


def draw() -> None:
    """Draw the page that the address names."""
    app.configure()
    app.draw(_viewers())
    _settle()
