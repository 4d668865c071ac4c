"""What the server measures of itself and counts of the events, and its form in ``initial_stats`` and ``stats``."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from legacy_ws.protocol.application_states import Semaphores, Sessions, connection_type_of
from legacy_ws.protocol.dialect import Arrival, Figures
from monitoring.applications import CONNECTION_EVENT
from monitoring.events import Event, category_of, format_time

_MEAN_OF = timedelta(minutes=1)
_APART = timedelta(seconds=1)
_CATEGORIES_KEPT = 200
"""Sections of ``stats``: applications name their types of connection as they like."""


@dataclass(slots=True)
class Category:
    """What came in of one category of events; of applications also how long their calls took."""

    events: int = 0
    errors: int = 0
    data_bytes: int = 0
    last_event_at: datetime | None = None
    timed: int = 0
    response_ms: float = 0.0


@dataclass(slots=True)
class Traffic:
    """Counts since the process started; every one of something the server did itself."""

    connections: int = 0
    link_connections: int = 0
    messages_sent: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    malformed_messages: int = 0
    slow_clients_closed: int = 0
    events_taken: int = 0
    events_restored: int = 0
    duplicate_events: int = 0
    stale_events: int = 0
    rejected_events: int = 0

    def add(self, other: Traffic) -> None:
        """Add another's counts to these."""
        for name, count in asdict(other).items():
            setattr(self, name, getattr(self, name) + count)


class Throughput:
    """How fast a count grows, as a mean of the last minute. It is as exact as it is asked often."""

    def __init__(self, began: datetime) -> None:
        self._seen: deque[tuple[datetime, int]] = deque([(began, 0)])

    def per_second(self, count: int, now: datetime) -> float:
        """Note a count at a time and return the mean; 0 in the first instant."""
        while len(self._seen) > 1 and now - self._seen[1][0] >= _MEAN_OF:
            self._seen.popleft()
        if now - self._seen[-1][0] >= _APART:
            self._seen.append((now, count))
        at, before = self._seen[0]
        return (count - before) / seconds if (seconds := (now - at).total_seconds()) > 0 else 0.0


@dataclass(slots=True)
class Measurements:
    """The running figures of one server."""

    started_at: datetime
    traffic: Traffic = field(default_factory=Traffic)
    categories: dict[str, Category] = field(default_factory=dict)
    sessions: Sessions = field(default_factory=Sessions)
    semaphores: Semaphores = field(default_factory=Semaphores)
    throughput: Throughput = field(init=False)

    def __post_init__(self) -> None:
        """Begin with no message sent."""
        self.throughput = Throughput(self.started_at)

    def per_second(self, at: datetime) -> float:
        """Return the messages sent a second, in the mean of the last minute; to be called now and then."""
        return self.throughput.per_second(self.traffic.messages_sent, at)

    def saw(self, event: Event, size_bytes: int) -> None:
        """Count an event that was taken."""
        name = connection_type_of(event)
        if name not in self.categories and len(self.categories) >= _CATEGORIES_KEPT:
            name = category_of(event.stream)
        category = self.categories.setdefault(name, Category())
        category.events += 1
        category.errors += isinstance(event.payload.get("error"), str)
        category.last_event_at = event.occurred_at
        self.sessions.take(event)
        self.semaphores.take(event)
        took, told_bytes = event.payload.get("response_time_ms"), event.payload.get("data_size_bytes")
        connection = event.kind == CONNECTION_EVENT
        category.data_bytes += told_bytes if connection and type(told_bytes) is int else size_bytes
        if connection and isinstance(took, int | float) and not isinstance(took, bool):
            category.timed += 1
            category.response_ms += took


@dataclass(frozen=True, slots=True)
class Gauges:
    """The server's state at one moment."""

    clients: int
    links: int
    streams: int
    retained_events: int
    retained_bytes: int
    evicted_events: int
    filled: bool
    waiting_messages: int = 0
    longest_queue: int = 0
    """Messages that wait for the client that is furthest behind."""
    link_retries: int = 0
    link_breaker_opened: int = 0
    """These two: of the links that are connected, as they told when they were filled."""
    clients_by_dialect: Mapping[str, int] = field(default_factory=dict)
    subscriptions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def figures(
    measured: Measurements, clients: int, health: Mapping[str, Any], recent: Sequence[Arrival], at: datetime
) -> Figures:
    """Return the seed's figures. Sections that nothing here measures are left out, never invented."""
    sections: dict[str, dict[str, Any]] = {
        "websocket": {"connected_clients": clients, **asdict(measured.traffic)}
    }
    for name, category in sorted(measured.categories.items()):
        sections[name] = {**sections.get(name, {}), **_section(category)}
    sessions = measured.sessions
    return Figures(
        sections=sections,
        session_metrics=sessions.summary() if sessions.total else {},
        semaphore_metrics=measured.semaphores.gauges,
        websocket_health=health,
        recent=recent,
        at=at,
    )


def health(measured: Measurements, gauges: Gauges, at: datetime) -> Mapping[str, Any]:
    """Return how the server is: ``ok`` when a link feeds it, ``no source`` without one."""
    return {
        "status": "ok" if gauges.links and gauges.filled else "no source" if not gauges.links else "filling",
        "started_at": format_time(measured.started_at),
        "uptime_seconds": round((at - measured.started_at).total_seconds(), 3),
        **asdict(gauges),
        "messages_per_second": round(measured.per_second(at), 3),
        **asdict(measured.traffic),
    }


def _section(category: Category) -> dict[str, Any]:
    last = category.last_event_at
    section: dict[str, Any] = {
        "events": category.events,
        "errors": category.errors,
        "data_bytes": category.data_bytes,
        "last_event_at": format_time(last) if last else None,
    }
    if category.timed:
        section["average_response_time_ms"] = round(category.response_ms / category.timed, 3)
    return section
