"""A frame to the words, badges and rows of each card. Pure; `page` draws them.

A state is never told by colour alone: every badge has an icon and a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, assert_never

from dashboard import figures
from dashboard.hub import Frame
from dashboard.model import Move, Phase, data_age, lost_events, phase
from dashboard.reports import Parity, Rollout, Waiting
from monitoring.service import Backend

Color = Literal["red", "orange", "blue", "green", "violet", "gray"]

_NAMES = {Backend.LEGACY: "legacy", Backend.SUPABASE: "Supabase"}
_BACKEND_COLORS: dict[Backend | None, Color] = {
    Backend.LEGACY: "orange",
    Backend.SUPABASE: "blue",
    None: "gray",
}
_BACKEND_ICONS = {
    Backend.LEGACY: ":material/lan:",
    Backend.SUPABASE: ":material/bolt:",
    None: ":material/help:",
}
_REASONS = {
    "KILLED": "kill switch",
    "DENIED": "deny list",
    "ALLOWED": "allow list",
    "PERCENTAGE": "percentage",
    "DEFAULT": "default",
}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|$~:])")


@dataclass(frozen=True, slots=True)
class Badge:
    """A short state with an icon."""

    text: str
    icon: str
    color: Color
    help: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One card of the first row."""

    label: str
    value: str
    note: str
    spark: tuple[float, ...]


def escape(text: str) -> str:
    """Return foreign text so that Markdown shows it as it is."""
    return _SPECIAL.sub(r"\\\1", text)


def title(frame: Frame) -> str:
    """Return the name of the host on the page."""
    host = frame.state.host
    return host.name if host else frame.state.device or "Waiting for a host"


def subtitle(frame: Frame) -> str:
    """Return who looks, and what is known of the host."""
    parts = [f"viewer `{frame.client_id}`"]
    host = frame.state.host
    if host and host.uptime_seconds is not None:
        parts.append(f"host up {figures.span(host.uptime_seconds)}")
    return " · ".join(parts)


def state_badge(frame: Frame, now: datetime) -> Badge:
    """Tell whether what is on the page is now, and since when it is not."""
    age = data_age(frame.state, now)
    host = frame.state.host
    since = f"stale since {figures.clock(host.sample.at)}" if host else "no data yet"
    match phase(frame.connection, frame.state, now):
        case Phase.LIVE:
            newest = f"{figures.span(age.total_seconds())} ago" if age is not None else "no reading yet"
            return Badge(f"Live · {newest}", ":material/sensors:", "green", "Age of the newest reading")
        case Phase.CONNECTING:
            return Badge("Connecting", ":material/sync:", "gray", frame.connection.detail)
        case Phase.RECONNECTING:
            return Badge(
                f"Reconnecting · {since}", ":material/sync_problem:", "orange", frame.connection.detail
            )
        case Phase.STALE:
            return Badge(f"Connected · {since}", ":material/history_toggle_off:", "orange")
        case Phase.REFUSED:
            return Badge(f"Refused · {since}", ":material/block:", "red", frame.connection.detail)
        case unknown:
            assert_never(unknown)


def backend_badge(frame: Frame) -> Badge:
    """Tell which backend feeds this viewer, and why."""
    backend, rollout = frame.connection.backend, frame.rollout
    if backend is None:
        return Badge("No backend yet", _BACKEND_ICONS[None], "gray")
    why = _REASONS.get(rollout.reason, rollout.reason.lower())
    if backend is not rollout.wish:
        why = f"flags want {_NAMES[rollout.wish]}"
    return Badge(
        f"Fed by {_NAMES[backend]} · {why}", _BACKEND_ICONS[backend], _BACKEND_COLORS[backend], rollout.why
    )


def problems(frame: Frame, now: datetime) -> list[str]:
    """Return what a person should know before trusting the page, each with what to do."""
    found = []
    current = phase(frame.connection, frame.state, now)
    detail = escape(frame.connection.detail)
    if current is Phase.REFUSED:
        found.append(f"{detail}. `crossfade doctor` says what to do.")
    elif current is Phase.RECONNECTING and _down_seconds(frame, now) > 5:  # noqa: PLR2004 - seconds; a blip is no news
        down = figures.span(_down_seconds(frame, now))
        found.append(f"No feed for {down}: {detail or 'the backend does not answer'}. Trying again.")
    elif current is Phase.STALE:
        age = data_age(frame.state, now)
        quiet = figures.span(age.total_seconds()) if age is not None else "some time"
        found.append(
            f"{_feeder(frame)} answers but has sent no reading for {quiet}. "
            "`crossfade status` shows which part stands still."
        )
    lost = lost_events(frame.state)
    if lost:
        found.append(f"{figures.count(lost)} events never reached this viewer: their history is gone.")
    return found


