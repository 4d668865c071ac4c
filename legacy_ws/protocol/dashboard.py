"""The ``/ws`` dialect: seed 001's dashboard messages, and what Crossfade adds in their style.

Seed 001 fixes ``initial_stats`` and ``event``, and names ``stats``, ``export_complete`` and ``test_event``. Ours are
``subscribe`` / ``subscribed`` / ``waiting``, ``snapshot``, ``export``, ``ping`` / ``pong`` and ``error``;
``docs/dialects.md`` describes each. What a connection does with them is in `dashboard_dialect`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import NoneType
from typing import Any, assert_never

import orjson

from legacy_ws.errors import MalformedMessage, UnknownMessage, shown
from legacy_ws.protocol import json_object as obj
from legacy_ws.protocol.application_states import connection_type_of
from monitoring.applications import CONNECTION_EVENT
from monitoring.cursor import Cursor
from monitoring.events import Event, StreamId, device_of, format_time, to_json
from monitoring.service import Gap
from monitoring.topics import Topic

_TEST: Mapping[str, Any] = {
    "type": "test_event",
    "connection_type": "websocket",
    "direction": "outbound",
    "script_name": "legacy_ws",
    "function_name": "test_event",
    "data_size_bytes": 0,
    "response_time_ms": 0,
    "error": None,
}
SECTIONS = ("websocket", "redis", "supabase", "kimi", "glm")
"""The sections of ``stats`` that the seed names; a server may have more."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The figures of ``initial_stats`` and ``stats``. ``recent_events`` are ``event`` messages, oldest first."""

    stats: Mapping[str, Mapping[str, Any]]
    session_metrics: Mapping[str, Any]
    semaphore_metrics: Mapping[str, Any]
    websocket_health: Mapping[str, Any]
    recent_events: tuple[Any, ...]
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class InitialStats:
    """The first message on every connection."""

    figures: Stats


@dataclass(frozen=True, slots=True)
class StatsAnswer:
    """The answer to a stats request."""

    figures: Stats


@dataclass(frozen=True, slots=True)
class EventMessage:
    """Something that happened, as the seed's dashboard reads it; ``metadata.event`` holds our event."""

    connection_type: str
    direction: str
    script_name: str
    function_name: str
    data_size_bytes: int
    response_time_ms: float
    error: str | None
    metadata: Mapping[str, Any]
    broadcast_time: datetime

    def event(self) -> Event | None:
        """Return the event inside, None when a server without identities sent it; raises MalformedMessage."""
        inside = self.metadata.get("event")
        return None if inside is None else obj.take_event(inside)


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The answer to ``subscribe``: what the server has, and what it no longer has after the client's cursor."""

    heads: Cursor
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """The server will answer a request once it has its history back."""

    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotAnswer:
    """The newest event of each (stream, kind), and the heads it stands at."""

    state: tuple[Event, ...]
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to ``ping``."""


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """A message of the client that was not understood; the connection goes on."""

    error: str
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class ExportComplete:
    """An export's file is written: ``path`` is where this server serves it, one JSON event a line."""

    file: str
    path: str
    events: int
    size_bytes: int
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class TestEvent:
    """A test that somebody asked for, told to everybody in the shape of an event."""

    metadata: Mapping[str, Any]
    broadcast_time: datetime


@dataclass(frozen=True, slots=True)
class Other:
    """A message of a type this client does not use: a newer server's."""

    type: str


ServerMessage = (
    InitialStats
    | StatsAnswer
    | EventMessage
    | Subscribed
    | Waiting
    | SnapshotAnswer
    | Pong
    | ErrorMessage
    | ExportComplete
    | TestEvent
    | Other
)


@dataclass(frozen=True, slots=True)
class StatsRequest:
    """Ask for the figures of now."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Ask for events after a cursor; None is from now on."""

    topics: frozenset[Topic]
    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """Ask for the newest state."""

    topics: frozenset[Topic]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """Ask for a file with the retained events of the topics."""

    topics: frozenset[Topic]


