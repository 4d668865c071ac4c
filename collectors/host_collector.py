"""This host, read: the samples of a remote one without SSH. psutil has the counters, so that Linux and macOS work alike."""

from __future__ import annotations

import os
import platform
import socket
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import psutil

from collectors.collector import Collector, CollectorError, Restless
from collectors.host import (
    Disk,
    DriveCounters,
    Glance,
    Reading,
    metrics,
    parse_pressure,
    shown_drives,
    shown_mounts,
    shown_networks,
    stirred,
)
from collectors.threads import Reader
from monitoring.events import Draft, Kind, StreamId, stream_id

_SMALLEST_DISK_BYTES = 1 << 20
"""What is smaller is a placeholder (a container runtime's tmpfs of one page), not a place to keep data."""
_PRESSURE = Path("/proc/pressure")


def read() -> Reading:
    """Read the host's counters now; blocks, usually for a millisecond. Raises CollectorError."""
    try:
        swap = _swap()
        now = glance()
        networks = psutil.net_io_counters(pernic=True, nowrap=False)
        return Reading(
            cpu_total=now.cpu_total,
            cpu_idle=now.cpu_idle,
            memory_total=now.memory_total,
            memory_available=now.memory_available,
            uptime_seconds=_uptime(),
            cores=psutil.cpu_count() or 1,
            load=psutil.getloadavg(),
            swap_total=swap[0] if swap else None,
            swap_used=swap[1] if swap else None,
            disks=tuple(_disks()),
            networks=shown_networks({name: (n.bytes_recv, n.bytes_sent) for name, n in networks.items()}),
            drives=_drives(),
            pressure=_pressure(),
            os=_system(),
        )
    except (OSError, psutil.Error, ValueError) as error:
        raise CollectorError(f"this host cannot be read: {error}") from error


def glance() -> Glance:
    """Read what changes at once, in some ten microseconds; raises what psutil raises."""
    cpu = psutil.cpu_times()
    memory = psutil.virtual_memory()
    return Glance(
        # user and nice include guest and guest_nice already (proc_stat(5))
        cpu_total=sum(cpu) - getattr(cpu, "guest", 0.0) - getattr(cpu, "guest_nice", 0.0),
        cpu_idle=cpu.idle + getattr(cpu, "iowait", 0.0),
        memory_total=memory.total,
        memory_available=memory.available,
    )


def _swap() -> tuple[int, int] | None:
    try:
        with warnings.catch_warnings():
            # psutil warns where the system counts no swap traffic, which is not asked for here.
            warnings.simplefilter("ignore", RuntimeWarning)
            swap = psutil.swap_memory()
    except (OSError, psutil.Error):
        return None
    return swap.total, swap.used


def _uptime() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.time() - psutil.boot_time()


def _disks() -> Iterable[Disk]:
    mounts = ((part.mountpoint, part.device, part.fstype) for part in psutil.disk_partitions(all=True))
    for mount, device, fs in shown_mounts(mounts):
        try:
            found = os.statvfs(mount)
        except OSError:
            continue  # ours to see but not to ask (another user's FUSE mount), or just unmounted
        total = found.f_blocks * found.f_frsize
        if total < _SMALLEST_DISK_BYTES:
            continue
        # as df has it: what root keeps back is neither used nor available
        yield Disk(
            mount,
            device,
            fs,
            total,
            used=(found.f_blocks - found.f_bfree) * found.f_frsize,
            available=found.f_bavail * found.f_frsize,
            inodes_total=found.f_files or None,
            inodes_used=found.f_files - found.f_ffree if found.f_files else None,
        )


def _drives() -> Mapping[str, DriveCounters] | None:
    try:
        counters = psutil.disk_io_counters(perdisk=True, nowrap=False)
    except (OSError, psutil.Error, NotImplementedError):
        return None
    if (
        not counters
    ):  # psutil has {} for a host without drives of its own, as containers are: nothing is known
        return None
    return shown_drives(
        {
            name: DriveCounters(count.read_bytes, count.write_bytes, getattr(count, "busy_time", None))
            for name, count in counters.items()
        }
    )


def _pressure() -> Mapping[str, Mapping[str, float]] | None:
    """Return what the kernel says of pressure; None where it is older than 4.20, was told not to (psi=0), or is no Linux."""
    found = {}
    for resource in ("cpu", "memory", "io"):
        try:
            found[resource] = parse_pressure(resource, (_PRESSURE / resource).read_text())
        except (OSError, ValueError):
            continue
    return found or None


@cache
def _system() -> Mapping[str, str | None]:
    """Say what runs here; asked once, for it takes a restart to change it."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {"PRETTY_NAME": f"{platform.system()} {platform.release()}"}
    return {
        "hostname": socket.gethostname(),
        "name": release.get("PRETTY_NAME") or release.get("NAME"),
        "id": release.get("ID"),
        "version": release.get("VERSION_ID"),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "machine_id": _machine_id(),
    }


def _machine_id() -> str | None:
    try:
        return Path("/etc/machine-id").read_text().strip() or None
    except OSError:
        return None


class HostCollector(Collector, Restless):
    """Tells this host's metrics at every tick, and before it when they have changed much."""

    name = "host"

    def __init__(
        self,
        device: str,
        *,
        hostname: str | None = None,
        read: Callable[[], Reading] = read,
        glance: Callable[[], Glance] = glance,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Write the stream ``device/system``; raises InvalidEvent for a device name that cannot be addressed."""
        self._stream = stream_id(device, "system")
        self._hostname = hostname or socket.gethostname()
        self._read = read
        self._glance = glance
        self._clock = clock
        self._reader = Reader("host", limit=1)
        self._before: Reading | None = None
        self._cpu_percent: float | None = None
        """As it was told last."""

    @property
    def streams(self) -> Collection[StreamId]:
        """The one stream of this host."""
        return (self._stream,)

    async def collect(self) -> Sequence[Draft]:
        """Read the host; raises CollectorError when that cannot be."""
        reading = await self._reader.call(self._read)
        payload = metrics(self._hostname, reading, self._before)
        self._before, self._cpu_percent = reading, payload["cpu_usage"]
        return [Draft(self._stream, Kind.METRIC_COLLECTED, self._clock(), payload)]

    def stirred(self) -> bool:
        """Tell whether memory or CPU are in use much more, or much less, than was told last."""
        try:
            return self._before is not None and stirred(self._glance(), self._before, self._cpu_percent)
        except (OSError, psutil.Error, ValueError):
            return False  # the reading at its time will say why

    async def close(self) -> Sequence[Draft]:
        """Nothing is held."""
        return []
