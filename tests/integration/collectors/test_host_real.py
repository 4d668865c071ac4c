"""This host, for real, compared with what its own tools say."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess

import pytest

from collectors.collector import Schedule
from collectors.host import HostCollector
from monitoring.events import Draft, Kind


async def test_this_host_is_read_twice() -> None:
    told: list[Draft] = []
    collector = HostCollector("web-1")
    schedule = Schedule(collector, told.extend, interval_seconds=0.5, jitter=lambda: 0.0)
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
    assert told[0].payload["new_status"] == "up"
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


@pytest.mark.skipif(shutil.which("df") is None, reason="df is not here")
async def test_the_root_disk_agrees_with_df() -> None:
    drafts = await HostCollector("web-1").collect()
    root = next(disk for disk in drafts[-1].payload["disks"] if disk["mount"] == "/")
    said = subprocess.run(
        ["df", "-P", "-k", "/"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1]
    total, used = (int(field) * 1024 for field in said.split(None, 5)[1:3])
    assert root["total_bytes"] == total
    assert abs(root["used_bytes"] - used) < 200 * 2**20  # others write meanwhile
