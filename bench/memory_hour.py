"""What all services take together after an hour of load, while nothing is killed.

    PYTHONPATH=. python bench/memory_hour.py [--minutes 60]

`crossfade up` with every part there is. Each HTTP service is asked about 20 times a second for what it has to tell, an
application pushes as many events, and a watcher verifies all it is sent. PSS: pages that are shared are counted once.
Exit code 1 when it is over 1 GB, a request failed, or the watcher found a hole.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
from services_killed import Load, memory_mb, watch

from tests.e2e.installation import Installation

LIMIT_MB = 1000.0
_HEALTH = ("/ready", "/health/detailed", "/metrics", "/metrics/performance")
ASKED = {
    "query": (
        *_HEALTH, "/monitoring/dashboard", "/api/data", "/api/devices", "/api/containers", "/api/alerts",
        "/api/events?topic=devices.*&limit=100", "/api/snapshot?topic=devices.*", "/api/heads?topic=devices.*",
    ),
    "analytics": (*_HEALTH, "/api/analytics/events", "/api/analytics/availability?device=HOST",
        "/api/analytics/percentiles?stream=HOST/system&field=cpu_usage", "/api/analytics/top?field=cpu_usage"),
    "control": _HEALTH,
    "dashboard": ("/_stcore/health", "/"),
    "legacy": ("/health", "/metrics"),
    "realtime": ("/health",),
}  # fmt: skip
OPTIONAL = ("analytics", "control", "mcp")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        made = Installation(Path(directory))
        try:
            fine = measure(made, given.minutes * 60)
        finally:
            made.remove()
    sys.exit(0 if fine else 1)


def measure(made: Installation, seconds: float) -> bool:
    ports = [option for part in OPTIONAL for option in (f"--port-{part}", "0")]
    made.start("--with", ",".join(OPTIONAL), *ports, "--no-docker", seconds=300)
    state = json.loads((made.directory / ".crossfade/run/state.json").read_text())["addresses"]
    addresses = {part: state[f"port_{ {'realtime': 'supabase'}.get(part, part) }"] for part in ASKED}
    token = made.run("token", "bench", "--role", "operator").stdout.split()[-1]
    asked = checked(addresses, token)
    watcher = watch(made)
    assert made.process is not None
    family = psutil.Process(made.process.pid)
    began = time.monotonic()
    print(f"{'minutes':>8} {'MB (PSS)':>9} {'processes':>10} {'requests':>9} {'failed':>7} {'pushed':>7}")
    with Load(addresses, token, asked) as load:
        looked = 0.0
        while (passed := time.monotonic() - began) < seconds:
            if passed >= looked:
                print(row(passed, family, load), flush=True)
                looked += max(60.0, seconds / 12)
            time.sleep(1.0)
        memory = memory_mb(family)
        print(row(passed, family, load))
    for process in sorted(
        [family, *family.children(recursive=True)], key=lambda each: -each.memory_full_info().pss
    )[:12]:
        print(f"{process.memory_full_info().pss / 1e6:>8.0f} MB  {' '.join(process.cmdline())[:90]}")
    watcher.send_signal(signal.SIGINT)
    _, said = watcher.communicate(timeout=60)
    print("watcher:", " ".join(said.split())[-200:])
    failed = sum(load.failed.values())
    print(f"{memory:.0f} MB, {failed} requests failed, the watcher ended with {watcher.returncode}")
    return memory < LIMIT_MB and not failed and watcher.returncode == 0


def checked(ports: dict[str, int], token: str) -> dict[str, list[str]]:
    """Return what is asked of each part, of this host; raises unless each is answered."""
    headers = {"Authorization": f"Bearer {token}"}

    def get(part: str, path: str) -> httpx.Response:
        return httpx.get(
            f"http://127.0.0.1:{ports[part]}{path}", headers=headers, timeout=10
        ).raise_for_status()

    host = get("query", "/api/devices").json()["devices"][0]["device"]
    asked = {part: [path.replace("HOST", host) for path in paths] for part, paths in ASKED.items()}
    for part, paths in asked.items():
        for path in paths:
            get(part, path)
    return asked


def row(passed: float, family: psutil.Process, load: Load) -> str:
    processes = 1 + len(family.children(recursive=True))
    return (
        f"{passed / 60:>8.1f} {memory_mb(family):>9.0f} {processes:>10} {sum(load.asked.values()):>9}"
        f" {sum(load.failed.values()):>7} {len(load.kept):>7}"
    )


if __name__ == "__main__":
    main()
