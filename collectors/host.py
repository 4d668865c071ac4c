"""A host's counters, and the payload that two readings of them make: pure. `host_collector` reads this host's.

The formulas are those of ``free``, ``df`` and ``top``; a rate without an earlier reading, and whatever the host does not
tell, is null, never 0. The payload has the fields of devices over SSH.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_PSEUDO = re.compile(
    r"autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|"
    r"proc|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs"
)
"""File systems that hold no data of their own: node_exporter's defaults."""

_REMOTE = re.compile(r"nfs4?|cifs|smb3|smbfs|afs|ceph|9p|glusterfs|fuse\.(sshfs|glusterfs|rclone)")
"""Asking a dead server for its free space blocks for ever."""

_SYSTEM_MOUNT = re.compile(
    r"/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)(\Z|/)"
)
"""Mounts that are not people's disks: node_exporter's defaults."""

_VIRTUAL_NETWORK = re.compile(r"(lo\d*\Z|veth|docker\d|br-|cni|flannel|virbr|tun|tap)")
"""What carries traffic of a network that is counted already, or none that leaves the host."""

_PART_OF_A_DRIVE = re.compile(
    r"((z?ram|loop|fd|(h|s|v|xv)d[a-z]+|nvme\d+n\d+p|mmcblk\d+p|md\d+p|dm-|md|sr)\d+|mmcblk\d+(boot\d+|rpmb))\Z"
)
"""node_exporter's list and more: parts of a drive, and layers above drives, whose traffic would count twice."""

_IMPOSSIBLE_BYTES_PER_SECOND = 10e9
"""A counter that jumps faster was replaced, not counted up (Beszel's rule): no rate is told."""

_MEMORY_POINTS = 1.0
_CPU_POINTS = 25.0
"""Of a hundred: such a change of what is in use is told before its time. CPU time comes in bursts."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted file system, in bytes; ``available`` is what an ordinary user may still write."""

    mount: str
    device: str
    fs: str
    total: int
    used: int
    available: int
    inodes_total: int | None = None
    """None where the file system makes inodes as it needs them, and says 0."""
    inodes_used: int | None = None


@dataclass(frozen=True, slots=True)
class DriveCounters:
    """One drive's bytes since the start, and the milliseconds in which it had something to do."""

    read: int
    written: int
    busy_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Glance:
    """What of a host is read in a moment: what changes at once and is looked at first.

    ``cpu_total`` and ``cpu_idle`` are seconds of all cores since the start; idle includes waiting for the disk.
    """

    cpu_total: float
    cpu_idle: float
    memory_total: int
    memory_available: int

    @property
    def memory_percent(self) -> float | None:
        """How much of the memory is in use, 0-100."""
        used = self.memory_total - self.memory_available
        return 100 * used / self.memory_total if self.memory_total else None


@dataclass(frozen=True, slots=True)
class Reading(Glance):
    """The host's counters at one moment.

    ``uptime_seconds`` is the clock of the rates: it runs on in sleep and starts again with the host.
    """

    uptime_seconds: float
    cores: int
    load: tuple[float, float, float] | None
    swap_total: int | None
    swap_used: int | None
    disks: tuple[Disk, ...]
    networks: Mapping[str, tuple[int, int]]
    """Name -> bytes received, sent."""
    drives: Mapping[str, DriveCounters] | None = None
    pressure: Mapping[str, Mapping[str, float]] | None = None
    """Resource -> ``some_avg10``, ``full_avg60`` ... in percent of time; None where the kernel does not tell."""
    os: Mapping[str, str | None] | None = None


def metrics(hostname: str, reading: Reading, before: Reading | None) -> dict[str, Any]:
    """Return the payload of ``metric_collected``: this reading, and what changed since the one before."""
    if before is not None and reading.uptime_seconds <= before.uptime_seconds:
        before = None  # the host started again in between: its counters are new ones
    interval = reading.uptime_seconds - before.uptime_seconds if before else None
    used = reading.memory_total - reading.memory_available
    return {
        "hostname": hostname,
        "cpu_usage": cpu_percent(reading, before),
        "memory_usage": round(share, 2) if (share := reading.memory_percent) is not None else None,
        "cores": reading.cores,
        "load": [round(load, 2) for load in reading.load] if reading.load else None,
        "memory": {
            "total_bytes": reading.memory_total,
            "used_bytes": used,
            "available_bytes": reading.memory_available,
            "swap_total_bytes": reading.swap_total,
            "swap_used_bytes": reading.swap_used,
        },
        "pressure": reading.pressure,
        "disks": [
            {
                "mount": disk.mount,
                "device": disk.device,
                "fs": disk.fs,
                "total_bytes": disk.total,
                "used_bytes": disk.used,
                "available_bytes": disk.available,
                "inodes_total": disk.inodes_total,
                "inodes_used": disk.inodes_used,
            }
            for disk in reading.disks
        ],
        "disk_io": disk_io(reading.drives, before.drives if before else None, interval),
        "networks": [
            {
                "name": name,
                "rx_bytes": received,
                "tx_bytes": sent,
                "rx_bytes_per_second": rate(received, before.networks.get(name, (None, None))[0], interval)
                if before
                else None,
                "tx_bytes_per_second": rate(sent, before.networks.get(name, (None, None))[1], interval)
                if before
                else None,
            }
            for name, (received, sent) in sorted(reading.networks.items())
        ],
        "uptime_seconds": round(reading.uptime_seconds, 2),
        "interval_seconds": round(interval, 3) if interval is not None else None,
        "os": reading.os,
    }


