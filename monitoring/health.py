"""The forms in which every service says how it is: findings of its components, of the polling, percentiles. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitoring.events import format_time

OK, DEGRADED, DOWN, OFF = "ok", "degraded", "down", "off"
_COUNTS = ("read", "failed", "timed_out", "late", "skipped")
_STALE_SECONDS = 15.0
"""The collector writes its report every second or two; an older one was written by something that hangs or has gone."""
_SHARES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Finding:
    """How one component was when it was looked at; without a ``required`` one the service is of no use."""

    name: str
    ok: bool
    latency_ms: float
    detail: str = ""
    required: bool = True
    last_error: str | None = None
    """The newest error, also when it is well again."""
    last_error_at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain JSON."""
        return {
            "status": OK if self.ok else DOWN if self.required else DEGRADED,
            "required": self.required,
            "latency_ms": round(self.latency_ms, 3),
            "detail": self.detail,
            "last_error": self.last_error,
            "last_error_at": format_time(self.last_error_at) if self.last_error_at else None,
        }


def detailed(
    service: str, version: str, uptime_seconds: float, findings: Iterable[Finding]
) -> dict[str, Any]:
    """Return ``/health/detailed``: down when a required component is, degraded when another is."""
    found = list(findings)
    bad = [finding for finding in found if not finding.ok]
    return {
        "service": service,
        "status": OK if not bad else DOWN if any(each.required for each in bad) else DEGRADED,
        "version": version,
        "uptime_seconds": round(uptime_seconds, 3),
        "components": {finding.name: finding.to_json() for finding in found},
    }


def polling(report: Mapping[str, Any] | None, age_seconds: float | None) -> dict[str, Any]:
    """Return ``/health/polling`` from what the collecting process wrote, ``age_seconds`` ago; None when it never did.

    Degraded when the newest reading of some collector failed; down when the report is stale.
    """
    if report is None or age_seconds is None:
        return {
            "status": OFF,
            "detail": "no collector runs here",
            "age_seconds": None,
            "collectors": {},
        } | _totals({})
    collectors = {str(name): _collector(each) for name, each in report.get("collectors", {}).items()}
    failing = [name for name, each in collectors.items() if each["last_error"]]
    if not report.get("running"):
        status, detail = OFF, "the collector has been stopped"
    elif age_seconds > _STALE_SECONDS:
        status, detail = DOWN, f"the collector has not reported for {age_seconds:.0f} s"
    elif failing:
        status, detail = (
            DEGRADED,
            f"{len(failing)} of {len(collectors)} fail: {', '.join(sorted(failing)[:10])}",
        )
    else:
        status, detail = OK, str(report.get("detail", ""))
    told = {"status": status, "detail": detail, "age_seconds": round(age_seconds, 3)}
    return told | _totals(collectors) | {"collectors": collectors}


def _collector(ticks: Mapping[str, Any]) -> dict[str, Any]:
    counts = {name: int(ticks.get(name) or 0) for name in _COUNTS}
    return {
        "interval_seconds": ticks.get("interval_seconds"),
        **counts,
        "worst_late_seconds": float(ticks.get("worst_late_seconds") or 0.0),
        "took_seconds": ticks.get("took_seconds"),
        "last_success": ticks.get("last_success"),
        "last_error": ticks.get("last_error"),
        "status": ticks.get("status"),
    }


def _totals(collectors: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    sums = {name: sum(int(each[name]) for each in collectors.values()) for name in _COUNTS}
    tried = sums["read"] + sums["failed"] + sums["timed_out"]
    by_status: dict[str, int] = {}
    for each in collectors.values():
        status = str(each["status"] or "unjudged")
        by_status[status] = by_status.get(status, 0) + 1
    return {
        "cycles": {**sums, "success_share": round(sums["read"] / tried, 5) if tried else None},
        "by_status": by_status,
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """Return count, mean, percentiles (nearest rank) and the longest of durations, in milliseconds; None of none."""
    ordered = sorted(seconds)
    if not ordered:
        return {"count": 0, "mean": None, **{f"p{share}": None for share in _SHARES}, "max": None}
    ranks = {
        f"p{share}": round(1000 * ordered[math.ceil(share / 100 * len(ordered)) - 1], 3) for share in _SHARES
    }
    mean = round(1000 * sum(ordered) / len(ordered), 3)
    return {"count": len(ordered), "mean": mean, **ranks, "max": round(1000 * ordered[-1], 3)}
