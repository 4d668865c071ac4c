"""What the server measures of itself, and its form in ``initial_stats`` and ``stats``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from legacy_ws.protocol.dashboard import SECTIONS, EventMessage, Stats
from monitoring.events import format_time


@dataclass(slots=True)
class Category:
    """What came in of one category of events."""

    events: int = 0
    errors: int = 0
    data_bytes: int = 0
    last_event_at: datetime | None = None


@dataclass(slots=True)
class Traffic:
    """Counts since the process started; every one of something the server did itself."""

    connections: int = 0
    links: int = 0
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


@dataclass(slots=True)
class Measurements:
    """The running figures of one server."""

    started_at: datetime
    traffic: Traffic = field(default_factory=Traffic)
    categories: dict[str, Category] = field(default_factory=dict)

    def saw(self, message: EventMessage, occurred_at: datetime) -> None:
        """Count an event that was taken."""
        category = self.categories.setdefault(message.connection_type, Category())
        category.events += 1
        category.errors += message.error is not None
        category.data_bytes += message.data_size_bytes
        category.last_event_at = occurred_at


@dataclass(frozen=True, slots=True)
class Gauges:
    """The server's state at one moment."""

    clients: int
    links: int
    streams: int
    retained_events: int
    evicted_events: int
    filled: bool


def figures(measured: Measurements, gauges: Gauges, recent: tuple[Any, ...], at: datetime) -> Stats:
    """Return the seed's figures. Sections that nothing here measures are empty, never invented."""
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    sections["websocket"] = {"connected_clients": gauges.clients, **asdict(measured.traffic)}
    for name, category in sorted(measured.categories.items()):
        sections[name] = {**sections.get(name, {}), **_section(category)}
    return Stats(
        stats=sections,
        session_metrics={},
        semaphore_metrics={},
        websocket_health=health(measured, gauges, at),
        recent_events=recent,
        timestamp=at,
    )


def health(measured: Measurements, gauges: Gauges, at: datetime) -> Mapping[str, Any]:
    """Return how the server is: ``ok`` when a link feeds it, ``no source`` without one."""
    return {
        "status": "ok" if gauges.links and gauges.filled else "no source" if not gauges.links else "filling",
        "started_at": format_time(measured.started_at),
        "uptime_seconds": round((at - measured.started_at).total_seconds(), 3),
        **asdict(gauges),
    }


def _section(category: Category) -> dict[str, Any]:
    last = category.last_event_at
    return {
        "events": category.events,
        "errors": category.errors,
        "data_bytes": category.data_bytes,
        "last_event_at": format_time(last) if last else None,
    }
