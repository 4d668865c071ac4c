"""Installations for the tests that end or restart them, a browser, and a dashboard over what is in memory."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.dashboard_process import serving
from tests.e2e.installation import Installation
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
    with serving() as url:
        yield url
