"""From events to readings: named numbers and words about a device, or an item of one. Pure.

A reading is named ``category.path``: ``system.cpu_usage``, ``system.memory.used_bytes``, ``containers.status``. The
entries of a list are items of the device, named by their ``name`` or ``mount``, so ``system.disks.used_percent`` of the
item ``/var``. A device's own status is ``device.status``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from monitoring.events import Event, Kind, category_of, device_of

ALERTS = "alerts"
REQUESTS = "alert-requests"
_IDENTITIES = ("name", "mount", "device", "session_id", "id")
_DEEPEST = 4
_MOST = 2_000
"""Readings of one event; what is beyond is not looked at."""
GONE = "gone"
"""The status of a container that was removed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A value of a metric; words are text, truth is ``true`` or ``false``."""

    metric: str
    item: str
    value: float | str


@dataclass(frozen=True, slots=True)
class Observation:
    """What one event says. ``complete`` names the lists that it told whole: list -> its items."""

    device: str
    category: str
    at: datetime
    readings: Sequence[Reading]
    complete: Mapping[str, frozenset[str]] = field(default_factory=dict)


def observe(event: Event) -> Observation:
    """Return what an event says; of an event of no known form, the numbers and words in it."""
    device, category = device_of(event.stream), category_of(event.stream)
    payload = event.payload
    complete: dict[str, frozenset[str]] = {}
    if event.kind == Kind.DEVICE_STATUS_CHANGED:
        readings = [Reading("device.status", "", str(payload.get("new_status")))]
    elif event.kind == Kind.CONTAINER_STATUS_CHANGED:
        readings = list(_container_change(payload))
    elif event.kind == Kind.CONTAINERS_COLLECTED:
        listed = payload.get("containers")
        entries = listed if isinstance(listed, list) else []
        if payload.get("available") is not False:
            complete["containers"] = frozenset(filter(None, map(_identity, entries)))
        readings = [Reading("containers.available", "", _word(payload.get("available") is not False))]
        readings += _bounded(_flat("containers", "", entries, 1))
    else:
        readings = _bounded(_flat(category, "", payload, 0))
        if event.kind == Kind.METRIC_COLLECTED:
            complete = {
                f"{category}.{name}": frozenset(filter(None, map(_identity, entries)))
                for name, entries in payload.items()
                if isinstance(entries, list) and all(isinstance(entry, Mapping) for entry in entries)
            }
            readings += _used(category, payload)
    return Observation(device, category, event.occurred_at, readings, complete)


def _container_change(payload: Mapping[str, Any]) -> Iterator[Reading]:
    container, current = payload.get("container"), payload.get("current")
    if not isinstance(container, Mapping) or not isinstance(container.get("name"), str):
        return
    name = container["name"]
    now = current if isinstance(current, Mapping) else {"status": GONE, "health": None, "running": False}
    for key in ("status", "health", "running"):
        if (value := _value(now.get(key))) is not None:
            yield Reading(f"containers.{key}", name, value)


def _used(category: str, payload: Mapping[str, Any]) -> Iterator[Reading]:
    """Tell how full each disk is, as ``df`` has it: of what an ordinary user can have."""
    disks = payload.get("disks")
    for disk in disks if isinstance(disks, list) else ():
        if not isinstance(disk, Mapping):
            continue
        used, available, mount = disk.get("used_bytes"), disk.get("available_bytes"), _identity(disk)
        if (
            mount
            and isinstance(used, int | float)
            and isinstance(available, int | float)
            and used + available > 0
        ):
            yield Reading(f"{category}.disks.used_percent", mount, 100 * used / (used + available))


def _flat(path: str, item: str, value: Any, depth: int) -> Iterator[Reading]:
    """Walk a payload; a list of objects makes items, at most one deep."""
    if (plain := _value(value)) is not None:
        yield Reading(path, item, plain)
    elif depth >= _DEEPEST:
        return
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}", item, inner, depth + 1)
    elif isinstance(value, list) and not item:
        for entry in value:
            if name := _identity(entry):
                yield from _flat(path, name, entry, depth + 1)


def _bounded(readings: Iterator[Reading]) -> list[Reading]:
    return [reading for _, reading in zip(range(_MOST), readings, strict=False)]


def _identity(entry: object) -> str | None:
    if not isinstance(entry, Mapping):
        return None
    return next((name for key in _IDENTITIES if isinstance(name := entry.get(key), str) and name), None)


def _value(value: object) -> float | str | None:
    if isinstance(value, bool):
        return _word(value)
    if isinstance(value, int | float):
        return float(value)
    return value if isinstance(value, str) else None


def _word(value: bool) -> str:  # noqa: FBT001 - it is the value
    return "true" if value else "false"
