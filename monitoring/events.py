"""Events: the one frozen envelope, its identity, and its form on the wire.

An event is identified by ``(stream, epoch, seq)``. A *stream* is one device's one category of events, written
``device/category``; it has one owner at a time. ``epoch`` is raised with each new owner, ``seq`` counts 1, 2, 3 ...
within the epoch without holes. The first event of every epoch is a ``stream_opened`` that names the last position of
the epoch before, so that a reader can tell a change of owner from a hole, and says whether that was all of it.

Servers without ids have nothing of that. Their events stand in epoch 0, which no owner ever holds: they are *not
identified*, their seq only counts what one feed has brought of the stream, and it means nothing to anyone else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, NewType
from uuid import UUID

from monitoring.errors import InvalidEvent

StreamId = NewType("StreamId", str)
"""``device/category``, for example ``web-1/system``."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z")

OWN_DEVICE = "crossfade"
"""Crossfade itself, as the device of its own streams."""

METRIC_TYPES: Mapping[str, str] = {
    "system": "system_metrics",
    "containers": "container",
    "drives": "drive_health",
    "sessions": "session",
}
"""Category -> metric type, in seed 004's words; any other category is its own metric type."""


class Kind(StrEnum):
    """The kinds of event that Crossfade itself writes; applications may add their own."""

    STREAM_OPENED = "stream_opened"
    TOMBSTONE = "tombstone"
    """What the database has in the place of an event that it rejected."""
    BRIDGE_GAP = "bridge_gap"
    """Something may be missing here of what another's server told, or is; ``reason`` says why."""
    METRIC_COLLECTED = "metric_collected"
    CONTAINERS_COLLECTED = "containers_collected"
    CONTAINER_STATUS_CHANGED = "container_status_changed"
    DEVICE_STATUS_CHANGED = "device_status_changed"
    DEVICE_RESTARTED = "device_restarted"
    """Its uptime began anew between two readings."""
    HOST_KEY_STORED = "host_key_stored"
    """A device showed its SSH host key for the first time, and was let in."""
    HOST_KEY_CHANGED = "host_key_changed"
    """A device shows another SSH host key than the stored one, and is refused."""
    CHECK_COMPLETED = "check_completed"
    CHECK_STATUS_CHANGED = "check_status_changed"


OWN_KINDS = frozenset({Kind.STREAM_OPENED, Kind.TOMBSTONE, Kind.BRIDGE_GAP})
"""Kinds about the delivery itself: no server but ours tells them."""


class Position(NamedTuple):
    """A place in a stream: the last event that is known or delivered. Compares by epoch, then seq."""

    epoch: int
    seq: int


BEGINNING = Position(0, 0)
"""Before the first event of any stream."""

UNIDENTIFIED_EPOCH = 0
"""The epoch of events whose position is provisional: their server gave them no identity."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a collector observed, before its owner's spool gives it an identity.

    ``id`` is set by whoever may hand the same event over twice, and has to be able to tell.
    """

    stream: StreamId
    kind: str
    occurred_at: datetime
    payload: Mapping[str, Any]
    id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, once, at a known place in its stream.

    ``occurred_at`` is aware and in UTC; ``payload`` is plain JSON and must not be changed. Of an event that is not
    ``identified`` the position is provisional, and ``id`` follows from what it says: equal events have equal ids.
    """

    id: UUID
    stream: StreamId
    epoch: int
    seq: int
    kind: str
    occurred_at: datetime
    payload: Mapping[str, Any]

    @property
    def position(self) -> Position:
        """Where the event stands in its stream."""
        return Position(self.epoch, self.seq)

    @property
    def identified(self) -> bool:
        """Whether the position is the event's own, the same over every path; never put it into a cursor if not."""
        return self.epoch != UNIDENTIFIED_EPOCH

    @property
    def previous(self) -> Position | None:
        """For the first event of an epoch: the last position of the epoch before; None for any other event."""
        if self.seq != 1:
            return None
        before = self.payload.get("previous") if self.kind == Kind.STREAM_OPENED else None
        return (
            Position(int(before["epoch"]), int(before["seq"])) if isinstance(before, Mapping) else BEGINNING
        )

    @property
    def follows_drained(self) -> bool:
        """Whether ``previous`` is all of the epoch before.

        False when its owner lost the lease without letting go of it: what it still had will never be in the stream,
        and how much that is nobody can know.
        """
        return self.kind != Kind.STREAM_OPENED or self.payload.get("drained") is not False


