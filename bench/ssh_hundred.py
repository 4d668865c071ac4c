"""A hundred devices over SSH from one process, at the default intervals compressed thirty times.

Containers every second, system metrics every ten, drives every two minutes, ten devices at once. The devices are
asyncssh servers in another process; thirty of them have a Docker of three containers. Six misbehave: one hangs, one is
slow, one tells garbage, one reboots, one shows another host key, one vanishes; the others must not notice. Prints the
CPU and memory of the collecting process, how late readings began, and the share of readings that succeeded.

    PYTHONPATH=. python bench/ssh_hundred.py [--seconds 120] [--compress 30] [--devices 100]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from collectors.judge import device_judge
from collectors.pace import Pace
from collectors.schedule import Schedule, Scheduler
from collectors.ssh.breaker import DeviceBreaker
from collectors.ssh.collector import DrivesCollector, SystemCollector
from collectors.ssh.containers import ContainersCollector
from collectors.ssh.session import Session
from monitoring.devices import Device
from monitoring.events import Draft, Kind, device_of
from tests.fakes.ssh_devices import FakeDevice, Habit

CONTAINERS, SYSTEM, DRIVES = 30.0, 300.0, 3600.0
ODD = ("hanging", "slow", "lying", "rebooting", "changed", "vanished")
WITH_DOCKER = 30


async def serve(directory: Path, count: int) -> None:
    """Be the devices; the parent says on stdin what is to happen."""
    devices = {name: FakeDevice(directory) for name in names(count)}
    devices["hanging"].habit, devices["slow"].habit, devices["lying"].habit = (
        Habit.HANGING,
        Habit.SLOW,
        Habit.LYING,
    )
    for name in list(devices)[:WITH_DOCKER]:
        devices[name].containers = 3
    for device in devices.values():
        await device.start()
    print(json.dumps({name: asdict(device.device(name)) for name, device in devices.items()}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, what = line.split()
        await devices[name].stop()
        if what == "boot":
            devices[name].boot()
        elif what == "key":
            devices[name].new_host_key()
        if what != "stop":
            await devices[name].start()


def names(count: int) -> list[str]:
    return [f"d-{number:03}" for number in range(count - len(ODD))] + list(ODD)


class Collecting:
    """What the collecting process does of this: schedules over sessions. Events are counted and dropped."""

    def __init__(self, devices: Iterable[Device], compress: float) -> None:
        self.told: list[Draft] = []
        self.scheduler = Scheduler(self._publish, limit=10, ready=self._ready)
        for device in devices:
            session = Session(
                device,
                cycle_seconds=20 / compress * 5,
                ttl_share=1 / compress,
                breaker=DeviceBreaker(first_seconds=15 / compress, cap_seconds=120 / compress),
            )
            judge = device_judge(device.name, {})
            for collector, seconds in (
                (ContainersCollector(session, look_again_seconds=600 / compress), CONTAINERS),
                (SystemCollector(session), SYSTEM),
                (DrivesCollector(session), DRIVES),
            ):
                self.scheduler.add(collector, Pace(seconds / compress), judge=judge, remote=True)

    async def _ready(self, _: object) -> None:
        """Every stream is open."""

    def _publish(self, drafts: Sequence[Draft]) -> None:
        self.told += [draft for draft in drafts if draft.kind == Kind.DEVICE_STATUS_CHANGED]

    def statuses(self, name: str) -> list[str]:
        return [draft.payload["new_status"] for draft in self.told if device_of(draft.stream) == name]


async def measure(options: argparse.Namespace, directory: Path) -> None:
    serving = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", str(directory), "--devices", str(options.devices),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
    )  # fmt: skip
    assert serving.stdin is not None
    assert serving.stdout is not None
    devices = {name: Device(**fields) for name, fields in json.loads(await serving.stdout.readline()).items()}
    collecting = Collecting(devices.values(), options.compress)
    schedules = collecting.scheduler.schedules
    us = psutil.Process()
    rss = [us.memory_info().rss]
    running = asyncio.ensure_future(collecting.scheduler.run())
    await asyncio.sleep(options.warm)
    begun, cpu = time.monotonic(), us.cpu_times()
    at_first = {schedule.collector.name: schedule.ticks for schedule in schedules}
    script = [(0.2, "rebooting stop"), (0.3, "rebooting boot"), (0.4, "changed key"), (0.5, "vanished stop")]
    while (gone := time.monotonic() - begun) < options.seconds:
        while script and gone >= script[0][0] * options.seconds:
            serving.stdin.write(f"{script.pop(0)[1]}\n".encode())
        rss.append(us.memory_info().rss)
        await asyncio.sleep(1)
    seconds, after = time.monotonic() - begun, us.cpu_times()
    load = after.user + after.system - cpu.user - cpu.system
    told = {name: collecting.statuses(name)[-1:] for name in ODD}
    report(schedules, at_first)
    print(
        f"CPU of the collecting process: {load * 60 / seconds:.1f} s a minute, {100 * load / seconds:.0f} % of one core"
    )
    print(
        f"memory: {rss[0] >> 20} MiB before, at most {max(rss) >> 20} MiB; {len(devices)} connections, {seconds:.0f} s"
    )
    print(
        "at the end:",
        ", ".join(f"{name} is {''.join(status) or 'never told'}" for name, status in told.items()),
    )
    running.cancel()
    await asyncio.wait({running})
    await collecting.scheduler.close("over")
    serving.stdin.close()
    await serving.wait()


def report(schedules: Sequence[Schedule], at_first: dict[str, Any]) -> None:
    print(
        f"{'':<24}{'readings':>9}{'failed':>8}{'given up':>9}{'success':>9}{'late':>7}{'skipped':>8}{'worst late':>11}{'took':>8}"
    )
    for who, healthy in (("healthy", True), ("misbehaving", False)):
        for category in ("containers", "system", "drives"):
            chosen = [
                each
                for each in schedules
                if each.collector.name.endswith(f"/{category}")
                and (each.collector.name.partition("/")[0] not in ODD) == healthy
            ]
            before = [at_first[each.collector.name] for each in chosen]

            def grown(field: str, chosen: Any = chosen, before: Any = before) -> int:
                return sum(getattr(each.ticks, field) for each in chosen) - sum(
                    getattr(each, field) for each in before
                )

            read, failed, given_up = grown("read"), grown("failed"), grown("timed_out")
            share = 100 * read / (read + failed + given_up) if read + failed + given_up else 0.0
            took = sorted(each.ticks.took_seconds or 0.0 for each in chosen)
            worst = max(each.ticks.worst_late_seconds for each in chosen)
            print(
                f"{who + ' ' + category:<24}{read:>9}{failed:>8}{given_up:>9}{share:>8.2f}%{grown('late'):>7}"
                f"{grown('skipped'):>8}{worst:>9.2f} s{1000 * took[len(took) // 2]:>5.0f} ms"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--warm", type=float, default=20.0, help="seconds before it is measured")
    parser.add_argument("--compress", type=float, default=30.0)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--serve", type=Path)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    random.seed(0)
    if options.serve:
        asyncio.run(serve(options.serve, options.devices))
        return
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(options, Path(directory)))


if __name__ == "__main__":
    main()
