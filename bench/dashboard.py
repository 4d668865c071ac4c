"""What an open tab of the dashboard costs, page by page, beside a bare Streamlit page that redraws as often.

    python bench/dashboard.py [--seconds N] [--tabs N] [--pages overview hosts ...] [--changes N]

A real `crossfade up` collects this machine; Chromium opens the page. Counted over N seconds, after ten to settle: CPU
time of the dashboard's process, bytes on the wire (through a relay that counts them, compressed as the server sends
them), and beside them the same for `st.metric` in a fragment that runs each second, for a page of `streamlit hello`, and for
Glances, installed for the run. "paint" is the time until the
page's first figure or table is drawn, in a new browser profile (cold) and in the same again (reload); the very first
one finds a process that has drawn nothing yet. "seen" is from when a process on this machine has let go of a gigabyte, which
is done in a moment, until the host's page says so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
import psutil
from peers import NotMeasured, glances
from playwright.async_api import Browser, Page, async_playwright
from programs import machine
from streamlit import hello as streamlit_hello

from crossfade.paths import DataDir
from crossfade.plan import running_state
from embedded.ports import free_port

BARE = """
import streamlit as st
import time
st.set_page_config(layout="wide")

@st.fragment(run_every=1.0)
def live():
    st.metric("Now", f"{time.time():.0f}")

live()
"""
HOLD = """
held = bytearray(1 << 30)
for place in range(0, len(held), 4096):
    held[place] = 1
print("held", flush=True)
input()
"""
MEMORY = """() => {
  for (const each of document.querySelectorAll("[data-testid='stMetric']"))
    if (each.innerText.startsWith("Memory"))
      return parseFloat(each.querySelector("[data-testid='stMetricValue']").innerText);
  return null;
}"""
SETTLE_SECONDS = 10
TEMPLATE = Path(streamlit_hello.__file__).with_name("streamlit_app.py")
"""What `streamlit hello` shows; its demo of a chart, which draws once and then waits."""
DRAWN = "[data-testid='stVegaLiteChart']"
FIRST = "[data-testid='stMetricValue'], [data-testid='stDataFrame'], [data-testid='stMarkdown'] p > .stMarkdownColoredText:only-child > [role='img']"


@contextlib.asynccontextmanager
async def crossfade(directory: Path) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Yield the address of a dashboard over a real installation, and its process."""
    data = DataDir.of(directory / ".crossfade")
    ports = [
        item
        for part in ("supabase", "database", "query", "legacy", "dashboard")
        for item in (f"--port-{part}", "0")
    ]
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("crossfade")), "up", *ports, "--no-docker",
        cwd=directory, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(120):
            while True:
                parts = {part["name"]: part for part in (running_state(data) or {}).get("parts", [])}
                if parts and all(part["state"] == "ready" for part in parts.values()):
                    break
                await asyncio.sleep(0.2)
        yield parts["dashboard"]["address"], psutil.Process(parts["dashboard"]["pid"])
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def streamlit(script: Path) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Yield the address of another Streamlit app, and its process."""
    port = free_port("127.0.0.1")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamlit", "run", str(script), "--server.headless", "true",
        "--server.port", str(port), "--server.address", "127.0.0.1", "--server.fileWatcherType", "none",
        "--browser.gatherUsageStats", "false",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
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


class Relay:
    """Passes connections on to an address and counts what comes back."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self.bytes = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer, back=True))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                self.bytes += len(data) if back else 0
                writer.write(data)
                await writer.drain()
        writer.close()


