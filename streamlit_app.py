"""The dashboard's script: joins `dashboard` with the services that `crossfade.wiring` makes."""

from __future__ import annotations

import gc
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import streamlit as st

from crossfade.errors import CrossfadeError
from crossfade.lending import RoleFeeds
from crossfade.operating import Operating
from crossfade.paths import DataDir, read_json
from crossfade.plan import running_state
from crossfade.records import LookedUp
from crossfade.settings import Settings, load_settings
from crossfade.wiring import Role, Wiring
from dashboard import app, tabs
from dashboard.identity import Viewer
from dashboard.place import Place
from dashboard.sources import Sources
from dashboard.viewers import Viewers
from monitoring.errors import Unreachable
from monitoring.service import MonitoringService


@asynccontextmanager
async def _connect(feeds: RoleFeeds, viewer: Viewer) -> AsyncIterator[MonitoringService]:
    try:
        async with feeds.connect(viewer.client_id, Role(viewer.role)) as service:
            yield service
    except CrossfadeError as error:
        raise Unreachable("Crossfade", str(error)) from error


def _place(data: DataDir, settings: Settings) -> Place:
    variable = f"CROSSFADE_DATA_DIR={shlex.quote(str(data.root))} " if data.option else ""
    return Place(data.option, variable, settings.hosted)


@st.cache_resource(on_release=Viewers.close, show_spinner=False)
def _viewers() -> Viewers:
    settings = load_settings()
    data = DataDir.of(settings.data_dir)
    wiring = Wiring(data, settings)
    feeds = RoleFeeds(wiring)
    viewers = Viewers(
        Sources(
            connect=partial(_connect, feeds),
            run=feeds.run,
            flags=feeds.flags,
            parity=partial(read_json, data.parity),
            collect=partial(read_json, data.run / "collect.json"),
            processes=partial(running_state, data),
            actions=Operating(wiring),
            records=LookedUp(wiring),
            place=_place(data, settings),
        ),
        redraw=tabs.redraw,
    )
    viewers.start()
    return viewers


@st.cache_resource(show_spinner=False)
def _settle() -> None:
    """Keep what the first drawing imported out of the full collection that follows every run of a fragment."""
    gc.collect()
    gc.freeze()


app.configure()
try:
    app.draw(_viewers())
    _settle()
except CrossfadeError as problem:
    st.error(str(problem), icon=":material/error:")
