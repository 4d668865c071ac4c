"""What one machine has inside and serves: drives, interfaces, pressure, checks, as tables."""

from __future__ import annotations

from datetime import datetime

from dashboard import figures
from dashboard.drives import Drive
from dashboard.model import HostView
from dashboard.views.words import Columns

_SHARES = (("Now", "avg10"), ("1 min", "avg60"), ("5 min", "avg300"))
_RESOURCES = {"cpu": "CPU", "memory": "Memory", "io": "Disks"}


def verdict(drive: Drive) -> str:
    """Return how a drive is, in a word or two."""
    if drive.problem:
        return "cannot be read"
    if drive.passed is False:
        return "failing"
    if drive.warnings:
        return "warning"
    if drive.asleep:
        return "asleep"
    return "unknown" if drive.passed is None else "passed"


def drives(host: HostView) -> Columns:
    """Return one row a drive; empty without any."""
    each = host.drives
    if not each:
        return {}
    return {
        "Drive": [drive.device for drive in each],
        "SMART": [verdict(drive) for drive in each],
        "Temperature": [_degrees(drive.temperature_celsius) for drive in each],
        "Powered on": [_hours(drive.power_on_hours) for drive in each],
        "Reallocated": [figures.plain(drive.reallocated, 0) for drive in each],
        "Pending": [figures.plain(drive.pending, 0) for drive in each],
        "Worn": [figures.percent(drive.wear_percent) for drive in each],
        "Size": [figures.size(drive.capacity_bytes) for drive in each],
        "Model": [drive.model for drive in each],
        "Serial": [drive.serial for drive in each],
        "Note": [drive.problem or "; ".join(drive.warnings) for drive in each],
    }


def attributes(drive: Drive) -> Columns:
    """Return one row an attribute of a drive; empty where it tells none."""
    each = drive.attributes
    if not each:
        return {}
    numbered = any(one.id is not None for one in each)  # an NVMe drive's log is names and numbers alone
    table: Columns = {"Id": [one.id for one in each]} if numbered else {}
    table["Attribute"] = [one.name for one in each]
    table["Raw"] = [one.raw for one in each]
    if numbered:
        table["Value"] = [figures.plain(one.value, 0) for one in each]
        table["Worst"] = [figures.plain(one.worst, 0) for one in each]
        table["Threshold"] = [figures.plain(one.threshold, 0) for one in each]
        table["Failed"] = [one.failed for one in each]
    return table


def interfaces(host: HostView) -> Columns:
    """Return one row a network interface; empty without any."""
    each = host.newest.networks if host.newest else ()
    if not each:
        return {}
    return {
        "Interface": [one.name for one in each],
        "In": [figures.rate(one.received) for one in each],
        "Out": [figures.rate(one.sent) for one in each],
        "In, all": [figures.size(one.received_bytes) for one in each],
        "Out, all": [figures.size(one.sent_bytes) for one in each],
    }


def disk_io(host: HostView) -> Columns:
    """Return one row a drive with what it does now; empty without any."""
    each = host.newest.io if host.newest else ()
    if not each:
        return {}
    return {
        "Drive": [one.name for one in each],
        "Busy": [one.busy_percent for one in each],
        "Read": [figures.rate(one.read) for one in each],
        "Written": [figures.rate(one.written) for one in each],
    }


def pressure(host: HostView) -> Columns:
    """Return one row a resource: the share of time in which somebody, or everybody, waited for it; empty without any."""
    told = host.newest.pressure if host.newest else {}
    each = [(label, told[name]) for name, label in _RESOURCES.items() if name in told]
    if not each:
        return {}
    return {
        "Waiting for": [label for label, _ in each],
        **{
            title: [figures.percent(values.get(f"some_{share}")) for _, values in each]
            for title, share in _SHARES
        },
        "All at once": [figures.percent(values.get("full_avg10")) for _, values in each],
    }


def checks(host: HostView, now: datetime) -> Columns:
    """Return one row a check of what the machine serves; empty without any."""
    each = list(host.checks.values())
    if not each:
        return {}
    return {
        "Check": [one.name for one in each],
        "Status": [one.status for one in each],
        "Answered in": [
            figures.UNKNOWN if one.latency_ms is None else figures.milliseconds(one.latency_ms / 1000)
            for one in each
        ],
        "Asked": [figures.UNKNOWN if one.at is None else f"{figures.age(one.at, now)} ago" for one in each],
        "Of": [one.target for one in each],
        "Reason": [one.reason for one in each],
    }


def _degrees(value: float | None) -> str:
    return figures.UNKNOWN if value is None else f"{value:.0f} °C"


def _hours(value: float | None) -> str:
    return figures.UNKNOWN if value is None else figures.span(value * 3600)
