"""Changing a flag: its plan first, who would move, then the change with its reason."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dashboard.actions import Actions, Operator
from dashboard.hub import Frame, Hub
from dashboard.pages.parts import draw_running
from dashboard.unchanged import Unchanged
from dashboard.views import migration
from monitoring.control import ControlError
from monitoring.flags.model import KEYS, Key, ValueType
from monitoring.flags.planning import FlagPlan
from monitoring.flags.stages import Stage


def draw_change(hub: Hub, actions: Actions, who: Operator) -> None:
    """Draw the switches, for somebody who may use them."""
    with st.container(border=True, gap="small"):
        key = KEYS[
            st.selectbox(
                "Change a flag", list(KEYS), key="flag", index=list(KEYS).index("live.percent"), width=320
            )
        ]
        st.caption(key.meaning)
        value = _value(hub.latest(), key)
        kept: Unchanged[FlagPlan] = Unchanged()

        def planned(frame: Frame) -> FlagPlan:
            made_of = frame.flags, dict(actions.clients())
            return kept.answer(made_of, lambda: actions.plan(key.name, value))

        try:
            planned(hub.latest())
        except ControlError as problem:
            st.warning(str(problem), icon=":material/warning:")
            return
        draw_running(hub, "plan", lambda frame, _: _plan(frame, planned))
        _apply(actions, who, key.name, value)


def _plan(frame: Frame, planned: Callable[[Frame], FlagPlan]) -> None:
    """Say what a change would do to those who are connected at this moment."""
    try:
        found = planned(frame)
    except ControlError as problem:
        st.warning(str(problem), icon=":material/warning:")
        return
    for line in migration.plan(found):
        st.markdown(line)


def _value(frame: Frame, key: Key) -> str:
    now = migration.value(frame.flags, key.name)
    widget = f"value-{key.name}"
    match key.type:
        case ValueType.SWITCH:
            return "true" if st.toggle(key.name, value=now == "true", key=widget) else "false"
        case ValueType.STAGE:
            return st.segmented_control("Stage", list(Stage), default=Stage(now), key=widget) or now
        case ValueType.PERCENT:
            percent = st.slider("Percent", 0.0, 100.0, float(now), step=0.5, format="%.1f %%", key=widget)
            return f"{percent:g}"
        case _:
            return st.text_input("Client ids, separated by commas", value=now, key=widget)


def _apply(actions: Actions, who: Operator, key: str, value: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        why = st.text_input(
            "Why", key="flag-why", persist_state="page", placeholder="kept with who and when", width=360
        )
        pressed = st.button("Apply", key="flag-apply", type="primary")
    if not pressed:
        return
    try:
        changes = actions.set_flag(who.token, key, value, why)
    except ControlError as problem:
        st.error(str(problem), icon=":material/error:")
        return
    said = "; ".join(changes) or "it already was so"
    st.toast(f"{said}. Clients follow within a second.", icon=":material/task_alt:")
