"""The page: draws a frame, decides nothing.

Two fragments redraw by themselves, in the browser's time: state and figures each second; charts, whose points are four
seconds wide, and tables every two. A fragment sends all it draws, but what did not change as a hash alone
(``global.minCachedMessageSize`` in the configuration), and the pictures themselves are made once, by the hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import streamlit as st

from dashboard import cards
from dashboard.charts import Drawn
from dashboard.hub import Frame, Hub
from dashboard.reports import Parity

_FAVICON = str(Path(__file__).with_name("favicon.svg"))
"""A file of ours: Streamlit would fetch an icon by name from the internet."""
_CHART_HEIGHT = 150
_EMPTY_HEIGHT = 130
_TABLE_HEIGHT = 282
_TABLE_ROWS = 7
_LIVE_SECONDS = 1.0
_SLOW_SECONDS = 2.0
_FIRST_PICTURE_SECONDS = 1.0
"""How long the first paint waits for the snapshot: a full page once is better than an empty one at once."""


def configure() -> None:
    """Set the title and the width; the first call of a script run."""
    st.set_page_config(page_title="Crossfade", page_icon=_FAVICON, layout="wide")


def draw(hub: Hub) -> None:
    """Draw the whole page and leave its fragments running."""
    hub.wait(lambda frame: frame.state.host is not None, _FIRST_PICTURE_SECONDS)

    @st.fragment(run_every=_LIVE_SECONDS, key="live")
    def live() -> None:
        frame = hub.latest()
        _header(frame, datetime.now(UTC))
        _figures(frame, hub.drawn(frame))

    @st.fragment(run_every=_SLOW_SECONDS, key="slow")
    def slow() -> None:
        frame, now = hub.latest(), datetime.now(UTC)
        _charts(frame, hub.drawn(frame))
        _routes(frame, now)
        _details(frame, now)

    live()
    slow()


def _header(frame: Frame, now: datetime) -> None:
    state = cards.state_badge(frame, now)
    feed = cards.backend_badge(frame)
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", key="header"
    ):
        with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content"):
            st.subheader(cards.escape(cards.title(frame)), anchor=False, width="content")
            st.badge(state.text, icon=state.icon, color=state.color, help=state.help or None)
            st.badge(feed.text, icon=feed.icon, color=feed.color, help=feed.help or None)
        st.caption(cards.subtitle(frame), width="content")
    for problem in cards.problems(frame, now):
        st.warning(problem, icon=":material/warning:")


def _figures(frame: Frame, drawn: Drawn) -> None:
    with st.grid(6, min_column_width=150, gap="small", key="figures"):
        for figure in cards.key_figures(frame, drawn.sparks):
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


def _charts(frame: Frame, drawn: Drawn) -> None:
    each = (
        ("cpu", "CPU", "all cores, %", drawn.cpu),
        ("memory", "Memory", "in use, %", drawn.memory),
        ("network", "Network", drawn.network_unit, drawn.network),
    )
    with st.grid(3, min_column_width=320, gap="small", key="charts"):
        for name, title, unit, option in each:
            with st.container(border=True, gap="xsmall"):
                st.markdown(f"**{title}** :gray[{unit}]")
                if frame.state.samples:
                    st.echarts_chart(
                        dict(option), height=_CHART_HEIGHT, key=f"chart-{name}", alt=cards.alt(frame, name)
                    )
                else:
                    st.skeleton(height=_CHART_HEIGHT)


def _routes(frame: Frame, now: datetime) -> None:
    with st.grid(3, min_column_width=320, gap="small", key="routes"):
        with st.container(border=True, height="stretch", gap="small"):
            st.markdown("**Migration** :gray[who is served by Supabase]")
            _migration(frame, now)
        with st.container(border=True, height="stretch", gap="small"):
            st.markdown("**Parity** :gray[both paths, event by event]")
            _parity(frame, now)
        with st.container(border=True, height="stretch", gap="small"):
            st.markdown("**Disks**")
            _disks(frame)


def _migration(frame: Frame, now: datetime) -> None:
    rollout = frame.rollout
    if rollout.problem:
        st.warning(f"flags.yaml is refused, the last good flags stay: {cards.escape(rollout.problem)}")
    st.progress(rollout.percent / 100, text=cards.share(rollout))
    _pairs(cards.migration(frame))
    st.caption("  \n".join(cards.moves(frame, now)))


def _parity(frame: Frame, now: datetime) -> None:
    parity = frame.parity
    if not isinstance(parity, Parity):
        st.badge("not compared yet", icon=":material/hourglass_empty:", color="gray")
        st.caption(cards.not_compared(parity))
        return
    verdict = cards.verdict(parity, now)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(verdict.text, icon=verdict.icon, color=verdict.color)
        st.caption(cards.escape(cards.parity_age(parity, now)), width="content")
    _pairs(cards.parity(parity))
    if parity.reason:
        st.caption(cards.escape(parity.reason.replace("_", " ")))


def _disks(frame: Frame) -> None:
    rows = cards.disks(frame)
    if not rows:
        _empty(":material/hourglass_empty:", "No disk has been reported yet.")
        return
    st.dataframe(
        rows,
        key="disks",
        hide_index=True,
        alt="Disks of this host with size and share in use",
        column_config={
            "Mount": st.column_config.TextColumn(width=130),
            "Used": st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100, width=100),
            "Free": st.column_config.TextColumn(width=72),
            "Size": st.column_config.TextColumn(width=72),
        },
    )


def _details(frame: Frame, now: datetime) -> None:
    left, right = st.columns([3, 2], gap="small")
    with left, st.container(border=True, height="stretch", gap="small"):
        rows = cards.containers(frame)
        st.markdown(f"**Containers** :gray[{cards.container_count(frame)}]")
        if rows:
            st.dataframe(
                rows,
                key="containers",
                hide_index=True,
                alt="Containers of this host with status, health, CPU and memory",
                column_config={
                    "CPU": st.column_config.TextColumn(width="small"),
                    "Memory": st.column_config.TextColumn(width="small"),
                    "Name": st.column_config.TextColumn(width="medium"),
                },
            )
        else:
            _empty(*cards.no_containers(frame))
    with right, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Events** :gray[newest first]")
        events = cards.feed(frame, now)
        if events:
            st.dataframe(
                events,
                key="feed",
                hide_index=True,
                height=_TABLE_HEIGHT if len(events["Seq"]) > _TABLE_ROWS else "auto",
                alt="The newest events with kind, stream, sequence number and age",
                column_config={
                    "Age": st.column_config.TextColumn(width=60),
                    "Kind": st.column_config.TextColumn(width=170),
                    "Seq": st.column_config.NumberColumn(format="%d", width=64),
                },
            )
        else:
            _empty(":material/hourglass_empty:", "No event has come yet.")


def _empty(icon: str, text: str) -> None:
    """Draw what stands in the place of a list that has nothing in it, and why."""
    with st.container(
        horizontal_alignment="center", vertical_alignment="center", height=_EMPTY_HEIGHT, border=False
    ):
        st.markdown(f"### :gray[{icon}]", width="content")
        st.caption(cards.escape(text), width="content", text_alignment="center")


def _pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Draw names and values in two columns."""
    st.table(
        {"name": [name for name, _ in pairs], "value": [value for _, value in pairs]},
        border="horizontal",
        hide_index=True,
        hide_header=True,
    )
