"""From what is to be told to messages: grouped by device, few per channel, nothing lost. Pure.

A channel has one message on its way at a time. What is to be told meanwhile, and what the channel's rate does not allow,
waits as lines, one per alert, and goes out together. So a channel that is down for a night, or a thousand alerts at once,
makes few messages and no pile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

from alerting.lifecycle import Key
from alerting.rules import Channel, Severity

SHOWN = 20
"""Lines of a message; the rest is counted."""
GIVE_UP = timedelta(days=1)
"""A message that was not taken for so long is lost, and counted."""
FIRST_AGAIN = timedelta(seconds=5)
LONGEST_AGAIN = timedelta(minutes=5)
_NAMESPACE = UUID("6f1f7a0e-7a49-4d3a-9a2f-3f8a7d3f5b10")


class Word(StrEnum):
    """What is told of an alert."""

    FIRING = "firing"
    NO_DATA = "no data"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Line:
    """What is to be told of one alert."""

    key: Key
    word: Word
    severity: Severity
    text: str
    at: datetime
    held_back: int = 0
    """Alerts that are not told, because this one is their cause."""
    id: str = ""
    """The beginning of the alert's id, by which it is acknowledged."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel is to deliver. The id stays the same however often it is tried."""

    id: str
    channel: str
    severity: Severity
    resolved: bool
    title: str
    body: str
    made_at: datetime
    lines: int
    tries: int = 0
    not_before: datetime | None = None


@dataclass(slots=True)
class Backlog:
    """What one channel has to tell, and how much it may now."""

    lines: dict[Key, Line] = field(default_factory=dict)
    message: Message | None = None
    tokens: float = 0.0
    refilled_at: datetime | None = None
    made: int = 0
    delivered: int = 0
    failures: int = 0
    lost: int = 0
    last_error: str | None = None

    def put(self, line: Line) -> None:
        """Add a line. Of an alert that came and went before anybody was told of it nothing is left to tell."""
        waiting = self.lines.pop(line.key, None)
        if waiting is not None and waiting.word is not Word.RESOLVED and line.word is Word.RESOLVED:
            return
        self.lines[line.key] = line

    def make(self, channel: Channel, now: datetime) -> Message | None:
        """Return the message that is to go out now, new or waiting for its next try; None when there is none."""
        self._refill(channel, now)
        if self.message is None:
            if not self.lines or self.tokens < 1:
                return None
            self._compose(channel, now)
        message = self.message
        return message if message and (message.not_before is None or message.not_before <= now) else None

    def _compose(self, channel: Channel, now: datetime) -> None:
        groups: dict[str, list[Line]] = {}
        for line in self.lines.values():
            groups.setdefault(line.key.device, []).append(line)
        # One message a device while there is room for all of them; past that everything in one.
        chosen = next(iter(groups.values())) if len(groups) <= self.tokens else list(self.lines.values())
        for line in chosen:
            del self.lines[line.key]
        self.tokens -= 1
        self.made += 1
        self.message = compose(channel.name, chosen, now, self.made)

    def _refill(self, channel: Channel, now: datetime) -> None:
        if self.refilled_at is None or channel.every <= timedelta():
            self.tokens = float(channel.burst)
        elif now > self.refilled_at:
            self.tokens = min(self.tokens + (now - self.refilled_at) / channel.every, float(channel.burst))
        self.refilled_at = now if self.refilled_at is None else max(now, self.refilled_at)

    def settle(self, message_id: str, now: datetime, error: str | None = None) -> None:
        """Note that a message was delivered, or why it was not: it is tried again, later each time, for a day."""
        message = self.message
        if message is None or message.id != message_id:
            return
        if error is None:
            self.message, self.last_error = None, None
            self.delivered += 1
            return
        self.failures += 1
        self.last_error = error
        if now - message.made_at >= GIVE_UP:
            self.lost += 1
            self.message = None
            return
        wait = min(FIRST_AGAIN * 2 ** min(message.tries, 10), LONGEST_AGAIN)
        self.message = Message(
            message.id,
            message.channel,
            message.severity,
            message.resolved,
            message.title,
            message.body,
            message.made_at,
            message.lines,
            message.tries + 1,
            now + wait,
        )


def compose(channel: str, lines: Sequence[Line], now: datetime, number: int) -> Message:
    """Return one message about all the lines, the worst first."""
    ordered = sorted(lines, key=lambda line: (line.word is Word.RESOLVED, -line.severity.rank, line.key))
    alive = [line for line in ordered if line.word is not Word.RESOLVED]
    severity = max((line.severity for line in alive or ordered), key=lambda each: each.rank)
    head = severity.value if alive else Word.RESOLVED.value
    shown = [_sentence(line) for line in ordered[:SHOWN]]
    if len(ordered) > SHOWN:
        shown.append(f"... and {len(ordered) - SHOWN} more: crossfade alerts list")
    return Message(
        id=str(uuid5(_NAMESPACE, f"{channel} {number} {now.isoformat()}")),
        channel=channel,
        severity=severity,
        resolved=not alive,
        title=f"[{head}] {_subject(ordered, len(alive))}",
        body="\n".join(shown),
        made_at=now,
        lines=len(ordered),
    )


def _subject(lines: Sequence[Line], alive: int) -> str:
    if len(lines) == 1:
        key = lines[0].key
        return f"{key.rule}: {target(key)}"
    devices = _distinct(line.key.device for line in lines)
    rules = _distinct(line.key.rule for line in lines)
    what = f"{alive} firing" if alive else ""
    if len(lines) > alive:
        what += f"{', ' if what else ''}{len(lines) - alive} resolved"
    where = devices[0] if len(devices) == 1 else f"{len(devices)} devices"
    which = rules[0] if len(rules) == 1 else f"{len(rules)} rules"
    return f"{which}: {what} on {where}"


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _sentence(line: Line) -> str:
    more = "1 more alert is" if line.held_back == 1 else f"{line.held_back} more alerts are"
    held = f"; {more} held back, this is the cause" if line.held_back else ""
    named = f", alert {line.id}" if line.id and line.word is Word.FIRING else ""
    return (
        f"{line.word.value.upper()} {line.severity.value} {line.key.rule} {target(line.key)}: {line.text}{held} "
        f"({line.at:%Y-%m-%d %H:%M:%S} UTC{named})"
    )


def target(key: Key) -> str:
    """Return an alert's target for people: ``web-1`` or ``web-1 redis``."""
    return f"{key.device} {key.item}".rstrip()
