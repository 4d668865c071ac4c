"""Alerts as the page shows them: what is open, folded from the events of the alerting process. Pure.

``alerts_collected`` has all open ones, ``alert_changed`` one that changed; docs/alerts.md describes both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dashboard import figures
from dashboard.readings import mapping, mappings, text, time_of
from monitoring.events import Event

COLLECTED = "alerts_collected"
CHANGED = "alert_changed"
KINDS = frozenset({COLLECTED, CHANGED})
_MAX_OPEN = 1000
_SEVERITIES = {"critical": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, slots=True)
class Alert:
    """One episode of an alert."""

    id: str
    rule: str
    device: str
    item: str
    severity: str
    state: str
    firing: bool
    since: datetime | None
    value: str
    expected: str
    summary: str
    flapping: bool
    acknowledged_by: str
    told_at: datetime
    """When the event that said so happened."""

    @property
    def place(self) -> tuple[int, str, str, str]:
        """What orders alerts: the worst first."""
        return _SEVERITIES.get(self.severity, len(_SEVERITIES)), self.device, self.item, self.rule


def applied(known: Mapping[str, Alert], event: Event) -> Mapping[str, Alert]:
    """Return the open alerts, by id, after an event of one of `KINDS`; history may come after what is newer."""
    if event.kind == COLLECTED:
        told = {
            alert.id: alert
            for each in mappings(event.payload.get("alerts"))
            if (alert := _alert(each, event))
        }
        newer = {key: alert for key, alert in known.items() if alert.told_at > event.occurred_at}
        return dict(list({**told, **newer}.items())[:_MAX_OPEN])
    changed = _alert(mapping(event.payload), event)
    if changed is None:
        return known
    before = known.get(changed.id)
    if before is not None and before.told_at > changed.told_at:
        return known
    others = {key: alert for key, alert in known.items() if key != changed.id}
    if not changed.firing and changed.state != "pending":
        return others
    return dict(list({**others, changed.id: changed}.items())[-_MAX_OPEN:])


def _alert(each: Mapping[str, Any], event: Event) -> Alert | None:
    key = text(each.get("id"))
    if not key:
        return None
    return Alert(
        id=key,
        rule=text(each.get("rule")),
        device=text(each.get("device")),
        item=text(each.get("item")),
        severity=text(each.get("severity")) or "info",
        state=text(each.get("state")),
        firing=each.get("firing") is True,
        since=time_of(each.get("fired_at")) or time_of(each.get("since")),
        value=_shown(each.get("value")),
        expected=text(each.get("expected")),
        summary=text(each.get("summary")),
        flapping=each.get("flapping") is True,
        acknowledged_by=text(each.get("acknowledged_by")),
        told_at=event.occurred_at,
    )


def _shown(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    return figures.short(value) if isinstance(value, int | float) else text(value)
