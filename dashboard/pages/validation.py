"""The live comparison in full."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from dashboard.comparison import Comparison, Sample, comparison, latency_chart, timeline_chart
from dashboard.hub import Frame, Hub
from dashboard.pages.parity import draw_parity
from dashboard.pages.parts import draw_chart, draw_figures, draw_live, draw_running, draw_table
from dashboard.pages.seen import draw_seen, draw_states
from dashboard.records import Records
from dashboard.reports import Parity, Waiting, parity
from dashboard.views import seen, validation
from dashboard.views.words import escape
from monitoring.control import ControlError

_CHART_HEIGHT = 210
_RUNS = 50


def draw(hub: Hub) -> None:
    """Draw the page and leave its fragments running."""
    draw_live(hub)
    draw_running(hub, "validation", _comparison, of=lambda frame: (frame.parity, frame.comparison))
    _one_finding(hub, hub.latest().comparison, "finding")
    if hub.records is not None:
        draw_runs(hub, hub.records)


def _one_finding(hub: Hub, found: Comparison, key: str) -> None:
    """Draw one finding field by field: chosen by hand, so that it stays while others come."""
    known = validation.kept(found)
    if not known:
        return
    with st.container(border=True, gap="small"):
        chosen = st.selectbox(
            "One finding, field by field", known, format_func=validation.finding, key=key, width=520
        )
        for note in validation.notes(chosen):
            st.markdown(f":material/info: {escape(note)}")
        draw_table(
            validation.fields(_event(hub, chosen), chosen),
            key=f"{key}-fields",
            alt="The fields of one event as published, and where a side differs",
            most=12,
            columns={"Field": st.column_config.TextColumn(pinned=True)},
            empty=(":material/data_object:", "The feed does not have this event any more, or never had."),
        )


def _event(hub: Hub, chosen: Sample) -> Mapping[str, Any] | None:
    if hub.records is None or chosen.epoch is None or chosen.seq is None:
        return None
    try:
        return hub.records.event(chosen.stream, chosen.epoch, chosen.seq)
    except ControlError:
        return None  # the differences themselves are known all the same


def draw_runs(hub: Hub, records: Records) -> None:
    """Draw the comparisons that were kept, and one of them in full."""
    with st.container(border=True, gap="small"):
        st.markdown("**Past runs** :gray[newest first]")
        found = records.runs(_RUNS)
        draw_table(
            validation.runs(found, datetime.now(UTC)),
            key="runs",
            alt="Comparisons that were kept, with verdict, findings and latency",
            most=6,
            columns={"Coverage": st.column_config.NumberColumn(format="%.2f %%")},
            empty=(":material/history:", "No run was kept yet: crossfade validate live --for 10m makes one."),
        )
        if not found:
            return
        reports = dict(found)
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            name = st.selectbox("Run", list(reports), key="run", bind="query-params", width=280)
            try:
                page = records.run_page(name)
            except (ControlError, KeyError) as problem:
                st.caption(f"It has no page: {problem}")
            else:
                st.download_button(
                    "Download as HTML",
                    page,
                    file_name=f"{name}.html",
                    mime="text/html",
                    icon=":material/download:",
                )
        _run(hub, reports[name])


def _verdict(report: Mapping[str, Any]) -> Parity | None:
    found = parity(report)
    return None if isinstance(found, Waiting) else found


def _run(hub: Hub, report: Mapping[str, Any]) -> None:
    found = comparison(report)
    left, right = st.columns(2, gap="small")
    with left:
        st.markdown("**Latency** :gray[share of events that came within]")
        draw_chart(
            latency_chart(found),
            key="run-latency",
            alt="How many events of the run came within which time, for both backends",
            height=_CHART_HEIGHT,
        )
    with right:
        st.markdown("**Decided** :gray[over time since it began, min:s]")
        draw_chart(
            timeline_chart(found),
            key="run-timeline",
            alt="Events of the run that were the same on both sides, and findings, over time",
            height=_CHART_HEIGHT,
        )
    draw_seen(found, *seen.confirmation(_verdict(report), found.seen), key="run-seen")
    draw_states(found.states)
    _one_finding(hub, found, "run-finding")


def _comparison(frame: Frame, now: datetime) -> None:
    draw_figures(validation.key_figures(frame), key="validation-figures")
    left, middle, right = st.columns(3, gap="small")
    with left, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Verdict** :gray[of the live comparison]")
        draw_parity(frame, now)
    result = frame.parity if isinstance(frame.parity, Parity) else None
    known = result is not None
    with middle, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Latency** :gray[share of events that came within]")
        draw_chart(
            latency_chart(frame.comparison) if known else None,
            key="latency",
            alt="How many events came within which time, for both backends",
            height=_CHART_HEIGHT,
        )
    with right, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Decided** :gray[over time since it began, min:s]")
        draw_chart(
            timeline_chart(frame.comparison) if known else None,
            key="timeline",
            alt="Events that were the same on both sides, and findings, over time",
            height=_CHART_HEIGHT,
        )
    if result is not None:
        draw_seen(
            frame.comparison,
            *seen.confirmation(result, frame.comparison.seen, now),
            key="seen",
            expected=frame.flags.wishes(),
        )
        st.caption(
            "State against state is compared at the end of a run: see past runs below, or `crossfade validate state`."
        )
    _findings(frame)


def _findings(frame: Frame) -> None:
    found = frame.comparison
    left, right = st.columns([2, 3], gap="small")
    with left, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Classes** :gray[by category]")
        draw_table(
            validation.classes(found),
            key="classes",
            alt="Events by class and category",
            most=11,
            empty=(":material/compare_arrows:", "Nothing has been compared yet."),
        )
    with right, st.container(border=True, height="stretch", gap="small"):
        st.markdown("**Findings** :gray[samples]")
        draw_table(
            validation.samples(found),
            key="findings",
            alt="Findings with their stream and what differs",
            most=10,
            empty=(":material/task_alt:", "Nothing was found that differs."),
        )
        if found.not_compared:
            st.caption(f"Not compared: {', '.join(found.not_compared)}.")
        st.caption("A run of its own, with a report to keep: `crossfade validate live --for 10m`.")