def disk_io(
    now: Mapping[str, DriveCounters] | None,
    before: Mapping[str, DriveCounters] | None,
    interval: float | None,
) -> list[dict[str, Any]] | None:
    """Return what each drive did between two readings, by name; None where drives are not told of."""
    if now is None:
        return None
    told = []
    for name, counters in sorted(now.items()):
        was = before.get(name) if before else None
        told.append(
            {
                "name": name,
                "read_bytes": counters.read,
                "written_bytes": counters.written,
                "read_bytes_per_second": rate(counters.read, was.read if was else None, interval),
                "written_bytes_per_second": rate(counters.written, was.written if was else None, interval),
                "busy_percent": _busy(counters.busy_ms, was.busy_ms if was else None, interval),
            }
        )
    return told


def _busy(now: int | None, before: int | None, interval: float | None) -> float | None:
    if now is None or before is None or not interval or now < before:
        return None
    return round(min(100.0, (now - before) / (interval * 10)), 2)  # milliseconds of seconds, in percent


def stirred(now: Glance, told: Glance, told_cpu_percent: float | None) -> bool:
    """Tell whether a host has changed so much since what was told of it that it is not to wait for its time."""
    return _apart(now.memory_percent, told.memory_percent, _MEMORY_POINTS) or _apart(
        cpu_percent(now, told), told_cpu_percent, _CPU_POINTS
    )


def _apart(one: float | None, other: float | None, points: float) -> bool:
    return one is not None and other is not None and abs(one - other) >= points


def cpu_percent(reading: Glance, before: Glance | None) -> float | None:
    """Return how busy all cores together were between two readings, 0-100; None when that cannot be known."""
    if before is None or (total := reading.cpu_total - before.cpu_total) <= 0:
        return None
    # iowait may decrease (proc_stat(5)), so the share can leave 0-100 by a little.
    busy = total - (reading.cpu_idle - before.cpu_idle)
    return round(min(100.0, max(0.0, 100 * busy / total)), 2)


def rate(now: int, before: int | None, interval: float | None) -> float | None:
    """Return bytes per second; None for an unknown past, or a counter that was replaced."""
    if before is None or not interval or now < before:
        return None
    per_second = (now - before) / interval
    return round(per_second, 1) if per_second <= _IMPOSSIBLE_BYTES_PER_SECOND else None


def shown_mounts(mounts: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Choose from (mount, device, file system type) what is a disk of this host: each device once, shortest path.

    The root is always one, whatever it is made of.
    """
    shown: dict[str, tuple[str, str, str]] = {}
    for mount, device, fs in sorted(mounts, key=lambda entry: (len(entry[0]), entry)):
        if _REMOTE.fullmatch(fs):
            continue
        if mount != "/" and (_PSEUDO.fullmatch(fs) or _SYSTEM_MOUNT.match(mount)):
            continue
        # Bind mounts and subvolumes show one device many times; tmpfs and the like name none, and are each their own.
        shown.setdefault(device if device.startswith("/") else mount, (mount, device, fs))
    return list(shown.values())


def shown_networks(counters: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Leave out what is virtual."""
    return {name: count for name, count in counters.items() if not _VIRTUAL_NETWORK.match(name)}


def shown_drives(counters: Mapping[str, DriveCounters]) -> dict[str, DriveCounters]:
    """Leave out parts of drives, what lies above drives, and drives that were never used."""
    return {
        name: count
        for name, count in counters.items()
        if (count.read or count.written) and not _PART_OF_A_DRIVE.match(name)
    }


def parse_pressure(resource: str, text: str) -> dict[str, float]:
    """Read one file of ``/proc/pressure``: ``some_avg10``, ``full_avg60`` ...; raises ValueError (psi.rst)."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        share, *fields = line.split()
        found |= {
            f"{share}_{name}": float(value)
            for name, _, value in (field.partition("=") for field in fields)
            if name.startswith("avg")
        }
    if "some_avg10" not in found:
        raise ValueError(f"/proc/pressure/{resource} has no pressure in it")
    return found
