"""Every page of the dashboard asked by axe-core: light and dark, on a desktop and on a phone."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from crossfade.addresses import free_port
from dashboard.app import PAGES
from tests.e2e.installation import ROOT, clean_environment, wait_until
from tests.fakes.missing_parts import missing

LOCKED = Path(__file__).parent / "accessibility"
DESKTOP: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
TALL = 8000
"""Pixels: as high as any page is long. Of what has to be scrolled to, axe does not judge the contrast."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

THEIRS = (
    ("svg-img-alt", "metric_chart_", "the points of st.metric's sparkline, which takes no name for them"),
)
"""What is inside Streamlit's own widgets, out of our reach: rule, part of the selector, reason."""

ASK = """async () => {
  const found = await axe.run(document, {resultTypes: ["violations"]});
  return found.violations
    .filter((rule) => ["serious", "critical"].includes(rule.impact))
    .flatMap((rule) => rule.nodes.map((node) => [rule.id, node.target.join(" "), node.failureSummary]));
}"""
DRAWN = """(dark) => {
  const app = document.querySelector(".stApp");
  const light = getComputedStyle(app).backgroundColor === "rgb(255, 255, 255)";
  const changing = document.getAnimations().some((each) => each instanceof CSSTransition);
  return light !== dark && !changing && !document.querySelector('[data-testid="stSkeleton"]');
}"""

pytestmark = [pytest.mark.e2e, pytest.mark.chromium, pytest.mark.xdist_group("e2e-own")]


@dataclass(frozen=True, slots=True)
class Finding:
    where: str
    rule: str
    selector: str
    why: str


@pytest.fixture
def axe(tmp_path: Path) -> str:
    """The text of axe-core, installed from the lock file into a directory of its own."""
    npm = shutil.which("npm")
    if npm is None:
        missing("Node.js with npm", "install Node.js 20 or newer (apt-get install nodejs npm)")
    for file in LOCKED.glob("package*.json"):
        shutil.copy(file, tmp_path)
    command = ["npm", "ci", "--omit=dev", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:]
        missing(f"axe-core ({said})", f"run `{' '.join(command)}` in {LOCKED.relative_to(ROOT)}")
    return (tmp_path / "node_modules/axe-core/axe.min.js").read_text("utf-8")


@pytest.fixture
def themed_dashboard() -> Iterator[str]:
    """The address of a dashboard with something on every page, in our colours: they are read from the directory it runs in."""
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


def asked(page: Page, name: str) -> Iterator[Finding]:
    """Yield what axe finds in what is shown, both colour schemes on both screens."""
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for screen, size in (("desktop", DESKTOP), ("phone", PHONE)):
            page.set_viewport_size({"width": size["width"], "height": TALL})
            page.wait_for_function(DRAWN, arg=scheme == "dark", timeout=15_000)
            for rule, selector, why in page.evaluate(ASK):
                yield Finding(f"{name}, {scheme}, {screen}", rule, selector, why)
    page.set_viewport_size(DESKTOP)


def ours(finding: Finding) -> bool:
    return not any(finding.rule == rule and part in finding.selector for rule, part, _ in THEIRS)


def test_nothing_serious_stands_in_anybodys_way(page: Page, axe: str, themed_dashboard: str) -> None:
    """As an operator, who sees every switch; the question before a container is stopped is one more page."""
    page.goto(f"{themed_dashboard}/migration")
    page.get_by_role("button", name="Sign in to act").click(timeout=30_000)
    page.get_by_role("tab", name="Token").click()
    page.get_by_label("Access token").fill("op")
    page.get_by_role("button", name="Use the token").click()
    expect(page.get_by_role("button", name="Apply")).to_be_visible(timeout=30_000)
    page.evaluate(axe)

    found: list[Finding] = []
    for path, (title, _, _) in PAGES.items():
        page.get_by_role("link", name=title, exact=True).click()
        page.wait_for_url(f"{themed_dashboard}/{path if path != 'overview' else ''}")
        expect(page.locator(".stApp[data-test-script-state='notRunning']")).to_be_visible(timeout=15_000)
        found += asked(page, title)
    page.get_by_role("link", name="Containers", exact=True).click()
    page.locator(".st-key-container-stop button").click(timeout=15_000)
    expect(page.locator(".st-key-confirmed button")).to_be_visible(timeout=15_000)
    found += asked(page, "the question")

    mine = [each for each in found if ours(each)]
    assert not mine, "\n".join(f"{each.where}: {each.rule} {each.selector}\n{each.why}" for each in mine)
    for rule, part, reason in THEIRS:
        assert any(each.rule == rule and part in each.selector for each in found), (
            f"gone, strike it: {rule} {part}, {reason}"
        )
