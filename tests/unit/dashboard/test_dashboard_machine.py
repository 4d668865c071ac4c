"""Drives, interfaces, pressure and checks: payloads to tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from dashboard import figures, readings
from dashboard.drives import drives
from dashboard.model import HostView, State, applied
from dashboard.views import machine
from monitoring.events import Event, StreamId

T0 = datetime(2026, 11, 26, 8, tzinfo=UTC)
ATA = {
    "device": "/dev/sda",
    "model": "ST4000",
    "passed": True,
    "temperature_celsius": 34,
    "power_on_hours": 25,
    "warnings": [],
    "attributes": [
        {"id": 5, "name": "Reallocated_Sector_Ct", "value": 100, "worst": 99, "threshold": 10, "raw": 8, "raw_text": "8", "failed": ""},
        {"id": 197, "name": "Current_Pending_Sector", "value": 100, "worst": 100, "threshold": 0, "raw": 2},
    ],
}  # fmt: skip


def told(kind: str, stream: str, payload: dict[str, Any], seq: int = 1, at: datetime = T0) -> Event:
    return Event(UUID(int=seq), StreamId(stream), 1, seq, kind, at, payload)


def host(*events: Event) -> HostView:
    state = State()
    for each in events:
        state = applied(state, each, T0)
    return state.hosts["web-1"]


def test_a_drive_is_told_with_what_foretells_a_failure() -> None:
    found = host(told("metric_collected", "web-1/drives", {"drives": [ATA]}))
    row = {name: values[0] for name, values in machine.drives(found).items()}
    assert (row["SMART"], row["Temperature"], row["Reallocated"], row["Pending"]) == (
        "passed",
        "34 °C",
        "8",
        "2",
    )
    assert row["Powered on"] == "1 d 1 h"
    table = machine.attributes(found.drives[0])
    assert table["Attribute"] == ["Reallocated_Sector_Ct", "Current_Pending_Sector"]
    assert table["Raw"] == ["8", "2"]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"problem": "Permission denied"}, "cannot be read"),
        ({"passed": False}, "failing"),
        ({"warnings": ["failure is predicted"]}, "warning"),
        ({"asleep": True}, "asleep"),
        ({"passed": None}, "unknown"),
    ],
)
def test_a_drives_verdict_is_the_worst_that_is_known(changed: dict[str, Any], word: str) -> None:
    (drive,) = drives({"drives": [ATA | changed]})
    assert machine.verdict(drive) == word


def test_an_nvme_drives_log_is_its_table() -> None:
    log = {"percentage_used": 7, "media_errors": 0}
    (drive,) = drives({"drives": [{"device": "/dev/nvme0", "nvme": log}]})
    assert drive.wear_percent == 7
    assert machine.attributes(drive) == {"Attribute": ["percentage used", "media errors"], "Raw": ["7", "0"]}


def test_why_there_are_no_drives_is_kept() -> None:
    found = host(told("metric_collected", "web-1/drives", {"drives": [], "reason": "smartctl: not found"}))
    assert found.drives_note == "smartctl: not found"
    assert machine.drives(found) == {}


def test_pressure_interfaces_and_io() -> None:
    payload = {
        "pressure": {"cpu": {"some_avg10": 12.5, "some_avg60": 4.0, "some_avg300": 1.0, "full_avg10": 0.0}},
        "networks": [
            {"name": "lo", "rx_bytes_per_second": 9.0},
            {"name": "eth0", "rx_bytes_per_second": 2e6, "tx_bytes_per_second": None, "rx_bytes": 3e9},
        ],
        "disk_io": [{"name": "vda", "busy_percent": 40, "read_bytes_per_second": 1e6}],
    }
    found = HostView("web-1", readings.host(payload, T0, "web-1"))
    assert machine.pressure(found)["Waiting for"] == ["CPU"]
    assert machine.pressure(found)["Now"] == ["12.5 %"]
    assert machine.interfaces(found)["Interface"] == ["eth0"]
    assert machine.interfaces(found)["Out"] == [figures.UNKNOWN]
    assert machine.disk_io(found)["Busy"] == [40]
    assert machine.pressure(HostView("web-1")) == machine.interfaces(HostView("web-1")) == {}


def test_a_check_has_its_newest_answer_and_its_status() -> None:
    answer = {
        "check": "shop",
        "type": "http",
        "target": "https://shop.example.com",
        "ok": True,
        "latency_ms": 42,
    }
    found = host(
        told("check_completed", "web-1/checks", answer),
        told("check_status_changed", "web-1/checks", {"check": "shop", "new_status": "up"}, 2),
        told("check_completed", "web-1/checks", answer | {"ok": False}, 3, T0 - timedelta(minutes=1)),
    )
    row = {name: values[0] for name, values in machine.checks(found, T0 + timedelta(seconds=5)).items()}
    assert (row["Check"], row["Status"], row["Answered in"], row["Asked"]) == (
        "shop",
        "up",
        "42 ms",
        "5 s ago",
    )
    assert found.checks["shop"].ok


def test_an_event_without_a_checks_name_says_nothing() -> None:
    assert not host(told("check_completed", "web-1/checks", {"ok": True})).checks
