"""What the alerts become as events: one for each change, and the open ones together. Pure.

Each has an id that follows from what it says, so that a spool that was handed it twice, over a restart, keeps it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from alerting.readings import ALERTS
from monitoring.events import OWN_DEVICE, Draft, format_time, stream_id

STREAM = stream_id(OWN_DEVICE, ALERTS)
CHANGED = "alert_changed"
COLLECTED = "alerts_collected"
_NAMESPACE = UUID("c8a1d0b4-5d5f-4a0c-9a39-4c2f8f0b6e11")


def changed(changes: Iterable[Mapping[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """Return the events of changes, to be kept until the spool has them."""
    return [
        _event(
            CHANGED, change, now, f"{change['id']} {change['revision']} {change['state']} {change['since']}"
        )
        for change in changes
    ]


def collected(overview: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the event of all open alerts: what a client that has just come needs to know."""
    return _event(COLLECTED, overview, now, format_time(now))


def _event(kind: str, payload: Mapping[str, Any], now: datetime, name: str) -> dict[str, Any]:
    return {
        "id": str(uuid5(_NAMESPACE, f"{kind} {name}")),
        "kind": kind,
        "at": format_time(now),
        "payload": payload,
    }


def draft(event: Mapping[str, Any]) -> Draft:
    """Return an event, as it was kept, for the spool."""
    at = datetime.fromisoformat(event["at"])
    return Draft(STREAM, event["kind"], at, event["payload"], UUID(event["id"]))
