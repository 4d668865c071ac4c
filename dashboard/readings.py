"""Payloads of events to what the page shows of them.

Payloads are JSON from another process, maybe of another version: what is missing or of another type is unknown
(None), never zero, and never an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import isfinite
from typing import Any

_LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class Disk:
    """One mounted file system."""

    mount: str
    device: str
    file_system: str
    total_bytes: float | None
    used_bytes: float | None

    @property
    def used_percent(self) -> float | None:
        """Share in use, 0 to 100."""
        return share(self.used_bytes, self.total_bytes)


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of a host, for the charts. Percentages are 0 to 100, rates bytes a second."""

    at: datetime
    cpu_percent: float | None
    memory_percent: float | None
    load_per_core: float | None
    received: float | None
    sent: float | None
    disk_percent: float | None


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface; rates are bytes a second."""

    name: str
    received: float | None
    sent: float | None
    received_bytes: float | None
    sent_bytes: float | None


@dataclass(frozen=True, slots=True)
class DriveIo:
    """What one drive does; rates are bytes a second, ``busy_percent`` is of time."""

    name: str
    read: float | None
    written: float | None
    busy_percent: float | None


@dataclass(frozen=True, slots=True)
class Host:
    """The newest reading of a host in full."""

    name: str
    sample: Sample
    cores: float | None
    load: tuple[float | None, ...]
    memory_used_bytes: float | None
    memory_total_bytes: float | None
    disks: tuple[Disk, ...]
    uptime_seconds: float | None
    interval_seconds: float | None
    pressure: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """Resource -> ``some_avg10``, ``full_avg60`` ... in percent of time; empty where the kernel does not tell."""
    networks: tuple[Interface, ...] = ()
    io: tuple[DriveIo, ...] = ()
    system: str = ""
    """The operating system's name."""

    @property
    def main_disk(self) -> Disk | None:
        """The file system of ``/``, or the fullest one."""
        return main_disk(self.disks)


@dataclass(frozen=True, slots=True)
class Container:
    """One container as last seen."""

    id: str
    name: str
    image: str
    status: str
    health: str | None
    cpu_percent: float | None = None
    memory_used_bytes: float | None = None
    memory_limit_bytes: float | None = None

    @property
    def memory_percent(self) -> float | None:
        """Memory in use as a share of the container's limit."""
        return share(self.memory_used_bytes, self.memory_limit_bytes)


def host(payload: Mapping[str, Any], at: datetime, device: str) -> Host:
    """Read the payload of a ``metric_collected`` event of a host."""
    memory = mapping(payload.get("memory"))
    disks = tuple(_disk(each) for each in mappings(payload.get("disks")))
    load = payload.get("load")
    loads = tuple(number(each) for each in load) if isinstance(load, list | tuple) else ()
    cores = number(payload.get("cores"))
    fullest = main_disk(disks)
    networks = [each for each in mappings(payload.get("networks")) if each.get("name") != _LOOPBACK]
    sample = Sample(
        at=at,
        cpu_percent=number(payload.get("cpu_usage")),
        memory_percent=number(payload.get("memory_usage")),
        load_per_core=loads[0] / cores if loads and loads[0] is not None and cores else None,
        received=_total(each.get("rx_bytes_per_second") for each in networks),
        sent=_total(each.get("tx_bytes_per_second") for each in networks),
        disk_percent=fullest.used_percent if fullest else None,
    )
    return Host(
        name=device,
        sample=sample,
        cores=cores,
        load=loads,
        memory_used_bytes=number(memory.get("used_bytes")),
        memory_total_bytes=number(memory.get("total_bytes")),
        disks=disks,
        uptime_seconds=number(payload.get("uptime_seconds")),
        interval_seconds=number(payload.get("interval_seconds")),
        pressure={
            str(resource): {str(name): number(value) for name, value in mapping(found).items()}
            for resource, found in mapping(payload.get("pressure")).items()
        },
        networks=tuple(
            Interface(
                name=text(each.get("name")),
                received=number(each.get("rx_bytes_per_second")),
                sent=number(each.get("tx_bytes_per_second")),
                received_bytes=number(each.get("rx_bytes")),
                sent_bytes=number(each.get("tx_bytes")),
            )
            for each in networks
        ),
        io=tuple(
            DriveIo(
                name=text(each.get("name")),
                read=number(each.get("read_bytes_per_second")),
                written=number(each.get("written_bytes_per_second")),
                busy_percent=number(each.get("busy_percent")),
            )
            for each in mappings(payload.get("disk_io"))
        ),
        system=text(mapping(payload.get("os")).get("name")),
    )


def containers(payload: Mapping[str, Any]) -> tuple[Container, ...]:
    """Read the payload of a ``containers_collected`` event, by name."""
    found = (_container(each) for each in mappings(payload.get("containers")))
    return tuple(sorted(found, key=lambda each: (each.name, each.id)))


def changed(known: tuple[Container, ...], payload: Mapping[str, Any]) -> tuple[Container, ...]:
    """Return the containers after a ``container_status_changed`` event; one that is gone leaves the list."""
    identity = mapping(payload.get("container"))
    current = payload.get("current")
    wanted = text(identity.get("id"))
    others = tuple(each for each in known if each.id != wanted)
    if not isinstance(current, Mapping):
        return others
    before = next((each for each in known if each.id == wanted), None)
    after = _container({**identity, **current})
    if before is not None:
        # A change says nothing of CPU and memory; a container that stopped uses neither.
        figures = after.status == "running"
        after = replace(
            before,
            name=after.name,
            status=after.status,
            health=after.health,
            cpu_percent=before.cpu_percent if figures else None,
            memory_used_bytes=before.memory_used_bytes if figures else None,
        )
    return tuple(sorted((*others, after), key=lambda each: (each.name, each.id)))


def main_disk(disks: tuple[Disk, ...]) -> Disk | None:
    """Return the file system of ``/``, else the fullest; None without any."""
    root = next((disk for disk in disks if disk.mount == "/"), None)
    return root or max(disks, key=lambda disk: disk.used_percent or 0, default=None)


def number(value: object) -> float | None:
    """Return a finite number; None for anything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)


def share(part: float | None, whole: float | None) -> float | None:
    """Return ``part`` of ``whole`` in percent; None when either is unknown or there is no whole."""
    return None if part is None or not whole else 100 * part / whole


def _disk(value: Mapping[str, Any]) -> Disk:
    return Disk(
        mount=text(value.get("mount")),
        device=text(value.get("device")),
        file_system=text(value.get("fs")),
        total_bytes=number(value.get("total_bytes")),
        used_bytes=number(value.get("used_bytes")),
    )


def _container(value: Mapping[str, Any]) -> Container:
    identity = text(value.get("id"))
    return Container(
        id=identity,
        name=text(value.get("name")) or identity[:12] or "(no name)",
        image=text(value.get("image")),
        status=text(value.get("status")) or "unknown",
        health=text(value.get("health")) or None,
        cpu_percent=number(value.get("cpu_percent")),
        memory_used_bytes=number(value.get("memory_used_bytes")),
        memory_limit_bytes=number(value.get("memory_limit_bytes")),
    )


def _total(values: Iterable[object]) -> float | None:
    known = [each for each in map(number, values) if each is not None]
    return sum(known) if known else None


def text(value: object) -> str:
    """Return a text; nothing for anything else."""
    return value if isinstance(value, str) else ""


def time_of(value: object) -> datetime | None:
    """Return a time with a zone, in UTC; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else None


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object of JSON; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the objects in a list of JSON; none for anything else."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list | tuple) else []
