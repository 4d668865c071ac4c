"""The ``/link`` dialect: how a collector's spool feeds the legacy server.

The server states its heads; the link sends what comes after them in numbered frames and the server acknowledges each
frame once it has taken it. A frame without events says: this is all I have retained, and where its streams stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import orjson

from legacy_ws.errors import LegacyError, MalformedMessage, UnknownMessage
from legacy_ws.protocol import json_object as obj
from monitoring.cursor import Cursor
from monitoring.events import Event, to_json

MAX_EVENTS = 500
"""Events in one frame."""
MAX_BYTES = 512 * 1024
"""Bytes of events in one frame; one event alone may be larger, up to MAX_EVENT_BYTES."""
MAX_FRAME_BYTES = 1024 * 1024
"""A server closes a link that sends more in one message."""
MAX_EVENT_BYTES = MAX_FRAME_BYTES - 1024
"""A larger event cannot be sent: its frame needs some bytes too."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Server: what it has, on every connect."""

    heads: Cursor


@dataclass(frozen=True, slots=True)
class Events:
    """Link: events in order, up to ``position`` of its spool.

    ``history`` marks events that an earlier server had acknowledged: they restore what a restart lost and are not
    news. ``more`` says that more of a refill follows at once. ``heads`` says where the link's streams stand, with events that are no longer retained; sent in the empty
    frame that ends a refill. ``rejected`` says why events of the frame could not be read.
    """

    position: int
    events: tuple[Event, ...] = ()
    history: bool = False
    more: bool = False
    heads: Cursor | None = None
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ack:
    """Server: it has taken everything up to the position."""

    position: int


@dataclass(frozen=True, slots=True)
class LinkError:
    """Server: a frame it could not read, and so will never acknowledge."""

    error: str


LinkMessage = Heads | Events | Ack | LinkError


class Unsendable(LegacyError):  # noqa: N818 - named for what it is
    """An event that no frame can carry."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An encoded frame of events."""

    position: int
    events: int
    data: bytes


def encode(message: LinkMessage) -> bytes:
    """Return a frame as UTF-8 JSON text."""
    match message:
        case Heads(heads):
            return orjson.dumps({"type": "heads", "heads": heads.to_json()})
        case Events(position, events, history, more, heads):
            return _frame(
                position,
                [orjson.dumps(to_json(event)) for event in events],
                history=history,
                more=more,
                heads=heads,
            )
        case Ack(position):
            return orjson.dumps({"type": "ack", "position": position})
        case LinkError(error):
            return orjson.dumps({"type": "error", "error": error})
        case _:
            assert_never(message)


def encode_event(event: Event) -> bytes:
    """Return one event's JSON for ``pack``; raises Unsendable, also for values that JSON cannot carry."""
    try:
        data = orjson.dumps(to_json(event))
    except orjson.JSONEncodeError as error:
        raise Unsendable(
            f"{event.stream} {event.epoch}/{event.seq} has a value JSON cannot carry: {error}"
        ) from error
    if len(data) > MAX_EVENT_BYTES:
        raise Unsendable(
            f"{event.stream} {event.epoch}/{event.seq} has {len(data)} bytes; the legacy server takes {MAX_EVENT_BYTES}"
        )
    return data


def pack(rows: Iterable[tuple[int, bytes]], *, history: bool = False, more: bool = False) -> Iterator[Frame]:
    """Split (position, encoded event) pairs into frames of at most MAX_EVENTS events and about MAX_BYTES bytes."""
    batch: list[bytes] = []
    size = last = 0
    for position, data in rows:
        if batch and (len(batch) == MAX_EVENTS or size + len(data) > MAX_BYTES):
            yield Frame(last, len(batch), _frame(last, batch, history=history, more=more))
            batch, size = [], 0
        batch.append(data)
        size += len(data)
        last = position
    if batch:
        yield Frame(last, len(batch), _frame(last, batch, history=history, more=more))


def _frame(
    position: int, events: list[bytes], *, history: bool, more: bool, heads: Cursor | None = None
) -> bytes:
    frame: dict[str, Any] = {
        "type": "events",
        "position": position,
        "events": [orjson.Fragment(data) for data in events],
    }
    if history:
        frame["history"] = True
    if more:
        frame["more"] = True
    if heads is not None:
        frame["heads"] = heads.to_json()
    return orjson.dumps(frame)


def decode(data: str | bytes) -> LinkMessage:
    """Read a frame of either side; raises MalformedMessage.

    An event that cannot be read does not spoil its frame: it is told in ``rejected``, because a frame that is never
    acknowledged would hold up every later event.
    """
    message = obj.read(data)
    type_ = obj.take(message, "type", str)
    reader = _READERS.get(type_)
    if reader is None:
        raise UnknownMessage(type_, tuple(_READERS))
    return reader(message)


def _read_events(message: Mapping[str, Any]) -> Events:
    events: list[Event] = []
    rejected: list[str] = []
    for value in obj.take(message, "events", list):
        try:
            events.append(obj.take_event(value))
        except MalformedMessage as error:
            rejected.append(error.reason)
    return Events(
        position=obj.take(message, "position", int),
        events=tuple(events),
        history=message.get("history") is True,
        more=message.get("more") is True,
        heads=obj.take_cursor(message, "heads") if message.get("heads") is not None else None,
        rejected=tuple(rejected),
    )


_READERS: Mapping[str, Callable[[Mapping[str, Any]], LinkMessage]] = {
    "heads": lambda message: Heads(obj.take_cursor(message, "heads")),
    "events": _read_events,
    "ack": lambda message: Ack(obj.take(message, "position", int)),
    "error": lambda message: LinkError(obj.take(message, "error", str)),
}
