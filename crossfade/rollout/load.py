"""The load of what runs, from what its parts say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from adapters import client_reports
from crossfade.paths import DataDir, read_json
from monitoring.capacity import Load


def measured(data: DataDir) -> Load | None:
    """Return the clients, streams and rate of this moment; None when nothing that runs says them.

    The comparison counts what is published; beside another's server there is none, and the bridge counts what it brings.
    Of both the one that was written last is of what runs now.
    """
    clients = len(client_reports.connected(data.client_reports))
    parity, bridge = read_json(data.parity) or {}, read_json(data.bridge) or {}
    streams = _names(read_json(data.run / "collect.json"))
    if str(bridge.get("updated_at", "")) > str(parity.get("updated_at", "")):
        brought = _mapping(bridge.get("bridge")).get("events")
        rate = _rate(brought, bridge.get("started_at"), bridge.get("updated_at"))
        streams |= _names(bridge)
    else:
        total = _mapping(parity.get("total"))
        rate = _rate(total.get("published"), total.get("started_at"), parity.get("updated_at"))
    if not clients and not rate:
        return None
    devices = {name.partition("/")[0] for name in streams}
    return Load(clients=clients, streams=max(1, len(streams)), rate=rate, devices=max(1, len(devices)))


def _rate(events: object, begin: object, end: object) -> float:
    """Return events a second between two times; 0 where a part says nothing of use."""
    try:
        seconds = (datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(begin))).total_seconds()
        return int(str(events)) / seconds if seconds > 0 else 0.0
    except ValueError:
        return 0.0


def _names(report: Mapping[str, Any] | None) -> set[str]:
    streams = (report or {}).get("streams")
    return {str(name) for name in streams} if isinstance(streams, dict | list) else set()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
