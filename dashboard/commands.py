"""Agents and what they are asked to run, as the page shows it: rows of the control service, and changes as they are pushed. Pure.

A pushed change (``command_changed``, docs/control.md) has neither parameters nor output; its revision says which is newer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from dashboard.readings import mapping, mappings, number, text, time_of
from monitoring.commands import CommandState, Offer
from monitoring.events import Event

CHANGED = "command_changed"
COMMANDS_KEPT = 200
"""The newest that are known here; the control service has those of 90 days."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command and how far it is; None is unknown, and so are parameters before the control service was asked."""

    id: str
    agent: str
    command: str
    state: str
    revision: int
    progress: float | None = None
    """Percent, as the program tells it."""
    message: str = ""
    exit_code: int | None = None
    submitted_by: str = ""
    cancel_asked_by: str = ""
    changed: datetime | None = None
    submitted: datetime | None = None
    parameters: Mapping[str, str] | None = None
    output: str = ""

    @property
    def ended(self) -> bool:
        """Whether it will not change any more, but for a lost one whose agent comes back."""
        return self.state in _FINAL


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent and what it may run, by name. ``heard`` is what the control service says of the last 15 s."""

    name: str
    version: str = ""
    heard: bool = False
    heard_at: datetime | None = None
    open: int | None = None
    offers: Mapping[str, Offer] = field(default_factory=dict)


_FINAL = frozenset(str(each) for each in CommandState if each.final)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def applied(known: Mapping[str, Command], event: Event) -> Mapping[str, Command]:
    """Return the commands, by id, after a `CHANGED`; history may come after what is newer."""
    told = _command(event.payload)
    if told is None:
        return known
    before = known.get(told.id)
    if before is not None and before.revision >= told.revision:
        return known
    submitted = before.submitted if before else event.occurred_at if told.state == "queued" else None
    told = replace(told, changed=event.occurred_at, submitted=submitted)
    others = {key: each for key, each in known.items() if key != told.id}
    return dict(list({**others, told.id: told}.items())[-COMMANDS_KEPT:])


def commands(rows: Sequence[Mapping[str, Any]]) -> tuple[Command, ...]:
    """Read rows of the control service; what cannot be read is passed over."""
    return tuple(found for each in rows if (found := _command(each)) is not None)


def merged(rows: Sequence[Command], pushed: Mapping[str, Command]) -> list[Command]:
    """Return all commands, newest first, each as the newer of both says it."""
    found = {each.id: each for each in rows}
    for told in pushed.values():
        row = found.get(told.id)
        if row is None:
            found[told.id] = told
        elif told.revision > row.revision:
            found[told.id] = replace(told, submitted=row.submitted, parameters=row.parameters)
    return sorted(found.values(), key=lambda each: each.submitted or each.changed or _LONG_AGO, reverse=True)


def agents(rows: Sequence[Mapping[str, Any]]) -> tuple[Agent, ...]:
    """Read the agents of the control service; an offer that cannot be read is passed over."""
    return tuple(
        Agent(
            name=text(each.get("name")),
            version=text(each.get("version")),
            heard=each.get("heard") is True,
            heard_at=time_of(each.get("heard_at")),
            open=_whole(each.get("open")),
            offers={
                str(name): offer
                for name, told in mapping(each.get("offers")).items()
                if (offer := _offer(told)) is not None
            },
        )
        for each in mappings(rows)
        if text(each.get("name"))
    )


def _command(each: Mapping[str, Any]) -> Command | None:
    id_, revision = text(each.get("id")), _whole(each.get("revision"))
    if not id_ or revision is None:
        return None
    parameters = each.get("parameters")
    return Command(
        id=id_,
        agent=text(each.get("agent")),
        command=text(each.get("command")),
        state=text(each.get("state")),
        revision=revision,
        progress=number(each.get("progress")),
        message=text(each.get("message")),
        exit_code=_whole(each.get("exit_code")),
        submitted_by=text(each.get("submitted_by")),
        cancel_asked_by=text(each.get("cancel_asked_by")),
        changed=time_of(each.get("changed_at")),
        submitted=time_of(each.get("submitted_at")),
        parameters={str(name): str(value) for name, value in parameters.items()}
        if isinstance(parameters, Mapping)
        else None,
        output=text(each.get("output")),
    )


def _offer(told: object) -> Offer | None:
    try:
        return Offer.from_json(mapping(told))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _whole(value: object) -> int | None:
    known = number(value)
    return None if known is None else int(known)
