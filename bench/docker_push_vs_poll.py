"""15 real containers: a web page that polls every 2 s beside one that is told, in one run (C5). Needs a Docker and busybox.

    python bench/docker_push_vs_poll.py [--seconds 120] [--changes 2]

All controllers look at the same containers in the same minutes, while some of these are really stopped and started, so many
times a minute (seed 002 says 0 to 5). Each has one viewer, through a proxy that counts bytes both ways:

- ``poll, SDK``: a controller that asks Docker every 2 s by the SDK's list, which inspects each container; GET /api/data each 2 s
- ``poll, bare list``: the same, but Docker is asked as cheaply as it can be: one request for the list
- ``push``: our collector, which follows Docker's events (its spool and link with it), and the legacy server with a client at
  ``/ws/containers`` and one at ``/ws/frontend``; both again without the compression that a browser offers

Status only, as in the seed: no logs, and none of the numbers that `crossfade up` collects besides. CPU is that of the
controller's processes, by the kernel's clock of each, not Docker's. Counted from when every viewer has its first state.
Status 1 when a viewer missed a change, or ``/ws/containers``, the controller's dialect, saves less than 99 % of the bytes or 95 %
of the CPU of ``poll, SDK``. By the seed every `container_update` of ``/ws/frontend`` holds all containers, so it saves less.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from docker_controllers import DEVICE, POLL_SECONDS
from docker_ground import CONTAINERS, TALKER, Ground, ground, median, run
from programs import HERE, Program, machine, program
from push_versus_polling import CountingProxy
from websockets.asyncio.client import connect

from embedded.ports import free_port

TOKEN = "bench"  # noqa: S105 - of a server that lives for minutes
BYTES_SAVED, CPU_SAVED = 0.99, 0.95
_WARM_SECONDS = 8.0
_SETTLE_SECONDS = 2 * POLL_SECONDS + 1


@dataclass(slots=True)
class Viewer:
    """What one viewer knows of each container, and when it learnt it."""

    kind: str
    proxy: CountingProxy
    states: dict[str, str] = field(default_factory=dict)
    learnt: list[tuple[str, str, float]] = field(default_factory=list)
    bytes: int = 0

    def take(self, name: str, status: str) -> None:
        if self.states.get(name) != status:
            self.states[name] = status
            self.learnt.append((name, status, time.monotonic()))


def cpu_seconds(programs: list[Program]) -> float:
    """Return what processes have used, in the kernel's nanoseconds: a tick of 10 ms is as much as some use in a minute."""
    return sum(time.clock_gettime(~each.process.pid << 3 | 2) for each in programs)  # clock_getcpuclockid(3)


async def polled(viewer: Viewer) -> None:
    async with httpx.AsyncClient(base_url=f"http://{viewer.proxy.place}") as http:
        due = time.monotonic()
        while True:
            for each in (await http.get("/api/data")).json().get("containers", ()):
                viewer.take(each["name"], each["status"])
            due += POLL_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def told(viewer: Viewer, path: str, compression: str | None) -> None:
    async with connect(f"ws://{viewer.proxy.place}{path}", proxy=None, compression=compression) as socket:
        async for text in socket:
            message: dict[str, Any] = json.loads(text)
            for each in message.get("containers", ()):
                viewer.take(each["name"], each["status"])
            for each in message.get("changes", ()):
                viewer.take(each["name"], each["currentStatus"])