@dataclass(frozen=True, slots=True)
class TestEventRequest:
    """Ask that everybody is told a ``test_event``."""

    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask for a sign of life."""


ClientMessage = StatsRequest | Subscribe | SnapshotRequest | ExportRequest | TestEventRequest | Ping


def event_message(event: Event, broadcast_time: datetime) -> EventMessage:
    """Return an event as the seed's dashboard reads it.

    A ``connection_event`` of an application has the seed's fields in its payload; of any other they are derived.
    """
    payload = event.payload if event.kind == CONNECTION_EVENT else {}
    error = event.payload.get("error")
    delay = (broadcast_time - event.occurred_at).total_seconds()
    return EventMessage(
        connection_type=connection_type_of(event),
        direction="outbound" if payload.get("direction") == "outbound" else "inbound",
        script_name=_told(payload, "script_name", str, device_of(event.stream)),
        function_name=_told(payload, "function_name", str, event.kind),
        data_size_bytes=_told(payload, "data_size_bytes", int, len(orjson.dumps(event.payload))),
        # Two clocks may disagree; time never runs backwards on screen.
        response_time_ms=_told(payload, "response_time_ms", (int, float), max(0, round(delay * 1000))),
        error=error if isinstance(error, str) else None,
        metadata={**_told(payload, "metadata", dict, {}), "event": to_json(event)},
        broadcast_time=broadcast_time,
    )


def _told(payload: Mapping[str, Any], key: str, kinds: Any, otherwise: Any) -> Any:
    value = payload.get(key)
    return value if isinstance(value, kinds) and not isinstance(value, bool) else otherwise


def write_event(event: Event, broadcast_time: datetime) -> bytes:
    """Write an event for every client: the same bytes."""
    return encode(event_message(event, broadcast_time))


def encode(message: ServerMessage | ClientMessage) -> bytes:
    """Return a message as UTF-8 JSON text. Encoded messages may stand in ``recent_events`` as orjson.Fragment."""
    return orjson.dumps(_to_json(message))


def _to_json(message: ServerMessage | ClientMessage) -> dict[str, Any]:  # noqa: C901, PLR0911, PLR0912 - one arm a message
    match message:
        case InitialStats(figures):
            return {"type": "initial_stats", **_stats_json(figures)}
        case StatsAnswer(figures):
            return {"type": "stats", **_stats_json(figures)}
        case EventMessage():
            return {
                "type": "event",
                "connection_type": message.connection_type,
                "direction": message.direction,
                "script_name": message.script_name,
                "function_name": message.function_name,
                "data_size_bytes": message.data_size_bytes,
                "response_time_ms": message.response_time_ms,
                "error": message.error,
                "metadata": message.metadata,
                "broadcast_time": format_time(message.broadcast_time),
            }
        case Subscribed(heads, gaps):
            return {
                "type": "subscribed",
                "heads": heads.to_json(),
                "gaps": [obj.gap_json(gap) for gap in gaps],
            }
        case Waiting(reason):
            return {"type": "waiting", "reason": reason}
        case SnapshotAnswer(state, cursor):
            return {
                "type": "snapshot",
                "state": [to_json(event) for event in state],
                "cursor": cursor.to_json(),
            }
        case Pong():
            return {"type": "pong"}
        case ErrorMessage(error, timestamp):
            return {"type": "error", "error": error, "timestamp": format_time(timestamp)}
        case ExportComplete(file, path, events, size_bytes, timestamp):
            return {
                "type": "export_complete",
                "file": file,
                "path": path,
                "format": "jsonl",
                "events": events,
                "size_bytes": size_bytes,
                "timestamp": format_time(timestamp),
            }
        case TestEvent(metadata, broadcast_time):
            return {**_TEST, "metadata": metadata, "broadcast_time": format_time(broadcast_time)}
        case Other(type_):
            return {"type": type_}
        case StatsRequest():
            return {"type": "stats"}
        case Subscribe(topics, since):
            return {
                "type": "subscribe",
                "topics": obj.topics_json(topics),
                "cursor": since.to_json() if since is not None else None,
            }
        case SnapshotRequest(topics):
            return {"type": "snapshot", "topics": obj.topics_json(topics)}
        case ExportRequest(topics):
            return {"type": "export", "topics": obj.topics_json(topics)}
        case TestEventRequest(metadata):
            return {"type": "test_event", "metadata": metadata}
        case Ping():
            return {"type": "ping"}
        case _:
            assert_never(message)


def _stats_json(figures: Stats) -> dict[str, Any]:
    return {
        "stats": figures.stats,
        "session_metrics": figures.session_metrics,
        "semaphore_metrics": figures.semaphore_metrics,
        "websocket_health": figures.websocket_health,
        "recent_events": figures.recent_events,
        "timestamp": format_time(figures.timestamp),
    }


def decode_server(data: str | bytes) -> ServerMessage:
    """Read what a server sent; raises MalformedMessage. Types this client does not use come as Other."""
    message = obj.read(data)
    type_ = obj.take(message, "type", str)
    reader = _SERVER.get(type_)
    return reader(message) if reader else Other(type_)


def decode_client(data: str | bytes) -> ClientMessage:
    """Read what a client sent; raises MalformedMessage, and UnknownMessage for types the dialect does not have."""
    message = obj.read(data)
    type_ = obj.take(message, "type", str)
    reader = _CLIENT.get(type_)
    if reader is None:
        raise UnknownMessage(type_, tuple(_CLIENT))
    return reader(message)


def _read_stats(message: Mapping[str, Any]) -> Stats:
    sections: dict[str, Any] = obj.take(message, "stats", dict)
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise MalformedMessage(f"stats.{name[:80]} must be an object, got {shown(section)}")
    return Stats(
        stats=sections,
        session_metrics=obj.take(message, "session_metrics", dict),
        semaphore_metrics=obj.take(message, "semaphore_metrics", dict),
        websocket_health=obj.take(message, "websocket_health", dict),
        recent_events=tuple(obj.take(message, "recent_events", list)),
        timestamp=obj.take_time(message, "timestamp"),
    )


def _read_event(message: Mapping[str, Any]) -> EventMessage:
    return EventMessage(
        connection_type=obj.take(message, "connection_type", str),
        direction=obj.take(message, "direction", str),
        script_name=obj.take(message, "script_name", str),
        function_name=obj.take(message, "function_name", str),
        data_size_bytes=obj.take(message, "data_size_bytes", int),
        response_time_ms=obj.take(message, "response_time_ms", int, float),
        error=obj.take(message, "error", str, NoneType),
        metadata=obj.take(message, "metadata", dict),
        broadcast_time=obj.take_time(message, "broadcast_time"),
    )


def _read_gaps(values: Iterable[Any]) -> Iterable[Gap]:
    for value in values:
        if not isinstance(value, dict):
            raise MalformedMessage(f"a gap is an object, got {shown(value)}")
        yield Gap(
            stream=StreamId(obj.take(value, "stream", str)),
            epoch=obj.take(value, "epoch", int),
            from_seq=obj.take(value, "from_seq", int),
            to_seq=obj.take(value, "to_seq", int, NoneType),
        )


def _read_export(message: Mapping[str, Any]) -> ServerMessage:
    return ExportComplete(
        obj.take(message, "file", str),
        obj.take(message, "path", str),
        obj.take(message, "events", int),
        obj.take(message, "size_bytes", int),
        obj.take_time(message, "timestamp"),
    )


def _read_test(message: Mapping[str, Any]) -> ServerMessage:
    return TestEvent(obj.take(message, "metadata", dict), obj.take_time(message, "broadcast_time"))


def _ours(read: Callable[[Mapping[str, Any]], ServerMessage], message: Mapping[str, Any]) -> ServerMessage:
    """Read a message whose shape the seed leaves open; another server's may have another one, which is no error."""
    try:
        return read(message)
    except MalformedMessage:
        return Other(str(message["type"]))


