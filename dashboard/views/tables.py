"""Our tables, as anybody who may read sees them, and what is in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from dashboard.views.words import Columns

PAGE = 100


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its name, what is in it, and the order in which its pages are read (PostgREST's)."""

    name: str
    holds: str
    order: str


TABLES = {
    each.name: each
    for each in (
        Table("cf_events", "The feed: every event, for hours.", "occurred_at.desc,stream,epoch,seq"),
        Table("cf_stream_heads", "How far each stream is.", "stream"),
        Table("cf_stream_latest", "The newest event of each stream and kind.", "stream,kind"),
        Table("cf_devices_latest", "Machines with their newest figures.", "device"),
        Table("cf_containers_latest", "Containers as last seen.", "device,container_id"),
        Table("cf_sessions_latest", "Sessions of applications.", "device,session_id"),
        Table("cf_connections_latest", "Connections of applications, by type.", "device,connection_type"),
        Table("cf_semaphores_latest", "Semaphores of applications.", "device,name"),
        Table("cf_requests_latest", "Requests that applications answered.", "device"),
        Table("cf_alerts", "Alerts, open and over.", "id"),
        Table("cf_alert_silences", "Who is not told of what, until when.", "id"),
        Table("cf_validation_runs", "Comparisons of both paths.", "started_at.desc"),
        Table("cf_rollout_journal", "Decisions of rollouts.", "n.desc"),
        Table("cf_flags_audit", "Changes of flags.", "id.desc"),
        Table("cf_paths", "Which paths are published to.", "id"),
        Table("cf_publishers", "Who publishes, and on which paths.", "owner"),
        Table("cf_metrics", "The numbers that there is history of.", "stream,path"),
        Table("cf_levels", "How finely and how long history is kept.", "level"),
        Table("cf_storage", "Bounds of history, and what was done to keep them.", "id"),
        Table("cf_delivery", "How Realtime delivers.", "id"),
    )
}


def rows(found: Sequence[Mapping[str, Any]]) -> Columns:
    """Return a page of rows by column; objects and lists as JSON text. Empty without any."""
    if not found:
        return {}
    names = dict.fromkeys(name for row in found for name in row)
    return {name: [_plain(row.get(name)) for row in found] for name in names}


def lines(found: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as JSON lines."""
    return b"".join(orjson.dumps(dict(row)) + b"\n" for row in found)


def shown(page: int, count: int) -> str:
    """Say which rows of a table are shown."""
    if not count:
        return "no further row" if page else "no row"
    return f"rows {page * PAGE + 1} to {page * PAGE + count}"


def _plain(value: object) -> object:
    if isinstance(value, Mapping | list):
        return orjson.dumps(value).decode()
    return value if value is None or isinstance(value, str) else str(value)
