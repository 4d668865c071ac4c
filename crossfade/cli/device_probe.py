"""What ``crossfade devices`` shows of a device that it looked at, one line a subject."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from crossfade.durations import format_seconds
from crossfade.errors import CrossfadeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.devices import Probe


def show(probe: Probe) -> None:
    """Print what a device told, one line a subject; a problem ends the command."""
    if probe.problem is not None:
        raise CrossfadeError(f"{probe.device.name}: {probe.problem}")
    table = Table.grid(padding=(0, 2))
    for subject, told in _told(probe):
        table.add_row(subject, told)
    Console().print(table)


def _told(probe: Probe) -> list[tuple[str, str]]:
    system = probe.readings.get("system", {})
    drives = probe.readings.get("drives", {})
    containers = probe.readings.get("containers", {})
    names = system.get("os") or {}
    memory = system.get("memory") or {}
    disks = system.get("disks")
    uptime = system.get("uptime_seconds")
    lines = [
        (
            "system",
            ", ".join(filter(None, (names.get("name"), names.get("kernel"), names.get("machine")))) or "?",
        ),
        ("up", format_seconds(uptime) if uptime is not None else "?"),
        ("cpu", f"{_number(system.get('cores'))} cores, {_number(system.get('cpu_usage'))} % busy"),
        ("memory", f"{_gib(memory.get('used_bytes'))} of {_gib(memory.get('total_bytes'))} GiB used"),
        ("disks", ", ".join(str(disk["mount"]) for disk in disks) if disks else "?"),
        ("drives", _drives(drives)),
        ("containers", _containers(containers)),
    ]
    lines += [(f"no {name}", str(reason)) for name, reason in (system.get("unavailable") or {}).items()]
    return lines


def _number(value: Any) -> str:
    return "?" if value is None else f"{value:g}"


def _gib(value: Any) -> str:
    return "?" if value is None else f"{value / 2**30:.1f}"


def _drives(payload: Mapping[str, Any]) -> str:
    if not payload.get("available"):
        return str(payload.get("reason") or "?")
    found = payload["drives"]
    problems = [str(drive["problem"]) for drive in found if drive["problem"]]
    return "; ".join([f"{len(found)} with SMART" if found else "none that smartctl finds", *problems[:1]])


def _containers(payload: Mapping[str, Any]) -> str:
    return f"{len(payload['containers'])}" if payload.get("available") else str(payload.get("reason") or "?")
