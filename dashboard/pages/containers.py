"""Containers of all hosts, and one of them with its log and what can be done to it."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from dashboard.actions import Actions, Operator
from dashboard.hub import Frame, Hub
from dashboard.pages.parts import SLOW_SECONDS, draw_empty, draw_live, draw_running, draw_table
from dashboard.pages.signing_in import draw_sign_in
from dashboard.views import containers, logs
from monitoring.control import Command, ControlError

_LINES = (100, 300, 1000)
_LOG_HEIGHT = 420
_ASKED = "container-asked"
"""What somebody is about to have done, as (command, device, name): the question stays when the page is drawn anew."""
_ICONS = {
    Command.START: ":material/play_arrow:",
    Command.STOP: ":material/stop:",
    Command.RESTART: ":material/restart_alt:",
}


def draw(hub: Hub) -> None:
    """Draw the page and leave its fragments running."""
    hosts = list(hub.latest().state.hosts)
    draw_live(hub, built_on=lambda frame: (list(frame.state.hosts), containers.names(frame)))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        host = st.selectbox(
            "Host", hosts, index=None, placeholder="All hosts", key="containers-host", width=260
        )
        text = st.text_input("Search", placeholder="name or image", key="containers-text", width=260)

    def table(frame: Frame, _: datetime) -> None:
        with st.container(border=True, gap="small"):
            st.markdown(f"**Containers** :gray[{containers.count(frame)}]")
            filtered = (":material/search_off:", "No container has that in its name or image.")
            draw_table(
                containers.rows(frame, host, text),
                key="containers",
                alt="Containers with status, health, CPU and memory",
                most=12,
                columns={"Name": st.column_config.TextColumn(pinned=True)},
                empty=filtered if containers.count(frame) else containers.none(frame),
            )

    draw_running(hub, "containers-table", table, of=lambda frame: (frame.state.hosts, frame.docker_note))
    if hub.actions is not None:
        _one(hub, hub.actions)


def _one(hub: Hub, actions: Actions) -> None:
    known = [(device, name) for device, name in containers.names(hub.latest()) if actions.controls(device)]
    if not known:
        return
    with st.container(border=True, gap="small"):
        with st.container(
            horizontal=True, vertical_alignment="bottom", gap="small", horizontal_alignment="distribute"
        ):
            chosen = st.selectbox(
                "Container",
                known,
                format_func=lambda each: f"{each[1]} on {each[0]}",
                key="container",
                width=320,
            )
            who = draw_sign_in(actions)
        if who is None:
            st.caption("Sign in to read its log, and to start or stop it.")
            return
        device, name = chosen
        if who.writes:
            _commands(actions, who, device, name)
        _log(actions, who, device, name)
    if who.writes and (asked := st.session_state.get(_ASKED)) is not None:
        _confirm(actions, who, *asked)


def _commands(actions: Actions, who: Operator, device: str, name: str) -> None:
    with st.container(horizontal=True, gap="small"):
        for command in Command:
            if st.button(
                command.capitalize(),
                key=f"container-{command}",
                icon=_ICONS[command],
            ):
                if command is Command.START:
                    _carry_out(actions, who, command, device, name)
                else:
                    st.session_state[_ASKED] = command, device, name


def _forget() -> None:
    st.session_state.pop(_ASKED, None)


@st.dialog("Are you sure?", on_dismiss=_forget)
def _confirm(actions: Actions, who: Operator, command: Command, device: str, name: str) -> None:
    st.markdown(f"**{command.capitalize()}** container **{name}** on {device}?")
    st.caption("It gets ten seconds to end by itself; then it is killed.")
    if st.button(f"{command.capitalize()} {name}", key="confirmed", type="primary"):
        _carry_out(actions, who, command, device, name)
        _forget()
        st.rerun()


def _carry_out(actions: Actions, who: Operator, command: Command, device: str, name: str) -> None:
    try:
        with st.spinner(f"{command.capitalize()} {name} ..."):
            outcome = actions.command(who.token, command, device, name)
    except ControlError as problem:
        st.toast(str(problem), icon=":material/error:", duration="long")
        return
    done = f"is {outcome.status}" if outcome.changed else f"already was {outcome.status}"
    st.toast(f"{name} {done}", icon=":material/task_alt:")


def _log(actions: Actions, who: Operator, device: str, name: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        search = st.text_input("Search the log", key="log-search", width=260)
        most = st.selectbox("Lines", _LINES, key="log-lines", width=110)
        paused = st.toggle("Pause", key="log-paused")

    @st.fragment(run_every=None if paused else SLOW_SECONDS, key="log")
    def running() -> None:
        try:
            lines = actions.logs(who.token, device, name, most)
        except ControlError as problem:
            draw_empty(":material/receipt_long:", str(problem))
            return
        shown = logs.text(lines, search)
        st.caption(logs.count(lines, search))
        if not shown:
            draw_empty(":material/receipt_long:", "It has written nothing that is looked for.")
            return
        with st.container(height=_LOG_HEIGHT, autoscroll=True, border=False):
            st.code(shown, language=None, wrap_lines=True)
        if paused:
            st.download_button(
                "Download what is shown",
                shown,
                file_name=f"{name}.log",
                icon=":material/download:",
            )

    running()
