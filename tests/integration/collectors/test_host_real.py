"""This host, for real, compared with what its own tools say."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collectors.host_collector import HostCollector
from collectors.judge import device_judge
from collectors.pace import Pace
from collectors.schedule import Schedule
from monitoring.events import Draft, Kind


async def test_this_host_is_read_twice() -> None:
    told: list[Draft] = []
    collector = HostCollector("web-1")
    schedule = Schedule(
        collector, told.extend, Pace(0.5), judge=device_judge("web-1", {}), jitter=lambda: 1.0
    )
    task = asyncio.create_task(schedule.run())
    try:
        async with asyncio.timeout(20):
            while schedule.ticks.read < 2:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.wait({task})
    samples = [draft.payload for draft in told if draft.kind == Kind.METRIC_COLLECTED]
    assert {draft.stream for draft in told} == set(collector.streams)
    (change,) = (draft for draft in told if draft.kind == Kind.DEVICE_STATUS_CHANGED)
    assert (change.payload["old_status"], change.payload["new_status"]) == ("unknown", "up")
    first, second = samples[:2]
    assert first["cpu_usage"] is None
    assert 0 <= second["cpu_usage"] <= 100
    assert 0.4 < second["interval_seconds"] < 5
    assert second["hostname"] == socket.gethostname()
    assert second["cores"] == os.cpu_count()
    assert second["uptime_seconds"] > first["uptime_seconds"]
    assert 0 < second["memory_usage"] < 100
    assert any(disk["mount"] == "/" for disk in second["disks"])
    for disk in second["disks"]:
        assert 0 <= disk["used_bytes"] <= disk["total_bytes"]
    for network in second["networks"]:
        assert network["rx_bytes_per_second"] is None or network["rx_bytes_per_second"] >= 0
    json.dumps(samples, allow_nan=False)
    assert collector._reader.abandoned == 0


def said(*command: str) -> list[list[str]]:
    """Return what a command of this machine prints, in words."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not here")
    printed = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}
    ).stdout
    return [line.split() for line in printed.splitlines()]


async def payload() -> Any:
    (draft,) = await HostCollector("web-1").collect()
    return draft.payload


async def agreed(ours: Callable[[Any], int], theirs: Callable[[], int], slack: int, what: str) -> None:
    """Compare while others use the machine: in one of ten looks both sides say the same, give or take ``slack``."""
    looks = []
    for _ in range(10):
        looks.append((ours(await payload()), theirs()))
        if abs(looks[-1][0] - looks[-1][1]) <= slack:
            return
    pytest.fail(f"{what}: {looks}")


async def test_disks_and_inodes_agree_with_df() -> None:
    for disk in (await payload())["disks"]:

        def ours(found: Any, field: str, mount: str = disk["mount"]) -> int:
            return int(next(disk[field] for disk in found["disks"] if disk["mount"] == mount))

        def df(option: str, column: int, mount: str = disk["mount"]) -> int:
            return int(said("df", "-P", option, mount)[1][column])

        assert ours(await payload(), "total_bytes") == df("-k", 1) * 1024
        await agreed(lambda p: ours(p, "used_bytes"), lambda: df("-k", 2) * 1024, 2**20, "used")
        await agreed(lambda p: ours(p, "available_bytes"), lambda: df("-k", 3) * 1024, 2**20, "available")
        if disk["inodes_total"] is not None:
            assert disk["inodes_total"] == df("-i", 1)
            await agreed(lambda p: ours(p, "inodes_used"), lambda: df("-i", 2), 50, "inodes")


async def test_memory_and_swap_agree_with_free() -> None:
    def free(row: int, column: int) -> int:
        return int(said("free", "-b")[row][column])

    memory = (await payload())["memory"]
    assert memory["total_bytes"] == free(1, 1)
    assert memory["swap_total_bytes"] == free(2, 1)
    await agreed(lambda p: p["memory"]["available_bytes"], lambda: free(1, 6), 4 * 2**20, "available")
    await agreed(lambda p: p["memory"]["swap_used_bytes"], lambda: free(2, 2), 2**20, "swap")
    # procps before 4 subtracts free, buffers and cache; since then used is total - available, as ours
    if int(said("free", "--version")[0][-1].split(".")[0]) >= 4:
        await agreed(lambda p: p["memory"]["used_bytes"], lambda: free(1, 2), 4 * 2**20, "used")


async def test_networks_and_drives_agree_with_the_kernel() -> None:
    def counted(path: str, name: str, field: int) -> int:
        lines = (line.replace(":", " ").split() for line in Path(path).read_text().splitlines())
        return int(next(words for words in lines if name in words[:3])[field])

    found = await payload()
    assert found["disk_io"], "a machine with a drive"
    for drive in found["disk_io"]:
        name = drive["name"]
        await agreed(
            lambda p, name=name: next(d["read_bytes"] for d in p["disk_io"] if d["name"] == name),  # type: ignore[misc]
            lambda name=name: counted("/proc/diskstats", name, 5) * 512,  # type: ignore[misc]
            2**20,
            f"read from {name}",
        )
    for network in found["networks"]:
        name = network["name"]
        await agreed(
            lambda p, name=name: next(n["rx_bytes"] for n in p["networks"] if n["name"] == name),  # type: ignore[misc]
            lambda name=name: counted("/proc/net/dev", name, 1),  # type: ignore[misc]
            2**16,
            f"received by {name}",
        )


async def test_uptime_system_and_pressure_are_the_kernel_s() -> None:
    found = await payload()
    assert abs(found["uptime_seconds"] - float(Path("/proc/uptime").read_text().split()[0])) < 1
    assert found["os"]["kernel"] == said("uname", "-r")[0][0]
    assert found["os"]["name"] in Path("/etc/os-release").read_text()
    if Path("/proc/pressure/cpu").exists():
        assert set(found["pressure"]) == {"cpu", "memory", "io"}
        assert 0 <= found["pressure"]["cpu"]["some_avg10"] <= 100
    else:
        assert found["pressure"] is None


async def test_cpu_agrees_with_the_kernel_s_own_count() -> None:
    def ticks() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    collector = HostCollector("web-1")
    await collector.collect()
    total, idle = ticks()
    await asyncio.sleep(1)  # what is compared is an interval
    (draft,) = await collector.collect()
    total_after, idle_after = ticks()
    expected = 100 * (1 - (idle_after - idle) / (total_after - total))
    assert abs(draft.payload["cpu_usage"] - expected) < 5
