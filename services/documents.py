"""The forms of requests and answers, with examples: what the OpenAPI document shows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_LIMIT = 500
MAX_LIMIT = 1000
MAX_CLIENTS = 500

_CURSOR: dict[str, Any] = {"web-1/system": [1, 41], "web-1/containers": [1, 7]}
_EVENT: dict[str, Any] = {
    "id": "01938f3e-7a00-7000-8000-000000000001",
    "stream": "web-1/system",
    "epoch": 1,
    "seq": 42,
    "kind": "metric_collected",
    "occurred_at": "2026-11-21T08:00:00.000000Z",
    "payload": {"cpu_usage": 12.5, "memory_usage": 48.0},
}

Positions = Annotated[dict[str, Any], Field(description="{stream: [epoch, seq]}", examples=[_CURSOR])]


class EventDocument(BaseModel):
    """One event, in the form it has on every path."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EVENT]})

    id: str
    stream: str
    epoch: int
    seq: int
    kind: str
    occurred_at: str
    payload: dict[str, Any]


class SnapshotDocument(BaseModel):
    """The newest event of each stream and kind, and the cursor it stands at."""

    cursor: Positions
    state: list[EventDocument]


class PageDocument(BaseModel):
    """A part of what a client missed; ``more`` when the page is full."""

    events: list[EventDocument]
    heads: Positions
    more: bool


class EventsAfter(BaseModel):
    """What a client has, and what it wants."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"cursor": _CURSOR, "topics": ["devices.web-1"], "limit": DEFAULT_LIMIT}]
        },
    )

    cursor: dict[str, Any] = Field(
        default_factory=dict, description="{stream: [epoch, seq]}; an absent stream is new to the client"
    )
    topics: list[str] = Field(default_factory=list, description="none means everything")
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, strict=True)


class ErrorDocument(BaseModel):
    """A place, as a JSON pointer or ``query NAME``, and what is wrong there."""

    at: str
    detail: str


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:crossfade:problem:database-away",
                    "title": "Service Unavailable",
                    "status": 503,
                    "detail": "the database does not answer: no answer in time; try again",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    errors: list[ErrorDocument] = Field(default_factory=list)


class SupabaseDocument(BaseModel):
    """A Supabase project, as its clients need it."""

    url: str = Field(examples=["http://127.0.0.1:54321"])
    key: str = Field(description="the anon or publishable key")
    mode: str | None = Field(
        description="how Realtime carries the events: changes or broadcast; null while the database does not answer",
        examples=["changes"],
    )


class UrlDocument(BaseModel):
    """Where a backend is reached."""

    url: str


class ConnectionDocument(BaseModel):
    """What a client elsewhere needs to connect to each backend."""

    version: str
    supabase: SupabaseDocument
    legacy: UrlDocument | None
    polling: UrlDocument


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of an operation that may answer with these errors."""
    return {
        status: {"model": ProblemDocument, "content": {"application/problem+json": {}}} for status in statuses
    }
