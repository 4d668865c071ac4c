"""Sessions and semaphores of applications."""

from __future__ import annotations

from datetime import datetime

from dashboard import figures
from dashboard.hub import Frame
from dashboard.views.words import Columns


def rows(frame: Frame, now: datetime) -> Columns:
    """Return the newest active sessions of all applications; empty without any."""
    each = sorted(
        ((app.name, one) for app in frame.state.applications.values() for one in app.sessions.values()),
        key=lambda pair: pair[1].seen,
        reverse=True,
    )
    if not each:
        return {}
    return {
        "Session": [one.id for _, one in each],
        "Application": [name for name, _ in each],
        "Last change": [figures.age(one.seen, now) for _, one in each],
        "Attributes": [
            ", ".join(f"{key}: {value}" for key, value in one.attributes.items()) for _, one in each
        ],
    }


def semaphores(frame: Frame, now: datetime) -> Columns:
    """Return the newest gauge of each semaphore; empty without any."""
    each = [
        (app.name, name, gauge)
        for app in frame.state.applications.values()
        for name, gauge in app.semaphores.items()
    ]
    if not each:
        return {}
    return {
        "Semaphore": [name for _, name, _ in each],
        "Application": [app for app, _, _ in each],
        "In use": [
            100 * gauge.in_use / gauge.limit if gauge.in_use is not None and gauge.limit else None
            for _, _, gauge in each
        ],
        "Limit": [figures.plain(gauge.limit, 0) for _, _, gauge in each],
        "Waiting": [figures.plain(gauge.waiting, 0) for _, _, gauge in each],
        "Told": [figures.age(gauge.at, now) for _, _, gauge in each],
    }
