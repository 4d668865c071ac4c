"""The frame around the pages: title, navigation, header."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import streamlit as st

from dashboard import identity
from dashboard.hub import Hub
from dashboard.identity import Viewer
from dashboard.pages import (
    alerts,
    analytics,
    containers,
    events,
    hosts,
    migration,
    overview,
    system,
    validation,
)
from dashboard.pages.signing_in import operator
from dashboard.viewers import Viewers

_FAVICON = str(Path(__file__).with_name("favicon.svg"))
"""A file of ours: Streamlit would fetch an icon by name from the internet."""
_STYLE = Path(__file__).with_name("style.css")
_FIRST_PICTURE_SECONDS = 1.0
"""How long the first paint waits for the snapshot: a full page once is better than an empty one at once."""

PAGES: dict[str, tuple[str, str, Callable[[Hub], None]]] = {
    "overview": ("Overview", ":material/dashboard:", overview.draw),
    "hosts": ("Hosts", ":material/dns:", hosts.draw),
    "containers": ("Containers", ":material/deployed_code:", containers.draw),
    "events": ("Events", ":material/list_alt:", events.draw),
    "alerts": ("Alerts", ":material/notifications:", alerts.draw),
    "migration": ("Migration", ":material/swap_horiz:", migration.draw),
    "validation": ("Validation", ":material/fact_check:", validation.draw),
    "analytics": ("Analytics", ":material/query_stats:", analytics.draw),
    "system": ("System", ":material/memory:", system.draw),
}
"""Path in the address -> title, icon, and what draws it."""


def configure() -> None:
    """Set the title, the width and what the theme cannot say; the first call of a script run."""
    st.set_page_config(page_title="Crossfade", page_icon=_FAVICON, layout="wide")
    st.html(_STYLE)


def draw(viewers: Viewers) -> None:
    """Draw the page that the address names, for whoever looks, and leave its fragments running."""
    hub = viewers.hub(_viewer())
    hub.wait(lambda frame: frame.state.hosts, _FIRST_PICTURE_SECONDS)
    pages = [
        st.Page(partial(draw_page, hub, path), title=title, icon=icon, url_path=path, default=not number)
        for number, (path, (title, icon, _)) in enumerate(PAGES.items())
    ]
    st.navigation(pages, position="top").run()


def draw_page(hub: Hub, path: str) -> None:
    """Draw one page."""
    PAGES[path][2](hub)


def _viewer() -> Viewer:
    """Return who looks. Without the cookie a tab is a viewer of its own for as long as it is open."""
    browser = identity.browser_of(st.context.cookies.get(identity.COOKIE))
    return identity.viewer_of(
        browser or st.session_state.setdefault("browser", secrets.token_hex(16)),
        operator(),
        datetime.now(UTC),
    )
