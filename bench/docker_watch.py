"""The Docker collector beside polling, and beside ``docker stats``. Needs a Docker and busybox.

    python bench/docker_watch.py changes [--rounds 10]      how soon each change is seen
    python bench/docker_watch.py cpu [--seconds 60]         following against polling every 2 s, in the same minute
    python bench/docker_watch.py numbers [--seconds 60]     CPU and memory against docker stats, in the same minute

Status 1 when a change takes a second, following costs more than a thirtieth of polling, or a number is off: by more than
1 point or 1 MiB over the minute, or outside of what ``docker stats`` itself showed in it by more than that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import docker
from docker_ground import CONTAINERS, TALKER, Ground, ground, median, run

from collectors.docker import DockerCollector
from collectors.docker_connection import from_environment
from monitoring.events import Draft, Kind

_POLL_SECONDS = 2.0
_MOST_SECONDS = 1.0
_LEAST_RATIO = 30
_FIRST_SECONDS = 4.0
"""``docker stats`` shows 0 % until it has two answers."""
_CHANGES_A_MINUTE = 2
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_MIB = 2**20

# How soon each change is seen


class Seen:
    """What the collector told, with the moment it told it."""

    def __init__(self) -> None:
        self.changes: list[tuple[float, Draft]] = []

    def publish(self, drafts: Sequence[Draft]) -> None:
        now = time.time()
        self.changes += [(now, draft) for draft in drafts if draft.kind == Kind.CONTAINER_STATUS_CHANGED]

    async def wait(self, name: str, *actions: str, health: str | None = None) -> list[float]:
        """Wait for these actions of a container; return how long after the engine's own time each was told."""
        told: list[float] = []
        start = 0
        async with asyncio.timeout(30):
            for action in actions:
                while not (found := self._find(start, name, action, health)):
                    await asyncio.sleep(0.002)
                start, at, draft = found
                told.append(at - draft.occurred_at.timestamp())
        self.changes = self.changes[start:]
        return told

    def _find(
        self, start: int, name: str, action: str, health: str | None
    ) -> tuple[int, float, Draft] | None:
        for number, (at, draft) in enumerate(self.changes[start:], start + 1):
            payload = draft.payload
            current = payload["current"] or {}
            same = (payload["container"]["name"], payload["action"]) == (name, action)
            if same and health in {None, current.get("health")}:
                return number, at, draft
        return None


async def changes(made: Ground, rounds: int) -> bool:
    """Make every change ``rounds`` times among 15 containers; print how long each took to be told."""
    for _ in range(CONTAINERS - 1):
        made.start(TALKER)
    seen = Seen()
    collector = DockerCollector("bench")
    watching = asyncio.create_task(collector.watch(seen.publish))
    ticking = asyncio.create_task(_tick(collector))
    while not collector.available:
        await asyncio.sleep(0.01)
    times: dict[str, list[float]] = {}
    for number in range(rounds):
        await _life(made, seen, times, f"bench-life-{number}")
    for task in (watching, ticking):
        task.cancel()
    await asyncio.wait({watching, ticking})
    print(f"{'change':<14}{'n':>4}{'median ms':>11}{'worst ms':>10}   after Docker's own time of it")
    for what, values in times.items():
        print(f"{what:<14}{len(values):>4}{median(values) * 1000:>11.1f}{max(values) * 1000:>10.1f}")
    return max(max(values) for values in times.values()) < _MOST_SECONDS


async def _tick(collector: DockerCollector) -> None:
    while True:
        await collector.collect()
        await asyncio.sleep(_POLL_SECONDS)


