"""Installations for the tests that end or restart them, a browser, and a dashboard over what is in memory."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from embedded.ports import free_port
from tests.e2e.installation import ROOT, Installation, clean_environment, wait_until
from tests.fakes.missing_parts import missing
from tests.integration.collectors.conftest import containers, daemon, image

__all__ = ["containers", "daemon", "image"]


@pytest.fixture
def make_installation(tmp_path: Path) -> Iterator[Callable[[], Installation]]:
    """Make installations that end with the test."""
    with contextlib.ExitStack() as stack:

        def make() -> Installation:
            directory = tmp_path / f"installation-{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            made = Installation(directory)

            stack.callback(made.remove)
            return made

        yield make


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A headless Chromium that talks to nobody but us."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        missing("Chromium", "apt-get install chromium")
    with sync_playwright() as playwright:
        quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
        launched = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", *quiet]
        )
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Page:
    """A page of that browser, as wide as a laptop."""
    return browser.new_page(viewport={"width": 1440, "height": 900})


@pytest.fixture
def full_dashboard() -> Iterator[str]:
    """The address of a dashboard with something on every page, in our colours: they are read from where it runs."""
    port = free_port("127.0.0.1")
    script = ROOT / "tests/fakes/dashboard_script.py"
    process = subprocess.Popen(
        [sys.executable, "-m", "crossfade.dashboard", "--port", str(port), "--script", str(script)],
        cwd=ROOT, env=clean_environment(PYTHONPATH=str(ROOT)),
    )  # fmt: skip

    def listens() -> bool:
        assert process.poll() is None
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until("the dashboard listens", listens)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
