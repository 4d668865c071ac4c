"""A hundred devices over SSH through the whole of ``crossfade up``, at the default intervals compressed thirty times.

As `bench/ssh_hundred.py`, whose devices these are, with six that misbehave; but registered in the database, read by the
collecting process as it is, and every event through the spool and both paths. Prints the CPU and memory of that process
and of the others, the share of readings that succeeded, and what the database and the legacy server have of it.

    PYTHONPATH=. python bench/ssh_hundred_up.py [--seconds 120] [--warm 40] [--devices 100]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import httpx
import psutil
import ssh_hundred
from ssh_hundred import ODD, report

from adapters.device_registry import DeviceRegistry
from collectors.schedule import Ticks
from crossfade.paths import DataDir
from crossfade.plan import known_addresses
from crossfade.settings import Settings
from crossfade.wiring import Wiring
from monitoring.devices import Device
from tests.e2e.installation import Installation, clean_environment

COMPRESSED = {
    "POLLING_CONTAINER_INTERVAL": "1",
    "POLLING_SYSTEM_METRICS_INTERVAL": "10",
    "POLLING_DRIVE_HEALTH_INTERVAL": "120",
}


class Running:
    """One ``crossfade up``, and what its processes take."""

    def __init__(self, directory: Path) -> None:
        self.installation = Installation(directory, clean_environment(**COMPRESSED))
        self.data = DataDir.of(directory / ".crossfade")

    @property
    def collect(self) -> Mapping[str, Any]:
        """What the collecting process says of itself."""
        told: Mapping[str, Any] = json.loads((self.data.run / "collect.json").read_text())
        return told

    def schedules(self) -> list[Any]:
        """Return what `report` wants, of the devices."""
        wanted = {field.name for field in fields(Ticks)}
        return [
            SimpleNamespace(
                collector=SimpleNamespace(name=name),
                ticks=Ticks(**{key: value for key, value in told.items() if key in wanted}),
            )
            for name, told in self.collect["collectors"].items()
            if ours(name)
        ]

    def part(self, name: str) -> psutil.Process:
        return psutil.Process(self.installation.part(name)["pid"])


def seconds_of(process: psutil.Process) -> float:
    """Return the CPU time of a process and of those that it began."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


async def measure(options: argparse.Namespace, directory: Path) -> None:
    served = directory / "devices"
    served.mkdir()
    serving = await asyncio.create_subprocess_exec(
        sys.executable, ssh_hundred.__file__, "--serve", str(served), "--devices", str(options.devices),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
    )  # fmt: skip
    assert serving.stdin is not None
    assert serving.stdout is not None
    devices = [Device(**fields) for fields in json.loads(await serving.stdout.readline()).values()]
    running = Running(directory)
    try:
        await asyncio.to_thread(
            running.installation.start, "--without", "dashboard", "--no-docker", seconds=300
        )
        url = Wiring(running.data, Settings()).database_url()
        await DeviceRegistry(url).put(devices)
        await asyncio.sleep(options.warm)
        await during(running, serving.stdin, options.seconds)
        await delivered(running, url)
    finally:
        await asyncio.to_thread(running.installation.remove)
        serving.stdin.close()
        await serving.wait()


async def during(running: Running, stdin: asyncio.StreamWriter, seconds: float) -> None:
    """Let time pass while three of them reboot, change their key and vanish; print what it cost."""
    parts = {
        name: running.part(name) for name in ("collect", "postgres", "realtime", "legacy", "query", "parity")
    }
    begun, cpu = time.monotonic(), {name: seconds_of(process) for name, process in parts.items()}
    schedules = running.schedules()
    at_first = {schedule.collector.name: schedule.ticks for schedule in schedules}
    events = running.collect["spool"]["position"]
    script = [(0.2, "rebooting stop"), (0.3, "rebooting boot"), (0.4, "changed key"), (0.5, "vanished stop")]
    loads, rss, waiting = [], [], []
    while (gone := time.monotonic() - begun) < seconds:
        while script and gone >= script[0][0] * seconds:
            stdin.write(f"{script.pop(0)[1]}\n".encode())
        loads.append(os.getloadavg()[0])
        rss.append(parts["collect"].memory_info().rss)
        waiting.append(max(path["pending"] for path in running.collect["paths"].values()))
        await asyncio.sleep(1)
    passed = time.monotonic() - begun
    report(running.schedules(), at_first)
    events = running.collect["spool"]["position"] - events
    print(f"{len(at_first) // 3} devices, {passed:.0f} s, load {min(loads):.1f} to {max(loads):.1f}")
    print(f"events: {events / passed:.0f} a second; at most {max(waiting)} waited for a path")
    for name, process in parts.items():
        used = seconds_of(process) - cpu[name]
        print(f"CPU of {name}: {used * 60 / passed:.1f} s a minute, {100 * used / passed:.0f} % of one core")
    print(f"memory of collect: at most {max(rss) >> 20} MiB")
    told = running.collect["collectors"]
    print("at the end:", ", ".join(f"{name} is {told[f'{name}/system']['status']}" for name in ODD))


async def delivered(running: Running, url: str) -> None:
    """Remove the devices, wait until the database has what the spool has of them, and print what there is."""
    registry = DeviceRegistry(url)
    for name in await registry.devices():
        await registry.remove(name)
    connection = await asyncpg.connect(url)
    began = time.monotonic()
    while True:
        told = running.collect
        heads = {name: (each["epoch"], each["seq"]) for name, each in told["streams"].items() if ours(name)}
        stored = {
            row["stream"]: (row["epoch"], row["seq"])
            for row in await connection.fetch("select stream, epoch, seq from public.cf_stream_heads")
        }
        behind = [stream for stream in heads if stored.get(stream) != heads[stream]]
        left = sum(ours(name) for name in told["collectors"])
        if (not left and not behind) or time.monotonic() - began > 120:
            break
        await asyncio.sleep(1)
    holes = await connection.fetchval(
        "select count(*) from (select stream, epoch, count(*) as n, max(seq) as last from public.cf_events "
        "group by 1, 2) e where n <> last"
    )
    await connection.close()
    legacy = httpx.get(
        known_addresses(running.data, Settings()).legacy.replace("ws:", "http:").replace("/ws", "/health")
    ).json()
    if left:
        print(f"{left} of the devices' collectors had not ended by then")
    print(
        f"streams: {len(heads)}, of which {len(behind)} are behind in the database and {holes} have a hole there; "
        f"the legacy server took {legacy.get('events_taken', '?')} events, after {time.monotonic() - began:.0f} s"
    )


def ours(stream: str) -> bool:
    device = stream.partition("/")[0]
    return device in ODD or device.startswith("d-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--warm", type=float, default=40.0, help="seconds before it is measured")
    parser.add_argument("--devices", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(options, Path(directory)))


if __name__ == "__main__":
    main()
