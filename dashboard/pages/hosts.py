"""Hosts: a table of all, and one in full."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

import streamlit as st

from dashboard.charts import Drawn
from dashboard.history import Range
from dashboard.hub import Frame, Hub
from dashboard.model import HostView
from dashboard.pages.machine import draw_machine
from dashboard.pages.parts import (
    LIVE_SECONDS,
    draw_badge,
    draw_chart,
    draw_empty,
    draw_figures,
    draw_live,
    draw_running,
    draw_table,
    share_column,
)
from dashboard.pages.ranges import draw_range
from dashboard.views import containers, hosts
from monitoring.control import ControlError

_CHART_HEIGHT = 150
_PROJECTS_SECONDS = 60
_NO_HOST = (":material/dns:", "No host has been heard yet. `crossfade up` watches this machine by itself.")


def draw(hub: Hub) -> None:
    """Draw the page and leave its fragments running."""
    draw_live(hub, built_on=hosts.names)
    members = _project(hub)
    names = hosts.names(hub.latest(), members)
    if len(names) != 1:  # one host is shown in full below
        draw_running(
            hub,
            "hosts-table",
            lambda frame, now: _table(frame, now, members),
            of=lambda frame: frame.state.hosts,
        )
    if not names:
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = st.selectbox("Host", names, key="host", bind="query-params", width=260)
        span = draw_range("range", live=True) if hub.records is not None else None

    def head(frame: Frame, now: datetime) -> None:
        host = frame.state.hosts.get(chosen)
        if host is not None:
            _title(host, now)
            draw_figures(hosts.key_figures(host, hub.drawn(host).sparks), key="host-figures")

    def body(frame: Frame, now: datetime) -> None:
        host = frame.state.hosts.get(chosen)
        if host is not None:
            if span is None:
                _charts(host, hub.drawn(host))
            else:
                _history(hub, host, span(now))
            _details(frame, host)

    def shown(frame: Frame) -> object:
        return frame.state.hosts.get(chosen)

    draw_running(hub, "host-now", head, of=shown, seconds=LIVE_SECONDS)
    draw_running(hub, "host", body, of=shown)
    draw_machine(hub, chosen)


def _project(hub: Hub) -> Collection[str] | None:
    """Draw what chooses a project, where there are any; return its members, or None for everything."""
    records = hub.records
    if records is None:
        return None
    minute = int(datetime.now(UTC).timestamp()) // _PROJECTS_SECONDS
    try:
        known = hub.once(("projects", minute), lambda: {name: set(of) for name, of in records.projects()})
    except ControlError:
        return None  # a filter that is away hides nothing
    if not known:
        return None
    chosen = st.selectbox(
        "Project",
        list(known),
        index=None,
        placeholder="All projects",
        key="project",
        bind="query-params",
        width=260,
    )
    return known.get(chosen) if chosen else None


def _table(frame: Frame, now: datetime, only: Collection[str] | None) -> None:
    with st.container(border=True, gap="small"):
        draw_host_table(frame, now, only)


def _title(host: HostView, now: datetime) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader(host.name, anchor=False, width="content")
        draw_badge(hosts.badge(host, now))
        st.caption(hosts.subtitle(host), width="content")


def draw_host_table(frame: Frame, now: datetime, only: Collection[str] | None = None) -> None:
    """Draw one row a host, of all or of those in a project."""
    draw_table(
        hosts.rows(frame, now, only),
        key="hosts",
        alt="Hosts with status, CPU, memory, disk, network and containers",
        most=12,
        columns={
            "Host": st.column_config.TextColumn(width=150, pinned=True),
            "Status": st.column_config.TextColumn(width=90),
            "CPU": share_column(),
            "CPU, 10 min": st.column_config.AreaChartColumn(width=140, y_min=0, y_max=100),
            "Memory": share_column(),
            "Disk": share_column(),
        },
        empty=_NO_HOST if only is None else (":material/dns:", "No host of this project has been heard."),
    )


def _charts(host: HostView, drawn: Drawn) -> None:
    each = (
        ("cpu", "CPU", "all cores, %", drawn.cpu),
        ("memory", "Memory", "in use, %", drawn.memory),
        ("network", "Network", drawn.network_unit, drawn.network),
    )
    with st.grid(3, min_column_width=320, gap="small", key="charts"):
        for name, title, unit, option in each:
            with st.container(border=True, gap="xsmall"):
                st.markdown(f"**{title}** :gray[{unit}]")
                draw_chart(
                    option if host.samples else None,
                    key=f"chart-{name}",
                    alt=hosts.alt(host, name),
                    height=_CHART_HEIGHT,
                )


def _history(hub: Hub, host: HostView, span: Range | None) -> None:
    if span is None:
        draw_empty(":material/date_range:", "Choose two different moments.")
        return
    try:
        charts = hub.history(host, span)
    except ControlError as problem:
        draw_empty(":material/cloud_off:", str(problem))
        return
    with st.grid(4, min_column_width=290, gap="small", key="charts-history"):
        for chart in charts:
            with st.container(border=True, gap="xsmall"):
                st.markdown(f"**{chart.title}** :gray[{chart.unit}]")
                if chart.option is None:
                    draw_empty(":material/show_chart:", "Nothing was recorded in this range.", _CHART_HEIGHT)
                    continue
                draw_chart(chart.option, key=f"history-{chart.key}", alt=chart.alt, height=_CHART_HEIGHT)


def _details(frame: Frame, host: HostView) -> None:
    left, right = st.columns(2, gap="small")
    with left, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Disks**")
        draw_table(
            hosts.disks(host),
            key="disks",
            alt="Disks of this host with size and share in use",
            columns={"Used": share_column(100)},
            empty=(":material/hard_drive:", "No disk has been reported yet."),
        )
    with right, st.container(border=True, height="stretch", gap="small"):
        st.markdown(f"**Containers** :gray[{hosts.running(host)}]")
        draw_table(
            containers.rows(frame, host.name),
            key="host-containers",
            alt="Containers of this host with status, health, CPU and memory",
            columns={"Host": None, "Limit": None},
            empty=containers.none(frame),
        )
