"""The live comparison, as a card."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from dashboard.hub import Frame
from dashboard.pages.parts import draw_badge, draw_pairs
from dashboard.reports import Parity
from dashboard.views import parity
from dashboard.views.words import escape


def draw_parity(frame: Frame, now: datetime) -> None:
    """Draw the newest verdict, or why there is none."""
    result = frame.parity
    if not isinstance(result, Parity):
        st.badge("not compared yet", icon=":material/hourglass_empty:", color="gray")
        st.caption(parity.not_compared(result))
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        draw_badge(parity.verdict(result, now))
        st.caption(escape(parity.age(result, now)), width="content")
    draw_pairs(parity.facts(result))
    if result.reason:
        st.caption(escape(result.reason.replace("_", " ")))
