"""Agents and their commands: how far each is, as it is pushed; to run one, and to end it, for those who may."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

import streamlit as st

from dashboard import figures
from dashboard.actions import Actions, Operator
from dashboard.commands import Agent, Command, agents, commands, merged
from dashboard.hub import Frame, Hub
from dashboard.pages.parts import draw_badge, draw_empty, draw_pairs, draw_running, draw_table, share_column
from dashboard.pages.signing_in import draw_sign_in
from dashboard.records import Records
from dashboard.views import commands as view
from dashboard.views.words import escape
from monitoring.commands import Parameter
from monitoring.control import ControlError

_MOST = 100
_ASK_SECONDS = 10
"""Rows are asked for so often; in between they are as the pushed changes say."""
_OUTPUT_HEIGHT = 220
_LOW = 72
_LINES = 8
"""Of output; more of it scrolls."""
_ASKED = "command-asked"


@dataclass(frozen=True, slots=True)
class _Known:
    agents: tuple[Agent, ...]
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class _Run:
    """A command that somebody is about to have run."""

    agent: str
    command: str
    parameters: Mapping[str, str]
    seconds: float
    heard: bool
    key: str


@dataclass(frozen=True, slots=True)
class _Cancel:
    """A command that somebody is about to end."""

    id: str
    agent: str
    command: str


def built_on(frame: Frame) -> object:
    """Return what of commands stands outside the fragments."""
    return [(each.id, each.ended) for each in frame.state.commands.values()]


def begun(hub: Hub) -> bool:
    """Tell whether any agent has registered, as far as it can be asked."""
    try:
        return hub.records is not None and bool(_known(hub, hub.records, datetime.now(UTC)).agents)
    except ControlError:
        return False


def draw_commands(hub: Hub) -> None:
    """Draw agents and commands, and leave them running; where nothing can be asked, how to begin."""
    records = hub.records
    if records is None:
        return
    try:
        known = _known(hub, records, datetime.now(UTC))
    except ControlError as problem:
        with st.container(border=True, gap="small"):
            st.markdown("**Agents and commands**")
            st.caption(
                f"{escape(str(problem))}. `crossfade up --with control` has commands run on machines where "
                "`crossfade agent` runs."
            )
        return
    _lists(hub, records, known)
    with st.container(border=True, gap="small"):
        who = draw_sign_in(hub.actions) if hub.actions is not None else None
        if who is not None and who.writes:
            _submit(known.agents)
        elif hub.actions is not None:
            st.caption("Operators have commands run here, and end them.")
        _one(hub, records, merged(known.commands, hub.latest().state.commands), who)
    asked = st.session_state.get(_ASKED)
    if asked is not None and hub.actions is not None and who is not None and who.writes:
        _confirm(hub.actions, who, asked)


def _known(hub: Hub, records: Records, now: datetime) -> _Known:
    """Return what the control service has, asked for at most every ten seconds for all tabs; raises ControlError."""
    ask = ("commands", int(now.timestamp()) // _ASK_SECONDS)
    return hub.once(ask, lambda: _Known(agents(records.agents()), commands(records.commands(_MOST))))


def _lists(hub: Hub, records: Records, built: _Known) -> None:
    offered = [(each.name, each.offers) for each in built.agents]

    def running(frame: Frame, now: datetime) -> None:
        try:
            known = _known(hub, records, now)
        except ControlError as problem:
            known = built
            st.warning(escape(str(problem)), icon=":material/cloud_off:")
        if [(each.name, each.offers) for each in known.agents] != offered:
            st.rerun()
        left, right = st.columns([2, 3], gap="small")
        with left, st.container(border=True, height="stretch", gap="small"):
            st.markdown("**Agents** :gray[who may run what]")
            draw_table(
                view.agents(known.agents, now),
                key="agents",
                alt="Agents with whether they are heard and what they may run",
                most=7,
                columns={"Agent": st.column_config.TextColumn(pinned=True)},
                empty=(":material/smart_toy:", "No agent has registered yet: crossfade agent is one."),
                empty_height=_LOW,
            )
        with right, st.container(border=True, height="stretch", gap="small"):
            st.markdown("**Commands** :gray[newest first]")
            draw_table(
                view.rows(merged(known.commands, frame.state.commands)[:_MOST], now),
                key="commands",
                alt="Commands to agents with state and progress",
                most=7,
                columns={
                    "Command": st.column_config.TextColumn(pinned=True),
                    "Progress": share_column(110),
                },
                empty=(":material/terminal:", "No agent was asked to run anything yet."),
                empty_height=_LOW,
            )

    draw_running(hub, "commands-lists", running, of=lambda frame: frame.state.commands)


def _submit(known: Sequence[Agent]) -> None:
    able = {each.name: each for each in known if each.offers}
    if not able:
        st.caption("No agent may run anything yet: `crossfade agent --check` says what its file offers.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        name = st.selectbox("Agent", list(able), key="command-agent", width=220)
        offers = able[name].offers
        command = st.selectbox("Command", list(offers), key=f"command-{name}", width=240)
        offer = offers[command]
        given = {
            parameter: value
            for parameter, of in offer.parameters.items()
            if (value := _parameter(f"parameter-{name}-{command}-{parameter}", parameter, of)) is not None
        }
        wrong = view.mistakes(offer, given)
        if st.button("Run", key="command-run", icon=":material/play_arrow:", disabled=bool(wrong)):
            key = str(uuid.uuid4())  # confirmed twice, it is one command all the same
            st.session_state[_ASKED] = _Run(
                name, command, given, offer.timeout_seconds, able[name].heard, key
            )
    st.caption("; ".join(map(escape, wrong)) if wrong else escape(offer.description))


def _parameter(key: str, name: str, of: Parameter) -> str | None:
    """Draw what takes one parameter; return its value, None while there is none."""
    if of.choices:
        first = of.choices.index(of.default) if of.default in of.choices else 0
        return st.selectbox(name, of.choices, index=first, key=key, width=160)
    if of.minimum is not None or of.maximum is not None:
        least, first_value, most = view.bounds(of)
        return str(int(st.number_input(name, least, most, first_value, step=1, key=key, width=160)))
    value: str = st.text_input(
        name, of.default or "", max_chars=of.max_characters, key=key, persist_state="page", width=220
    )
    return value or (None if of.default is None else value)


def _one(hub: Hub, records: Records, known: Sequence[Command], who: Operator | None) -> None:
    """Draw one command in full: chosen by hand, so that it stays while others come."""
    if not known:
        return
    by_id = {each.id: each for each in known}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = st.selectbox(
            "One command in full",
            list(by_id),
            format_func=lambda id_: view.title(by_id[id_]),
            key="command",
            width=420,
        )
        able = who is not None and who.writes and not by_id[chosen].ended
        if able and st.button("Cancel it", key="command-cancel", icon=":material/cancel:"):
            each = by_id[chosen]
            st.session_state[_ASKED] = _Cancel(each.id, each.agent, each.command)

    def running(frame: Frame, now: datetime) -> None:
        told = merged(
            [by_id[chosen]], {id_: each for id_, each in frame.state.commands.items() if id_ == chosen}
        )[0]
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            draw_badge(view.badge(told))
            if told.progress is not None and not told.ended:
                st.progress(min(max(told.progress / 100, 0.0), 1.0), text=f"{told.progress:g} %")
        try:
            row = hub.once(("command", chosen, told.revision), lambda: commands([records.command(chosen)]))
        except ControlError as problem:
            draw_empty(":material/cloud_off:", str(problem))
            return
        newest, output = merged(row, {chosen: told})[0], row[0].output if row else ""
        left, right = st.columns([2, 3], gap="small")
        with left:
            draw_pairs(view.facts(newest, now))
        with right:
            if output:
                long = output.count("\n") > _LINES
                st.code(output, language=None, wrap_lines=True, height=_OUTPUT_HEIGHT if long else "content")
            else:
                draw_empty(":material/terminal:", "Its output is shown once it has ended.", _LOW)

    draw_running(hub, "command-one", running, of=lambda frame: frame.state.commands.get(chosen))


def _forget() -> None:
    st.session_state.pop(_ASKED, None)


@st.dialog("Are you sure?", on_dismiss=_forget)
def _confirm(actions: Actions, who: Operator, asked: _Run | _Cancel) -> None:
    """Ask once more; what was asked is kept, so that the question stays when the page is drawn anew."""
    match asked:
        case _Run():
            _confirm_run(asked)
            label = f"Run {asked.command}"
        case _Cancel():
            st.markdown(f"End **{escape(asked.command)}** on **{escape(asked.agent)}**?")
            st.caption(
                "While nobody has taken it, it is never run; else its agent ends it, with all that it had started."
            )
            label = f"End {asked.command}"
        case never:
            assert_never(never)
    if not st.button(label, key="command-confirmed", type="primary"):
        return
    try:
        said = _done(actions, who, asked)
    except ControlError as problem:
        st.error(escape(str(problem)), icon=":material/error:")
        return
    _forget()
    st.toast(said, icon=":material/task_alt:")
    st.rerun()


def _confirm_run(asked: _Run) -> None:
    st.markdown(f"Run **{escape(asked.command)}** on **{escape(asked.agent)}**?")
    if asked.parameters:
        st.code(view.words(asked.parameters), language=None, wrap_lines=True)
    silent = (
        ""
        if asked.heard
        else " The agent is silent: the command waits for it for five minutes, and expires then."
    )
    st.caption(
        f"It may take {figures.span(asked.seconds)}. Who asked for it, and what came of it, is kept in the record.{silent}"
    )


def _done(actions: Actions, who: Operator, asked: _Run | _Cancel) -> str:
    """Do what was asked and say what became of it; raises ControlError."""
    if isinstance(asked, _Run):
        state = actions.submit(who.token, asked.agent, asked.command, asked.parameters, asked.key)
        return f"{asked.command} is {state} on {asked.agent}"
    state = actions.cancel(who.token, asked.id)
    return f"{asked.command} {'is cancelled' if state == 'cancelled' else 'is asked to end'}"
