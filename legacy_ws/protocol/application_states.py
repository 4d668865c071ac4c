"""What applications tell of themselves, folded from their events: sessions, HTTP requests, semaphores. Pure.

Applications write streams of their own (``app-7/sessions``); the kinds and payloads are described in docs/push.md.
Whatever cannot be read is passed over: an application that errs spoils only its own figures.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from monitoring.applications import (
    CONNECTION_EVENT,
    HTTP_REQUESTS,
    SEMAPHORE_GAUGE,
    SESSION_CREATED,
    SESSION_DESTROYED,
    SESSION_UPDATED,
)
from monitoring.events import Event, category_of, device_of

SESSION_KINDS: Mapping[str, str] = {
    SESSION_CREATED: "created",
    SESSION_UPDATED: "updated",
    SESSION_DESTROYED: "destroyed",
}
"""Kind -> what happened, in seed 003's words."""
ALERT_KINDS: Mapping[str, str] = {"alert_raised": "raised", "alert_resolved": "resolved"}

_SESSIONS_KEPT = 10_000
"""Active sessions that are remembered; an application that never ends one cannot grow the server."""
_SEMAPHORES_KEPT = 1_000
_RATE_STANDS = timedelta(seconds=60)
"""A rate that was told longer ago is no rate of now."""


def connection_type_of(event: Event) -> str:
    """Return what kind of connection an event is about: what a ``connection_event`` says, else its stream's category."""
    told = event.payload.get("connection_type") if event.kind == CONNECTION_EVENT else None
    return told if isinstance(told, str) and told else category_of(event.stream)


@dataclass(slots=True)
class Sessions:
    """Active sessions by (application, id), and how many there ever were."""

    active: OrderedDict[tuple[str, str], Mapping[str, Any]] = field(default_factory=OrderedDict)
    total: int = 0

    def take(self, event: Event) -> bool:
        """Fold an event in; tells whether it was about a session."""
        change = SESSION_KINDS.get(event.kind)
        id_ = event.payload.get("session_id")
        if change is None or not isinstance(id_, str):
            return False
        key = (device_of(event.stream), id_)
        if change == "destroyed":
            self.active.pop(key, None)
            return True
        self.total += key not in self.active
        self.active[key] = event.payload
        self.active.move_to_end(key)
        if len(self.active) > _SESSIONS_KEPT:
            self.active.popitem(last=False)
        return True

    def summary(self) -> dict[str, Any]:
        """Return ``active_count`` and ``total_count``."""
        return {"active_count": len(self.active), "total_count": self.total}


@dataclass(slots=True)
class Requests:
    """HTTP requests that applications counted."""

    total: int = 0
    _rates: dict[str, tuple[datetime, float]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Fold an event in: ``count`` requests within ``interval_seconds``."""
        if event.kind != HTTP_REQUESTS:
            return
        count, seconds = event.payload.get("count"), event.payload.get("interval_seconds")
        if type(count) is not int or count < 0:
            return
        self.total += count
        if isinstance(seconds, int | float) and seconds > 0:
            self._rates[event.stream] = (event.occurred_at, count / seconds)

    def per_second(self, now: datetime) -> float:
        """Return the rate of now, over all applications."""
        return round(sum(rate for at, rate in self._rates.values() if now - at < _RATE_STANDS), 3)


@dataclass(slots=True)
class Semaphores:
    """The newest gauge of each semaphore, by ``application/name``."""

    gauges: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Fold an event in."""
        name = event.payload.get("name")
        if event.kind != SEMAPHORE_GAUGE or not isinstance(name, str):
            return
        key = f"{device_of(event.stream)}/{name}"
        if key in self.gauges or len(self.gauges) < _SEMAPHORES_KEPT:
            self.gauges[key] = {
                key: value
                for key in ("limit", "in_use", "waiting")
                if (value := event.payload.get(key)) is not None
            }
