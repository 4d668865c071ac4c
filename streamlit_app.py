"""The dashboard's script: joins `dashboard` with the services that `crossfade.wiring` makes."""

from __future__ import annotations

import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import streamlit as st

from crossfade.client import Client
from crossfade.errors import CrossfadeError
from crossfade.operating import Operating
from crossfade.paths import DataDir, read_json
from crossfade.plan import running_state
from crossfade.records import LookedUp
from crossfade.settings import load_settings
from crossfade.wiring import Wiring
from dashboard import app
from dashboard.hub import Hub, Sources
from monitoring.errors import Unreachable
from monitoring.service import MonitoringService


@asynccontextmanager
async def _connect(wiring: Wiring, client_id: str) -> AsyncIterator[MonitoringService]:
    try:
        async with Client(partial(wiring.connect_router, client_id)) as client:
            yield client.service
    except CrossfadeError as error:
        raise Unreachable("Crossfade", str(error)) from error


@st.cache_resource(on_release=Hub.close, show_spinner=False)
def _hub() -> Hub:
    settings = load_settings()
    data = DataDir.of(settings.data_dir)
    wiring = Wiring(data, settings)
    flags = wiring.flags()
    client_id = f"dashboard-{socket.gethostname()}"
    hub = Hub(
        Sources(
            client_id=client_id,
            connect=partial(_connect, wiring, client_id),
            flags=lambda: (flags.refresh(), flags.problem()),
            parity=partial(read_json, data.parity),
            collect=partial(read_json, data.run / "collect.json"),
            processes=partial(running_state, data),
            actions=Operating(wiring),
            records=LookedUp(wiring),
        )
    )
    hub.start()
    return hub


@st.cache_resource(show_spinner=False)
def _settle() -> None:
    """Keep what the first drawing imported out of the full collection that follows every run of a fragment."""
    gc.collect()
    gc.freeze()


app.configure()
try:
    app.draw(_hub())
    _settle()
except CrossfadeError as problem:
    st.error(str(problem), icon=":material/error:")
