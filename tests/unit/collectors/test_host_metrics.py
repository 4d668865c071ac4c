from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.collector import CollectorError
from collectors.host import (
    Disk,
    HostCollector,
    Reading,
    cpu_percent,
    metrics,
    rate,
    shown_mounts,
    shown_networks,
)
from monitoring.events import Kind

GIB = 2**30
BASE = Reading(
    uptime_seconds=1000.0,
    cpu_total=2000.0,
    cpu_idle=1500.0,
    cores=4,
    load=(0.5, 0.25, 0.126),
    memory_total=16 * GIB,
    memory_available=12 * GIB,
    swap_total=2 * GIB,
    swap_used=GIB,
    disks=(Disk("/", "/dev/sda1", "ext4", 100, 40, 50),),
    networks={"eth0": (1000, 500)},
)


def later(seconds: float = 2.0, **changes: object) -> Reading:
    return replace(BASE, uptime_seconds=BASE.uptime_seconds + seconds, **changes)  # type: ignore[arg-type]


def test_the_first_payload_has_no_rates() -> None:
    payload = metrics("web-1", BASE, None)
    assert payload["cpu_usage"] is None
    assert payload["interval_seconds"] is None
    assert payload["networks"] == [
        {
            "name": "eth0",
            "rx_bytes": 1000,
            "tx_bytes": 500,
            "rx_bytes_per_second": None,
            "tx_bytes_per_second": None,
        }
    ]
    assert payload["memory_usage"] == 25.0
    assert payload["memory"] == {
        "total_bytes": 16 * GIB,
        "used_bytes": 4 * GIB,
        "available_bytes": 12 * GIB,
        "swap_total_bytes": 2 * GIB,
        "swap_used_bytes": GIB,
    }
    assert payload["load"] == [0.5, 0.25, 0.13]
    assert payload["disks"][0]["available_bytes"] == 50


def test_the_second_payload_has_rates_over_the_interval() -> None:
    payload = metrics("web-1", later(cpu_total=2008.0, cpu_idle=1506.0, networks={"eth0": (3000, 500)}), BASE)
    assert payload["cpu_usage"] == 25.0
    assert payload["interval_seconds"] == 2.0
    assert payload["networks"][0]["rx_bytes_per_second"] == 1000.0
    assert payload["networks"][0]["tx_bytes_per_second"] == 0.0


def test_a_host_that_started_again_begins_anew() -> None:
    payload = metrics("web-1", replace(BASE, uptime_seconds=3.0), BASE)
    assert payload["cpu_usage"] is None
    assert payload["networks"][0]["rx_bytes_per_second"] is None


def test_a_network_that_was_not_there_has_no_rate() -> None:
    payload = metrics("web-1", later(networks={"eth0": (1000, 500), "eth1": (9, 9)}), BASE)
    assert payload["networks"][1]["rx_bytes_per_second"] is None


@pytest.mark.parametrize(
    ("total", "idle", "expected"),
    [
        (2008.0, 1500.0, 100.0),
        (2008.0, 1510.0, 0.0),
        (2008.0, 1499.0, 100.0),
        (2000.0, 1500.0, None),
        (1999.0, 1.0, None),
    ],
)
def test_cpu_stays_within_0_and_100_or_is_unknown(total: float, idle: float, expected: float | None) -> None:
    assert cpu_percent(later(cpu_total=total, cpu_idle=idle), BASE) == expected


@pytest.mark.parametrize(
    ("now", "before", "interval", "expected"),
    [
        (300, 100, 2.0, 100.0),
        (100, 300, 2.0, None),
        (1, None, 2.0, None),
        (10**12, 0, 1.0, None),
        (5, 1, None, None),
    ],
)
def test_a_rate_is_unknown_rather_than_wrong(
    now: int, before: int | None, interval: float | None, expected: float | None
) -> None:
    assert rate(now, before, interval) == expected


def test_mounts_without_data_of_their_own_are_left_out() -> None:
    assert shown_mounts(
        [
            ("/", "/dev/sda1", "ext4"),
            ("/proc", "proc", "proc"),
            ("/sys/fs/cgroup", "cgroup2", "cgroup2"),
            ("/dev/pool", "tmpfs", "tmpfs"),
            ("/var/lib/docker/overlay2/x/merged", "overlay", "overlay"),
            ("/var/lib/docker/volumes", "/dev/sdc1", "xfs"),
            ("/snap/core/1", "/dev/loop0", "squashfs"),
            ("/mnt/nas", "nas:/x", "nfs4"),
            ("/data", "/dev/sdb1", "xfs"),
            ("/home/bind", "/dev/sda1", "ext4"),
            ("/run", "tmpfs", "tmpfs"),
            ("/scratch", "tmpfs", "tmpfs"),
            ("/devices", "/dev/sdd1", "ext4"),
        ]
    ) == [
        ("/", "/dev/sda1", "ext4"),
        ("/run", "tmpfs", "tmpfs"),
        ("/data", "/dev/sdb1", "xfs"),
        ("/devices", "/dev/sdd1", "ext4"),
        ("/scratch", "tmpfs", "tmpfs"),
    ]


def test_the_root_is_a_disk_even_in_a_container() -> None:
    assert shown_mounts([("/", "overlay", "overlay")]) == [("/", "overlay", "overlay")]


def test_virtual_networks_are_left_out() -> None:
    names = [
        "lo",
        "eth0",
        "veth12ab",
        "docker0",
        "br-0123",
        "enp3s0",
        "wlan0",
        "tun0",
        "virbr0",
        "cni0",
        "lo0",
        "long0",
    ]
    assert list(shown_networks(dict.fromkeys(names, (0, 0)))) == ["eth0", "enp3s0", "wlan0", "long0"]


counters = st.integers(0, 2**64)


@given(counters, counters, counters, counters, st.floats(0.001, 1e6))
def test_no_pair_of_readings_gives_an_impossible_number(
    a: int, b: int, c: int, d: int, seconds: float
) -> None:
    before = replace(BASE, cpu_total=float(a), cpu_idle=float(b), networks={"eth0": (a, b)})
    now = later(seconds, cpu_total=float(c), cpu_idle=float(d), networks={"eth0": (c, d)})
    payload = metrics("h", now, before)
    assert payload["cpu_usage"] is None or 0 <= payload["cpu_usage"] <= 100
    for key in ("rx_bytes_per_second", "tx_bytes_per_second"):
        value = payload["networks"][0][key]
        assert value is None or 0 <= value <= 10e9


class Scripted:
    """Readings that a test decides."""

    def __init__(self, *script: Reading | CollectorError) -> None:
        self.script = list(script)

    def __call__(self) -> Reading:
        step = self.script.pop(0)
        if isinstance(step, CollectorError):
            raise step
        return step


async def test_the_collector_tells_when_the_host_can_no_longer_be_read() -> None:
    broken = CollectorError("this host cannot be read: gone")
    collector = HostCollector(
        "web-1", hostname="h", read=Scripted(BASE, broken, broken, later()), clock=lambda: datetime.now(UTC)
    )
    first = await collector.collect()
    assert [draft.kind for draft in first] == [Kind.DEVICE_STATUS_CHANGED, Kind.METRIC_COLLECTED]
    assert first[0].payload["new_status"] == "up"
    assert [draft.payload["new_status"] for draft in await collector.collect()] == ["degraded"]
    with pytest.raises(CollectorError):
        await collector.collect()
    again = await collector.collect()
    assert again[0].payload == {"old_status": "degraded", "new_status": "up", "reason": "the host is read"}
    assert [draft.payload["new_status"] for draft in await collector.close()] == ["unknown"]
    assert await collector.close() == []
