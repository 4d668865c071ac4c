"""Payloads from other processes: what is unknown is None, and nothing raises."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import readings

AT = datetime(2026, 11, 21, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    max_leaves=10,
)
HOST_KEYS = ("hostname", "cpu_usage", "cores", "load", "memory", "disks", "networks", "uptime_seconds")


@given(st.dictionaries(st.sampled_from(HOST_KEYS), JSON))
def test_any_payload_is_a_host(payload: dict[str, Any]) -> None:
    readings.host(payload, AT, "web-1")


@given(st.dictionaries(st.sampled_from(("containers", "container", "current")), JSON))
def test_any_payload_is_containers(payload: dict[str, Any]) -> None:
    readings.changed(readings.containers(payload), payload)


def test_network_rates_leave_out_the_loopback_and_unknown_ones() -> None:
    networks = [
        {"name": "lo", "rx_bytes_per_second": 5e9, "tx_bytes_per_second": 5e9},
        {"name": "eth0", "rx_bytes_per_second": 10, "tx_bytes_per_second": None},
        {"name": "eth1", "rx_bytes_per_second": 5},
    ]
    sample = readings.host({"networks": networks}, AT, "d").sample
    assert (sample.received, sample.sent) == (15, None)


def test_the_first_reading_has_no_cpu_figure() -> None:
    assert readings.host({"cpu_usage": None}, AT, "d").sample.cpu_percent is None


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [((("/data", 90), ("/", 10)), "/"), ((("/data", 20), ("/srv", 80)), "/srv"), ((), None)],
)
def test_the_main_disk_is_the_root_or_the_fullest(
    mounts: tuple[tuple[str, int], ...], expected: str | None
) -> None:
    disks = [{"mount": mount, "total_bytes": 100, "used_bytes": used} for mount, used in mounts]
    found = readings.host({"disks": disks}, AT, "d").main_disk
    assert (found.mount if found else None) == expected


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf"), [1]])
def test_what_is_no_finite_number_is_unknown(value: object) -> None:
    assert readings.number(value) is None


def test_share_needs_both_and_a_whole() -> None:
    assert readings.share(1, 4) == 25
    assert readings.share(1, 0) is None
    assert readings.share(None, 4) is None


def test_a_container_without_a_name_shows_its_short_id() -> None:
    payload = {"containers": [{"id": "0123456789abcdef"}, {}]}
    names = [each.name for each in readings.containers(payload)]
    assert names == ["(no name)", "0123456789ab"]


def test_container_memory_as_a_share_of_its_limit() -> None:
    payload = {"containers": [{"id": "a", "memory_used_bytes": 50, "memory_limit_bytes": 200}]}
    assert readings.containers(payload)[0].memory_percent == 25
