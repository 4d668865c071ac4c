"""Any number over any range, and what is in our tables: read as a viewer, changed by nobody."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import streamlit as st

from dashboard import figures
from dashboard.history import field_chart
from dashboard.hub import Frame, Hub
from dashboard.pages.parts import (
    CALM_SECONDS,
    draw_chart,
    draw_empty,
    draw_live,
    draw_running,
    draw_table,
)
from dashboard.pages.ranges import Span, draw_range
from dashboard.records import Records
from dashboard.views import analytics, tables
from monitoring.control import ControlError

_CHART_HEIGHT = 320
_DEFAULT_FIELD = "cpu_usage"
_FIELDS_SECONDS = 60


def draw(hub: Hub) -> None:
    """Draw the page and leave its fragments running."""
    draw_live(hub, built_on=analytics.streams)
    if hub.records is None:
        draw_empty(":material/query_stats:", "There is no history here to look at.")
        return
    _series(hub, hub.records)
    _browser(hub.records)


def _series(hub: Hub, records: Records) -> None:
    with st.container(border=True, gap="small"):
        st.markdown("**Any number, over any range** :gray[of the history that is kept]")
        streams = analytics.streams(hub.latest())
        if not streams:
            draw_empty(":material/query_stats:", "Nothing has been heard yet that history could be of.")
            return
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            stream = st.selectbox("Stream", streams, key="stream", bind="query-params", width=240)
            try:
                minute = int(datetime.now(UTC).timestamp()) // _FIELDS_SECONDS
                known = hub.once(("fields", stream, minute), lambda: tuple(records.fields(stream)))
            except ControlError as problem:
                draw_empty(":material/cloud_off:", str(problem))
                return
            if not known:
                st.caption("There is no history of this stream: nothing of it has numbers.")
                return
            first = known.index(_DEFAULT_FIELD) if _DEFAULT_FIELD in known else 0
            field = st.selectbox("Number", known, index=first, key=f"field-{stream}", width=340)
            span = draw_range("analytics-range")
        if span is not None:
            _drawn(hub, records, stream, field, span)


def _drawn(hub: Hub, records: Records, stream: str, field: str, span: Span) -> None:
    def running(_: Frame, now: datetime) -> None:
        found = span(now)
        if found is None:
            draw_empty(":material/date_range:", "Choose two different moments.")
            return

        try:
            chart, rows = hub.once(
                (stream, field, found), lambda: field_chart(field, found, partial(records.series, stream))
            )
        except ControlError as problem:
            draw_empty(":material/cloud_off:", str(problem))
            return
        st.markdown(f"**{field}** :gray[{chart.unit}]")
        if chart.option is None:
            draw_empty(":material/show_chart:", "Nothing was recorded in this range.", _CHART_HEIGHT)
            return
        draw_chart(chart.option, key="analytics-chart", alt=chart.alt, height=_CHART_HEIGHT)
        st.caption(analytics.summary(rows))
        with st.expander("As a table", icon=":material/table:"):
            draw_table(
                analytics.rows(rows),
                key="analytics-rows",
                alt="Steps with mean, lowest, highest and number of samples",
                most=12,
                empty=(":material/table:", "There is no whole step."),
            )

    draw_running(hub, "analytics", running, seconds=CALM_SECONDS)


def _browser(records: Records) -> None:
    with st.container(border=True, gap="small"):
        st.markdown("**Our tables** :gray[as a viewer reads them]")
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            name = st.selectbox("Table", list(tables.TABLES), key="table", bind="query-params", width=260)
            page = int(st.number_input("Page", 1, 10_000, 1, key=f"table-page-{name}", width=120)) - 1
            st.button("Read again", key="table-again", icon=":material/refresh:")
        table = tables.TABLES[name]
        try:
            found = records.rows(name, table.order, tables.PAGE, page * tables.PAGE)
        except ControlError as problem:
            draw_empty(":material/cloud_off:", str(problem))
            return
        at = figures.clock(datetime.now(UTC))
        st.caption(f"{table.holds} {tables.shown(page, len(found)).capitalize()}, read at {at}.")
        draw_table(
            tables.rows(found),
            key=f"table-{name}",
            alt=f"Rows of {name}",
            most=15,
            empty=(":material/table_rows:", "There is no row here that a viewer may see."),
        )
        if found:
            st.download_button(
                "Download this page as JSON lines",
                tables.lines(found),
                file_name=f"{name}.jsonl",
                mime="application/x-ndjson",
                icon=":material/download:",
            )
