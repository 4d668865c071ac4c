"""Containers of all hosts."""

from __future__ import annotations

from collections.abc import Iterator

from dashboard import figures
from dashboard.hub import Frame
from dashboard.model import HostView
from dashboard.readings import Container
from dashboard.views.words import Columns


def rows(frame: Frame, host: str | None = None, text: str = "") -> Columns:
    """Return one row a container, of one host or of all, whose name or image has the text; empty without any."""
    each = [
        (view, one)
        for view, one in _all(frame)
        if host in {None, view.name} and text.casefold() in f"{one.name} {one.image}".casefold()
    ]
    if not each:
        return {}
    return {
        "Name": [one.name for _, one in each],
        "Host": [view.name for view, _ in each],
        "Status": [one.status for _, one in each],
        "Health": [one.health or figures.UNKNOWN for _, one in each],
        "CPU": [figures.percent(one.cpu_percent) for _, one in each],
        "Memory": [figures.size(one.memory_used_bytes) for _, one in each],
        "Limit": [_limit(one) for _, one in each],
        "Image": [one.image for _, one in each],
    }


def names(frame: Frame) -> list[tuple[str, str]]:
    """Return (host, name) of every container."""
    return [(view.name, one.name) for view, one in _all(frame)]


def count(frame: Frame) -> str:
    """Return how many containers there are, and how many of them run."""
    each = [one for _, one in _all(frame)]
    return f"{sum(one.status == 'running' for one in each)} of {len(each)} running" if each else ""


def unwell(frame: Frame) -> int:
    """Return how many containers are unhealthy, restarting or dead."""
    return sum(one.health == "unhealthy" or one.status in {"restarting", "dead"} for _, one in _all(frame))


def none(frame: Frame) -> tuple[str, str]:
    """Return an icon and a sentence for an empty list of containers."""
    hosts = list(frame.state.hosts.values())
    if frame.docker_note:
        return ":material/power_off:", frame.docker_note
    if any(host.docker_available is False for host in hosts):
        return ":material/power_off:", "Docker is not there: its daemon does not answer."
    if any(host.containers_at is not None for host in hosts):
        return ":material/inventory_2:", "Docker answers and has no containers."
    return ":material/hourglass_empty:", "No containers have been reported yet."


def _all(frame: Frame) -> Iterator[tuple[HostView, Container]]:
    for host in frame.state.hosts.values():
        for each in host.containers:
            yield host, each


def _limit(one: Container) -> str:
    return figures.size(one.memory_limit_bytes) if one.memory_limit_bytes else "none"
