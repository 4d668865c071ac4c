"""A device's system metrics: what the commands answered made one reading, and two readings one payload. Pure.

The payload has the fields of ``collectors.host`` and more; what the device does not tell is null, and ``unavailable`` says
why. Rates are per second of the device's own uptime; one that starts anew is a new baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collectors.host import DriveCounters, disk_io, rate, shown_mounts, shown_networks
from collectors.ssh.commands import Answer
from collectors.ssh.filesystems import Row
from collectors.ssh.proc import CpuTimes, Memory
from collectors.ssh.text import words

_SMALLEST_DISK_KIB = 1024
"""What is smaller is a placeholder, not a place to keep data."""
_MOST_DISKS = 200
_MOST_INTERFACES = 200


@dataclass(frozen=True, slots=True)
class SystemReading:
    """What a device said at one moment; None is what it did not say."""

    uptime_seconds: float | None
    cpu: CpuTimes | None
    load: tuple[float, float, float] | None
    memory: Memory | None
    pressure: Mapping[str, Mapping[str, float]] | None
    disks: Sequence[Mapping[str, Any]] | None
    disk_io: Mapping[str, DriveCounters] | None
    networks: Mapping[str, tuple[int, int]] | None
    identity: Mapping[str, str | None] | None
    unavailable: Mapping[str, str]

    @property
    def nothing(self) -> bool:
        """Whether it says nothing of the system's state: what answered is no Linux, or is not right in the head."""
        told = (self.uptime_seconds, self.cpu, self.load, self.memory, self.disks, self.networks)
        return all(value is None for value in told)


def reading_of(answers: Mapping[str, Answer]) -> SystemReading:
    """Put the answers of ``commands.SYSTEM`` together."""

    def told(name: str) -> Any:
        answer = answers.get(name)
        return answer.value if answer is not None and answer.ok else None

    return SystemReading(
        uptime_seconds=told("uptime"),
        cpu=told("cpu"),
        load=told("load"),
        memory=told("memory"),
        pressure=told("pressure"),
        disks=disks_of(told("mounts"), told("disks"), told("inodes")),
        disk_io=told("disk-io"),
        networks=told("networks"),
        identity=told("identity"),
        unavailable={name: answer.reason for name, answer in answers.items() if not answer.ok},
    )


def disks_of(
    mounts: Sequence[tuple[str, str, str]] | None, space: Sequence[Row] | None, inodes: Sequence[Row] | None
) -> list[dict[str, Any]] | None:
    """Return the file systems that hold the device's data, once each; None when df said nothing."""
    if space is None:
        return None
    rows = {row.mount: row for row in space}  # the last one is what is mounted on top
    nodes = {row.mount: row for row in inodes or ()}
    known = (
        mounts if mounts is not None else [(row.mount, row.device, "") for row in space if "/" in row.device]
    )
    found = []
    for mount, device, fs in shown_mounts({entry[0]: entry for entry in known}.values()):
        row = rows.get(mount)
        if row is None or row.total is None or row.total < _SMALLEST_DISK_KIB or row.total > 2**52:
            continue
        node = nodes.get(mount)
        found.append(
            {
                "mount": words(mount, 1000),
                "device": words(device, 1000),
                "fs": words(fs),
                "total_bytes": row.total * 1024,
                "used_bytes": _kib(row.used, row.total),
                "available_bytes": _kib(row.available, row.total),
                # btrfs and others make inodes as they need them, and say 0 of 0
                "inodes_total": (node.total or None) if node else None,
                "inodes_used": node.used if node and node.total else None,
            }
        )
    return found[:_MOST_DISKS]


def _kib(value: int | None, total: int) -> int | None:
    return value * 1024 if value is not None and value <= total else None


def restarted(reading: SystemReading, before: SystemReading | None) -> bool:
    """Whether the device was started again between two readings."""
    return (
        before is not None
        and before.uptime_seconds is not None
        and reading.uptime_seconds is not None
        and reading.uptime_seconds < before.uptime_seconds
    )


def payload(hostname: str, reading: SystemReading, before: SystemReading | None) -> dict[str, Any]:
    """Return the payload of ``metric_collected``: this reading, and what changed since the one before."""
    interval = _interval(reading, before)
    if interval is None:
        before = None
    memory = reading.memory
    used = memory.total - memory.available if memory and memory.available is not None else None
    return {
        "hostname": (reading.identity or {}).get("hostname") or hostname,
        "cpu_usage": cpu_percent(reading.cpu, before.cpu if before else None),
        "memory_usage": round(100 * used / memory.total, 2) if memory and used is not None else None,
        "cores": reading.cpu.cores if reading.cpu else None,
        "load": [round(load, 2) for load in reading.load] if reading.load else None,
        "memory": {
            "total_bytes": memory.total,
            "used_bytes": used,
            "available_bytes": memory.available,
            "swap_total_bytes": memory.swap_total,
            "swap_used_bytes": memory.swap_used,
        }
        if memory
        else None,
        "pressure": reading.pressure,
        "disks": reading.disks,
        "disk_io": disk_io(_drives(reading.disk_io), _drives(before.disk_io) if before else None, interval),
        "networks": _networks(reading.networks, before.networks if before else None, interval),
        "uptime_seconds": reading.uptime_seconds,
        "interval_seconds": round(interval, 3) if interval is not None else None,
        "os": reading.identity,
        "unavailable": dict(reading.unavailable),
    }


def _interval(reading: SystemReading, before: SystemReading | None) -> float | None:
    if before is None or reading.uptime_seconds is None or before.uptime_seconds is None:
        return None
    interval = reading.uptime_seconds - before.uptime_seconds
    return interval if interval > 0 else None


def cpu_percent(now: CpuTimes | None, before: CpuTimes | None) -> float | None:
    """Return how busy all cores together were, 0-100; None when that cannot be known."""
    if now is None or before is None or (total := now.total - before.total) <= 0:
        return None
    # iowait may decrease (proc_stat(5)), so the share can leave 0-100 by a little.
    return round(min(100.0, max(0.0, 100 * (total - (now.idle - before.idle)) / total)), 2)


def _drives(counters: Mapping[str, DriveCounters] | None) -> Mapping[str, DriveCounters] | None:
    """Return drives under names that can be shown, and not more than a page of them."""
    if counters is None:
        return None
    return {shown: counters[name] for name in sorted(counters)[:_MOST_DISKS] if (shown := words(name))}


def _networks(
    now: Mapping[str, tuple[int, int]] | None,
    before: Mapping[str, tuple[int, int]] | None,
    interval: float | None,
) -> list[dict[str, Any]] | None:
    if now is None:
        return None
    told = []
    for name, (received, sent) in sorted(shown_networks(now).items())[:_MOST_INTERFACES]:
        was_received, was_sent = (before or {}).get(name, (None, None))
        told.append(
            {
                "name": words(name),
                "rx_bytes": received,
                "tx_bytes": sent,
                "rx_bytes_per_second": rate(received, was_received, interval),
                "tx_bytes_per_second": rate(sent, was_sent, interval),
            }
        )
    return told
