"""A container's numbers, by the formulas of ``docker stats``: pure.

One-shot statistics have no earlier sample in them, so rates are made from our own (docker/cli,
cli/command/container/stats_helpers.go). What an engine does not tell is None, never 0.

Podman's ``system_cpu_usage`` is not the host's CPU time: between two answers of 4.3 on two cores, 1.10 s apart, it had grown
by 0.41 s (tests/fixtures/podman-4.3). There the time between the answers stands for it, as ``podman stats`` has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from collectors.docker_state import Container, Engine, short_id


@dataclass(frozen=True, slots=True)
class Counters:
    """What one container used so far: CPU in nanoseconds, the rest in bytes."""

    cpu: int | None = None
    system: int | None = None
    """CPU time of the whole host, all cores together."""
    cores: int | None = None
    memory_used: int | None = None
    memory_limit: int | None = None
    received: int | None = None
    sent: int | None = None
    read: int | None = None
    written: int | None = None


NOTHING = Counters()


def parse_stats(stats: Mapping[str, Any], engine: Engine = Engine.DOCKER) -> Counters:
    """Read the answer of ``GET /containers/{id}/stats``; a container that stopped meanwhile gives NOTHING."""
    cpu = stats.get("cpu_stats") or {}
    usage = cpu.get("cpu_usage") or {}
    used, limit = _memory(stats.get("memory_stats") or {})
    received, sent = _network(stats.get("networks"))
    read, written = _block_io(stats.get("blkio_stats") or {})
    cores = cpu.get("online_cpus") or len(usage.get("percpu_usage") or ()) or None
    return Counters(
        cpu=usage.get("total_usage") or None,
        system=_elapsed(stats, cores) if engine is Engine.PODMAN else cpu.get("system_cpu_usage"),
        cores=cores,
        memory_used=used,
        memory_limit=limit,
        received=received,
        sent=sent,
        read=read,
        written=written,
    )


def _elapsed(stats: Mapping[str, Any], cores: int | None) -> int | None:
    """Return all cores' time up to the answer, in nanoseconds from whenever."""
    try:
        at = datetime.fromisoformat(str(stats.get("read")))
    except ValueError:
        return None
    return round(at.timestamp() * 1e6) * 1000 * cores if cores and at.year > 1 else None


def _memory(memory: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return what is used without the page cache that could be given back, and the limit."""
    detail = memory.get("stats") or {}
    usage = memory.get("usage")
    if not usage:
        # Some kernels count no usage for the group; Raspberry Pi without cgroup_enable=memory counts nothing at all.
        return detail.get("anon"), memory.get("limit") or None
    inactive = detail.get("total_inactive_file", detail.get("inactive_file", 0))  # cgroup v1, v2
    return (usage - inactive if inactive < usage else usage), memory.get("limit") or None


def _network(networks: Mapping[str, Any] | None) -> tuple[int | None, int | None]:
    """Sum all interfaces; there are none with ``network_mode: host``."""
    if networks is None:
        return None, None
    return (
        sum(int(one.get("rx_bytes", 0)) for one in networks.values()),
        sum(int(one.get("tx_bytes", 0)) for one in networks.values()),
    )


def _block_io(blkio: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Sum all devices; the operation is ``Read`` with cgroup v1, ``read`` with v2."""
    entries = blkio.get("io_service_bytes_recursive")
    if entries is None:
        return None, None
    sums = {"r": 0, "w": 0}
    for entry in entries:
        first = str(entry.get("op", ""))[:1].lower()
        if first in sums:
            sums[first] += int(entry.get("value", 0))
    return sums["r"], sums["w"]


def cpu_percent(now: Counters, before: Counters | None) -> float | None:
    """Return the CPU in use as ``docker stats`` shows it: 100 is one core. None when it cannot be known."""
    if before is None or now.cores is None:
        return None
    if now.cpu is None or before.cpu is None or now.system is None or before.system is None:
        return None
    cpu, system = now.cpu - before.cpu, now.system - before.system
    if cpu < 0 or system <= 0:  # it was started again: a new baseline
        return None
    return round(cpu / system * now.cores * 100, 2)


def container_payload(container: Container, now: Counters, before: Counters | None) -> dict[str, Any]:
    """Return one entry of ``containers_collected``."""
    return {
        "id": short_id(container.id),
        "name": container.name,
        "image": container.image,
        "status": container.status,
        "health": container.health,
        "running": container.running,
        "started_at": container.started_at,
        "restarts": container.restarts,
        "exit_code": container.exit_code,
        "oom_killed": container.oom_killed,
        "cpu_percent": cpu_percent(now, before),
        "memory_used_bytes": now.memory_used,
        "memory_limit_bytes": now.memory_limit,
        "rx_bytes": now.received,
        "tx_bytes": now.sent,
        "read_bytes": now.read,
        "write_bytes": now.written,
    }
