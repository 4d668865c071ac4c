"""The migration: how far it is, who is served by what, and the flags to go further or back."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from dashboard.actions import Actions, Operator
from dashboard.hub import Frame, Hub
from dashboard.pages.flag_change import draw_change
from dashboard.pages.overview import draw_share
from dashboard.pages.parts import draw_chart, draw_live, draw_pairs, draw_running, draw_table
from dashboard.pages.rollout import draw_capacity, draw_rollout, draw_steering
from dashboard.pages.signing_in import draw_sign_in
from dashboard.records import Records
from dashboard.views import migration, rollout
from dashboard.views.words import escape
from monitoring.flags.stages import Stage

_MOVES = 50
_PICTURE_HEIGHT = 190


def draw(hub: Hub) -> None:
    """Draw the page and leave its fragments running."""
    draw_live(hub, lambda frame, _: _stages(frame))
    # up here: what it opens needs room below
    who = draw_sign_in(hub.actions) if hub.actions is not None else None

    def running(frame: Frame, now: datetime) -> None:
        _state(frame, now, hub.actions, hub.records)

    draw_running(hub, "migration", running)
    if hub.records is not None:
        draw_rollout(hub, hub.records)
    if hub.actions is not None:
        _act(hub, hub.actions, who)


def _act(hub: Hub, actions: Actions, who: Operator | None) -> None:
    if who is None or not who.writes:
        st.caption("Operators change flags here, and steer the rollout.")
        return
    if hub.records is not None:
        draw_steering(actions, hub.records, who)
    draw_change(hub, actions, who)


def _stages(frame: Frame) -> None:
    with st.grid(len(Stage), min_column_width=150, gap="small", key="stages"):
        for stage in migration.stages(frame):
            with st.container(border=True, height="stretch", gap="xsmall"):
                st.markdown(f"{stage.icon} **{stage.name}**" if stage.current else f":gray[{stage.name}]")
                st.caption(stage.answers)


def _state(frame: Frame, now: datetime, actions: Actions | None, records: Records | None) -> None:
    clients = actions.clients() if actions is not None else {}
    left, right = st.columns([3, 2], gap="small")
    with left, st.container(border=True, height="stretch", gap="small"):
        extent = rollout.in_force(frame)
        st.markdown(f"**In force** :gray[{extent}]")
        draw_chart(rollout.picture(extent), key="picture", alt=rollout.told(extent), height=_PICTURE_HEIGHT)
    with right, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Wish** :gray[flags.yaml]")
        draw_share(frame)
        draw_pairs(migration.wish(frame))
        if reason := frame.flags.ceiling.reason:
            st.caption(escape(reason))
    left, middle, right = st.columns([2, 3, 2], gap="small")
    with left, st.container(border=True, height="stretch", gap="small"):
        st.markdown(f"**Connected here** :gray[{migration.connected(clients)}]")
        draw_table(
            migration.clients(frame, clients),
            key="clients",
            alt="Connected clients with who serves them and who should",
            most=7,
            empty=(":material/group:", "No client of this machine's router is connected."),
        )
    with middle, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Moves** :gray[newest first]")
        draw_table(
            migration.records(actions.moves(_MOVES) if actions is not None else (), now),
            key="moves",
            alt="Moves of clients between backends",
            most=7,
            empty=(":material/swap_horiz:", "Nobody was moved yet."),
        )
    with right:
        if records is not None:
            draw_capacity(records)
