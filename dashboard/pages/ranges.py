"""Choosing a range of time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import streamlit as st

from dashboard.history import LENGTHS, LIVE, OWN, Range, between, lately

Span = Callable[[datetime], Range | None]
"""What was chosen, at a moment; None where it is no range."""


def draw_range(key: str, *, live: bool = False) -> Span | None:
    """Draw what chooses a range; None for what is live, which is offered where there is something live."""
    choices = [*([LIVE] if live else []), *LENGTHS, OWN]
    choice = st.segmented_control(
        "Range", choices, default=choices[0], required=True, key=key, bind="query-params"
    )
    if choice in LENGTHS:
        return lambda now: lately(LENGTHS[choice], now)
    if choice != OWN:
        return None
    today = datetime.now().astimezone()
    first = st.datetime_input("From", today - timedelta(hours=2), key=f"{key}-from", width=190)
    last = st.datetime_input("To", today, key=f"{key}-to", width=190)
    found = between(first.astimezone(), last.astimezone()) if first and last else None
    return lambda _: found
