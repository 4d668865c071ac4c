"""Alerts: what is wrong now, the worst first."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from dashboard import figures
from dashboard.alerts import Alert
from dashboard.hub import Frame
from dashboard.views.words import Badge, Color, Columns

_COLORS: dict[str, Color] = {"critical": "red", "warning": "orange", "info": "blue"}
_ICONS = {"critical": ":material/error:", "warning": ":material/warning:", "info": ":material/info:"}


def firing(frame: Frame) -> list[Alert]:
    """Return the alerts that fire, the worst first."""
    return sorted((each for each in frame.state.alerts.values() if each.firing), key=lambda each: each.place)


def badge(frame: Frame) -> Badge | None:
    """Return what every page says of alerts; None while nothing fires."""
    found = firing(frame)
    if not found:
        return None
    counts = Counter(each.severity for each in found)
    words = " · ".join(f"{counts[severity]} {severity}" for severity in _COLORS if counts[severity])
    worst = found[0].severity
    return Badge(
        words, _ICONS.get(worst, ":material/warning:"), _COLORS.get(worst, "orange"), title(found[0])
    )


def title(alert: Alert) -> str:
    """Return an alert in a few words."""
    return f"{alert.rule}: {alert.device} {alert.item}".rstrip()


def rows(frame: Frame, now: datetime) -> Columns:
    """Return one row an open alert, what fires first; empty without any."""
    each = sorted(frame.state.alerts.values(), key=lambda one: (not one.firing, one.place))
    if not each:
        return {}
    return {
        "Severity": [one.severity for one in each],
        "State": [_state(one) for one in each],
        "Rule": [one.rule for one in each],
        "Device": [one.device for one in each],
        "Item": [one.item for one in each],
        "For": [figures.age(one.since, now) for one in each],
        "Value": [one.value for one in each],
        "Expected": [one.expected for one in each],
        "Acknowledged": [one.acknowledged_by for one in each],
        "What it means": [one.summary for one in each],
    }


def _state(alert: Alert) -> str:
    words = alert.state.replace("_", " ")
    return f"{words}, flapping" if alert.flapping else words
