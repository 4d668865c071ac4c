"""The port: what every client of a monitoring stream sees, whichever backend answers.

Two adapters implement it (`adapters.legacy_websocket`, `adapters.supabase_realtime`) and one router in front of them
(`monitoring.router`). One behavioural suite, ``tests/contract/test_monitoring_service.py``, runs over all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from monitoring.cursor import Cursor
from monitoring.events import Event, StreamId
from monitoring.subscription import Subscription
from monitoring.topics import Topic


class Backend(StrEnum):
    """The two paths an event can take to a client."""

    LEGACY = "legacy"
    SUPABASE = "supabase"

    @property
    def other(self) -> Backend:
        """The backend that is not this one."""
        return Backend.SUPABASE if self is Backend.LEGACY else Backend.LEGACY


class Status(StrEnum):
    """How a connection is doing."""

    CONNECTING = "connecting"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that this client will never get: history is gone. Positions are inclusive.

    ``to_seq`` is None when the end of the epoch is unknown (its last events and their heads are both gone).
    """

    stream: StreamId
    epoch: int
    from_seq: int
    to_seq: int | None
    reason: str = "history is gone"


@dataclass(frozen=True, slots=True)
class Moved:
    """The client's feed went from one backend to another, without loss and without doubles."""

    from_backend: Backend
    to_backend: Backend
    reason: str
    at: datetime
    seconds: float
    duplicates_dropped: int


@dataclass(frozen=True, slots=True)
class MoveAbandoned:
    """A planned move that was given up because it would have lost something or took too long."""

    from_backend: Backend
    to_backend: Backend
    reason: str
    at: datetime


Item = Event | Gap | Moved | MoveAbandoned


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can promise. Servers without ids promise less."""

    identity: bool = True
    resume: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The newest event of each (stream, kind), and the cursor from which to follow on."""

    state: tuple[Event, ...]
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Health:
    """How a service is doing now; ``detail`` is one sentence for people."""

    backend: Backend
    status: Status
    since: datetime
    detail: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)


class MonitoringService(Protocol):
    """A monitoring stream: a snapshot of now, and every event from then on."""

    @property
    def backend(self) -> Backend:
        """The backend that answers at this moment."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this service promises."""
        ...

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        """Return the newest state of the topics and the cursor it stands at.

        Raises Unreachable or Refused.
        """
        ...

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        """Return every event of the topics after ``since``, once, in order of (epoch, seq) per stream.

        A stream that is absent from ``since`` is new and delivered from its first retained event; ``since=None``
        starts at the newest events of this moment. What history no longer has comes as an explicit Gap. The
        subscription survives outages of the backend by itself; it ends only when it is closed, or with Refused.
        """
        ...

    async def health(self) -> Health:
        """Return how the service is doing, without waiting for the network."""
        ...

    async def close(self) -> None:
        """Close every subscription and connection; safe to call twice."""
        ...
