"""This host: CPU, load, memory, disks, network.

``read`` takes the counters (psutil, so that Linux and macOS work alike), ``metrics`` makes one payload of two readings.
The formulas are those of ``free``, ``df`` and ``top``; a rate without an earlier reading is null, never 0.
"""

from __future__ import annotations

import re
import socket
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil

from collectors.collector import Collector, CollectorError
from collectors.threads import Reader
from monitoring.events import Draft, Kind, StreamId, stream_id

_PSEUDO = re.compile(
    r"autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|"
    r"proc|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs"
)
"""File systems that hold no data of their own: node_exporter's defaults."""

_SMALLEST_DISK_BYTES = 1 << 20
"""What is smaller is a placeholder (a container runtime's tmpfs of one page), not a place to keep data."""
_REMOTE = re.compile(r"nfs4?|cifs|smb3|smbfs|afs|ceph|9p|glusterfs|fuse\.(sshfs|glusterfs|rclone)")
"""Asking a dead server for its free space blocks for ever."""

_SYSTEM_MOUNT = re.compile(
    r"/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)(\Z|/)"
)
"""Mounts that are not people's disks: node_exporter's defaults."""

_VIRTUAL_NETWORK = re.compile(r"(lo\d*\Z|veth|docker\d|br-|cni|flannel|virbr|tun|tap)")
"""What carries traffic of a network that is counted already, or none that leaves the host."""

_IMPOSSIBLE_BYTES_PER_SECOND = 10e9
"""A counter that jumps faster was replaced, not counted up (Beszel's rule): no rate is told."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted file system, in bytes; ``available`` is what an ordinary user may still write."""

    mount: str
    device: str
    fs: str
    total: int
    used: int
    available: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The host's counters at one moment.

    ``uptime_seconds`` is the clock of the rates: it runs on in sleep and starts again with the host. ``cpu_total`` and
    ``cpu_idle`` are seconds of all cores since the start; idle includes waiting for the disk.
    """

    uptime_seconds: float
    cpu_total: float
    cpu_idle: float
    cores: int
    load: tuple[float, float, float] | None
    memory_total: int
    memory_available: int
    swap_total: int
    swap_used: int
    disks: tuple[Disk, ...]
    networks: Mapping[str, tuple[int, int]]
    """Name -> bytes received, sent."""


def metrics(hostname: str, reading: Reading, before: Reading | None) -> dict[str, Any]:
    """Return the payload of ``metric_collected``: this reading, and what changed since the one before."""
    if before is not None and reading.uptime_seconds <= before.uptime_seconds:
        before = None  # the host started again in between: its counters are new ones
    interval = reading.uptime_seconds - before.uptime_seconds if before else None
    used = reading.memory_total - reading.memory_available
    return {
        "hostname": hostname,
        "cpu_usage": cpu_percent(reading, before),
        "memory_usage": round(100 * used / reading.memory_total, 2) if reading.memory_total else None,
        "cores": reading.cores,
        "load": [round(load, 2) for load in reading.load] if reading.load else None,
        "memory": {
            "total_bytes": reading.memory_total,
            "used_bytes": used,
            "available_bytes": reading.memory_available,
            "swap_total_bytes": reading.swap_total,
            "swap_used_bytes": reading.swap_used,
        },
        "disks": [
            {
                "mount": disk.mount,
                "device": disk.device,
                "fs": disk.fs,
                "total_bytes": disk.total,
                "used_bytes": disk.used,
                "available_bytes": disk.available,
            }
            for disk in reading.disks
        ],
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
    }


def cpu_percent(reading: Reading, before: Reading | None) -> float | None:
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


def read() -> Reading:
    """Read the host's counters now; blocks, usually for a millisecond. Raises CollectorError."""
    try:
        with warnings.catch_warnings():
            # psutil warns where the system counts no swap traffic, which is not asked for here.
            warnings.simplefilter("ignore", RuntimeWarning)
            swap = psutil.swap_memory()
        cpu = psutil.cpu_times()
        memory = psutil.virtual_memory()
        networks = psutil.net_io_counters(pernic=True, nowrap=False)
        # user and nice include guest and guest_nice already (proc_stat(5))
        total = sum(cpu) - getattr(cpu, "guest", 0.0) - getattr(cpu, "guest_nice", 0.0)
        return Reading(
            uptime_seconds=_uptime(),
            cpu_total=total,
            cpu_idle=cpu.idle + getattr(cpu, "iowait", 0.0),
            cores=psutil.cpu_count() or 1,
            load=psutil.getloadavg(),
            memory_total=memory.total,
            memory_available=memory.available,
            swap_total=swap.total,
            swap_used=swap.used,
            disks=tuple(_disks()),
            networks=shown_networks({name: (n.bytes_recv, n.bytes_sent) for name, n in networks.items()}),
        )
    except (OSError, psutil.Error, ValueError) as error:
        raise CollectorError(f"this host cannot be read: {error}") from error


def _uptime() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.time() - psutil.boot_time()


def _disks() -> Iterable[Disk]:
    mounts = ((part.mountpoint, part.device, part.fstype) for part in psutil.disk_partitions(all=True))
    for mount, device, fs in shown_mounts(mounts):
        try:
            usage = psutil.disk_usage(mount)
        except OSError:
            continue  # ours to see but not to ask (another user's FUSE mount), or just unmounted
        if usage.total >= _SMALLEST_DISK_BYTES:
            yield Disk(mount, device, fs, usage.total, usage.used, usage.free)


class HostCollector(Collector):
    """Tells this host's metrics at every tick, and when the host can no longer be read."""

    name = "host"

    def __init__(
        self,
        device: str,
        *,
        hostname: str | None = None,
        read: Callable[[], Reading] = read,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Write the stream ``device/system``; raises InvalidEvent for a device name that cannot be addressed."""
        self._stream = stream_id(device, "system")
        self._hostname = hostname or socket.gethostname()
        self._read = read
        self._clock = clock
        self._reader = Reader("host", limit=1)
        self._before: Reading | None = None
        self._status = "unknown"

    @property
    def streams(self) -> Collection[StreamId]:
        """The one stream of this host."""
        return (self._stream,)

    async def collect(self) -> Sequence[Draft]:
        """Read the host.

        The first failure after a success is told as an event, later ones are raised: CollectorError.
        """
        try:
            reading = await self._reader.call(self._read)
        except CollectorError as error:
            if self._status != "up":
                raise
            return [self._became("degraded", str(error))]
        told = [] if self._status == "up" else [self._became("up", "the host is read")]
        payload = metrics(self._hostname, reading, self._before)
        self._before = reading
        return [*told, Draft(self._stream, Kind.METRIC_COLLECTED, self._clock(), payload)]

    async def close(self) -> Sequence[Draft]:
        """Tell that nobody watches this host any more."""
        return [] if self._status == "unknown" else [self._became("unknown", "the collector was stopped")]

    def _became(self, status: str, reason: str) -> Draft:
        payload = {"old_status": self._status, "new_status": status, "reason": reason}
        self._status = status
        return Draft(self._stream, Kind.DEVICE_STATUS_CHANGED, self._clock(), payload)
