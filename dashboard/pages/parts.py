"""What several pages draw: the header, figures, pairs, tables and what stands in place of an empty one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard import tabs
from dashboard.hub import Frame, Hub
from dashboard.pages.signing_in import draw_session_note, tend
from dashboard.redrawing import HEARTBEAT_SECONDS
from dashboard.views import alerts, header
from dashboard.views.words import Badge, Columns, Figure, escape

LIVE_SECONDS = 1.0
SLOW_SECONDS = 2.0
CALM_SECONDS = 5.0
"""For what hardly ever changes."""
EMPTY_HEIGHT = 130
_ROW_PIXELS = 31
"""Of a table, its header too: 2.1875 of the theme's base font size, rounded. Any other number cuts the last row."""


Draw = Callable[[Frame, datetime], None]
"""Draws something of a picture, at a moment."""
Of = Callable[[Frame], object]
"""What of a picture is drawn: another one is drawn at once."""


def draw_live(
    hub: Hub, draw: Draw | None = None, *, built_on: Callable[[Frame], object] | None = None
) -> None:
    """Draw the state line of every page, and what follows below it; leave both running, up to once a second.

    ``built_on`` is what stands outside the fragments and cannot change by itself, as what a list offers: when it is
    another, the page is drawn anew; so it is when the session of whoever signed in ends, or is another's.
    """
    built = built_on(hub.latest()) if built_on is not None else None
    session, redrawn = _tended(hub), _redrawn(hub)

    def shown(frame: Frame) -> object:
        below = frame.state if draw is not None else None
        outside = built_on(frame) if built_on is not None else None
        return _state_line(frame), below, outside

    @st.fragment(run_every=HEARTBEAT_SECONDS if redrawn else LIVE_SECONDS, key="live")
    def running() -> None:
        frame, now = hub.latest(), datetime.now(UTC)
        another = built_on is not None and built_on(frame) != built
        if another or _tended(hub) != session or _redrawn(hub) is not redrawn:
            st.rerun()
        _header(frame, now)
        draw_session_note(now)
        if draw is not None:
            draw(frame, now)
        _drawn(hub, frame, shown, LIVE_SECONDS)

    running()


def draw_running(
    hub: Hub,
    key: str,
    draw: Draw,
    *,
    of: Of | None = None,
    paused: bool = False,
    seconds: float = SLOW_SECONDS,
) -> None:
    """Draw something and leave it running: when ``of`` the picture is another, in the mean not more often than each ``seconds``.

    Without ``of`` it is drawn each ``seconds``: what it shows is not in the picture.
    """
    by_timer = not paused and (of is None or not _redrawn(hub))

    @st.fragment(run_every=seconds if by_timer else None, key=key)
    def running() -> None:
        frame = hub.latest()
        draw(frame, datetime.now(UTC))
        _drawn(hub, frame, None if paused else of, seconds)

    running()


def _state_line(frame: Frame) -> object:
    """Return what the state line is made of, but for the age of the newest reading, which is let grow."""
    return frame.connection, frame.rollout, frame.state.alerts, frame.state.lost, bool(frame.state.hosts)


def _redrawn(hub: Hub) -> bool:
    """Tell whether fragments are drawn without the browser's asking; else each has a timer."""
    return hub.redrawing is not None and hub.redrawing.works


def _drawn(hub: Hub, frame: Frame, of: Of | None, seconds: float) -> None:
    if hub.redrawing is None or (place := tabs.here()) is None:
        return
    if of is None:
        hub.redrawing.forget(place)
    else:
        hub.redrawing.drawn(place, hub.differs(frame, of), seconds)


def _tended(hub: Hub) -> object:
    return None if hub.actions is None else tend(hub.actions, datetime.now(UTC))


def _header(frame: Frame, now: datetime) -> None:
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", key="state"
    ):
        with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content"):
            draw_badge(header.state_badge(frame, now))
            draw_badge(header.backend_badge(frame))
            if (alarm := alerts.badge(frame)) is not None:
                draw_badge(alarm)
        st.caption(f"viewer `{frame.client_id}`", width="content")
    for problem in header.problems(frame, now):
        st.warning(problem, icon=":material/warning:")


def draw_badge(badge: Badge) -> None:
    """Draw one badge."""
    st.badge(badge.text, icon=badge.icon, color=badge.color, help=badge.help or None)


def draw_figures(figures: Sequence[Figure], *, key: str) -> None:
    """Draw a row of key figures."""
    with st.grid(len(figures), min_column_width=150, gap="small", key=key):
        for figure in figures:
            st.metric(
                figure.label,
                figure.value,
                delta=figure.note or None,
                delta_color="off",
                delta_arrow="off",
                border=True,
                height="stretch",
                chart_data=figure.spark or None,
                chart_type="area",
            )


def draw_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Draw names and values in two columns."""
    names, values = zip(*pairs, strict=True) if pairs else ((), ())
    st.table(
        _arrow({"name": names, "value": values}),
        border="horizontal",
        hide_index=True,
        hide_header=True,
    )


def draw_table(
    rows: Columns,
    *,
    key: str,
    alt: str,
    columns: dict[str, Any] | None = None,
    most: int = 8,
    empty: tuple[str, str],
    empty_height: int = EMPTY_HEIGHT,
) -> None:
    """Draw a table that scrolls beyond ``most`` rows, or an icon and a sentence in the place of an empty one."""
    if not rows:
        draw_empty(*empty, empty_height)
        return
    count = len(next(iter(rows.values())))
    st.dataframe(
        _arrow(rows),
        key=key,
        hide_index=True,
        height=(most + 1) * _ROW_PIXELS + 2 if count > most else "content",
        alt=alt,
        column_config=columns,
    )


def _arrow(rows: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Return rows as Streamlit sends them: by way of pandas it costs five times as much, and the first time half a second."""
    return pa.table({name: list(values) for name, values in rows.items()})


def draw_chart(option: Mapping[str, Any] | None, *, key: str, alt: str, height: int) -> None:
    """Draw a chart, or what stands in its place until there is something to draw."""
    if option is None:
        st.skeleton(height=height)
    else:
        st.echarts_chart(dict(option), height=height, key=key, alt=alt)


def draw_empty(icon: str, text: str, height: int = EMPTY_HEIGHT) -> None:
    """Draw what stands in the place of a list that has nothing in it, and why."""
    with st.container(
        horizontal_alignment="center", vertical_alignment="center", height=height, border=False
    ):
        st.markdown(f":gray[{icon}]", width="content")  # large, by style.css; no heading
        st.caption(escape(text), width="content", text_alignment="center")


def share_column(width: int = 110) -> Any:
    """Return the configuration of a column of percentages, 0 to 100."""
    return st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100, width=width)
