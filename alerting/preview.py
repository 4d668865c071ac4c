"""What a rule would have said of the past: the engine, played over events of history. Pure.

Time passes in steps of a second, as in the process; nobody is told, and silences and acknowledgements of today count for
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from alerting.engine import Engine
from alerting.notices import Message
from alerting.rules import Channel, Composite, Rules
from monitoring.events import Event

STEP = timedelta(seconds=1)
_LONGEST_STRIDE = timedelta(seconds=5)
_CHANNEL = Channel(name="preview", url="json://localhost")


@dataclass(frozen=True, slots=True)
class Preview:
    """What would have happened, in order: changes of alerts, and messages as a channel would have had them."""

    changes: Sequence[dict[str, Any]]
    messages: Sequence[Message]
    events: int
    first: datetime | None
    last: datetime | None


def with_parts(rules: Rules, name: str) -> Rules:
    """Return a rule alone, with those it depends on, which are not told."""
    wanted, todo = {name}, [name]
    while todo:
        rule = rules.rule(todo.pop())
        if rule is not None:
            parts = {*rule.inhibited_by, *((*rule.all, *rule.any) if isinstance(rule, Composite) else ())}
            todo += parts - wanted
            wanted |= parts
    kept = tuple(
        replace(rule, notify=rule.notify and rule.name == name, channels=())
        for rule in rules.rules
        if rule.name in wanted
    )
    return replace(rules, rules=kept, channels=(_CHANNEL,))


def play(rules: Rules, events: Iterable[Event], until: datetime) -> Preview:
    """Play events, in the order of their times, until a time."""
    engine = Engine(rules)
    changes: list[dict[str, Any]] = []
    messages: list[Message] = []
    clock: datetime | None = None
    first: datetime | None = None
    count = 0

    def pass_to(end: datetime) -> None:
        nonlocal clock
        while clock is not None and clock < end:
            # Long quiet is passed in longer strides: only the time of a change is coarser then.
            clock = min(end, clock + (STEP if end - clock < timedelta(minutes=2) else _LONGEST_STRIDE))
            engine.advance(clock)
            for message in engine.messages(clock):
                messages.append(message)
                engine.settle(message, clock)
            changes.extend(engine.take_changes())

    for event in events:
        if first is None:
            first = clock = event.occurred_at
        pass_to(event.occurred_at)
        engine.observe(event, event.occurred_at)
        count += 1
    last = clock
    pass_to(until)
    return Preview(changes, messages, count, first, last)
