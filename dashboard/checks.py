"""What checks of services found, as the page shows it. Pure; docs/checks.md describes the events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from dashboard.readings import number, text
from monitoring.events import Event, Kind

_MOST = 200


@dataclass(frozen=True, slots=True)
class Check:
    """The newest of one check; ``status`` is "unknown" before it was told."""

    name: str
    kind: str
    target: str
    status: str = "unknown"
    ok: bool | None = None
    reason: str = ""
    latency_ms: float | None = None
    at: datetime | None = None


def applied(known: Mapping[str, Check], event: Event) -> Mapping[str, Check]:
    """Return a device's checks, by name, after an event of one of its kinds; history may come after what is newer."""
    payload = event.payload
    name = text(payload.get("check"))
    if not name:
        return known
    before = known.get(name) or Check(name, text(payload.get("type")), text(payload.get("target")))
    if event.kind == Kind.CHECK_STATUS_CHANGED:
        after = replace(before, status=text(payload.get("new_status")) or before.status)
    elif before.at is not None and before.at > event.occurred_at:
        return known
    else:
        ok = payload.get("ok")
        after = replace(
            before,
            kind=text(payload.get("type")),
            target=text(payload.get("target")),
            ok=ok if isinstance(ok, bool) else None,
            reason=text(payload.get("reason")),
            latency_ms=number(payload.get("latency_ms")),
            at=event.occurred_at,
        )
    return dict(sorted({**known, name: after}.items())[:_MOST])
