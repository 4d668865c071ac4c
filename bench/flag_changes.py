"""How soon a change of the flag file is in force, however it was made; beside the second that is promised.

    python bench/flag_changes.py [--times N] [--json FILE]

Each way is gone by its real program, at a random moment of the watcher's turn, under the watcher with its own settings. Times
are from the end of the action until the new flags are in force, in seconds. Exit code 1 when one took longer than a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from programs import ROOT, machine

from adapters.flag_file import POLL_SECONDS, FlagFile
from monitoring.flags.editing import edit
from tests.flag_file_changes import WAYS, Way, lacks

PROMISED_SECONDS = 1.0
LOST_SECONDS = 30.0


async def seen_after(way: Way, before: str, after: str, directory: Path) -> float:
    """Return the seconds from the end of a change until it is in force; raises TimeoutError when it never is."""
    path = directory / "flags.yaml"
    path.write_text(before)
    watcher = FlagFile(path)
    seen: list[float] = []
    watcher.listen(lambda: seen.append(time.monotonic()))
    change = way(path, after)
    running = asyncio.ensure_future(watcher.run())
    try:
        await watcher.changes(0)
        await asyncio.sleep(POLL_SECONDS * (1 + random.random()))  # noqa: S311 - not secret
        await asyncio.to_thread(change)
        done = time.monotonic()
        async with asyncio.timeout(LOST_SECONDS):
            await watcher.changes(1)
        assert watcher.current().weight == 25_000
        return max(0.0, seen[-1] - done)
    finally:
        running.cancel()
        await asyncio.wait({running})


async def measure(times: int) -> dict[str, Any]:
    shipped = (ROOT / "flags.yaml").read_text()
    before, after = (edit(shipped, "live.percent", percent) for percent in ("10", "25"))
    found: dict[str, Any] = {}
    everything: list[float] = []
    for name, way in WAYS.items():
        if missing := lacks(name):
            found[name] = missing
            continue
        took = []
        for _ in range(times):
            with tempfile.TemporaryDirectory() as directory:
                took.append(await seen_after(way, before, after, Path(directory)))
        everything += took
        found[name] = {"median": round(statistics.median(took), 3), "max": round(max(took), 3)}
        print(
            f"{name:<40} median {found[name]['median']:.3f} s, longest {found[name]['max']:.3f} s", flush=True
        )
    return {
        "times_each": times,
        "ways": found,
        "median_seconds": round(statistics.median(everything), 3),
        "longest_seconds": round(max(everything), 3),
        "longest_of_promised": round(max(everything) / PROMISED_SECONDS, 2),
        "poll_seconds": POLL_SECONDS,
        "machine": machine(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=10, help="each way is gone (default: %(default)d)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    result = asyncio.run(measure(given.times))
    print(json.dumps({name: value for name, value in result.items() if name != "ways"}))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")
    return int(result["longest_seconds"] > PROMISED_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
