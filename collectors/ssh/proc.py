"""Linux's ``/proc``, as text: pure. The same on every distribution, whatever its tools are.

Formulas: proc(5) and proc_stat(5), procps' ``free``, the kernel's Documentation/admin-guide/iostats.rst and
Documentation/accounting/psi.rst. What a kernel does not tell is None, never 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from collectors.host import DriveCounters
from collectors.ssh.errors import Unreadable
from collectors.ssh.text import count, measure

_TICKS = 8
"""Fields of a cpu line that sum up to all time: guest and guest_nice are in user and nice already."""
_IDLE, _IOWAIT = 3, 4
_SECTOR_BYTES = 512
"""Of the kernel's counters, whatever a drive's own sectors are."""
_PARTITION = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]+|nvme\d+n\d+p|mmcblk\d+p|md\d+p|dm-|md)\d+\Z")
"""node_exporter's list and more: parts of a disk, and layers above disks, whose traffic would count twice."""
_MMC_PARTS = re.compile(r"mmcblk\d+(boot\d+|rpmb)\Z")


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Clock ticks of all cores since the start; idle includes waiting for a disk."""

    total: int
    idle: int
    cores: int | None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. ``available`` is what programs can still have without swapping."""

    total: int
    available: int | None
    swap_total: int | None
    swap_used: int | None


def parse_uptime(text: str) -> float:
    """Read ``/proc/uptime``: seconds since the start, which is the clock of all rates. Raises Unreadable."""
    first = text.split(maxsplit=1)
    seconds = measure(first[0], largest=1e10) if first else None
    if seconds is None:
        raise Unreadable("no uptime")
    return seconds


def parse_load(text: str) -> tuple[float, float, float]:
    """Read ``/proc/loadavg``: 1, 5 and 15 minutes. Raises Unreadable."""
    loads = [measure(word, largest=1e6) for word in text.split()[:3]]
    match loads:
        case [float(one), float(five), float(fifteen)]:
            return one, five, fifteen
    raise Unreadable("no load")


def parse_cpu(text: str) -> CpuTimes:
    """Read the cpu lines of ``/proc/stat``. Raises Unreadable."""
    cores = 0
    ticks: list[int] | None = None
    for line in text.splitlines():
        name, *fields = line.split() or [""]
        if name == "cpu":
            numbers = [count(field) for field in fields[:_TICKS]]
            # Kernels before 2.6 have four fields; all of those that are there have to be numbers.
            known = [number for number in numbers if number is not None]
            if len(known) != len(numbers) or len(known) <= _IDLE:
                raise Unreadable("the cpu line has no numbers")
            ticks = known
        elif re.fullmatch(r"cpu\d+", name):
            cores += 1
    if ticks is None:
        raise Unreadable("no cpu line")
    return CpuTimes(sum(ticks), ticks[_IDLE] + sum(ticks[_IOWAIT : _IOWAIT + 1]), cores or None)


def parse_memory(text: str) -> Memory:
    """Read ``/proc/meminfo``; used is total less available, as ``free`` has it. Raises Unreadable."""
    kib: dict[str, int] = {}
    for line in text.splitlines():
        name, separator, rest = line.partition(":")
        number = count(rest.split()[0]) if separator and rest.split() else None
        if number is not None and number < 2**52:
            kib[name.strip()] = number
    total = kib.get("MemTotal")
    if not total:
        raise Unreadable("no MemTotal")
    available = kib.get("MemAvailable", _available_before_3_14(kib))
    if available is not None and available > total:
        raise Unreadable("more memory is available than there is")
    swap_total, swap_free = kib.get("SwapTotal"), kib.get("SwapFree")
    swap_used = None
    if swap_total is not None and swap_free is not None and swap_free <= swap_total:
        swap_used = (swap_total - swap_free) * 1024
    return Memory(
        total=total * 1024,
        available=None if available is None else available * 1024,
        swap_total=None if swap_total is None else swap_total * 1024,
        swap_used=swap_used,
    )


def _available_before_3_14(kib: Mapping[str, int]) -> int | None:
    """Estimate what kernels before 3.14 do not tell: free and page cache, without what only looks like cache."""
    if "MemFree" not in kib:
        return None
    parts = (kib.get(name, 0) for name in ("MemFree", "Buffers", "Cached", "SReclaimable"))
    return max(0, min(kib["MemTotal"], sum(parts) - kib.get("Shmem", 0)))


def parse_pressure(text: str) -> dict[str, dict[str, float]]:
    """Read ``/proc/pressure/*``, each line after its file's name: ``cpu some avg10=0.00 avg60=...``.

    Returns resource -> ``some_avg10``, ``some_avg60``, ``full_avg10`` ... in percent of time. Raises Unreadable.
    """
    found: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        match line.split():
            case [("cpu" | "memory" | "io") as resource, ("some" | "full") as share, *fields]:
                for field in fields:
                    name, _, value = field.partition("=")
                    percent = measure(value, largest=100)
                    if name in {"avg10", "avg60", "avg300"} and percent is not None:
                        found.setdefault(resource, {})[f"{share}_{name}"] = percent
    if not found:
        raise Unreadable("no pressure")
    return found


def parse_diskstats(text: str) -> dict[str, DriveCounters]:
    """Read ``/proc/diskstats``: whole drives that were ever used. Raises Unreadable when no line is one of a disk."""
    found: dict[str, DriveCounters] = {}
    lines = 0
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 10:  # noqa: PLR2004 - up to the sectors written
            continue
        read, written = count(fields[5]), count(fields[9])
        if read is None or written is None:
            continue
        lines += 1
        name = fields[2]
        if _PARTITION.match(name) or _MMC_PARTS.match(name) or not (read or written):
            continue
        busy = count(fields[12]) if len(fields) > 12 else None  # noqa: PLR2004 - milliseconds of I/O
        if max(read, written) < 2**54:
            found[name] = DriveCounters(read * _SECTOR_BYTES, written * _SECTOR_BYTES, busy)
    if not lines and text.strip():
        raise Unreadable("no disk in it")
    return found


def parse_networks(text: str) -> dict[str, tuple[int, int]]:
    """Read ``/proc/net/dev``: name -> bytes received, sent. Raises Unreadable when it is something else."""
    found: dict[str, tuple[int, int]] = {}
    for line in text.splitlines():
        name, separator, rest = line.rpartition(":")  # a name may have colons in it (eth0:1)
        fields = rest.split()
        if not separator or len(fields) < 9:  # noqa: PLR2004 - eight of receiving, then bytes sent
            continue
        received, sent = count(fields[0]), count(fields[8])
        if received is not None and sent is not None and name.strip():
            found[name.strip()[:64]] = (received, sent)
    if not found:
        raise Unreadable("no network in it")
    return found
