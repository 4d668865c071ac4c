"""Sessions, semaphores, agents with their commands, and every event as it comes, with its envelope."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from dashboard.hub import Frame, Hub
from dashboard.pages import commands
from dashboard.pages.parts import draw_live, draw_running, draw_table, share_column
from dashboard.views import events, sessions


def draw(hub: Hub) -> None:
    """Draw the page and leave its fragments running."""
    first = hub.latest()
    draw_live(
        hub,
        built_on=lambda frame: (
            events.kinds(frame),
            events.devices(frame),
            bool(frame.state.applications),
            commands.built_on(frame),
        ),
    )
    if first.state.applications:
        draw_running(hub, "applications", _applications, of=lambda frame: frame.state.applications)
    if begun := commands.begun(hub):
        commands.draw_commands(hub)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        kinds = st.multiselect("Kind", events.kinds(first), key="events-kinds", width=320)
        devices = st.multiselect("Device", events.devices(first), key="events-devices", width=260)
        text = st.text_input("Search", placeholder="anything in an event", key="events-text", width=260)
        paused = st.toggle("Pause", key="events-paused")

    def table(frame: Frame, now: datetime) -> None:
        chosen = events.chosen(frame, kinds, devices, text)
        with st.container(border=True, gap="small"):
            st.markdown(f"**Events** :gray[newest first, {len(chosen)} of the last {len(frame.state.feed)}]")
            draw_table(
                events.rows(chosen, now),
                key="events",
                alt="The newest events with kind, stream, sequence number and age",
                most=14,
                columns={
                    "Age": st.column_config.TextColumn(width=70),
                    "Kind": st.column_config.TextColumn(width=190),
                    "Stream": st.column_config.TextColumn(width=170),
                    "Epoch": st.column_config.NumberColumn(format="%d", width=60),
                    "Seq": st.column_config.NumberColumn(format="%d", width=80),
                },
                empty=(":material/hourglass_empty:", "No event has come that the filters let through."),
            )
            if chosen:
                with st.expander("The newest of them, as it was sent", icon=":material/data_object:"):
                    st.code(events.envelope(chosen[0]), language="json")
                if paused:
                    st.download_button(
                        "Download these as JSON lines",
                        events.lines(chosen),
                        file_name="events.jsonl",
                        mime="application/x-ndjson",
                        icon=":material/download:",
                    )
                else:
                    st.caption("Pause to download what is shown.")

    draw_running(hub, "events-table", table, of=lambda frame: frame.state.feed, paused=paused)
    if not begun:
        commands.draw_commands(hub)


def _applications(frame: Frame, now: datetime) -> None:
    left, right = st.columns(2, gap="small")
    with left, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Sessions** :gray[newest change first]")
        draw_table(
            sessions.rows(frame, now),
            key="sessions-table",
            alt="Active sessions of applications",
            empty=(":material/person:", "No session is active."),
        )
    with right, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Semaphores**")
        draw_table(
            sessions.semaphores(frame, now),
            key="semaphores",
            alt="Semaphores of applications with their share in use",
            columns={"In use": share_column(100)},
            empty=(":material/traffic:", "No semaphore has been told of."),
        )
