"""The forms of what applications push, and of the answer; docs/push.md describes each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SkipValidation

from monitoring import applications

MAX_EVENTS = 1_000

_PUSHED: dict[str, Any] = {
    "id": "01938f3e-7a00-7000-8000-000000000002",
    "stream": "app-7/connections",
    "kind": "connection_event",
    "occurred_at": "2026-11-21T08:00:00.000000Z",
    "payload": {"connection_type": "redis", "direction": "outbound", "response_time_ms": 1.5, "error": None},
}

Name = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Measure = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class PushedEvent(BaseModel):
    """One event: ``id`` is the application's own, the same each time that the event is sent."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_PUSHED]})

    id: UUID
    stream: str = Field(description="APPLICATION/CATEGORY", max_length=257)
    kind: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.:-]+$")
    occurred_at: AwareDatetime
    payload: dict[str, Any]


class PushDocument(BaseModel):
    """Events, oldest first per stream. Each is checked by itself: a bad one does not keep the others out."""

    model_config = ConfigDict(extra="forbid")

    events: list[Annotated[PushedEvent, SkipValidation]] = Field(min_length=1, max_length=MAX_EVENTS)


class ItemDocument(BaseModel):
    """What became of one event."""

    id: str | None
    kept: bool
    repeated: bool = Field(description="it was kept already, by an earlier request")
    reason: str | None = Field(description="why it was refused")
    again: bool = Field(description="it was refused for now: send it again")


class ReceiptDocument(BaseModel):
    """What became of each event, in the order of the request; ``accepted`` counts the repeated ones too."""

    accepted: int
    repeated: int
    refused: int
    items: list[ItemDocument]


class _Payload(BaseModel):
    """More keys are kept as they are."""

    model_config = ConfigDict(extra="allow")


class ConnectionPayload(_Payload):
    """``connection_event``, in seed 001's words."""

    connection_type: Name
    direction: Annotated[str, Field(pattern="^(inbound|outbound)$")] = "outbound"
    script_name: str | None = None
    function_name: str | None = None
    data_size_bytes: Count | None = None
    response_time_ms: Measure | None = None
    error: str | None = None
    metadata: dict[str, Any] | None = None


class SessionPayload(_Payload):
    """``session_created``, ``session_updated`` and ``session_destroyed``."""

    session_id: Name
    attributes: dict[str, Any] = Field(default_factory=dict)


class SemaphorePayload(_Payload):
    """``semaphore_gauge``."""

    name: Name
    limit: Count | None = None
    in_use: Count
    waiting: Count | None = None


class RequestsPayload(_Payload):
    """``http_requests``."""

    count: Count
    interval_seconds: Measure
    errors: Count | None = None
    duration_ms_total: Measure | None = None
    routes: list[dict[str, Any]] = Field(default_factory=list)


PAYLOADS: Mapping[str, type[BaseModel]] = {
    applications.CONNECTION_EVENT: ConnectionPayload,
    applications.SESSION_CREATED: SessionPayload,
    applications.SESSION_UPDATED: SessionPayload,
    applications.SESSION_DESTROYED: SessionPayload,
    applications.SEMAPHORE_GAUGE: SemaphorePayload,
    applications.HTTP_REQUESTS: RequestsPayload,
}
"""The payloads of kinds that Crossfade understands; any other kind may say what it likes."""
