"""What a spool takes: drafts that may become events, their identity, and their bytes."""

from __future__ import annotations

import secrets

import orjson

from monitoring.errors import InvalidEvent
from monitoring.events import Draft, Event, Kind, Position, from_json, to_json, uuid7

MAX_EVENT_BYTES = 500_000
"""JSON of a larger event is refused: Realtime pushes no row of more than 1 MiB (its reference, "Large"), of JSON that
PostgreSQL has spaced out, and the legacy server takes no longer message."""

_RESERVED = frozenset({Kind.STREAM_OPENED, Kind.TOMBSTONE})
"""Kinds that only the spool and the writer make."""

_KIND_CHARACTERS = 128


def check_kind(kind: str) -> None:
    """Raise InvalidEvent for a kind that is Crossfade's own, or too long."""
    if kind in _RESERVED:
        raise InvalidEvent(f"kind {kind} is made by Crossfade alone; choose another name")
    if len(str(kind)) > _KIND_CHARACTERS:
        raise InvalidEvent(f"kind {str(kind)[:20]}... has more than {_KIND_CHARACTERS} characters")


def identify(draft: Draft, position: Position) -> Event:
    """Return the event a draft becomes at a position. Raises InvalidEvent for a time without a zone."""
    if draft.occurred_at.tzinfo is None:
        raise InvalidEvent(
            f"occurred_at {draft.occurred_at} of {draft.kind} on {draft.stream} has no time zone"
        )
    identity = draft.id or uuid7(int(draft.occurred_at.timestamp() * 1000), secrets.randbits(74))
    return Event(
        identity, draft.stream, position.epoch, position.seq, draft.kind, draft.occurred_at, draft.payload
    )


def encode(event: Event, max_bytes: int) -> bytes:
    """Return an event's JSON. Raises InvalidEvent for what is not JSON, cannot be read again, or is larger."""
    try:
        wire = to_json(event)
        from_json(wire)  # what cannot be read again must not get in: it would stop both paths
        # Encoded with room for what is put around it on either path: JSON that is nested deeper cannot be written there.
        body = orjson.dumps([[[[[[[[wire]]]]]]]])[8:-8]
    except (TypeError, OverflowError) as error:  # what JSON cannot say; a time in a year that UTC has not
        raise InvalidEvent(f"{event.kind} on {event.stream} cannot be written as JSON: {error}") from error
    if len(body) > max_bytes:
        raise InvalidEvent(
            f"{event.kind} on {event.stream} has {len(body)} bytes of JSON, at most {max_bytes} can be pushed"
        )
    return body
