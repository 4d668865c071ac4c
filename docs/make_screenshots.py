# ruff: noqa: INP001 - a script, not a package
"""Take the pictures of the dashboard that the README shows: ``python docs/make_screenshots.py URL DIRECTORY``.

Needs Chromium (``CHROMIUM`` names another binary) and a running dashboard. Prints each file and how long the page took to be
useful; ends with 1 when the page never was.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from playwright.sync_api import Browser, Error, sync_playwright

SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def take(browser: Browser, url: str, file: Path, size: tuple[int, int], *, dark: bool, full: bool) -> float:
    """Write one picture, once the charts are drawn; returns the seconds until then."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        device_scale_factor=1,
    )
    try:
        page = context.new_page()
        began = time.monotonic()
        page.goto(url)
        page.locator("[data-testid='stMetric']").first.wait_for(timeout=20_000)
        page.locator("canvas").nth(2).wait_for(timeout=20_000)
        seconds = time.monotonic() - began
        page.wait_for_timeout(2500)  # tables fade in after their first data
        if full:  # the page scrolls inside its own frame, so the window grows instead
            height = page.evaluate(
                "Math.max(...[...document.querySelectorAll('section, main, div')].map(e => e.scrollHeight))"
            )
            page.set_viewport_size({"width": size[0], "height": min(int(height), 4000)})
            page.wait_for_timeout(1500)
        page.screenshot(path=file)
    finally:
        context.close()
    return seconds


def main() -> int:
    """Take every picture; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=_ARGUMENTS
        )
        for device, size in SIZES.items():
            for scheme in SCHEMES:
                file = arguments.directory / f"dashboard-{device}-{scheme}.png"
                try:
                    seconds = take(
                        browser, arguments.url, file, size, dark=scheme == "dark", full=device == "phone"
                    )
                except Error as error:
                    sys.stderr.write(f"{arguments.url} did not show its charts: {error.message}\n")
                    return 1
                sys.stdout.write(f"{file}  charts after {seconds:.2f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