async def opened(page: Page, url: str, first: str) -> float:
    """Open an address; return the seconds until the first figure."""
    began = time.monotonic()
    await page.goto(url)
    await page.locator(first).first.wait_for(timeout=30_000)
    return time.monotonic() - began


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def measure(
    browser: Browser,
    name: str,
    url: str,
    path: str,
    process: psutil.Process,
    tabs: int,
    seconds: float,
    first: str = FIRST,
) -> None:
    """Print one row."""
    async with Relay(url) as relay:
        address = relay.url if path == "overview" else f"{relay.url}/{path}"  # the first page has no path
        context = await browser.new_context(viewport={"width": 1440, "height": 900})
        pages = [await context.new_page() for _ in range(tabs)]
        cold = await opened(pages[0], address, first)
        for page in pages[1:]:
            await opened(page, address, first)
        began = time.monotonic()
        await pages[0].reload(wait_until="commit")
        await pages[0].locator(first).first.wait_for(timeout=30_000)
        reload = time.monotonic() - began
        await asyncio.sleep(SETTLE_SECONDS)
        before, sent, began = cpu(process), relay.bytes, time.monotonic()
        await asyncio.sleep(seconds)
        minutes = (time.monotonic() - began) / 60
        used, came = cpu(process) - before, relay.bytes - sent
        await context.close()
    print(
        f"{name:<22}{tabs:>5}{used / minutes:>12.2f}{came / 1e3 / minutes / tabs:>14.0f}"
        f"{cold:>12.2f}{reload:>12.2f}{process.memory_info().rss / 1e6:>8.0f}",
        flush=True,
    )


async def shown(page: Page, percent: float, *, more: bool) -> None:
    """Wait until the page shows more than such a share of memory in use, or less."""
    async with asyncio.timeout(30):
        while (await page.evaluate(MEMORY) > percent) is not more:
            await asyncio.sleep(0.02)


async def seen(browser: Browser, url: str, changes: int) -> None:
    """Print how long after a change on the machine the host's page shows it."""
    page = await browser.new_page(viewport={"width": 1440, "height": 900})
    await opened(page, f"{url}/hosts", FIRST)
    took = []
    for _ in range(changes):
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLD, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert holder.stdout is not None
        await holder.stdout.readline()
        held = psutil.virtual_memory().percent
        await shown(page, held - 1.0, more=True)
        await asyncio.sleep(random.uniform(0, 2))  # noqa: S311 - at any time between two readings
        holder.kill()
        await holder.wait()
        began = time.monotonic()
        freed = psutil.virtual_memory().percent
        await shown(page, (held + freed) / 2, more=False)
        took.append(time.monotonic() - began)
    await page.close()
    print(
        f"a change is seen after {statistics.median(took):.2f} s: {', '.join(f'{each:.2f}' for each in sorted(took))}"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tabs", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--pages", nargs="+", default=["overview", "hosts", "containers", "events", "system"])
    parser.add_argument("--changes", type=int, default=8)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="cf-bench-dashboard-"))
    (directory / "bare.py").write_text(BARE)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    print(
        f"{'page':<22}{'tabs':>5}{'CPU-s/min':>12}{'kB/min a tab':>14}{'paint cold':>12}{'reload, s':>12}{'MB':>8}"
    )
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            async with streamlit(directory / "bare.py") as (url, process):
                await measure(browser, "bare, st.metric each s", url, "", process, 1, options.seconds)
            async with streamlit(TEMPLATE) as (url, process):
                await measure(
                    browser, "Streamlit's own demo", url, "plotting_demo", process, 1, options.seconds, DRAWN
                )
            try:
                async with glances(directory) as (url, process):
                    await asyncio.sleep(SETTLE_SECONDS)
                    await measure(
                        browser, "Glances, one browser", url, "", process, 1, options.seconds, "#cpu"
                    )
            except NotMeasured as error:
                print(error)
            async with crossfade(directory) as (url, process):
                await asyncio.sleep(SETTLE_SECONDS)
                before, began = cpu(process), time.monotonic()
                await asyncio.sleep(options.seconds / 2)
                print(
                    f"{'nobody looks':<22}{0:>5}{(cpu(process) - before) * 60 / (time.monotonic() - began):>12.2f}"
                )
                for page in options.pages:
                    for tabs in options.tabs if page == options.pages[0] else options.tabs[:1]:
                        await measure(browser, page, url, page, process, tabs, options.seconds)
                if options.changes:
                    await seen(browser, url, options.changes)
            await browser.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(machine())


if __name__ == "__main__":
    asyncio.run(main())