async def _life(made: Ground, seen: Seen, times: dict[str, list[float]], name: str) -> None:
    async def step(
        what: str, actions: tuple[str, ...], do: Callable[[], object], name: str, health: str | None = None
    ) -> None:
        await asyncio.to_thread(do)
        times.setdefault(what, []).extend(await seen.wait(name, *actions, health=health))

    idle = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
    await step("create, start", ("create", "start"), lambda: made.start(idle, name=name), name)
    await step("pause", ("pause",), lambda: run("pause", name), name)
    await step("unpause", ("unpause",), lambda: run("unpause", name), name)
    await step("stop", ("die",), lambda: run("stop", name), name)
    await step("start", ("start",), lambda: run("start", name), name)
    await step("restart", ("die", "start"), lambda: run("restart", name), name)
    await step("kill", ("die",), lambda: run("kill", name), name)
    other = f"{name}-b"
    made.names.append(other)
    await step("rename", ("rename",), lambda: run("rename", name, other), other)
    await step("remove", ("destroy",), lambda: run("rm", "-f", other), other)
    await step("recreate", ("create", "start"), lambda: made.start(idle, name=name), name)
    await step("remove", ("destroy",), lambda: run("rm", "-f", name), name)
    sick = ("--health-cmd", "false", "--health-interval", "1s", "--health-retries", "1")
    await step("unhealthy", ("health_status",), lambda: made.start(idle, *sick, name=name), name, "unhealthy")
    await step("remove", ("destroy",), lambda: run("rm", "-f", name), name)
    hog = "a=0123456789; while :; do a=$a$a; done"
    await step("out of memory", ("oom", "die"), lambda: made.start(hog, "-m", "16m", name=name), name)
    await step("remove", ("destroy",), lambda: run("rm", "-f", name), name)


# Following against polling


def poll_list(client: docker.APIClient) -> None:
    """Ask for the list, as cheaply as it can be asked."""
    client.containers(all=True)


def poll_sdk(client: docker.APIClient) -> None:
    """Ask as the SDK's examples do, which inspects each container."""
    wrapped = docker.DockerClient.__new__(docker.DockerClient)
    wrapped.api = client
    for container in wrapped.containers.list(all=True):
        _ = container.status


def poll_stats(client: docker.APIClient) -> None:
    """Ask for the list and each container's numbers, all at once."""
    ids = [entry["Id"] for entry in client.containers(all=True)]
    with ThreadPoolExecutor(CONTAINERS) as pool:
        list(pool.map(lambda key: client.stats(key, stream=False, one_shot=True), ids))


def poll_both(client: docker.APIClient) -> None:
    """Ask for the list by the SDK, and for each container's numbers."""
    poll_sdk(client)
    poll_stats(client)


POLLS = {
    "poll list, bare": poll_list,
    "poll list by SDK": poll_sdk,
    "poll list and stats, bare": poll_stats,
    "poll list and stats by SDK": poll_both,
}


def controller(what: str, seconds: float) -> None:
    """Be one controller for a while, then say what CPU time it took, its start left out."""

    def report() -> None:
        time.sleep(3.0)
        before = time.process_time()
        time.sleep(seconds)
        print(time.process_time() - before, flush=True)
        os._exit(0)

    threading.Thread(target=report, daemon=True).start()
    if what == "follow":
        asyncio.run(DockerCollector("bench").watch(lambda _: None))
    client = from_environment()
    due = time.monotonic()
    while True:
        POLLS[what](client)
        due += _POLL_SECONDS
        time.sleep(max(0.0, due - time.monotonic()))


