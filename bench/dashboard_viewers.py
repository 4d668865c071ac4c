"""What many viewers of the dashboard take, and whether eight hours of updates leave anything behind.

    python bench/dashboard_viewers.py [--viewers 1 5 50] [--pages overview hosts] [--seconds N]
    python bench/dashboard_viewers.py --hours 8

Viewers are sockets that keep the timers of a page's fragments as a browser does (`bench/viewer.py`), over a real
`crossfade up`. "run" is from a fragment's timer to the end of its run: beyond the timer's second, pages fall behind.
Bytes are those of the messages before compression.

``--hours`` plays that many hours of a host's readings and containers, one each two seconds, as fast as the real hub and
pages take them, while a viewer looks at them with timers thirty times as fast; it prints the process's memory after each
hour, and the peer beside it: a bare page with one `st.metric` whose fragment runs as often.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
from programs import machine
from viewer import Viewer

from dashboard import BARE, cpu, crossfade

ROOT = Path(__file__).parents[1]
SPEED = 30
HOUR = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
sys.path.append(str(Path('bench').resolve()))
from dashboard_hours import draw
draw()
"""


def row(
    name: str, viewers: int, minutes: float, used: float, tabs: list[Viewer], before: int, rss: int
) -> str:
    """Return one row of the table; raises AssertionError where a page failed."""
    errors = [error for tab in tabs for error in tab.errors]
    assert not errors, errors[0]
    seconds = sorted(seconds for tab in tabs for seconds in tab.run_seconds)
    came = sum(tab.bytes for tab in tabs) - before
    return (
        f"{name:<12}{viewers:>8}{used / minutes:>12.2f}{used / minutes / viewers:>14.3f}{came / 1e3 / minutes / viewers:>12.0f}"
        f"{1000 * statistics.median(seconds):>10.0f}{1000 * seconds[int(0.99 * (len(seconds) - 1))]:>10.0f}{rss / 1e6:>8.0f}"
    )


async def many(counts: list[int], pages: list[str], seconds: float) -> None:
    """Print a row for each page and number of viewers."""
    directory = Path(tempfile.mkdtemp(prefix="cf-bench-viewers-"))
    print(
        f"{'page':<12}{'viewers':>8}{'CPU-s/min':>12}{'each':>14}{'kB/min each':>12}{'run, ms':>10}{'p99, ms':>10}{'MB':>8}"
    )
    try:
        async with crossfade(directory) as (url, process):
            for page in pages:
                for count in counts:
                    async with contextlib.AsyncExitStack() as stack:
                        name = "" if page == "overview" else page
                        tabs = [await stack.enter_async_context(Viewer(url, name)) for _ in range(count)]
                        await asyncio.sleep(5)
                        for tab in tabs:
                            tab.run_seconds.clear()
                        used, before, began = cpu(process), sum(tab.bytes for tab in tabs), time.monotonic()
                        await asyncio.sleep(seconds)
                        minutes = (time.monotonic() - began) / 60
                        rss = process.memory_info().rss
                        print(row(page, count, minutes, cpu(process) - used, tabs, before, rss), flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.asynccontextmanager
async def script(text: str, directory: Path) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Serve a script; yield its address and process."""
    (directory / "script.py").write_text(text)
    port = 28512
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamlit", "run", str(directory / "script.py"), "--server.port", str(port),
        "--server.address", "127.0.0.1", cwd=ROOT, stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, "BENCH_PROGRESS": str(directory / "progress.json")},
    )  # fmt: skip
    try:
        async with asyncio.timeout(60), httpx.AsyncClient() as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"http://127.0.0.1:{port}/_stcore/health")).is_success:
                        break
                await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()


async def hours(count: int) -> None:
    """Print the memory of the process hour by hour."""
    directory = Path(tempfile.mkdtemp(prefix="cf-bench-hours-"))
    progress = directory / "progress.json"
    try:
        async with (
            script(HOUR, directory) as (url, process),
            Viewer(url, speed=SPEED) as overview,
            Viewer(url, "hosts", speed=SPEED) as hosts,
        ):
            print(f"{'hour':>5}{'events':>10}{'runs':>8}{'MB':>8}")
            for hour in range(count + 1):
                played = await reached(progress, hour * 3600)
                runs = overview.runs + hosts.runs
                assert not overview.errors + hosts.errors, (overview.errors + hosts.errors)[0]
                print(f"{hour:>5}{played:>10}{runs:>8}{process.memory_info().rss / 1e6:>8.1f}", flush=True)
        async with script(BARE, directory) as (url, process), Viewer(url, speed=SPEED) as bare:
            await asyncio.sleep(5)
            first = process.memory_info().rss / 1e6
            while bare.runs < runs:
                await asyncio.sleep(0.5)
            print(f"bare page, {runs} runs: {first:.1f} to {process.memory_info().rss / 1e6:.1f} MB")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def reached(progress: Path, seconds: float) -> int:
    """Wait until so many seconds have been played; return the events by then."""
    while True:
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(progress.read_text())
            if told["seconds"] >= seconds:
                return int(told["events"])
        await asyncio.sleep(0.2)


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--viewers", type=int, nargs="+", default=[1, 5, 50])
    parser.add_argument("--pages", nargs="+", default=["overview", "hosts"])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--hours", type=int, default=0)
    options = parser.parse_args()
    if options.hours:
        await hours(options.hours)
    else:
        await many(options.viewers, options.pages, options.seconds)
    print(machine())


if __name__ == "__main__":
    asyncio.run(main())
