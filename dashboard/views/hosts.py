"""Hosts: one row each, and one host in full."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from dashboard import figures
from dashboard.hub import Frame
from dashboard.model import HostView
from dashboard.readings import Sample
from dashboard.views.words import Badge, Color, Columns, Figure, plural

_STATUS: dict[str, tuple[str, Color]] = {
    "up": (":material/check_circle:", "green"),
    "degraded": (":material/warning:", "orange"),
    "down": (":material/error:", "red"),
    "unreachable": (":material/cloud_off:", "red"),
    "stale": (":material/history_toggle_off:", "orange"),
}
_LABELS = ("CPU", "Memory", "Load per core", "Network in", "Network out", "Disk")
_SPARK_POINTS = 60


def status(host: HostView, now: datetime) -> str:
    """Return how a host is, in a word: what the collectors concluded, unless its readings are overdue."""
    if host.stale(now) and host.status not in {"down", "unreachable"}:
        return "stale"
    if host.status:
        return host.status
    return "unknown" if host.newest is None else "up"


def badge(host: HostView, now: datetime) -> Badge:
    """Return a host's status."""
    word = status(host, now)
    icon, color = _STATUS.get(word, (":material/help:", "gray"))
    at = host.age_of
    help_ = "no reading yet" if at is None else f"newest reading {figures.age(at, now)} ago"
    return Badge(word.capitalize(), icon, color, help_)


def names(frame: Frame, only: Collection[str] | None = None) -> list[str]:
    """Return the hosts, or those of them that are in a project."""
    return [name for name in frame.state.hosts if only is None or name in only]


def rows(frame: Frame, now: datetime, only: Collection[str] | None = None) -> Columns:
    """Return one row a host, by name, of all or of those in a project; empty without any."""
    each = [frame.state.hosts[name] for name in names(frame, only)]
    if not each:
        return {}
    samples = [host.newest.sample if host.newest else None for host in each]
    return {
        "Host": [host.name for host in each],
        "Status": [status(host, now) for host in each],
        "CPU": [_percent(sample.cpu_percent if sample else None) for sample in samples],
        "CPU, 10 min": [recent(host.samples) for host in each],
        "Memory": [_percent(sample.memory_percent if sample else None) for sample in samples],
        "Disk": [_percent(sample.disk_percent if sample else None) for sample in samples],
        "Load per core": [figures.plain(sample.load_per_core if sample else None) for sample in samples],
        "In": [figures.rate(sample.received if sample else None) for sample in samples],
        "Out": [figures.rate(sample.sent if sample else None) for sample in samples],
        "Containers": [running(host) for host in each],
        "Reading": [
            figures.UNKNOWN if host.age_of is None else figures.age(host.age_of, now) for host in each
        ],
    }


def recent(samples: Sequence[Sample]) -> list[float]:
    """Return the CPU of the last minutes for a sparkline, at most sixty points."""
    known = [sample.cpu_percent for sample in samples if sample.cpu_percent is not None]
    step = max(1, -(-len(known) // _SPARK_POINTS))
    return [round(max(known[at : at + step]), 1) for at in range(0, len(known), step)]


def running(host: HostView) -> str:
    """Return how many of a host's containers run."""
    if host.containers_at is None or host.docker_available is False:
        return figures.UNKNOWN
    count = sum(each.status == "running" for each in host.containers)
    return f"{count} of {len(host.containers)}"


def subtitle(host: HostView) -> str:
    """Return what does not change about a host."""
    newest = host.newest
    if newest is None:
        return "no reading yet"
    parts = [plural(int(newest.cores), "core")] if newest.cores else []
    parts.append(f"{figures.size(newest.memory_total_bytes)} memory")
    if newest.uptime_seconds is not None:
        parts.append(f"up {figures.span(newest.uptime_seconds)}")
    return " · ".join(parts)


def key_figures(host: HostView | None, sparks: Mapping[str, Sequence[float]]) -> list[Figure]:
    """Return the figures of one host, with the sparklines of `charts.Drawn`."""
    newest = host.newest if host else None

    def figure(label: str, value: str, note: str, spark: str) -> Figure:
        return Figure(label, value, note, tuple(sparks.get(spark, ())))

    if newest is None:
        return [Figure(label, figures.UNKNOWN) for label in _LABELS]
    sample, disk = newest.sample, newest.main_disk
    cores = plural(int(newest.cores), "core") if newest.cores else ""
    load = " · ".join(figures.plain(each) for each in newest.load)
    used = f"{figures.size(newest.memory_used_bytes)} of {figures.size(newest.memory_total_bytes)}"
    room = f"{disk.mount} · {figures.size(disk.total_bytes)}" if disk else ""
    return [
        figure("CPU", figures.percent(sample.cpu_percent), cores, "cpu"),
        figure("Memory", figures.percent(sample.memory_percent), used, "memory"),
        figure("Load per core", figures.plain(sample.load_per_core), load, "load"),
        figure("Network in", figures.rate(sample.received), "all interfaces", "received"),
        figure("Network out", figures.rate(sample.sent), "all interfaces", "sent"),
        figure("Disk", figures.percent(sample.disk_percent), room, "disk"),
    ]


def alt(host: HostView, chart: str) -> str:
    """Return what a chart says, for those who cannot see it."""
    if host.newest is None:
        return f"{chart}: no data yet"
    sample = host.newest.sample
    return {
        "cpu": f"CPU over ten minutes, now {figures.percent(sample.cpu_percent)}",
        "memory": f"Memory over ten minutes, now {figures.percent(sample.memory_percent)}",
        "network": f"Network over ten minutes, now {figures.rate(sample.received)} in, {figures.rate(sample.sent)} out",
    }[chart]


def disks(host: HostView) -> Columns:
    """Return the file systems of a host; empty without any."""
    if host.newest is None or not host.newest.disks:
        return {}
    each = host.newest.disks
    return {
        "Mount": [disk.mount for disk in each],
        "Used": [disk.used_percent for disk in each],
        "Free": [figures.size(_free(disk.total_bytes, disk.used_bytes)) for disk in each],
        "Size": [figures.size(disk.total_bytes) for disk in each],
        "Device": [disk.device for disk in each],
        "Type": [disk.file_system for disk in each],
    }


def _percent(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _free(total: float | None, used: float | None) -> float | None:
    return None if total is None or used is None else max(total - used, 0.0)
