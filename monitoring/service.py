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
from monitoring.fingerprint import EXACT, Likeness
from monitoring.subscription import Subscription
from monitoring.topics import Topic


class Backend(StrEnum):
    """Where a client's events come from: one of the two that push, or polling of the query service over HTTP."""

    LEGACY = "legacy"
    SUPABASE = "supabase"
    POLLING = "polling"


PUSHING = (Backend.LEGACY, Backend.SUPABASE)
"""The control and the candidate of the migration: the two that are compared."""


class Status(StrEnum):
    """How a connection is doing."""

    CONNECTING = "connecting"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that this client will never get: history is gone. Positions are inclusive.

    ``to_seq`` is None when the end of the epoch is unknown: its last events and their heads are both gone, or its owner
    lost the lease and nobody knows what it still had. In epoch 0, of a feed without identities, a gap is of unknown
    extent: something may be missing from here on, or nothing.
    """

    stream: StreamId
    epoch: int
    from_seq: int
    to_seq: int | None
    reason: str = "history is gone"


@dataclass(frozen=True, slots=True)
class Moved:
    """The client's feed went from one route to another: the record of that decision.

    ``seconds`` is the time from opening the new feed to closing the old one, ``overlap_seconds`` the part of it in
    which the new one was live already; ``duplicates_dropped`` is what both brought. ``polled`` are the categories
    that are polled from now on. Nothing was lost, unless a Gap was told just before.
    """

    from_backend: Backend
    to_backend: Backend
    reason: str
    at: datetime
    seconds: float
    duplicates_dropped: int
    overlap_seconds: float = 0.0
    polled: frozenset[str] = frozenset()


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
    """What a backend can promise. Servers without ids promise less.

    Without ``identity`` events stand in epoch 0 at provisional positions and are recognised by ``likeness`` alone.
    Without ``resume`` a feed begins now, whatever the cursor; what happened while it was away, and what its server
    does not remember, is told as a Gap of unknown extent (epoch 0, ``to_seq`` None).
    """

    identity: bool = True
    resume: bool = True
    likeness: Likeness = EXACT


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

        A stream that is absent from ``since`` is new and delivered from its first retained event, or from about
        ``since.back_seconds`` ago where the service can tell what that was; ``since=None`` starts at the newest events
        of this moment. What history no longer has comes as an explicit Gap. The subscription survives outages of the
        backend by itself; it ends only when it is closed, or with Refused.
        """
        ...

    async def placed(self, topics: Collection[Topic], since: Cursor) -> Cursor:  # noqa: ARG002 - for who can tell
        """Return ``since`` with a position, instead of its ``back_seconds``, for each stream that is absent.

        Where the service cannot tell where its streams stood, it is ``since`` itself. Raises Unreachable or Refused.
        """
        return since

    async def health(self) -> Health:
        """Return how the service is doing, without waiting for the network."""
        ...

    async def close(self) -> None:
        """Close every subscription and connection; safe to call twice."""
        ...
