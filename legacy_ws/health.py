"""Health of a server without FastAPI, in the forms that every service has (`monitoring.health`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import orjson

from legacy_ws.figures import process_figures
from monitoring import health as forms
from monitoring.health import Finding

_TRAFFIC = ("messages_sent", "bytes_sent", "messages_received", "malformed_messages", "slow_clients_closed")


class Told(Protocol):
    """Who tells how it is."""

    @property
    def name(self) -> str:
        """Which service it is."""
        ...

    @property
    def polling_report(self) -> Path | None:
        """Where the collecting process writes how it does; None where there is none."""
        ...

    def health(self) -> Mapping[str, Any]:
        """Return its figures."""
        ...


async def ready(host: Told) -> tuple[HTTPStatus, Mapping[str, Any]]:
    """Return whether clients get what there is: whether a link feeds it, and has brought its history."""
    status = host.health()["status"]
    good = status == forms.OK
    return _status(good=good), {"status": "ready" if good else str(status), "version": version("crossfade")}


async def detailed(host: Told) -> tuple[HTTPStatus, Mapping[str, Any]]:
    """Return how it is and what it leans on."""
    health = host.health()
    began = time.perf_counter()
    await asyncio.sleep(0)  # one turn of the event loop, with all that waits in it
    turn_ms = 1000 * (time.perf_counter() - began)
    findings = [Finding("event_loop", ok=True, latency_ms=turn_ms, detail="answers")]
    if "links" in health:
        fed = health["status"] == forms.OK
        detail = f"{health['links']} links" if fed else str(health["status"])
        error = None if fed else detail
        findings.append(Finding("link", fed, 0.0, detail, required=False, last_error=error))
    waiting = f"{health['waiting_messages']} messages wait for {health['clients']} clients"
    findings.append(Finding("clients", ok=True, latency_ms=0.0, detail=waiting, required=False))
    uptime = float(health["uptime_seconds"])
    return HTTPStatus.OK, forms.detailed(host.name, version("crossfade"), uptime, findings)


async def polling(host: Told) -> tuple[HTTPStatus, Mapping[str, Any]]:
    """Return how the collectors do."""
    found = forms.polling(*(await asyncio.to_thread(_read, host.polling_report)))
    return _status(good=found["status"] != forms.DOWN), found


async def performance(host: Told) -> tuple[HTTPStatus, Mapping[str, Any]]:
    """Return what goes through it. It has messages where other services have requests, and no pool."""
    health = host.health()
    return HTTPStatus.OK, {
        "service": host.name,
        "window_seconds": 60.0,
        "messages": {
            **{name: health[name] for name in _TRAFFIC},
            "per_second": health["messages_per_second"],
        },
        "queues": {name: health[name] for name in ("waiting_messages", "longest_queue")},
        "pool": None,
        "process": process_figures(),
    }


ANSWERS: Mapping[str, Callable[[Told], Any]] = {
    "/ready": ready,
    "/health/detailed": detailed,
    "/health/polling": polling,
    "/metrics/performance": performance,
}
"""What is told at which path."""


def _status(*, good: bool) -> HTTPStatus:
    return HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE


def _read(path: Path | None) -> tuple[Mapping[str, Any] | None, float | None]:
    if path is None:
        return None, None
    try:
        report = orjson.loads(path.read_bytes())
        return (
            (report, max(0.0, time.time() - path.stat().st_mtime))
            if isinstance(report, dict)
            else (None, None)
        )
    except (OSError, ValueError):
        return None, None
