"""What the processes of `crossfade up` say of themselves: parts, delivery, collectors, spool. Pure.

Read from the status files that the supervisor and the collecting process replace while they run; unknown fields are
ignored and missing ones are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dashboard.readings import mapping, mappings, number, text, time_of


@dataclass(frozen=True, slots=True)
class Part:
    """One process of ``crossfade up``."""

    name: str
    state: str
    up_seconds: float | None
    restarts: float | None
    crash_loop: bool
    address: str
    detail: str
    log: str


@dataclass(frozen=True, slots=True)
class Path:
    """How events get on along one way from the spool."""

    name: str
    connected: bool | None
    detail: str
    sent: float | None
    pending: float | None
    lost: float
    """Events that this path could not take: tombstones, fenced, too large."""


@dataclass(frozen=True, slots=True)
class Collector:
    """How a collector's readings went."""

    name: str
    read: float | None
    failed: float | None
    late: float | None
    skipped: float | None
    last_success: datetime | None
    last_error: str


@dataclass(frozen=True, slots=True)
class Spool:
    """How full the spool of this machine's collectors is."""

    retained: float | None
    limit: float | None
    bytes: float | None
    limit_bytes: float | None
    refused: float | None
    held_back: str


@dataclass(frozen=True, slots=True)
class System:
    """Everything of one machine."""

    parts: tuple[Part, ...] = ()
    paths: tuple[Path, ...] = ()
    collectors: tuple[Collector, ...] = ()
    spool: Spool | None = None
    told_at: datetime | None = None
    """When the supervisor last said so."""


def system(state: Mapping[str, Any] | None, collect: Mapping[str, Any] | None) -> System:
    """Read both status files; None where there is none."""
    state, collect = state or {}, collect or {}
    spool = mapping(collect.get("spool"))
    return System(
        parts=tuple(_part(each) for each in mappings(state.get("parts"))),
        paths=tuple(
            _path(name, mapping(each))
            for name, each in mapping(collect.get("paths")).items()
            if mapping(each).get("enabled") is not False
        ),
        collectors=tuple(
            _collector(name, mapping(each)) for name, each in mapping(collect.get("collectors")).items()
        ),
        spool=Spool(
            retained=number(spool.get("retained")),
            limit=number(spool.get("limit")),
            bytes=number(spool.get("bytes")),
            limit_bytes=number(spool.get("limit_bytes")),
            refused=number(spool.get("refused")),
            held_back=text(spool.get("held_back")),
        )
        if spool
        else None,
        told_at=time_of(state.get("updated_at")),
    )


def _part(each: Mapping[str, Any]) -> Part:
    return Part(
        name=text(each.get("name")),
        state=text(each.get("state")) or "unknown",
        up_seconds=number(each.get("seconds")),
        restarts=number(each.get("restarts")),
        crash_loop=each.get("crash_loop") is True,
        address=text(each.get("address")),
        detail=text(each.get("detail")),
        log=text(each.get("log")),
    )


def _path(name: str, each: Mapping[str, Any]) -> Path:
    connected = each.get("connected")
    lost = (number(each.get(key)) or 0.0 for key in ("tombstones", "fenced_events", "unsendable_events"))
    return Path(
        name=name,
        connected=connected if isinstance(connected, bool) else None,
        detail=text(each.get("last_error")) or text(each.get("detail")),
        sent=number(each.get("sent_events", each.get("events"))),
        pending=number(each.get("pending")),
        lost=sum(lost),
    )


def _collector(name: str, each: Mapping[str, Any]) -> Collector:
    return Collector(
        name=name,
        read=number(each.get("read")),
        failed=number(each.get("failed")),
        late=number(each.get("late")),
        skipped=number(each.get("skipped")),
        last_success=time_of(each.get("last_success")),
        last_error=text(each.get("last_error")),
    )
