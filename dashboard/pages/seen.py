"""What clients saw, and the states that both backends begin them with: two cards of a comparison."""

from __future__ import annotations

from collections.abc import Collection

import streamlit as st

from dashboard.comparison import Comparison
from dashboard.pages.parts import draw_badge, draw_table
from dashboard.seen import States
from dashboard.views import seen
from dashboard.views.words import Badge, escape

_LOW = 72
"""The height of what is mostly empty."""


def draw_seen(found: Comparison, said: Badge, why: str, *, key: str, expected: Collection[str] = ()) -> None:
    """Draw what clients saw by cohort, which of them disagree, and what of it is not known."""
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown("**What clients saw** :gray[against what was published]", width="content")
            draw_badge(said)
        st.markdown(escape(why))
        if total := seen.totals(found.seen):
            st.caption(escape(total))
        left, right = st.columns(2, gap="small")
        with left:
            draw_table(
                seen.cohorts(found.seen, expected),
                key=f"{key}-cohorts",
                alt="Cohorts of clients with how many blocks differ and what is ruled out",
                most=6,
                columns={"Cohort": st.column_config.TextColumn(pinned=True)},
                empty=(":material/group:", "Nothing is known of any cohort yet."),
                empty_height=_LOW,
            )
        with right:
            draw_table(
                seen.disagreements(found.seen),
                key=f"{key}-differ",
                alt="Clients that disagree with what was published, with stream and how",
                most=6,
                columns={"Client": st.column_config.TextColumn(pinned=True)},
                empty=(":material/group:", "No client that could be checked disagrees."),
                empty_height=_LOW,
            )
        if left_out := seen.unchecked(found.seen):
            st.caption(":material/help: **Not known**  \n" + "  \n".join(map(escape, left_out)))


def draw_states(found: States | None) -> None:
    """Draw how the states of both backends compare at the end of a run."""
    said, why = seen.states_badge(found)
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown("**State against state** :gray[snapshot against snapshot]", width="content")
            draw_badge(said)
        st.markdown(escape(why))
        rows = seen.states_rows(found)
        if not rows:
            st.caption("`crossfade validate state` compares both at any time.")
            return
        left, right = st.columns([2, 3], gap="small")
        with left:
            draw_table(
                rows, key="states", alt="Entries of both states by class", empty=(":material/rule:", "")
            )
        with right:
            draw_table(
                seen.state_differences(found),
                key="state-differences",
                alt="Entries of the states that differ, field by field",
                most=6,
                empty=(":material/task_alt:", "No entry differs."),
                empty_height=_LOW,
            )