def key_figures(frame: Frame, sparks: Mapping[str, Sequence[float]]) -> list[Figure]:
    """Return the figures of the first row, with the sparklines of `charts.Drawn`."""
    host = frame.state.host

    def figure(label: str, value: str, note: str, spark: str) -> Figure:
        return Figure(label, value, note, tuple(sparks.get(spark, ())))

    if host is None:
        labels = ("CPU", "Memory", "Load per core", "Network in", "Network out", "Disk")
        return [Figure(label, figures.UNKNOWN, "", ()) for label in labels]
    sample, disk = host.sample, host.main_disk
    cores = f"{host.cores:.0f} cores" if host.cores else ""
    load = " · ".join(figures.plain(each) for each in host.load)
    used = f"{figures.size(host.memory_used_bytes)} of {figures.size(host.memory_total_bytes)}"
    room = f"{disk.mount} · {figures.size(disk.total_bytes)}" if disk else ""
    return [
        figure("CPU", figures.percent(sample.cpu_percent), cores, "cpu"),
        figure("Memory", figures.percent(sample.memory_percent), used, "memory"),
        figure("Load per core", figures.plain(sample.load_per_core), load, "load"),
        figure("Network in", figures.rate(sample.received), "all interfaces", "received"),
        figure("Network out", figures.rate(sample.sent), "all interfaces", "sent"),
        figure("Disk", figures.percent(sample.disk_percent), room, "disk"),
    ]


def alt(frame: Frame, chart: str) -> str:
    """Return what a chart says, for those who cannot see it."""
    host = frame.state.host
    if host is None:
        return f"{chart}: no data yet"
    sample = host.sample
    return {
        "cpu": f"CPU over ten minutes, now {figures.percent(sample.cpu_percent)}",
        "memory": f"Memory over ten minutes, now {figures.percent(sample.memory_percent)}",
        "network": f"Network over ten minutes, now {figures.rate(sample.received)} in, {figures.rate(sample.sent)} out",
    }[chart]


def share(rollout: Rollout) -> str:
    """Return who is served by Supabase, in a few words."""
    if rollout.kill:
        return "Kill switch is on: every client is on legacy"
    return f"**{rollout.percent_text} %** of clients on Supabase"


def migration(frame: Frame) -> list[tuple[str, str]]:
    """Return the flags, and what they mean for this viewer."""
    rollout = frame.rollout
    place = "none: it has no id" if rollout.bucket_percent is None else f"{rollout.bucket_percent} %"
    why = _REASONS.get(rollout.reason, rollout.reason.lower())
    return [
        ("This viewer belongs on", f"**{_NAMES[rollout.wish]}**, by {why}"),
        ("Its place in the split", place),
        ("Allow · deny", f"{_clients(rollout.allow)} · {_clients(rollout.deny)}"),
        ("Kill switch", "**on**" if rollout.kill else "off"),
    ]


def moves(frame: Frame, now: datetime) -> list[str]:
    """Return the moves of this viewer, newest first."""
    if not frame.state.moves:
        return [":material/horizontal_rule: no moves since this viewer connected"]
    return [_move(each, now) for each in reversed(frame.state.moves)][:3]


def verdict(parity: Parity, now: datetime) -> Badge:
    """Return the comparison's verdict; an old one is not a verdict on now."""
    text = parity.verdict.replace("_", " ").capitalize()
    if parity.old(now):
        return Badge(f"{text}, but old", ":material/history_toggle_off:", "orange")
    icons: dict[str, tuple[str, Color]] = {
        "PASS": (":material/check_circle:", "green"),
        "FAIL": (":material/error:", "red"),
        "ERROR": (":material/error:", "red"),
    }
    icon, color = icons.get(parity.verdict, (":material/hourglass_empty:", "gray"))
    return Badge(text, icon, color)


def not_compared(waiting: Waiting | None) -> str:
    """Say why there is no comparison yet, in Markdown."""
    if waiting is None:
        return (
            "The live comparison writes its first result some seconds after `crossfade up`. "
            "`crossfade validate live --for 30s` runs one by hand."
        )
    sides = " and ".join(_NAMES[side] for side in waiting.sides) or "the first event"
    return f"Waiting for {sides}: a comparison begins when both sides are live."


