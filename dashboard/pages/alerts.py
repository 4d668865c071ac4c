"""Alerts: what is wrong now; acknowledge, and silence for a while; the rules, and what one would have said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import streamlit as st

from dashboard.actions import Actions, Operator
from dashboard.hub import Frame, Hub
from dashboard.pages.parts import draw_live, draw_running, draw_table
from dashboard.pages.rules import draw_rules
from dashboard.pages.signing_in import draw_sign_in
from dashboard.views import alerts
from monitoring.control import ControlError

_DURATIONS = {"30 minutes": 1800, "2 hours": 7200, "8 hours": 28_800, "1 day": 86_400}


def draw(hub: Hub) -> None:
    """Draw the page and leave its fragments running."""
    draw_live(hub, built_on=lambda frame: [each.id for each in alerts.firing(frame)])
    draw_running(hub, "alerts", _open, of=lambda frame: frame.state.alerts)
    who = _act(hub, hub.actions) if hub.actions is not None else None
    if hub.records is not None:
        draw_rules(hub, hub.records, who)


def _open(frame: Frame, now: datetime) -> None:
    with st.container(border=True, gap="small"):
        st.markdown(f"**Open alerts** :gray[{len(alerts.firing(frame))} firing]")
        draw_table(
            alerts.rows(frame, now),
            key="open-alerts",
            alt="Open alerts with severity, state, where, since when and what was expected",
            most=14,
            columns={
                "Severity": st.column_config.TextColumn(width=80, pinned=True),
                "For": st.column_config.TextColumn(width=80),
            },
            empty=(":material/task_alt:", "Nothing is wrong that the rules know of."),
        )
        st.caption("`crossfade alerts list --history` has what is over.")


def _act(hub: Hub, actions: Actions) -> Operator | None:
    """Draw what can be done about alerts; return who has signed in."""
    known = alerts.firing(hub.latest())
    with st.container(border=True, gap="small"):
        who = draw_sign_in(actions)
        if who is None or not who.writes:
            st.caption("Sign in as an operator to acknowledge alerts, and to silence them.")
            return who
        if not known:
            st.caption("There is nothing to acknowledge.")
            return who
        by_id = {each.id: each for each in known}
        chosen = st.selectbox(
            "Alert", list(by_id), format_func=lambda key: alerts.title(by_id[key]), key="alert", width=420
        )
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            if st.button("Acknowledge", key="alert-acknowledge", icon=":material/how_to_reg:"):
                _done(
                    lambda: actions.acknowledge(who.token, chosen),
                    "acknowledged: it is told no more until it is over",
                )
            length = st.selectbox("Silence its device for", list(_DURATIONS), key="silence-for", width=180)
            comment = st.text_input("Why", key="silence-why", persist_state="page", width=260)
            if st.button("Silence", key="alert-silence", icon=":material/notifications_off:"):
                _silence(actions, who, by_id[chosen].device, length, comment)
    return who


def _silence(actions: Actions, who: Operator, device: str, length: str, comment: str) -> None:
    _done(
        lambda: actions.silence(who.token, device, _DURATIONS[length], comment),
        f"{device} is silenced for {length}",
    )


def _done(action: Callable[[], None], said: str) -> None:
    try:
        action()
    except ControlError as problem:
        st.toast(str(problem), icon=":material/error:", duration="long")
        return
    st.toast(said, icon=":material/task_alt:")
