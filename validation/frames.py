"""Frames: everything that goes into a comparison, one by one, so that a recording replays to the same result. Pure.

A recording is a text file of JSON, a frame a line: first ``begin``, at last ``end``. Times (``at``) are seconds of the
clock of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from monitoring.errors import MonitoringError
from monitoring.events import Event, from_json, to_json
from monitoring.service import Backend
from validation.errors import InvalidRecording

VERSION = 1


class What(StrEnum):
    """What a frame is."""

    BEGIN = "begin"
    PUBLISHED = "published"
    """The truth has an event."""
    HEADS = "heads"
    """The truth's heads, whether or not its events could be read."""
    DELIVERED = "delivered"
    """A side has delivered an event."""
    GAP = "gap"
    LIVE = "live"
    DECIDE = "decide"
    """A tick: what is due is decided."""
    CLIENTS = "clients"
    """What clients report of what they saw."""
    STATES = "states"
    """Snapshots of both sides, taken as a pair."""
    STATES_END = "states_end"
    """No more pairs are taken; ``problem`` says why there were none, if so."""
    FINISH = "finish"
    """The window ends at these heads."""
    END = "end"


@dataclass(frozen=True, slots=True)
class Frame:
    """One input. ``more`` holds what only some frames have."""

    what: What
    at: float
    side: Backend | None = None
    event: Event | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def to_line(frame: Frame) -> bytes:
    """Return a frame as a line of a recording."""
    value: dict[str, Any] = {"what": frame.what, "at": frame.at, **frame.more}
    if frame.side is not None:
        value["side"] = frame.side
    if frame.event is not None:
        value["event"] = to_json(frame.event)
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def from_line(line: bytes, number: int) -> Frame:
    """Read a line; raises InvalidRecording that names it."""
    try:
        value = orjson.loads(line)
        event = value.pop("event", None)
        side = value.pop("side", None)
        return Frame(
            What(value.pop("what")),
            float(value.pop("at")),
            Backend(side) if side is not None else None,
            from_json(event, identified=False) if event is not None else None,
            value,
        )
    except (ValueError, KeyError, TypeError, AttributeError, MonitoringError) as error:
        raise InvalidRecording(f"line {number} is no frame: {error}") from error


def read(lines: Iterable[bytes]) -> Iterator[Frame]:
    """Read a recording; raises InvalidRecording. One that was cut off ends with its last whole line."""
    number = 0
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            break
        frame = from_line(line, number)
        if number == 1 and (frame.what is not What.BEGIN or frame.more.get("version") != VERSION):
            raise InvalidRecording(f"it does not begin as a recording of version {VERSION} does")
        yield frame
    if not number:
        raise InvalidRecording("it is empty")
