"""The load of what runs, from what its parts say of themselves."""

from __future__ import annotations

from datetime import datetime

from adapters import client_reports
from crossfade.paths import DataDir, read_json
from monitoring.capacity import Load


def measured(data: DataDir) -> Load | None:
    """Return the clients, streams and rate of this moment; None when nothing that runs says them."""
    parity, collect = read_json(data.parity), read_json(data.run / "collect.json")
    clients = len(client_reports.connected(data.client_reports))
    total = (parity or {}).get("total")
    rate = 0.0
    if parity and isinstance(total, dict):
        try:
            began = datetime.fromisoformat(str(total["started_at"]))
            seconds = (datetime.fromisoformat(str(parity["updated_at"])) - began).total_seconds()
            rate = int(total["published"]) / seconds if seconds > 0 else 0.0
        except (KeyError, ValueError):
            rate = 0.0
    streams = (collect or {}).get("streams")
    count = len(streams) if isinstance(streams, dict | list) else 0
    if not clients and not rate:
        return None
    names = {str(name).partition("/")[0] for name in streams} if isinstance(streams, dict | list) else set()
    return Load(clients=clients, streams=max(1, count), rate=rate, devices=max(1, len(names)))