async def change(made: Ground, seconds: float, a_minute: float) -> list[tuple[str, str, float]]:
    """Stop and start containers in turn; return what became of which, and when Docker's command was over."""
    done: list[tuple[str, str, float]] = []
    began = time.monotonic()
    pause = 60 / a_minute
    number = 0
    while (due := began + (number + 0.5) * pause) < began + seconds - _SETTLE_SECONDS:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        name = made.names[number // 2 % len(made.names)]
        command, status = (("stop", "-t", "0"), "exited") if number % 2 == 0 else (("start",), "running")
        await asyncio.to_thread(run, *command, name)
        done.append((name, status, time.monotonic()))
        number += 1
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    return done


@contextlib.asynccontextmanager
async def controllers(directory: Path) -> AsyncIterator[tuple[dict[str, list[Program]], dict[str, int]]]:
    """Run all of them; yields the processes and the ports by kind."""
    ports = {kind: free_port("127.0.0.1") for kind in ("poll-sdk", "poll-bare", "push")}
    token = directory / "link.token"
    token.write_text(TOKEN)
    errors, bench = directory / "errors.log", HERE / "docker_controllers.py"
    async with contextlib.AsyncExitStack() as stack:
        running: dict[str, list[Program]] = {}
        for kind in ("poll-sdk", "poll-bare"):
            running[kind] = [await stack.enter_async_context(program(errors, bench, kind, str(ports[kind])))]
        server = program(errors, "-m", "legacy_ws", "--token-file", token, "--port", str(ports["push"]))
        link = f"ws://127.0.0.1:{ports['push']}/link"
        running["push"] = [
            await stack.enter_async_context(server),
            await stack.enter_async_context(program(errors, bench, "push", directory, link, TOKEN)),
        ]
        async with httpx.AsyncClient() as http, asyncio.timeout(60):
            for kind, path in (("poll-sdk", "/api/data"), ("poll-bare", "/api/data"), ("push", "/health")):
                while True:
                    with contextlib.suppress(httpx.TransportError):
                        if len((await http.get(f"http://127.0.0.1:{ports[kind]}{path}")).content) > 2:
                            break
                    await asyncio.sleep(0.1)
        yield running, ports


def missed(viewer: Viewer, changes: list[tuple[str, str, float]]) -> tuple[int, list[float]]:
    """Return how many changes a viewer did not see, and how long after Docker's command the others."""
    seen, ages = list(viewer.learnt), []
    for name, status, at in changes:
        found = next((each for each in seen if each[:2] == (name, status)), None)
        if found is not None:
            seen.remove(found)
            ages.append(max(0.0, found[2] - at))
    return len(changes) - len(ages), ages


async def measure(made: Ground, seconds: float, a_minute: float) -> bool:
    for _ in range(CONTAINERS):
        made.start(TALKER)
    kinds: dict[str, tuple[str, Any]] = {
        "poll, SDK": ("poll-sdk", polled),
        "poll, bare list": ("poll-bare", polled),
        "push, /ws/containers": ("push", lambda one: told(one, "/ws/containers", "deflate")),
        "push, /ws/frontend": ("push", lambda one: told(one, "/ws/frontend", "deflate")),
        "the first, uncompressed": ("push", lambda one: told(one, "/ws/containers", None)),
        "the second, uncompressed": ("push", lambda one: told(one, "/ws/frontend", None)),
    }
    with tempfile.TemporaryDirectory(prefix="cf-bench-") as name:
        async with controllers(Path(name)) as (running, ports), contextlib.AsyncExitStack() as stack:
            viewers = {
                kind: Viewer(
                    kind,
                    await stack.enter_async_context(CountingProxy(f"http://127.0.0.1:{ports[controller]}")),
                )
                for kind, (controller, _) in kinds.items()
            }
            tasks = [asyncio.ensure_future(kinds[kind][1](viewer)) for kind, viewer in viewers.items()]
            try:
                async with asyncio.timeout(60):
                    while any(len(each.states) < CONTAINERS for each in viewers.values()):
                        await asyncio.sleep(0.1)
                await asyncio.sleep(_WARM_SECONDS)
                for viewer in viewers.values():
                    viewer.learnt.clear()
                    viewer.bytes = viewer.proxy.counted.bytes
                before = {kind: cpu_seconds(programs) for kind, programs in running.items()}
                server = cpu_seconds(running["push"][:1])
                began = time.monotonic()
                changes = await change(made, seconds, a_minute)
                minutes = (time.monotonic() - began) / 60
                cpu = {kind: (cpu_seconds(each) - before[kind]) / minutes for kind, each in running.items()}
                server = (cpu_seconds(running["push"][:1]) - server) / minutes
                for viewer in viewers.values():
                    viewer.bytes = viewer.proxy.counted.bytes - viewer.bytes
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
    print(f"of push {server:.4f} CPU-s a minute are the server's, {cpu['push'] - server:.4f} the collector's")
    return report(viewers, kinds, cpu, changes, minutes)


def report(
    viewers: dict[str, Viewer],
    kinds: dict[str, tuple[str, Any]],
    cpu: dict[str, float],
    changes: list[tuple[str, str, float]],
    minutes: float,
) -> bool:
    """Print the table; return whether what was wanted holds."""
    peer = viewers["poll, SDK"]
    print(f"{CONTAINERS} containers of {DEVICE}, {len(changes)} changes in {minutes:.1f} min; status only")
    print(
        f"{'':26}{'bytes/min':>11}{'saved':>9}{'CPU-s/min':>11}{'saved':>9}{'missed':>8}{'seen after ms, median':>24}"
    )
    good = True
    for kind, viewer in viewers.items():
        controller = kinds[kind][0]
        saved = 1 - viewer.bytes / peer.bytes
        cpu_saved = 1 - cpu[controller] / cpu["poll-sdk"]
        lost, ages = missed(viewer, changes)
        print(
            f"{kind:26}{viewer.bytes / minutes:11,.0f}{saved:9.2%}{cpu[controller]:11.4f}{cpu_saved:9.1%}"
            f"{lost:8}{median(ages) * 1000 if ages else 0:24.0f}"
        )
        good = good and not lost
        if kind == "push, /ws/containers":
            good = good and saved >= BYTES_SAVED and cpu_saved >= CPU_SAVED
    print(f"push beside the bare list: {1 - cpu['push'] / cpu['poll-bare']:.1%} of the CPU saved")
    print(json.dumps(machine()))
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--changes", type=float, default=2.0, help="a minute")
    given = parser.parse_args()
    with ground() as made:
        return 0 if asyncio.run(measure(made, given.seconds, given.changes)) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}: {error.stderr}")
