"""The first page: first steps, what is up, what is not, how much flows, and how the migration stands."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from dashboard.hub import Frame, Hub
from dashboard.pages.first_steps import draw_first_steps
from dashboard.pages.hosts import draw_host_table
from dashboard.pages.parity import draw_parity
from dashboard.pages.parts import draw_empty, draw_figures, draw_live, draw_pairs, draw_running, draw_table
from dashboard.views import migration, overview
from dashboard.views.words import escape

_TROUBLES = 8


def draw(hub: Hub) -> None:
    """Draw the page and leave its fragments running."""
    draw_live(hub, lambda frame, now: draw_figures(overview.key_figures(frame, now), key="figures"))

    def running(frame: Frame, now: datetime) -> None:
        draw_first_steps(hub, frame, now)
        _rest(frame, now)

    draw_running(hub, "overview", running, of=_drawn_of)


def _drawn_of(frame: Frame) -> object:
    return frame.connection, frame.state, frame.rollout, frame.flags, frame.parity


def _rest(frame: Frame, now: datetime) -> None:
    with st.container(border=True, gap="small"):
        st.markdown("**Hosts**")
        draw_host_table(frame, now)
    with st.grid(3, min_column_width=320, gap="small", key="cards"):
        with st.container(border=True, height="stretch", gap="small"):
            st.markdown("**Needs attention**")
            _troubles(frame, now)
        with st.container(border=True, height="stretch", gap="small"):
            st.markdown("**Migration** :gray[who is served by Supabase]")
            draw_share(frame)
            draw_pairs(migration.facts(frame))
            st.caption("  \n".join(migration.moves(frame, now)))
        with st.container(border=True, height="stretch", gap="small"):
            st.markdown("**Parity** :gray[both paths, event by event]")
            draw_parity(frame, now)
    if frame.state.applications:
        with st.container(border=True, gap="small"):
            st.markdown("**Connections of applications** :gray[since this viewer connected]")
            draw_table(
                overview.connections(frame, now),
                key="connections",
                alt="Connections that applications told of, by type",
                empty=(":material/lan:", "No application has told of a connection yet."),
            )


def draw_share(frame: Frame) -> None:
    """Draw who is served by Supabase."""
    rollout = frame.rollout
    if rollout.problem:
        st.warning(f"flags.yaml is refused, the last good flags stay: {escape(rollout.problem)}")
    st.progress(rollout.percent / 100, text=migration.share(rollout))


def _troubles(frame: Frame, now: datetime) -> None:
    found = list(overview.troubles(frame, now))
    if not found:
        text = "Everything that is watched is well." if frame.state.hosts else "Nothing is watched yet."
        draw_empty(":material/task_alt:", text)
        return
    for each in found[:_TROUBLES]:
        st.markdown(each)
    if len(found) > _TROUBLES:
        st.caption(f"and {len(found) - _TROUBLES} more")
