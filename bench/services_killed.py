"""kill -9 of each part in turn while all are asked and events are pushed: what the others' callers saw, and what was lost.

The peer is the same installation with nothing killed: its share of failed requests is the first line. An application pushes
events and sends each again until it is answered as kept; a watcher verifies the stream by its positions. At the end every
event that was kept has to be in the database once.

    PYTHONPATH=. python bench/services_killed.py [--seconds 4]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from tests.e2e.installation import CROSSFADE, Installation, wait_until

ASKED = {
    "query": "/ready",
    "analytics": "/ready",
    "control": "/ready",
    "legacy": "/health",
    "realtime": "/health",
}
KILLED = (
    "query",
    "analytics",
    "control",
    "legacy",
    "realtime",
    "collect",
    "alerts",
    "rollout",
    "parity",
    "postgres",
)
NEEDED = {"postgres": {"query", "analytics", "control", "realtime"}}
"""Parts whose readiness is that of another: their failures while it is away are its own."""
PAUSE_SECONDS = 0.05


class Load:
    """Asks every service and pushes, each in a thread of its own, until it is stopped."""

    def __init__(
        self, ports: dict[str, int], token: str, paths: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.ports = ports
        self.paths = paths or {part: (path,) for part, path in ASKED.items()}
        self.asked: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.unhandled: Counter[str] = Counter()
        self.kept: list[str] = []
        self._token = token
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(part,)) for part in self.paths]
        self._threads.append(threading.Thread(target=self._push))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, part: str) -> None:
        headers = {"Authorization": f"Bearer {self._token}"}
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self.ports[part]}", headers=headers, timeout=10
        ) as http:
            for path in cycle(self.paths[part]):
                if self._stop.wait(PAUSE_SECONDS):
                    return
                self.asked[part] += 1
                try:
                    status = http.get(path).status_code
                except httpx.TransportError:
                    self.failed[part] += 1
                else:
                    self.failed[part] += status >= 500
                    self.unhandled[part] += status == 500

    def _push(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}"}
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self.ports['query']}", headers=headers, timeout=10
        ) as http:
            number = 0
            while not self._stop.wait(PAUSE_SECONDS):
                number += 1
                event = {
                    "id": str(uuid.uuid4()), "stream": "bench/numbers", "kind": "number",
                    "occurred_at": datetime.now(UTC).isoformat(), "payload": {"number": number},
                }  # fmt: skip
                while not self._kept(http, event) and not self._stop.wait(PAUSE_SECONDS):
                    pass

    def _kept(self, http: httpx.Client, event: dict[str, Any]) -> bool:
        try:
            answer = http.post("/api/events", json={"events": [event]})
        except httpx.TransportError:
            return False
        kept = answer.status_code == 202 and answer.json()["items"][0]["kept"]
        if kept:
            self.kept.append(event["id"])
        return bool(kept)


def memory_mb(process: psutil.Process) -> float:
    """Return the memory of a process and all below it, pages that are shared counted once (PSS)."""
    family = [process, *process.children(recursive=True)]
    return sum(each.memory_full_info().pss for each in family) / 1e6


def watch(made: Installation) -> subprocess.Popen[str]:
    """Start a client that verifies all it is sent; what it prints goes nowhere, for a pipe that nobody reads would stop it."""
    return subprocess.Popen(
        [CROSSFADE, "watch", "--verify", "--for", "1h"], cwd=made.directory, env=made.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def back(made: Installation, part: str, before: int) -> Callable[[], bool]:
    def there() -> bool:
        now = made.part(part)
        return now["pid"] not in {None, before} and now["state"] == "ready"

    return there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="load before each kill")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        made = Installation(Path(directory))
        try:
            measure(made, given.seconds)
        finally:
            made.remove()


def measure(made: Installation, seconds: float) -> None:
    extra = ("--with", "analytics,control", "--port-analytics", "0", "--port-control", "0")
    made.start(*extra, "--without", "dashboard", "--no-docker", seconds=300)
    state = json.loads((made.directory / ".crossfade/run/state.json").read_text())["addresses"]
    ports = {part: state[f"port_{ {'realtime': 'supabase'}.get(part, part) }"] for part in ASKED}
    token = made.run("token", "bench", "--role", "operator").stdout.split()[-1]
    watcher = watch(made)
    assert made.process is not None
    family = psutil.Process(made.process.pid)
    began = time.monotonic()
    with Load(ports, token) as load:
        time.sleep(seconds)
        total = sum(load.asked.values())
        print(f"nothing killed: {sum(load.failed.values())} of {total} requests failed")
        print(f"{'killed':<10} {'back after':>10} {'others failed':>14} {'of':>6}")
        for part in KILLED:
            spared = [name for name in ASKED if name != part and name not in NEEDED.get(part, ())]
            before, failed = dict(load.asked), dict(load.failed)
            pid = made.part(part)["pid"]
            at = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            wait_until(f"{part} is back", back(made, part, pid), 120)
            took = time.monotonic() - at
            time.sleep(seconds)
            others = sum(load.failed[name] - failed.get(name, 0) for name in spared)
            asked = sum(load.asked[name] - before.get(name, 0) for name in spared)
            print(f"{part:<10} {took:>8.2f} s {others:>14} {asked:>6}", flush=True)
        memory = memory_mb(family)
    ran = time.monotonic() - began
    wait_until("all is healthy at the end", made.healthy, 120)
    stored = rows(made, len(load.kept))
    watcher.send_signal(signal.SIGINT)
    _, said = watcher.communicate(timeout=60)
    print(
        f"pushed and kept {len(load.kept)}, in the database {len(set(load.kept) & set(stored))}, twice {len(stored) - len(set(stored))}"
    )
    print(f"unhandled errors: {sum(load.unhandled.values())} of {sum(load.asked.values())} requests")
    print(f"all processes together after {ran:.0f} s: {memory:.0f} MB (PSS)")
    print("watcher:", " ".join(said.split())[-200:])


def rows(made: Installation, least: int) -> list[str]:
    """Return the ids of the events of the application, once the rest has arrived."""
    found: list[str] = []

    def arrived() -> bool:
        out = made.run("export", "events", "--topic", "devices.bench", "--kind", "number").stdout
        found[:] = [json.loads(line)["id"] for line in out.splitlines()]
        return len(found) >= least

    wait_until("all that was kept has arrived", arrived, 120)
    return found


if __name__ == "__main__":
    main()
