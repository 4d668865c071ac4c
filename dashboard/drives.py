"""What drives say of their health, as the page shows it. Pure; docs/devices.md says where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboard.readings import mapping, mappings, number, text

_RAW = {"reallocated": 5, "pending": 197}
"""SMART attributes that foretell a failure: sectors that were replaced, sectors that wait for it."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One value of a drive's own table; ``failed`` says when it fell below its threshold, if it did."""

    id: int | None
    name: str
    value: float | None
    worst: float | None
    threshold: float | None
    raw: str
    failed: str


@dataclass(frozen=True, slots=True)
class Drive:
    """One drive. Unknown is None; ``passed`` is its own verdict, ``wear_percent`` of an SSD's life is used up."""

    device: str
    model: str
    serial: str
    capacity_bytes: float | None
    asleep: bool
    passed: bool | None
    temperature_celsius: float | None
    power_on_hours: float | None
    reallocated: float | None
    pending: float | None
    wear_percent: float | None
    warnings: tuple[str, ...]
    problem: str
    attributes: tuple[Attribute, ...]


def drives(payload: Mapping[str, Any]) -> tuple[Drive, ...]:
    """Read the payload of a drives' ``metric_collected``, by name."""
    return tuple(sorted(map(_drive, mappings(payload.get("drives"))), key=lambda each: each.device))


def _drive(each: Mapping[str, Any]) -> Drive:
    attributes = tuple(map(_attribute, mappings(each.get("attributes"))))
    raw = {number(row.get("id")): number(row.get("raw")) for row in mappings(each.get("attributes"))}
    nvme, scsi = mapping(each.get("nvme")), mapping(each.get("scsi"))
    reallocated = raw.get(_RAW["reallocated"])
    told = each.get("warnings")
    passed = each.get("passed")
    return Drive(
        device=text(each.get("device")),
        model=text(each.get("model")),
        serial=text(each.get("serial")),
        capacity_bytes=number(each.get("capacity_bytes")),
        asleep=each.get("asleep") is True,
        passed=passed if isinstance(passed, bool) else None,
        temperature_celsius=number(each.get("temperature_celsius")),
        power_on_hours=number(each.get("power_on_hours")),
        reallocated=number(scsi.get("grown_defects")) if reallocated is None else reallocated,
        pending=raw.get(_RAW["pending"]),
        wear_percent=number(nvme.get("percentage_used")),
        warnings=tuple(map(str, told)) if isinstance(told, list | tuple) else (),
        problem=text(each.get("problem")),
        attributes=attributes or _log(nvme),
    )


def _attribute(row: Mapping[str, Any]) -> Attribute:
    known, raw = number(row.get("id")), number(row.get("raw"))
    return Attribute(
        id=None if known is None else int(known),
        name=text(row.get("name")),
        value=number(row.get("value")),
        worst=number(row.get("worst")),
        threshold=number(row.get("threshold")),
        raw=text(row.get("raw_text")) or ("" if raw is None else f"{raw:.0f}"),
        failed=text(row.get("failed")),
    )


def _log(nvme: Mapping[str, Any]) -> tuple[Attribute, ...]:
    """Return the health log of an NVMe drive in the form of a table."""
    return tuple(
        Attribute(None, name.replace("_", " "), None, None, None, f"{value:.0f}", "")
        for name, each in nvme.items()
        if (value := number(each)) is not None
    )
