# ruff: noqa: INP001 - a script, not a package
"""Take the pictures of the dashboard for the README and the docs: ``python docs/make_screenshots.py URL DIRECTORY``.

Needs Chromium (``CHROMIUM`` names another binary) and a running dashboard. Every page, light and dark, on a desktop and on a
phone; ``--only PAGE`` takes those of one. Prints each file and how long the page took to be useful; ends with 1 when a page
never was.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import shutil
import sys
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Error, sync_playwright

from dashboard.app import PAGES

SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
FIRST = next(iter(PAGES))
_COLORS = 128
_USEFUL = "[data-testid='stMetricValue'], [data-testid='stDataFrame'], [data-testid='stVegaLiteChart'], [data-testid='stMarkdown'] p > .stMarkdownColoredText:only-child > [role='img']"
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def take(browser: Browser, url: str, file: Path, size: tuple[int, int], *, dark: bool) -> float:
    """Write one picture of a page as it settles; returns the seconds until its first figure."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        device_scale_factor=1,
    )
    try:
        page = context.new_page()
        began = time.monotonic()
        page.goto(url)
        page.locator(_USEFUL).locator("visible=true").first.wait_for(timeout=20_000)
        seconds = time.monotonic() - began
        page.wait_for_timeout(4000)  # tables and charts fade in after their first data
        picture = Image.open(io.BytesIO(page.screenshot()))
        picture.convert("RGB").quantize(_COLORS).save(file, optimize=True)
    finally:
        context.close()
    return seconds


def main() -> int:
    """Take every picture; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", choices=tuple(PAGES), metavar="PAGE", help="the pictures of one page")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    wanted = itertools.product([arguments.only] if arguments.only else PAGES, SIZES, SCHEMES)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"), args=_ARGUMENTS
        )
        for page, device, scheme in wanted:
            file = arguments.directory / f"{page}-{device}-{scheme}.png"
            url = arguments.url if page == FIRST else f"{arguments.url}/{page}"  # the first has no path
            try:
                seconds = take(browser, url, file, SIZES[device], dark=scheme == "dark")
            except Error as error:
                sys.stderr.write(f"{url} showed no figure: {error.message}\n")
                return 1
            sys.stdout.write(
                f"{file}  {file.stat().st_size // 1000} kB, first figure after {seconds:.2f} s\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
