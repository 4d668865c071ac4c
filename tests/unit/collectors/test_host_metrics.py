from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.collector import CollectorError
from collectors.host import (
    Disk,
    DriveCounters,
    Glance,
    Reading,
    cpu_percent,
    metrics,
    parse_pressure,
    rate,
    shown_drives,
    shown_mounts,
    shown_networks,
    stirred,
)
from collectors.host_collector import HostCollector
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


async def test_a_host_that_can_no_longer_be_read_is_an_error_and_then_goes_on() -> None:
    broken = CollectorError("this host cannot be read: gone")
    collector = HostCollector(
        "web-1", hostname="h", read=Scripted(BASE, broken, later()), clock=lambda: datetime.now(UTC)
    )
    assert [draft.kind for draft in await collector.collect()] == [Kind.METRIC_COLLECTED]
    with pytest.raises(CollectorError):
        await collector.collect()
    (again,) = await collector.collect()
    assert again.payload["interval_seconds"] is not None
    assert await collector.close() == []


def test_drives_have_rates_and_a_share_of_busy_time() -> None:
    before = replace(BASE, drives={"sda": DriveCounters(1000, 2000, 500), "sdb": DriveCounters(1, 1)})
    now = later(
        drives={
            "sda": DriveCounters(3000, 2000, 1500),
            "sdb": DriveCounters(1, 1),
            "sdc": DriveCounters(9, 9, 9),
        }
    )
    sda, sdb, sdc = metrics("web-1", now, before)["disk_io"]
    assert sda == {
        "name": "sda", "read_bytes": 3000, "written_bytes": 2000, "read_bytes_per_second": 1000.0,
        "written_bytes_per_second": 0.0, "busy_percent": 50.0,
    }  # fmt: skip
    assert sdb["busy_percent"] is None
    assert sdc["read_bytes_per_second"] is None


def test_parts_of_drives_layers_above_them_and_idle_ones_are_left_out() -> None:
    used = DriveCounters(1, 0, 0)
    names = (
        "sda",
        "sda1",
        "nvme0n1",
        "nvme0n1p2",
        "dm-0",
        "md127",
        "loop3",
        "zram0",
        "vda",
        "mmcblk0",
        "mmcblk0p1",
        "sr0",
    )
    assert sorted(shown_drives({**dict.fromkeys(names, used), "sdz": DriveCounters(0, 0, 0)})) == [
        "mmcblk0", "nvme0n1", "sda", "vda",
    ]  # fmt: skip


def test_what_the_host_does_not_tell_is_null() -> None:
    payload = metrics("web-1", replace(BASE, swap_total=None, swap_used=None), None)
    assert payload["memory"]["swap_total_bytes"] is None
    assert (payload["pressure"], payload["disk_io"], payload["os"]) == (None, None, None)
    assert payload["disks"][0]["inodes_total"] is None


def test_pressure_is_read_as_the_kernel_writes_it() -> None:
    text = "some avg10=14.97 avg60=20.02 avg300=18.46 total=5954824231\nfull avg10=0.00 avg60=0.10 avg300=0.00 total=0\n"
    assert parse_pressure("cpu", text) == {
        "some_avg10": 14.97, "some_avg60": 20.02, "some_avg300": 18.46,
        "full_avg10": 0.0, "full_avg60": 0.1, "full_avg300": 0.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="no pressure"):
        parse_pressure("io", "")


@given(st.text(max_size=200))
def test_other_text_is_no_pressure(text: str) -> None:
    with suppress(ValueError):
        assert "some_avg10" in parse_pressure("io", text)


def glanced(**changes: object) -> Glance:
    now = Glance(BASE.cpu_total, BASE.cpu_idle, BASE.memory_total, BASE.memory_available)
    return replace(now, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "told_cpu", "much"),
    [
        (glanced(), 0.0, False),
        (glanced(memory_available=12 * GIB - GIB // 7), 0.0, False),
        (glanced(memory_available=12 * GIB - GIB // 6), 0.0, True),
        (glanced(memory_available=12 * GIB + GIB), 0.0, True),
        (glanced(memory_total=0), 0.0, False),
        (glanced(cpu_total=BASE.cpu_total + 4, cpu_idle=BASE.cpu_idle + 3), 5.0, False),
        (glanced(cpu_total=BASE.cpu_total + 4, cpu_idle=BASE.cpu_idle + 2), 5.0, True),
        (glanced(cpu_total=BASE.cpu_total + 4, cpu_idle=BASE.cpu_idle + 4), 25.0, True),
        (glanced(cpu_total=BASE.cpu_total + 4, cpu_idle=BASE.cpu_idle), None, False),
    ],
)
def test_what_is_told_before_its_time(now: Glance, told_cpu: float | None, *, much: bool) -> None:
    """A point of memory, or a quarter of all cores, more or less than was told."""
    assert stirred(now, BASE, told_cpu) is much


async def test_this_host_is_glanced_at_against_what_was_told() -> None:
    changed = glanced(memory_available=8 * GIB)
    collector = HostCollector("web-1", read=lambda: BASE, glance=lambda: changed)
    assert not collector.stirred(), "nothing was told yet"
    await collector.collect()
    assert collector.stirred()


async def test_a_glance_that_fails_leaves_the_reading_to_its_time() -> None:
    def fail() -> Glance:
        raise OSError("no /proc")

    collector = HostCollector("web-1", read=lambda: BASE, glance=fail)
    await collector.collect()
    assert not collector.stirred()