_SERVER: Mapping[str, Callable[[Mapping[str, Any]], ServerMessage]] = {
    "initial_stats": lambda message: InitialStats(_read_stats(message)),
    "stats": lambda message: StatsAnswer(_read_stats(message)),
    "event": _read_event,
    "subscribed": lambda message: Subscribed(
        obj.take_cursor(message, "heads"), tuple(_read_gaps(obj.take(message, "gaps", list)))
    ),
    "waiting": lambda message: Waiting(obj.take(message, "reason", str)),
    "snapshot": lambda message: SnapshotAnswer(
        obj.take_events(message, "state"), obj.take_cursor(message, "cursor")
    ),
    "pong": lambda _: Pong(),
    "error": lambda message: ErrorMessage(
        obj.take(message, "error", str), obj.take_time(message, "timestamp")
    ),
    "export_complete": lambda message: _ours(_read_export, message),
    "test_event": lambda message: _ours(_read_test, message),
}

_CLIENT: Mapping[str, Callable[[Mapping[str, Any]], ClientMessage]] = {
    "stats": lambda _: StatsRequest(),
    "subscribe": lambda message: Subscribe(
        obj.take_topics(message),
        obj.take_cursor(message, "cursor") if message.get("cursor") is not None else None,
    ),
    "snapshot": lambda message: SnapshotRequest(obj.take_topics(message)),
    "export": lambda message: ExportRequest(obj.take_topics(message)),
    "test_event": lambda message: TestEventRequest(
        obj.take(message, "metadata", dict) if "metadata" in message else {}
    ),
    "ping": lambda _: Ping(),
}
