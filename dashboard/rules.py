"""Rules of alerts and what one of them would have said of the past, as the page shows them. Pure; docs/alerts.md has the keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dashboard.readings import mapping, mappings, number, text, time_of


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; times in seconds."""

    name: str
    kind: str
    severity: str
    summary: str
    metric: str
    category: str
    expected: str
    clear: float | None
    was: tuple[str, ...]
    all: tuple[str, ...]
    any: tuple[str, ...]
    after: float | None
    over: float | None
    for_: float | None
    devices: tuple[str, ...]
    items: tuple[str, ...]
    inhibited_by: tuple[str, ...]
    notify: bool
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules in force. ``problem`` is what is wrong with the file now, in which case they are the last good ones."""

    file: str = ""
    problem: str = ""
    rules: tuple[Rule, ...] = ()
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an alert, as it would have been."""

    at: datetime | None
    firing: bool
    state: str
    device: str
    item: str
    value: str
    inhibited_by: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as somebody would have had it."""

    at: datetime | None
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rule would have said. ``first`` is how far history reached back, None where there was none."""

    rule: str
    events: int | None
    first: datetime | None
    changes: tuple[Change, ...]
    messages: tuple[Message, ...]


def rules(found: Mapping[str, Any]) -> Rules:
    """Read what `Records.rules` returns."""
    return Rules(
        file=text(found.get("file")),
        problem=text(found.get("problem")),
        rules=tuple(_rule(each) for each in mappings(found.get("rules")) if text(each.get("name"))),
        channels=_texts(found.get("channels")),
    )


def preview(found: Mapping[str, Any]) -> Preview:
    """Read what `Actions.preview` returns."""
    events = number(found.get("events"))
    return Preview(
        rule=text(found.get("rule")),
        events=None if events is None else int(events),
        first=time_of(found.get("first")),
        changes=tuple(
            Change(
                at=time_of(each.get("since")),
                firing=each.get("firing") is True,
                state=text(each.get("state")),
                device=text(each.get("device")),
                item=text(each.get("item")),
                value=_shown(each.get("value")),
                inhibited_by=text(each.get("inhibited_by")),
            )
            for each in mappings(found.get("changes"))
        ),
        messages=tuple(
            Message(time_of(each.get("at")), text(each.get("title")), text(each.get("body")))
            for each in mappings(found.get("messages"))
        ),
    )


def _rule(each: Mapping[str, Any]) -> Rule:
    each = mapping(each)
    return Rule(
        name=text(each.get("name")),
        kind=text(each.get("kind")),
        severity=text(each.get("severity")),
        summary=text(each.get("summary")),
        metric=text(each.get("metric")),
        category=text(each.get("category")),
        expected=text(each.get("expected")),
        clear=number(each.get("clear")),
        was=_texts(each.get("was")),
        all=_texts(each.get("all")),
        any=_texts(each.get("any")),
        after=number(each.get("after_seconds")),
        over=number(each.get("over_seconds")),
        for_=number(each.get("for_seconds")),
        devices=_texts(each.get("devices")),
        items=_texts(each.get("items")),
        inhibited_by=_texts(each.get("inhibited_by")),
        notify=each.get("notify") is not False,
        channels=_texts(each.get("channels")),
    )


def _shown(value: object) -> str:
    known = number(value)
    return text(value) if known is None else f"{known:.4g}"


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()