def parity_age(parity: Parity, now: datetime) -> str:
    """Return how old the verdict is."""
    return "" if parity.at is None else f"{figures.age(parity.at, now)} ago"


def parity(result: Parity) -> list[tuple[str, str]]:
    """Return the comparison in figures."""
    coverage = figures.UNKNOWN if result.coverage_percent is None else f"{result.coverage_percent:.2f} %"
    found = [f"{figures.count(number)} {name}" for name, number in result.findings if number]
    sides = [
        (
            f"{_NAMES[side].capitalize()} latency",
            f"{figures.milliseconds(of.p50_seconds)} median · {figures.milliseconds(of.p99_seconds)} p99",
        )
        for side, of in result.sides.items()
    ]
    return [
        ("Matched of decided", f"**{figures.count(result.matched)}** of {figures.count(result.decided)}"),
        ("Missing, different, double", ", ".join(found) if found else "none"),
        ("Coverage", coverage),
        *sides,
    ]


def disks(frame: Frame) -> dict[str, list[str | float | None]]:
    """Return the columns of the disks; empty without any."""
    host = frame.state.host
    if host is None or not host.disks:
        return {}
    each = host.disks
    return {
        "Mount": [disk.mount for disk in each],
        "Used": [disk.used_percent for disk in each],
        "Free": [figures.size(_free(disk.total_bytes, disk.used_bytes)) for disk in each],
        "Size": [figures.size(disk.total_bytes) for disk in each],
    }


def containers(frame: Frame) -> dict[str, list[str | float | None]]:
    """Return the columns of the containers; empty without any."""
    each = frame.state.containers
    if not each:
        return {}
    return {
        "Name": [one.name for one in each],
        "Status": [one.status for one in each],
        "Health": [one.health or figures.UNKNOWN for one in each],
        "CPU": [figures.percent(one.cpu_percent) for one in each],
        "Memory": [figures.size(one.memory_used_bytes) for one in each],
        "Image": [one.image for one in each],
    }


def container_count(frame: Frame) -> str:
    """Return how many containers there are, and how many of them run."""
    each = frame.state.containers
    running = sum(one.status == "running" for one in each)
    return f"{running} of {len(each)} running" if each else ""


def no_containers(frame: Frame) -> tuple[str, str]:
    """Return an icon and a sentence for an empty list of containers."""
    if frame.docker_note:
        return ":material/power_off:", frame.docker_note
    if frame.state.docker_available is False:
        return ":material/power_off:", "Docker is not there: its daemon does not answer."
    if frame.state.containers_at is not None:
        return ":material/inventory_2:", "Docker answers and has no containers."
    return ":material/hourglass_empty:", "No containers have been reported yet."


def feed(frame: Frame, now: datetime) -> dict[str, list[str | int]]:
    """Return the columns of the newest events; empty without any."""
    rows = frame.state.feed
    if not rows:
        return {}
    return {
        "Age": [figures.age(row.at, now) for row in rows],
        "Kind": [row.kind for row in rows],
        "Seq": [row.seq for row in rows],
        "Stream": [row.stream for row in rows],
    }


def _move(move: Move, now: datetime) -> str:
    route = f"{_NAMES[move.from_backend]} → {_NAMES[move.to_backend]}"
    ago = f"{figures.age(move.at, now)} ago"
    reason = escape(move.reason)
    if not move.done:
        return f":material/undo: stayed on {_NAMES[move.from_backend]} {ago}: {reason}"
    took = figures.milliseconds(move.seconds)
    return f":material/swap_horiz: moved **{route}** {ago}, {move.lost} lost, took {took}: {reason}"


def _clients(ids: Sequence[str]) -> str:
    if not ids:
        return "nobody"
    shown = ", ".join(f"`{each}`" for each in ids[:3])
    return shown if len(ids) <= 3 else f"{shown} and {len(ids) - 3} more"  # noqa: PLR2004 - as many as fit


def _free(total: float | None, used: float | None) -> float | None:
    return None if total is None or used is None else max(total - used, 0.0)


def _feeder(frame: Frame) -> str:
    backend = frame.connection.backend
    return "The backend" if backend is None else _NAMES[backend].capitalize()


def _down_seconds(frame: Frame, now: datetime) -> float:
    since = frame.connection.down_since
    return 0.0 if since is None else (now - since).total_seconds()