def cpu(made: Ground, seconds: float) -> bool:
    """Run all controllers over the same minute and containers; print what each took."""
    for _ in range(CONTAINERS):
        made.start(TALKER)
    started = {
        what: subprocess.Popen(
            [sys.executable, __file__, "controller", what, "--seconds", str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for what in ("follow", *POLLS)
    }
    pause = 60 / _CHANGES_A_MINUTE
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(min(pause / 2, max(0.0, ends - time.monotonic())))
        run("restart", "-t", "0", made.names[0])
    taken = {
        what: float(one.communicate(timeout=seconds + 60)[0]) * 60 / seconds for what, one in started.items()
    }
    print(f"{CONTAINERS} containers; every controller in the same {seconds:g} s")
    print(f"{'controller':<28}{'CPU-s a minute':>15}{'of following':>14}")
    for what, value in taken.items():
        print(f"{what:<28}{value:>15.4f}{value / taken['follow']:>13.0f}x")
    return taken["poll list and stats by SDK"] >= _LEAST_RATIO * taken["follow"]


# Numbers against docker stats


def _bytes(text: str) -> float:
    found = re.match(r"([\d.]+)(B|KiB|MiB|GiB)", text)
    return float(found[1]) * _UNITS[found[2]] if found else 0.0


async def _docker_stats(values: dict[str, list[tuple[float, float]]]) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time() + _FIRST_SECONDS
    process = await asyncio.create_subprocess_exec(
        "docker", "stats", "--format", "{{json .}}", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            found = re.search(rb"\{.*\}", line)
            if found is None or loop.time() < begin:
                continue
            said = json.loads(found[0])
            if said["Name"] in values and said["CPUPerc"] != "--":
                values[said["Name"]].append((float(said["CPUPerc"].rstrip("%")), _bytes(said["MemUsage"])))
    finally:
        process.terminate()
        await process.wait()


async def numbers(made: Ground, seconds: float) -> bool:
    """Compare over a minute; print each container's means and widest values."""
    burner = "while :; do :; done"
    hold = (
        "a=$(dd if=/dev/zero bs=1M count=24 2>/dev/null | /bin/busybox tr '\\0' x); while :; do sleep 1; done"
    )
    write = "while :; do dd if=/dev/zero of=/f bs=1M count=4 2>/dev/null; sleep 1; done"
    kinds = {
        made.start(burner, "--cpus", "0.5"): "burner 0.5",
        made.start(burner, "--cpus", "0.1"): "burner 0.1",
        made.start(hold): "holder",
        made.start(write): "writer",
    }
    kinds |= {made.start(TALKER): "talker" for _ in range(CONTAINERS - len(kinds))}
    collector = DockerCollector("bench")
    watching = asyncio.create_task(collector.watch(lambda _: None))
    while not collector.available:
        await asyncio.sleep(0.01)
    await collector.collect()
    await asyncio.sleep(5)  # what starting them cost is over
    await collector.collect()
    ours: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    theirs: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    missing = 0
    asking = asyncio.create_task(_docker_stats(theirs))
    loop = asyncio.get_running_loop()
    due, ends = loop.time() + _POLL_SECONDS, loop.time() + seconds
    while loop.time() < ends:
        await asyncio.sleep(max(0.0, due - loop.time()))
        due += _POLL_SECONDS
        (draft,) = (each for each in await collector.collect() if each.kind == Kind.CONTAINERS_COLLECTED)
        for entry in draft.payload["containers"]:
            if entry["name"] in kinds:
                if entry["cpu_percent"] is None:
                    missing += 1
                else:
                    ours[entry["name"]].append((entry["cpu_percent"], entry["memory_used_bytes"]))
    for task in (asking, watching):
        task.cancel()
    await asyncio.wait({asking, watching})
    return _compare(kinds, ours, theirs, missing)


def _compare(
    kinds: dict[str, str],
    ours: dict[str, list[tuple[float, float]]],
    theirs: dict[str, list[tuple[float, float]]],
    missing: int,
) -> bool:
    print(
        f"{'':<12}{'CPU %: ours':>20}{'docker stats':>22}{'mean off':>10}{'MiB: ours':>12}{'docker':>9}{'off':>8}"
    )
    good = missing == 0
    for name, kind in kinds.items():
        mine, said = ours[name], theirs[name]
        cpu_mine, cpu_said = [cpu for cpu, _ in mine], [cpu for cpu, _ in said]
        memory_mine, memory_said = (median([memory for _, memory in each]) / _MIB for each in (mine, said))
        off = sum(cpu_mine) / len(mine) - sum(cpu_said) / len(said)
        outside = min(cpu_mine) < min(cpu_said) - 1 or max(cpu_mine) > max(cpu_said) + 1
        good = good and abs(off) <= 1 and abs(memory_mine - memory_said) <= 1 and not outside
        print(
            f"{kind:<12}{_range(cpu_mine):>20}{_range(cpu_said):>22}{off:>10.2f}{memory_mine:>12.2f}{memory_said:>9.2f}"
            f"{memory_mine - memory_said:>8.2f}{'  OUTLIER' if outside else ''}"
        )
    print(f"values of ours that were missing: {missing} of {missing + sum(map(len, ours.values()))}")
    return good


def _range(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.2f} ({min(values):.1f}-{max(values):.1f})"


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("changes", "cpu", "numbers", "controller"))
    parser.add_argument("which", nargs="?")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    if given.what == "controller":
        controller(given.which, given.seconds)
        return 0
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.1f}")
    with ground() as made:
        match given.what:
            case "changes":
                good = asyncio.run(changes(made, given.rounds))
            case "cpu":
                good = cpu(made, given.seconds)
            case _:
                good = asyncio.run(numbers(made, given.seconds))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
