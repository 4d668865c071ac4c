"""The events as they come, with filters, and one in full."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime

import orjson

from dashboard import figures
from dashboard.hub import Frame
from dashboard.views.words import Columns
from monitoring.events import Event, device_of, to_json


def chosen(
    frame: Frame, kinds: Collection[str] = (), devices: Collection[str] = (), text: str = ""
) -> list[Event]:
    """Return the events that the filters let through, newest first; an empty filter lets everything through."""
    wanted = text.casefold()
    return [
        event
        for event in reversed(frame.state.feed)
        if (not kinds or event.kind in kinds)
        and (not devices or device_of(event.stream) in devices)
        and (not wanted or wanted in _searched(event))
    ]


def rows(events: list[Event], now: datetime) -> Columns:
    """Return one row an event; empty without any."""
    if not events:
        return {}
    return {
        "Age": [figures.age(event.occurred_at, now) for event in events],
        "Kind": [event.kind for event in events],
        "Stream": [event.stream for event in events],
        "Epoch": [event.epoch for event in events],
        "Seq": [event.seq for event in events],
        "Says": [summary(event) for event in events],
    }


def kinds(frame: Frame) -> list[str]:
    """Return the kinds that have been seen."""
    return sorted({event.kind for event in frame.state.feed})


def devices(frame: Frame) -> list[str]:
    """Return the devices that have been heard."""
    return sorted({device_of(event.stream) for event in frame.state.feed})


def envelope(event: Event) -> str:
    """Return an event as it is sent, indented."""
    return json.dumps(to_json(event), indent=2, ensure_ascii=False)


def lines(events: list[Event]) -> bytes:
    """Return events as JSON lines, oldest first."""
    return b"".join(orjson.dumps(to_json(event)) + b"\n" for event in reversed(events))


def summary(event: Event, most: int = 90) -> str:
    """Return the beginning of an event's payload."""
    text = orjson.dumps(event.payload).decode()[1:-1].replace('"', "")
    return text if len(text) <= most else text[: most - 1] + "…"


def _searched(event: Event) -> str:
    return f"{event.kind} {event.stream} {orjson.dumps(event.payload).decode()}".casefold()
