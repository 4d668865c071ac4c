"""From a breach to a real webhook, and how many messages a thousand flapping targets make: the installed command, whole.

``python bench/alerts.py`` runs ``crossfade up`` in a directory of its own. Times are from just before an application hands
a reading over to the webhook's having the whole message, in seconds; a second of it is the wait for others (``grouping``).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

from crossfade import push
from monitoring.events import format_time
from tests.e2e.installation import Installation, wait_until
from tests.fakes.webhook import Webhook

RULES = """version: 1
channels:
  - {{name: hook, url: '{url}', burst: 1000, severity: critical}}
  - {{name: limited, url: '{url}', burst: 5, every: 30s}}
rules:
  - {{name: level, kind: threshold, metric: load.level, above: 10, severity: critical, channels: [hook]}}
  - {{name: flap, kind: threshold, metric: flap.level, above: 10, channels: [limited]}}
end: true
"""


def breaches(installation: Installation, hook: Webhook, rounds: int) -> list[float]:
    """Return the seconds from each of some breaches, of a device each, to its message."""
    taken = []
    for number in range(rounds):
        device, title = f"app-{number}", f"[critical] level: app-{number}"
        with push.application(device, installation.directory / ".crossfade") as app:
            app.event("load", "sample", {"level": 1})
            assert app.flush(20)
            began = time.monotonic()
            app.event("load", "sample", {"level": 50})
            assert app.flush(20)
        wait_until(title, lambda title=title: title in hook.titles)  # type: ignore[misc]  # bound now
        taken.append(next(at for at, body in hook.told if body["title"] == title) - began)
    return taken


def flapping(installation: Installation, targets: int, seconds: float) -> int:
    """Let so many targets, items of ten devices, breach and recover every other second; return the readings."""
    url = str(installation.part("query")["address"])
    token = installation.run("token", "bench", "--role", "operator").stdout.strip()
    end, number = time.monotonic() + seconds, 0
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
        while (began := time.monotonic()) < end:
            items = range(targets // 10)
            events = [
                {
                    "id": str(uuid.uuid4()),
                    "stream": f"flap-{device}/flap",
                    "kind": "sample",
                    "occurred_at": format_time(datetime.now(UTC)),
                    "payload": {"all": [{"name": f"i{item}", "level": 50 * (number % 2)} for item in items]},
                }
                for device in range(10)
            ]
            assert client.post("/api/events", json={"events": events}).json()["refused"] == 0
            number += 1
            time.sleep(max(0.0, 1 - (time.monotonic() - began)))
    return number * targets


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=120)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, Webhook() as hook:
        installation = Installation(Path(directory))
        (installation.directory / "alerts.yaml").write_text(
            RULES.format(url=hook.url).replace("flap.level", "flap.all.level")
        )
        try:
            installation.start("--without", "dashboard,parity", "--no-docker")
            taken = sorted(breaches(installation, hook, given.rounds))
            print(
                f"breach to webhook, {len(taken)} times: median {statistics.median(taken):.2f} s, longest {taken[-1]:.2f} s"
            )
            before = len(hook.told)
            process = psutil.Process(installation.part("alerts")["pid"])
            spent = sum(process.cpu_times()[:2])
            readings = flapping(installation, given.targets, given.seconds)
            spent = sum(process.cpu_times()[:2]) - spent
            print(
                f"{given.targets} targets flapping for {given.seconds:g} s, {readings} readings: "
                f"{len(hook.told) - before} messages; alerting process {100 * spent / given.seconds:.0f} % of a core, "
                f"{process.memory_info().rss / 1e6:.0f} MB"
            )
        finally:
            installation.remove()


if __name__ == "__main__":
    main()
