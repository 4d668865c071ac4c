"""The dashboard as a process, with something on every page."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from embedded.ports import free_port
from tests.e2e.installation import clean_environment

ROOT = Path(__file__).parent.parent
_SCRIPT = ROOT / "tests/fakes/dashboard_script.py"
_START_SECONDS = 60.0


@contextmanager
def serving() -> Iterator[str]:
    """Serve the pages in our colours, which are read from where it runs; yield their address."""
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "crossfade.dashboard", "--port", str(port), "--script", str(_SCRIPT)],
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=str(ROOT)),
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(url):
            assert process.poll() is None, "the dashboard ended"
            assert time.monotonic() < deadline, "the dashboard does not listen"
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _listens(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_stcore/health", timeout=5).is_success
    except httpx.TransportError:
        return False
