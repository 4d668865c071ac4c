"""Container logs over ``/link``: messages beside the events, asked for by the server.

A link says whose logs it has; the server asks for one while somebody reads it, each request with a number of its own, and takes
frame after frame. At most LOG_WINDOW of them are on their way untaken: a log that floods delays no event for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import orjson

from legacy_ws.errors import MalformedMessage, shown
from legacy_ws.protocol import json_object as obj
from monitoring.logs import LogCursor, LogLine, Mark

LOG_WINDOW = 4
"""Frames of one log that may be on their way untaken."""
MAX_LOG_CHARACTERS = 64 * 1024
"""Characters of lines in one frame; one line alone may be longer. JSON makes up to six bytes of one."""
LINE_OVERHEAD = 64
"""What a line's place takes."""


@dataclass(frozen=True, slots=True)
class OfferLogs:
    """Link: it has the logs of this device's containers."""

    device: str


@dataclass(frozen=True, slots=True)
class FollowLog:
    """Server: send a container's last lines, or what came ``after``, and then new ones."""

    request: int
    device: str
    container: str
    lines: int
    after: LogCursor | None = None


@dataclass(frozen=True, slots=True)
class EndLog:
    """Server: send no more."""

    request: int


@dataclass(frozen=True, slots=True)
class LogLines:
    """Link: lines of a log, in order; ``more`` says that the rest of the same batch follows."""

    request: int
    lines: tuple[LogLine, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class LogTaken:
    """Server: it has taken a frame of lines."""

    request: int


@dataclass(frozen=True, slots=True)
class LogFailed:
    """Link: there will be no more lines, and why."""

    request: int
    reason: str


LogMessage = OfferLogs | FollowLog | EndLog | LogLines | LogTaken | LogFailed


def encode_logs(message: LogMessage) -> bytes:
    """Return a message as UTF-8 JSON text."""
    return orjson.dumps(_value(message))


def _value(message: LogMessage) -> dict[str, Any]:
    match message:
        case OfferLogs(device):
            return {"type": "offer_logs", "device": device}
        case FollowLog():
            return _follow_log(message)
        case EndLog(request):
            return {"type": "end_log", "request": request}
        case LogLines(request, lines, more):
            told = [[line.container, line.stamp, line.position, line.text, line.mark] for line in lines]
            value: dict[str, Any] = {"type": "log_lines", "request": request, "lines": told}
            return value | {"more": True} if more else value
        case LogTaken(request):
            return {"type": "log_taken", "request": request}
        case LogFailed(request, reason):
            return {"type": "log_failed", "request": request, "reason": reason}
        case _:
            assert_never(message)


def pack_lines(request: int, lines: Sequence[LogLine]) -> Iterator[LogLines]:
    """Split a batch of lines into messages of at most MAX_LOG_CHARACTERS, one at least."""
    part: list[LogLine] = []
    size = 0
    for line in lines:
        if part and size + len(line.text) > MAX_LOG_CHARACTERS:
            yield LogLines(request, tuple(part), more=True)
            part, size = [], 0
        part.append(line)
        size += len(line.text) + LINE_OVERHEAD
    yield LogLines(request, tuple(part))


def _follow_log(message: FollowLog) -> dict[str, Any]:
    value: dict[str, Any] = {
        "type": "follow_log",
        "request": message.request,
        "device": message.device,
        "container": message.container,
        "lines": message.lines,
    }
    if (after := message.after) is not None:
        value["after"] = {"container": after.container, "since": after.since, "seen": after.seen}
    return value


def _read_follow_log(message: Mapping[str, Any]) -> FollowLog:
    after = message.get("after")
    return FollowLog(
        obj.take(message, "request", int),
        obj.take(message, "device", str),
        obj.take(message, "container", str),
        obj.take(message, "lines", int),
        _read_log_cursor(obj.take(message, "after", dict)) if after is not None else None,
    )


def _read_log_cursor(value: Mapping[str, Any]) -> LogCursor:
    seen: list[tuple[int, int]] = []
    for pair in obj.take(value, "seen", list):
        match pair:
            case [int(stamp), int(count)]:
                seen.append((stamp, count))
            case _:
                raise MalformedMessage(f"seen must hold pairs of a stamp and a count, got {shown(pair)}")
    return LogCursor(obj.take(value, "container", str), obj.take(value, "since", int), tuple(seen))


def _read_log_lines(message: Mapping[str, Any]) -> LogLines:
    lines: list[LogLine] = []
    for entry in obj.take(message, "lines", list):
        match entry:
            case [str(container), int(stamp), int(position), str(text), None]:
                lines.append(LogLine(stamp, text, container, position))
            case [str(container), int(stamp), int(position), str(text), str(mark)] if mark in _MARKS:
                lines.append(LogLine(stamp, text, container, position, Mark(mark)))
            case _:
                raise MalformedMessage(f"not a line of a log: {shown(entry)}")
    return LogLines(obj.take(message, "request", int), tuple(lines), message.get("more") is True)


_MARKS = frozenset(Mark)

LOG_READERS: Mapping[str, Callable[[Mapping[str, Any]], LogMessage]] = {
    "offer_logs": lambda message: OfferLogs(obj.take(message, "device", str)),
    "follow_log": _read_follow_log,
    "end_log": lambda message: EndLog(obj.take(message, "request", int)),
    "log_lines": _read_log_lines,
    "log_taken": lambda message: LogTaken(obj.take(message, "request", int)),
    "log_failed": lambda message: LogFailed(
        obj.take(message, "request", int), obj.take(message, "reason", str)
    ),
}
