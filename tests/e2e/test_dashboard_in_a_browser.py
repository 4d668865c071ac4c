"""The dashboard in a real browser: live figures, and a flag that moves the viewer while it looks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.installation import Installation
from tests.fakes.missing_parts import missing

pytestmark = [pytest.mark.e2e, pytest.mark.chromium, pytest.mark.xdist_group("e2e")]


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a headless Chromium that talks to nobody but us."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        missing("Chromium", "apt-get install chromium")
    with sync_playwright() as playwright:
        quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", *quiet]
        )
        yield browser.new_page(viewport={"width": 1440, "height": 900})
        browser.close()


def test_the_dashboard_is_live_and_follows_the_flags(
    make_installation: Callable[[], Installation], page: Page
) -> None:
    made = make_installation()
    made.start("--no-docker")
    page.goto(made.part("dashboard")["address"])
    expect(page.get_by_text("Live ·").first).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Fed by legacy").first).to_be_visible()
    assert made.run("flags", "set", "live.percent", "100").returncode == 0
    expect(page.get_by_text("Fed by Supabase").first).to_be_visible(timeout=10_000)
    expect(page.get_by_text("0 lost").first).to_be_visible(timeout=10_000)
    parity = json.loads((made.directory / ".crossfade/run/parity.json").read_text())
    assert parity["counts"]["missing_supabase"] == parity["counts"]["missing_legacy"] == 0
