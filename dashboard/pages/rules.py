"""Rules of alerts: what each watches for, and what it would have said of the past."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import streamlit as st

from dashboard.actions import Actions, Operator
from dashboard.hub import Frame, Hub
from dashboard.pages.parts import CALM_SECONDS, draw_badge, draw_empty, draw_running, draw_table
from dashboard.records import Records
from dashboard.rules import Preview, Rules, preview, rules
from dashboard.views import rules as view
from dashboard.views.words import escape
from monitoring.control import ControlError

_SINCE = {"1 h": 3600, "6 h": 21_600, "1 d": 86_400, "7 d": 604_800}
_TRIED = "rule-tried"
_LOW = 72


def draw_rules(hub: Hub, records: Records, who: Operator | None) -> None:
    """Draw the rules in force, and what tries one of them for somebody who has signed in."""

    def running(frame: Frame, now: datetime) -> None:
        try:
            found = _rules(hub, records, now)
        except ControlError as problem:
            draw_empty(":material/error:", str(problem))
            return
        with st.container(border=True, gap="small"):
            st.markdown(f"**Rules** :gray[{escape(Path(found.file).name)}]", help=escape(found.file))
            if found.problem:
                st.warning(escape(found.problem), icon=":material/warning:")
            draw_table(
                view.rows(found, frame),
                key="rules",
                alt="Rules of alerts with severity, condition and who is told",
                most=12,
                columns={"Rule": st.column_config.TextColumn(pinned=True)},
                empty=(":material/rule:", "There are no rules: nothing is an alert."),
            )

    draw_running(hub, "rules", running, seconds=CALM_SECONDS)
    if hub.actions is not None:
        _try(hub, hub.actions, records, who)


def _rules(hub: Hub, records: Records, now: datetime) -> Rules:
    return hub.once(("rules", int(now.timestamp() // CALM_SECONDS)), lambda: rules(records.rules()))


def _try(hub: Hub, actions: Actions, records: Records, who: Operator | None) -> None:
    with st.container(border=True, gap="small"):
        st.markdown("**Try a rule** :gray[on what was, as far as history reaches; nobody is told]")
        if who is None:
            st.caption("Sign in to try a rule: it reads all of history.")
            return
        try:
            names = [each.name for each in _rules(hub, records, datetime.now(UTC)).rules]
        except ControlError:
            return  # the fragment above says so
        if not names:
            st.caption("There is no rule to try.")
            return
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            name = st.selectbox("Rule", names, key="rule", bind="query-params", width=260)
            since = st.segmented_control(
                "Over the last", list(_SINCE), default="1 d", required=True, key="rule-since"
            )
            pressed = st.button("Try it", key="rule-try", icon=":material/play_arrow:")
        if pressed and since is not None:
            try:
                with st.spinner(f"Reading history and playing {name} over it ..."):
                    st.session_state[_TRIED] = preview(actions.preview(who.token, name, _SINCE[since]))
            except ControlError as problem:
                st.session_state.pop(_TRIED, None)
                st.error(escape(str(problem)), icon=":material/error:")
        found = st.session_state.get(_TRIED)
        if found is not None and found.rule == name:
            _tried(found)
        st.caption(
            f"`crossfade alerts test {name} --since {(since or '1 d').replace(' ', '')}` says the same."
        )


def _tried(found: Preview) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        draw_badge(view.badge(found))
        st.markdown(escape(view.summary(found)), width="stretch")
    left, right = st.columns(2, gap="small")
    with left:
        draw_table(
            view.changes(found),
            key="rule-changes",
            alt="When the rule would have fired and been resolved, and where",
            most=8,
            empty=(":material/task_alt:", "It would not have changed at any time."),
            empty_height=_LOW,
        )
    with right:
        draw_table(
            view.messages(found),
            key="rule-messages",
            alt="Messages that the rule would have made",
            most=8,
            empty=(":material/notifications_off:", "Nobody would have been told of anything."),
            empty_height=_LOW,
        )
