"""The ``/link`` dialect: how a collector's spool feeds the legacy server.

The server states its heads; the link sends what comes after them in numbered frames and the server acknowledges each
frame once it has taken it. A frame without events says: this is all I have retained, and where its streams stand.
Container logs share the connection, in messages of their own (`link_logs`); so does which devices somebody watches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from legacy_ws.errors import LegacyError, MalformedMessage, UnknownMessage
from legacy_ws.protocol import json_object as obj
from legacy_ws.protocol.link_logs import LOG_READERS, LogMessage, encode_logs
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
class LinkFigures:
    """How a link got here, since it was made: attempts that failed, and how often its breaker opened."""

    retries: int
    breaker_opened: int


@dataclass(frozen=True, slots=True)
class Events:
    """Link: events in order, up to ``position`` of its spool.

    ``history`` marks events that an earlier server had acknowledged: they restore what a restart lost and are not
    news. ``more`` says that more of a refill follows at once. ``heads`` says where the link's streams stand, with events that are no longer retained; sent in the empty
    frame that ends a refill, as is ``figures``. ``rejected`` says why events of the frame could not be read.
    """

    position: int
    events: tuple[Event, ...] = ()
    history: bool = False
    more: bool = False
    heads: Cursor | None = None
    rejected: tuple[str, ...] = ()
    figures: LinkFigures | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """Server: it has taken everything up to the position."""

    position: int


@dataclass(frozen=True, slots=True)
class AskWatched:
    """Link: it wants to hear which devices are watched."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Server: the devices that its clients watch by name now; sent to links that asked, at once and at each change."""

    devices: frozenset[str]


@dataclass(frozen=True, slots=True)
class LinkError:
    """Server: a frame it could not read, and so will never acknowledge."""

    error: str


LinkMessage = Heads | Events | Ack | AskWatched | Watched | LinkError | LogMessage


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
            value: dict[str, Any] = {"type": "heads", "heads": heads.to_json()}
        case Events(position, events, history, more, heads, figures=figures):
            return _frame(
                position,
                [orjson.dumps(to_json(event)) for event in events],
                history=history,
                more=more,
                heads=heads,
                figures=figures,
            )
        case Ack(position):
            value = {"type": "ack", "position": position}
        case AskWatched():
            value = {"type": "ask_watched"}
        case Watched(devices):
            value = {"type": "watched", "devices": sorted(devices)}
        case LinkError(error):
            value = {"type": "error", "error": error}
        case _:
            return encode_logs(message)
    return orjson.dumps(value)


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
    position: int,
    events: list[bytes],
    *,
    history: bool,
    more: bool,
    heads: Cursor | None = None,
    figures: LinkFigures | None = None,
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
    if figures is not None:
        frame["figures"] = figures
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
        figures=_read_figures(obj.take(message, "figures", dict))
        if message.get("figures") is not None
        else None,
    )


def _read_figures(value: Mapping[str, Any]) -> LinkFigures:
    return LinkFigures(obj.take(value, "retries", int), obj.take(value, "breaker_opened", int))


def _read_watched(message: Mapping[str, Any]) -> Watched:
    devices = obj.take(message, "devices", list)
    if not all(isinstance(device, str) for device in devices):
        raise MalformedMessage("devices must be a list of names")
    return Watched(frozenset(devices))


_READERS: Mapping[str, Callable[[Mapping[str, Any]], LinkMessage]] = {
    "heads": lambda message: Heads(obj.take_cursor(message, "heads")),
    "events": _read_events,
    "ack": lambda message: Ack(obj.take(message, "position", int)),
    "ask_watched": lambda _: AskWatched(),
    "watched": _read_watched,
    "error": lambda message: LinkError(obj.take(message, "error", str)),
    **LOG_READERS,
}