def stream_id(device: str, category: str) -> StreamId:
    """Return the stream of a device's category; raises InvalidEvent for names that cannot be addressed."""
    for what, name in (("device", device), ("category", category)):
        if not _NAME.match(name):
            raise InvalidEvent(
                f"{what} {name!r} must be 1-128 letters, digits or . _ : @ - and begin with a letter or digit"
            )
    return StreamId(f"{device}/{category}")


def device_of(stream: StreamId) -> str:
    """Return the device a stream belongs to."""
    return stream.partition("/")[0]


def category_of(stream: StreamId) -> str:
    """Return the category of a stream's events."""
    return stream.partition("/")[2]


def metric_type_of(stream: StreamId) -> str:
    """Return the metric type of a stream's events."""
    category = category_of(stream)
    return METRIC_TYPES.get(category, category)


def stream_opened(
    stream: StreamId, *, at: datetime, owner: str, previous: Position | None, drained: bool = True
) -> Draft:
    """Return the event that opens an epoch: its owner, the last position before it, and whether that was all."""
    before = {"epoch": previous.epoch, "seq": previous.seq} if previous else None
    payload: dict[str, Any] = {"owner": owner, "previous": before}
    if not drained:
        payload["drained"] = False
    return Draft(stream, Kind.STREAM_OPENED, at, payload)


def uuid7(unix_ms: int, random: int) -> UUID:
    """Return a version 7 UUID (RFC 9562, 5.7) of a time in milliseconds and 74 random bits."""
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (random >> 62 & 0xFFF) << 64
    return UUID(int=value | 0b10 << 62 | random & 0x3FFF_FFFF_FFFF_FFFF)


def format_time(at: datetime) -> str:
    """Return a time as RFC 3339 in UTC with microseconds, for example ``2026-11-21T08:00:00.000000Z``."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def to_json(event: Event) -> dict[str, Any]:
    """Return the event's form on the wire: the same keys on every path, in files and in ``crossfade watch``."""
    return {
        "id": str(event.id),
        "stream": event.stream,
        "epoch": event.epoch,
        "seq": event.seq,
        "kind": event.kind,
        "occurred_at": format_time(event.occurred_at),
        "payload": event.payload,
    }


@lru_cache(maxsize=16_384)
def _parsed_stream(text: str) -> StreamId:
    """Return a stream read from outside, checked; remembered, for each of its events names it again."""
    device, separator, category = text.partition("/")
    if not separator:
        raise InvalidEvent(f"stream {text!r} is not device/category")
    return stream_id(device, category)


def from_json(value: object, *, identified: bool = True) -> Event:
    """Return the event of a parsed JSON object (more keys are ignored); raises InvalidEvent.

    An event that is not identified is refused, as on every path that carries identities, unless ``identified`` is
    False: then either is read, as from a recording of what a client was given.
    """
    if not isinstance(value, Mapping):
        raise InvalidEvent(f"expected an object, got {type(value).__name__}")
    try:
        stream = _parsed_stream(str(value["stream"]))
        epoch, seq, kind, payload = value["epoch"], value["seq"], value["kind"], value["payload"]
        first = 1 if identified else UNIDENTIFIED_EPOCH
        if type(epoch) is not int or type(seq) is not int or epoch < first or seq < 1:
            raise InvalidEvent(f"epoch and seq must be integers from 1, got {epoch!r} and {seq!r}")
        if not isinstance(kind, str) or not kind:
            raise InvalidEvent(f"kind must be text, got {kind!r}")
        if not isinstance(payload, Mapping):
            raise InvalidEvent(f"payload must be an object, got {type(payload).__name__}")
        occurred_at = datetime.fromisoformat(value["occurred_at"])
        if occurred_at.tzinfo is None:
            raise InvalidEvent(f"occurred_at {value['occurred_at']!r} has no time zone")
        if occurred_at.tzinfo is not UTC:
            occurred_at = occurred_at.astimezone(UTC)
        return Event(UUID(value["id"]), stream, epoch, seq, kind, occurred_at, payload)
    except KeyError as error:
        raise InvalidEvent(f"{error.args[0]} is missing") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidEvent(str(error)) from error
