"""The guarded rollout: where it stands and why, what was decided, and how a person steers it."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import streamlit as st

from dashboard.actions import Actions, Operator
from dashboard.hub import Frame, Hub
from dashboard.pages.parts import draw_empty, draw_running, draw_table, share_column
from dashboard.records import Records
from dashboard.steering import Steering, entries, steering
from dashboard.views import rollout
from dashboard.views.words import Color, escape
from monitoring.control import ControlError
from monitoring.flags.stages import Stage
from monitoring.rollout.steering import Action, RolloutStep

_DECISIONS = 50
_ASKED = "rollout-asked"
"""The action that somebody is about to take: the question stays when the page is drawn anew."""
_BACK_TO = (Stage.SHADOW, Stage.DUALWRITE, Stage.OFF)
_BUTTONS: dict[Action, tuple[str, str]] = {
    "advance": ("Advance", ":material/fast_forward:"),
    "hold": ("Hold", ":material/pause:"),
    "resume": ("Resume", ":material/play_arrow:"),
    "rollback": ("Roll back", ":material/undo:"),
}
_MEANINGS: dict[Action, str] = {
    "advance": "Takes the next step without waiting for the rest of the dwell, where every gate has passed.",
    "hold": "Keeps everybody where they are. Trips still take clients back.",
    "resume": "Goes on after a hold, or after a trip that somebody has looked into.",
    "rollback": "Takes clients back at once, and holds there until it is acknowledged.",
}


def draw_rollout(hub: Hub, records: Records) -> None:
    """Draw where the rollout stands, and leave it running."""

    def running(_: Frame, now: datetime) -> None:
        try:
            found = steering(records.rollout())
            decided = entries(records.decisions(_DECISIONS))
        except ControlError as problem:
            draw_empty(":material/error:", str(problem))
            return
        _standing(found)
        with st.container(border=True, gap="small"):
            st.markdown("**Decisions** :gray[newest first; kept in a journal]")
            draw_table(
                rollout.journal(decided, now),
                key="journal",
                alt="Decisions of the rollout with who, when, from, to and why",
                most=8,
                empty=(":material/history:", "Nothing was decided yet: crossfade rollout start begins one."),
            )

    draw_running(hub, "rollout", running)
    _evidence(records)


def draw_capacity(records: Records) -> None:
    """Draw what the present load needs of the plan."""
    with st.container(border=True, height="stretch", gap="small"):
        said, rows = rollout.capacity(records.capacity())
        st.markdown(f"**Capacity** :gray[{escape(said)}]")
        draw_table(
            rows,
            key="capacity",
            alt="Limits of the plan with the share that is used",
            columns={"Used": share_column(110)},
            most=5,
            empty=(":material/speed:", "crossfade capacity says it for any number of clients."),
        )


def draw_steering(actions: Actions, records: Records, who: Operator) -> None:
    """Draw what steers the rollout, for somebody who may."""
    with st.container(border=True, gap="small"):
        st.markdown("**Steer the rollout** :gray[each is shown with what it would decide before it does]")
        with st.container(horizontal=True, gap="small"):
            for action, (label, icon) in _BUTTONS.items():
                if st.button(label, key=f"rollout-{action}", icon=icon):
                    st.session_state[_ASKED] = action
    if (asked := st.session_state.get(_ASKED)) is not None:
        _confirm(actions, records, who, asked)


def _forget() -> None:
    st.session_state.pop(_ASKED, None)


@st.dialog("Steer the rollout", width="medium", on_dismiss=_forget)
def _confirm(actions: Actions, records: Records, who: Operator, action: Action) -> None:
    label, icon = _BUTTONS[action]
    st.markdown(f"{icon} **{label}**")
    st.caption(_MEANINGS[action])
    try:
        found = steering(records.rollout())
    except ControlError as problem:
        st.error(str(problem), icon=":material/error:")
        return
    step = _step(action, found)
    try:
        decisions = actions.plan_rollout(step)
    except ControlError as problem:
        st.warning(str(problem), icon=":material/block:")
        return
    for each in decisions:
        st.markdown(rollout.decision(each))
    why = st.text_input(
        "Why", key="rollout-why", persist_state="page", placeholder="kept in the journal with who and when"
    )
    if st.button(label, key="rollout-confirmed", type="primary", disabled=not why):
        try:
            kept = actions.steer_rollout(who.token, _with(step, why))
        except ControlError as problem:
            st.error(str(problem), icon=":material/error:")
            return
        st.toast("; ".join(f"{each.action}: {each.after}" for each in kept), icon=":material/task_alt:")
        _forget()
        st.rerun()
    if not why:
        st.caption("Say why; the journal keeps it.")


def _step(action: Action, found: Steering) -> RolloutStep:
    cohort = None
    if action in {"advance", "rollback"} and len(found.cohorts) > 1:
        cohort = st.selectbox(
            "Cohort",
            [None, *(each.name for each in found.cohorts)],
            format_func=lambda each: each or "all of them",
            key="rollout-cohort",
        )
    to = Stage.SHADOW
    if action == "rollback":
        to = st.segmented_control(
            "Back to", _BACK_TO, default=Stage.SHADOW, required=True, key="rollout-to"
        ) or Stage.SHADOW  # fmt: skip
    acknowledge = action == "resume" and bool(found.latched)
    if acknowledge:
        acknowledge = st.checkbox("The reasons of the trips have been dealt with", key="rollout-ack")
    return RolloutStep(action, cohort=cohort, to=to, acknowledge=acknowledge)


def _with(step: RolloutStep, why: str) -> RolloutStep:
    return RolloutStep(step.action, why, step.cohort, step.to, step.acknowledge)


def _standing(found: Steering) -> None:
    with st.container(border=True, gap="small"):
        said, color = rollout.summary(found)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown("**Rollout**", width="content")
            st.badge(
                "started" if found.active else "not started",
                icon=":material/route:",
                color=cast("Color", color),
            )
            st.caption(escape(said), width="stretch")
        if found.problem:
            st.warning(escape(found.problem), icon=":material/warning:")
        if not found.cohorts:
            draw_empty(":material/route:", "crossfade rollout start begins to move clients step by step.")
            return
        if found.active:
            draw_table(
                rollout.cohorts(found),
                key="cohorts",
                alt="Cohorts with where they stand, what is next and what holds them",
                empty=(":material/group:", ""),
            )
        st.markdown("**Gates** :gray[all have to pass before the next step]")
        draw_table(
            rollout.gates(found),
            key="gates",
            alt="Gates with their answer and what it rests on",
            most=9,
            columns={"Because": st.column_config.TextColumn(width="large")},
            empty=(":material/traffic:", "No controller runs, so nothing is asked."),
        )
        if found.completion:
            with st.expander("Before the last step, which cannot be undone", icon=":material/flag:"):
                draw_table(
                    rollout.evidence(found.completion),
                    key="completion",
                    alt="What has to hold before the migration is complete",
                    empty=(":material/flag:", ""),
                )


def _evidence(records: Records) -> None:
    """Draw what a decision rested on: chosen by hand, so that it stays while others are made."""
    try:
        known = [each for each in entries(records.decisions(_DECISIONS)) if each.gates]
    except ControlError:
        return  # the fragment above says so
    if not known:
        return
    with st.expander("What a decision rested on", icon=":material/gavel:"):
        chosen = st.selectbox("Decision", known, format_func=rollout.entry, key="decision", width=520)
        st.markdown(f"{escape(chosen.reason)} :gray[by {escape(chosen.by)}]")
        draw_table(
            rollout.evidence(chosen.gates),
            key="evidence",
            alt="The gates that a decision rested on",
            empty=(":material/gavel:", ""),
        )
