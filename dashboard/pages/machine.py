"""What one machine has inside and serves: drives, interfaces, pressure, checks."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from dashboard.hub import Frame, Hub
from dashboard.pages.parts import CALM_SECONDS, draw_empty, draw_running, draw_table, share_column
from dashboard.views import machine

_LOW = 72
"""The height of what is empty on most machines."""
_NO_DRIVES = "Drives are told of by machines that are read over SSH and have smartctl."


def draw_machine(hub: Hub, name: str) -> None:
    """Draw the cards of one host and leave them running."""

    def cards(frame: Frame, now: datetime) -> None:
        host = frame.state.hosts.get(name)
        if host is None:
            return
        left, middle, right = st.columns([3, 3, 4], gap="small")
        with left, st.container(border=True, height="stretch", gap="small"):
            st.markdown("**Pressure** :gray[time that somebody waited]")
            draw_table(
                machine.pressure(host),
                key="pressure",
                alt="The share of time in which somebody waited for CPU, memory or disks",
                empty=(":material/speed:", "This kernel does not tell of pressure."),
            )
        with middle, st.container(border=True, height="stretch", gap="small"):
            st.markdown("**Network** :gray[interfaces]")
            draw_table(
                machine.interfaces(host),
                key="interfaces",
                alt="Network interfaces with their rates",
                most=6,
                empty=(":material/lan:", "No interface has been told of."),
            )
        with right, st.container(border=True, height="stretch", gap="small"):
            st.markdown("**Disk I/O**")
            draw_table(
                machine.disk_io(host),
                key="disk-io",
                alt="Drives with what they read and write, and how busy they are",
                most=6,
                columns={"Busy": share_column(100)},
                empty=(":material/hard_drive:", "No drive has been told of."),
            )
        with st.container(border=True, gap="small"):
            st.markdown("**Drives** :gray[SMART]")
            draw_table(
                machine.drives(host),
                key="drives",
                alt="Drives with their health",
                most=10,
                columns={"Drive": st.column_config.TextColumn(pinned=True)},
                empty=(":material/hard_drive:", host.drives_note or _NO_DRIVES),
                empty_height=_LOW,
            )
        with st.container(border=True, gap="small"):
            st.markdown("**Checks** :gray[of what it serves]")
            draw_table(
                machine.checks(host, now),
                key="checks",
                alt="Checks of services with their status",
                most=10,
                columns={"Check": st.column_config.TextColumn(pinned=True)},
                empty=(
                    ":material/rule:",
                    "Nothing it serves is checked yet: .crossfade/checks.yaml says what to ask.",
                ),
                empty_height=_LOW,
            )

    draw_running(hub, "machine", cards, seconds=CALM_SECONDS)
    _attributes(hub, name)


def _attributes(hub: Hub, name: str) -> None:
    host = hub.latest().state.hosts.get(name)
    known = {drive.device: drive for drive in host.drives if drive.attributes} if host else {}
    if not known:
        return
    with st.expander("Every SMART attribute of a drive", icon=":material/list:"):
        chosen = st.selectbox("Drive", list(known), key="drive", width=260)
        if chosen not in known:
            draw_empty(":material/hard_drive:", "This drive is not there any more.")
            return
        draw_table(
            machine.attributes(known[chosen]),
            key="attributes",
            alt="The attributes of one drive",
            most=20,
            empty=(":material/hard_drive:", "It tells none."),
        )
