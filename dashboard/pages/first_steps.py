"""First steps: what to do next where there is next to nothing."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from dashboard.hub import Frame, Hub
from dashboard.steering import steering
from dashboard.views import first_steps
from monitoring.control import ControlError

_ASK_SECONDS = 10


def draw_first_steps(hub: Hub, frame: Frame, now: datetime) -> None:
    """Draw the steps, each with its command to copy; nothing once there is more than this machine."""
    if not frame.connection.ever_live or not first_steps.wanted(frame):
        return
    found = first_steps.steps(frame, hub.place, rollout=_rollout(hub, now))
    with st.container(border=True, gap="small"):
        st.markdown(first_steps.title(frame))
        with st.grid(len(found), min_column_width=300, gap="small", key="first-steps"):
            for step in found:
                with st.container(border=True, height="stretch", gap="xsmall"):
                    done = " :green[:material/check: done]" if step.done else ""
                    st.markdown(f"{step.icon} **{step.title}**{done}")
                    st.caption(step.brings)
                    st.code(step.command, language=None, wrap_lines=True)


def _rollout(hub: Hub, now: datetime) -> bool:
    """Tell whether a rollout was started; one that cannot be asked about was not, as far as is known here."""
    records = hub.records
    if records is None:
        return False
    try:
        return hub.once(
            ("rollout", int(now.timestamp()) // _ASK_SECONDS), lambda: steering(records.rollout()).active
        )
    except ControlError:
        return False
