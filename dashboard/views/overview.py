"""Everything at a glance: what is up, what is not, how much flows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

from dashboard import figures
from dashboard.hub import Frame
from dashboard.model import HostView, event_rate
from dashboard.views import alerts, containers, hosts
from dashboard.views.words import Columns, Figure, plural

_WELL = frozenset({"up"})


def key_figures(frame: Frame, now: datetime) -> list[Figure]:
    """Return the figures of the first row."""
    state = frame.state
    words = Counter(hosts.status(each, now) for each in state.hosts.values())
    unwell = ", ".join(f"{count} {word}" for word, count in words.items() if word not in _WELL)
    applications = state.applications.values()
    sessions = [each.active_sessions for each in applications if each.active_sessions is not None]
    rates = [each.requests_per_second for each in applications if each.requests_per_second is not None]
    connections = sum(one.count for each in applications for one in each.connections.values())
    troubled = containers.unwell(frame)
    return [
        Figure(
            "Hosts up", f"{words['up']} of {len(state.hosts)}", unwell or "all well" if state.hosts else ""
        ),
        Figure(
            "Containers",
            containers.count(frame).removesuffix(" running") or figures.UNKNOWN,
            f"{troubled} unwell" if troubled else "running",
        ),
        Figure("Events", f"{event_rate(state, now):.1f} /s", "last 30 s"),
        Figure(
            "Sessions",
            figures.count(int(sum(sessions))) if sessions else figures.UNKNOWN,
            plural(len(applications), "application") if applications else "no application pushes",
        ),
        Figure(
            "Requests",
            f"{sum(rates):.1f} /s" if rates else figures.UNKNOWN,
            "of applications" if rates else "",
        ),
        Figure("Connections", figures.count(connections) if connections else figures.UNKNOWN, "seen here"),
    ]


def troubles(frame: Frame, now: datetime) -> Iterator[str]:
    """Yield what needs a person, in words, the worst first: alerts that nobody has taken on, then what no alert told of."""
    firing = alerts.firing(frame)
    for alert in firing:
        if not alert.acknowledged_by:
            since = "" if alert.since is None else f" for {figures.age(alert.since, now)}"
            yield f":material/notifications: **{alerts.title(alert)}**{since}"
    told = {(alert.device, alert.item) for alert in firing}
    seen = frame.state.hosts.values()
    for device, item, words in (*_hosts(seen, now), *_containers(seen), *_disks(seen)):
        if (device, item) not in told:
            yield words


_Trouble = tuple[str, str, str]
"""The device, what of it (empty: itself), and the words."""


def _hosts(seen: Iterable[HostView], now: datetime) -> Iterator[_Trouble]:
    for host in seen:
        word = hosts.status(host, now)
        if word not in {"up", "unknown"}:
            since = "" if host.age_of is None else f", newest reading {figures.age(host.age_of, now)} ago"
            yield host.name, "", f":material/dns: **{host.name}** is {word}{since}"


def _containers(seen: Iterable[HostView]) -> Iterator[_Trouble]:
    for host in seen:
        for each in host.containers:
            if each.health == "unhealthy" or each.status in {"restarting", "dead"}:
                word = "unhealthy" if each.health == "unhealthy" else each.status
                words = f":material/deployed_code: **{each.name}** on {host.name} is {word}"
                yield host.name, each.name, words


def _disks(seen: Iterable[HostView]) -> Iterator[_Trouble]:
    for host in seen:
        for disk in host.newest.disks if host.newest else ():
            if disk.used_percent is not None and disk.used_percent >= _FULL_PERCENT:
                full = figures.percent(disk.used_percent)
                yield (
                    host.name,
                    disk.mount,
                    f":material/hard_drive: **{disk.mount}** on {host.name} is {full} full",
                )


def connections(frame: Frame, now: datetime) -> Columns:
    """Return one row a connection type of each application; empty without any."""
    each = [
        (app.name, kind, one)
        for app in frame.state.applications.values()
        for kind, one in app.connections.items()
    ]
    if not each:
        return {}
    return {
        "Application": [name for name, _, _ in each],
        "Connection": [kind for _, kind, _ in each],
        "Seen": [one.count for _, _, one in each],
        "Errors": [one.errors for _, _, one in each],
        "Response": [
            figures.UNKNOWN if one.response_ms is None else figures.milliseconds(one.response_ms / 1000)
            for _, _, one in each
        ],
        "Newest": [
            figures.UNKNOWN if one.newest is None else figures.age(one.newest, now) for _, _, one in each
        ],
    }


_FULL_PERCENT = 90.0
"""From here on a file system is on the list."""
