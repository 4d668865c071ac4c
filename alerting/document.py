"""An alert as JSON: in events, in the database and in every answer the same. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from alerting.conditions import expected
from alerting.lifecycle import Alert, State
from alerting.rules import Rule
from monitoring.events import format_time

_NAMESPACE = UUID("0c1d3bb5-19c7-4f5e-8b61-9d1f6e0c2a77")


def episode(alert: Alert) -> UUID:
    """Return the id of what is told of an alert from its breach to its resolve; a new one each time it begins anew."""
    fired = alert.firing or alert.state is State.OK
    began = (alert.fired_at if fired else None) or alert.started_at or alert.since
    return uuid5(_NAMESPACE, "\n".join((*alert.key, began.isoformat() if began else "")))


def document(alert: Alert, rule: Rule | None) -> dict[str, Any]:
    """Return an alert with what its rule says of it."""
    return {
        "id": str(episode(alert)),
        "rule": alert.key.rule,
        "device": alert.key.device,
        "item": alert.key.item,
        "severity": rule.severity.value if rule else "info",
        "state": alert.state.value,
        "firing": alert.firing,
        "since": _time(alert.since),
        "fired_at": _time(alert.fired_at),
        "resolved_at": _time(alert.resolved_at),
        "value": alert.value,
        "expected": expected(rule),
        "summary": rule.summary if rule else "",
        "flapping": alert.flapping,
        "acknowledged_by": alert.acknowledged_by,
        "acknowledged_at": _time(alert.acknowledged_at),
        "told": alert.told,
        "revision": alert.revision,
    }


def _time(at: datetime | None) -> str | None:
    return format_time(at) if at is not None else None
