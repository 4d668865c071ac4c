"""The machinery itself."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from dashboard.hub import Frame, Hub
from dashboard.pages.parts import draw_figures, draw_live, draw_running, draw_table
from dashboard.views import system
from dashboard.views.words import escape

_NOT_TOLD = "Nothing has been said yet: a running crossfade up writes it."


def draw(hub: Hub) -> None:
    """Draw the page and leave its fragments running."""
    draw_live(hub)
    draw_running(hub, "system", _system, of=lambda frame: frame.system)


def _system(frame: Frame, now: datetime) -> None:
    draw_figures(system.key_figures(frame), key="system-figures")
    with st.container(border=True, gap="small"):
        st.markdown("**Parts** :gray[of `crossfade up`]", help=escape(system.log_places(frame)) or None)
        draw_table(
            system.parts(frame),
            key="parts",
            alt="Processes with their state, age, restarts and address",
            most=14,
            empty=(":material/memory:", _NOT_TOLD),
        )
    left, right = st.columns([2, 3], gap="small")
    with left, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Delivery** :gray[from this machine's spool]")
        draw_table(
            system.paths(frame),
            key="paths",
            alt="Both paths with what was sent and what waits",
            empty=(":material/alt_route:", _NOT_TOLD),
        )
    with right, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Collectors**")
        draw_table(
            system.collectors(frame, now),
            key="collectors",
            alt="Collectors with their readings",
            most=12,
            empty=(":material/sensors_off:", _NOT_TOLD),
        )
