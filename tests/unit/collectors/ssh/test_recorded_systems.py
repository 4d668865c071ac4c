"""Output as several distributions print it, from the script's own form to the payload."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collectors.ssh import commands, system
from collectors.ssh.script import split
from collectors.ssh.system import SystemReading

FIXTURES = Path(__file__).parents[3] / "fixtures" / "ssh"
MARK = "@cf-recorded"


def recorded(name: str) -> SystemReading:
    sections, complete = split((FIXTURES / f"{name}.txt").read_text(), "", MARK)
    assert complete
    return system.reading_of(
        {each.name: commands.read(each, sections.get(each.name)) for each in commands.SYSTEM}
    )


def payload(name: str) -> dict[str, Any]:
    return system.payload("device", recorded(name), None)


def test_debian_tells_everything() -> None:
    told = payload("debian-12")
    assert told["hostname"] == "web-1"
    assert (told["cores"], told["load"]) == (2, [0.52, 0.58, 0.59])
    # as `free` has it: used is total less available
    assert told["memory"] == {
        "total_bytes": 8131652 * 1024,
        "used_bytes": (8131652 - 5123456) * 1024,
        "available_bytes": 5123456 * 1024,
        "swap_total_bytes": 2097148 * 1024,
        "swap_used_bytes": 1000000 * 1024,
    }
    assert told["memory_usage"] == 36.99
    assert told["pressure"]["io"] == {
        "some_avg10": 12.5, "some_avg60": 3.0, "some_avg300": 1.0,
        "full_avg10": 10.0, "full_avg60": 2.0, "full_avg300": 0.5,
    }  # fmt: skip
    assert told["os"]["name"] == "Debian GNU/Linux 12 (bookworm)"
    assert told["unavailable"] == {}


def test_disks_are_told_once_with_spaces_in_their_names_and_without_what_is_remote() -> None:
    disks = {disk["mount"]: disk for disk in payload("debian-12")["disks"]}
    assert list(disks) == ["/", "/data", "/run/lock", "/srv/My Photos 1999"]
    assert disks["/"]["inodes_used"] == 212345
    assert disks["/data"] == {
        "mount": "/data", "device": "/dev/sdc1", "fs": "btrfs",
        "total_bytes": 1000000000 * 1024, "used_bytes": 900000000 * 1024, "available_bytes": 50000000 * 1024,
        "inodes_total": None, "inodes_used": None,
    }  # fmt: skip


def test_a_mount_point_with_spaces_is_one() -> None:
    rows = {row.mount: row for row in commands.DISKS.parse(_section("debian-12", "disks"))}
    assert rows["/srv/My Photos 1999"].used == 500000000
    assert ("/srv/My Photos 1999", "/dev/sdb1", "ext4") in commands.MOUNTS.parse(
        _section("debian-12", "mounts")
    )


def _section(name: str, command: str) -> str:
    return split((FIXTURES / f"{name}.txt").read_text(), "", MARK)[0][command].output


def test_huge_counters_are_read_and_what_no_bigint_holds_is_left_out() -> None:
    told = payload("debian-12")
    assert [each["name"] for each in told["disk_io"]] == ["sda", "sdb"]
    networks = {each["name"]: each for each in told["networks"]}
    assert networks["eth0"]["rx_bytes"] == 98765432109876
    assert set(networks) == {"eth0", "eth0:1"}


def test_busybox_breaks_lines_and_knows_no_inodes_and_no_pressure() -> None:
    told = payload("alpine-3.19-busybox")
    disks = {disk["mount"]: disk for disk in told["disks"]}
    assert disks["/"]["used_bytes"] == 1234567 * 1024
    assert disks["/"]["inodes_total"] is None
    assert told["pressure"] is None
    assert told["unavailable"]["pressure"] == "its kernel tells no pressure (psi=1, since 4.20)"
    assert "invalid option" in told["unavailable"]["inodes"]
    assert [each["name"] for each in told["disk_io"]] == ["mmcblk0"]
    assert told["memory"]["swap_total_bytes"] == 0


def test_an_old_kernel_has_its_available_memory_estimated() -> None:
    told = payload("centos-6")
    # MemFree + Buffers + Cached + SReclaimable - Shmem
    assert told["memory"]["available_bytes"] == (1000000 + 500000 + 6000000 + 600000 - 100000) * 1024
    assert told["os"]["name"] is None
    assert told["os"]["kernel"] == "Linux 2.6.32-754.el6.x86_64"
    assert [disk["available_bytes"] for disk in told["disks"]] == [0]


def test_decimal_commas_are_no_numbers_and_a_foreign_header_is_no_matter() -> None:
    told = payload("comma-locale")
    assert told["pressure"] is None
    assert [disk["used_bytes"] for disk in told["disks"]] == [20576368 * 1024]
    assert told["disk_io"] == []


@pytest.mark.parametrize("name", ["debian-12", "alpine-3.19-busybox", "centos-6", "comma-locale"])
def test_the_first_reading_has_no_rates_and_no_made_up_zeros(name: str) -> None:
    told = payload(name)
    assert told["cpu_usage"] is None
    assert told["interval_seconds"] is None
    assert {each["rx_bytes_per_second"] for each in told["networks"]} == {None}
    assert {each["read_bytes_per_second"] for each in told["disk_io"] or ()} <= {None}


def test_rates_are_of_the_devices_own_clock() -> None:
    before = recorded("debian-12")
    assert before.uptime_seconds is not None
    assert before.cpu is not None
    assert before.networks is not None
    assert before.disk_io is not None
    now = replace(
        before,
        uptime_seconds=before.uptime_seconds + 10,
        cpu=replace(before.cpu, total=before.cpu.total + 2000, idle=before.cpu.idle + 1500),
        networks={**before.networks, "eth0": (98765432109876 + 5000, 12345678901 + 100)},
        disk_io={
            "sda": replace(before.disk_io["sda"], read=before.disk_io["sda"].read + 10240, busy_ms=65000)
        },
    )
    told = system.payload("device", now, before)
    assert told["cpu_usage"] == 25.0
    assert told["networks"][0]["rx_bytes_per_second"] == 500.0
    assert told["disk_io"][0]["read_bytes_per_second"] == 1024.0
    assert told["disk_io"][0]["busy_percent"] == 50.0
    assert told["interval_seconds"] == 10.0


def test_a_restart_is_a_new_baseline() -> None:
    before = recorded("debian-12")
    now = replace(before, uptime_seconds=12.0)
    assert system.restarted(now, before)
    told = system.payload("device", now, before)
    assert told["interval_seconds"] is None
    assert told["cpu_usage"] is None


def test_counters_that_went_back_give_no_rates() -> None:
    """An interface that was made anew, a 32-bit counter that wrapped: unknown, and never negative."""
    before = recorded("centos-6")
    assert before.uptime_seconds is not None
    assert before.networks is not None
    now = replace(
        before,
        uptime_seconds=before.uptime_seconds + 10,
        networks={"eth0": (10, 20)},
        disk_io={
            name: replace(each, read=0, written=0, busy_ms=0) for name, each in (before.disk_io or {}).items()
        },
    )
    told = system.payload("device", now, before)
    assert told["networks"][0]["rx_bytes_per_second"] is None
    assert told["disk_io"][0]["read_bytes_per_second"] is None
    assert told["disk_io"][0]["busy_percent"] is None


def test_a_device_that_says_nothing_of_a_system_is_seen_to() -> None:
    answers = {each.name: commands.read(each, None) for each in commands.SYSTEM}
    reading = system.reading_of(answers)
    assert reading.nothing
    assert reading.unavailable["cpu"] == "the answer was cut short"
