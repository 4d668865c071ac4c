"""What applications push about themselves, as the page shows it: sessions, connections, semaphores, requests. Pure.

Kinds and payloads are described in docs/push.md. What cannot be read is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from dashboard.readings import number
from monitoring.applications import (
    CONNECTION_EVENT,
    HTTP_REQUESTS,
    SEMAPHORE_GAUGE,
    SESSION_CREATED,
    SESSION_DESTROYED,
    SESSION_UPDATED,
)
from monitoring.events import Event

KINDS = frozenset(
    {
        CONNECTION_EVENT,
        HTTP_REQUESTS,
        SEMAPHORE_GAUGE,
        SESSION_CREATED,
        SESSION_DESTROYED,
        SESSION_UPDATED,
    }
)
SESSIONS_KEPT = 200
"""The newest sessions of an application that are listed; the counts are of all."""
_NAMES_KEPT = 100
"""Connection types and semaphores of one application."""


_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Session:
    """An active session."""

    id: str
    attributes: Mapping[str, Any]
    seen: datetime


@dataclass(frozen=True, slots=True)
class Connections:
    """What was told of connections of one type since this viewer began."""

    count: int = 0
    errors: int = 0
    newest: datetime | None = None
    response_ms: float | None = None
    """Of the newest that said so."""


@dataclass(frozen=True, slots=True)
class Semaphore:
    """The newest gauge of a semaphore; None is unknown."""

    limit: float | None
    in_use: float | None
    waiting: float | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Application:
    """Everything known of one application."""

    name: str
    active_sessions: float | None = None
    total_sessions: float | None = None
    sessions: Mapping[str, Session] = field(default_factory=dict)
    connections: Mapping[str, Connections] = field(default_factory=dict)
    semaphores: Mapping[str, Semaphore] = field(default_factory=dict)
    requests_per_second: float | None = None
    error_share: float | None = None
    """Requests that ended in an error of the server, as a share of all."""
    requests_at: datetime | None = None


def applied(known: Application, event: Event) -> Application:
    """Return the application after an event of one of `KINDS`."""
    payload = event.payload
    match event.kind:
        case k if k in {SESSION_CREATED, SESSION_UPDATED, SESSION_DESTROYED}:
            return _with_session(known, event)
        case k if k == CONNECTION_EVENT:
            return _with_connection(known, event)
        case k if k == SEMAPHORE_GAUGE:
            name = payload.get("name")
            if not isinstance(name, str):
                return known
            gauge = Semaphore(
                limit=number(payload.get("limit")),
                in_use=number(payload.get("in_use")),
                waiting=number(payload.get("waiting")),
                at=event.occurred_at,
            )
            return replace(known, semaphores=_kept({**known.semaphores, name: gauge}, _NAMES_KEPT))
        case k if k == HTTP_REQUESTS:
            count, seconds = number(payload.get("count")), number(payload.get("interval_seconds"))
            errors = number(payload.get("errors"))
            return replace(
                known,
                requests_per_second=count / seconds if count is not None and seconds else None,
                error_share=errors / count if errors is not None and count else None,
                requests_at=event.occurred_at,
            )
        case _:
            return known


def _with_session(known: Application, event: Event) -> Application:
    id_ = event.payload.get("session_id")
    if not isinstance(id_, str):
        return known
    sessions = {key: value for key, value in known.sessions.items() if key != id_}
    if event.kind != SESSION_DESTROYED:
        attributes = event.payload.get("attributes")
        sessions[id_] = Session(id_, attributes if isinstance(attributes, Mapping) else {}, event.occurred_at)
    counts = event.payload.get("sessions")
    counts = counts if isinstance(counts, Mapping) else {}
    return replace(
        known,
        sessions=_kept(sessions, SESSIONS_KEPT),
        active_sessions=number(counts.get("active_count")),
        total_sessions=number(counts.get("total_count")),
    )


def _with_connection(known: Application, event: Event) -> Application:
    kind = event.payload.get("connection_type")
    if not isinstance(kind, str) or not kind:
        return known
    before = known.connections.get(kind, Connections())
    response = number(event.payload.get("response_time_ms"))
    after = Connections(
        count=before.count + 1,
        errors=before.errors + bool(event.payload.get("error")),
        newest=event.occurred_at,
        response_ms=before.response_ms if response is None else response,
    )
    return replace(known, connections=_kept({**known.connections, kind: after}, _NAMES_KEPT))


def _kept(values: dict[str, _Value], most: int) -> dict[str, _Value]:
    """Drop the oldest entries beyond a number."""
    return values if len(values) <= most else dict(list(values.items())[-most:])
