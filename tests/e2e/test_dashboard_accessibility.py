"""Every page of the dashboard asked by axe-core: light and dark, on a desktop and on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from dashboard.app import PAGES
from tests.node_packages import installed

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

PRIMARY = "[data-testid^='stBaseButton-primary']:enabled"
ENOUGH_CONTRAST = 4.5
"""WCAG 2.2, 1.4.3."""
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
    place = installed(LOCKED, tmp_path, "axe-core")
    return (place / "node_modules/axe-core/axe.min.js").read_text("utf-8")


def asked(page: Page, name: str) -> Iterator[Finding]:
    """Yield what axe finds in what is shown, both colour schemes on both screens."""
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for screen, size in (("desktop", DESKTOP), ("phone", PHONE)):
            page.set_viewport_size({"width": size["width"], "height": TALL})
            page.wait_for_function(DRAWN, arg=scheme == "dark", timeout=15_000)
            yield from settled(page, f"{name}, {scheme}, {screen}")
    page.set_viewport_size(DESKTOP)


def settled(page: Page, where: str) -> list[Finding]:
    """Return what axe finds twice in a row: Streamlit lays its grid out anew a moment after the window has its size."""
    found: list[Finding] = []
    for _ in range(10):
        before, found = found, [Finding(where, *each) for each in page.evaluate(ASK)]
        if found == before or not any(map(ours, found)):
            break
    return found


def ours(finding: Finding) -> bool:
    return not any(finding.rule == rule and part in finding.selector for rule, part, _ in THEIRS)


def open_form(page: Page) -> None:
    page.get_by_role("button", name="Sign in to act").click(timeout=30_000)
    page.get_by_role("tab", name="Token").click()
    expect(page.get_by_role("button", name="Use the token")).to_be_visible(timeout=15_000)


def sign_in(page: Page) -> None:
    open_form(page)
    page.get_by_label("Access token").fill("op")
    page.get_by_role("button", name="Use the token").click()
    expect(page.get_by_text("ann · operator")).to_be_visible(timeout=30_000)


def ask_to_stop(page: Page) -> None:
    sign_in(page)
    page.locator(".st-key-container-stop button").click(timeout=15_000)
    expect(page.locator(".st-key-confirmed button")).to_be_visible(timeout=15_000)


def test_nothing_serious_stands_in_anybodys_way(page: Page, axe: str, full_dashboard: str) -> None:
    """As an operator, who sees every switch; the question before a container is stopped is one more page."""
    page.goto(f"{full_dashboard}/migration")
    sign_in(page)
    expect(page.get_by_role("button", name="Apply")).to_be_visible(timeout=30_000)
    page.evaluate(axe)

    found: list[Finding] = []
    for path, (title, _, _) in PAGES.items():
        page.get_by_role("link", name=title, exact=True).click()
        page.wait_for_url(f"{full_dashboard}/{path if path != 'overview' else ''}")
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


def luminance(color: str) -> float:
    """Return the relative luminance of a colour as browsers write it, rgb(1, 2, 3) (WCAG 2.2, "relative luminance")."""
    shares = (int(each) / 255 for each in re.findall(r"\d+", color)[:3])
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_what_the_guidelines_say() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("opened", [open_form, ask_to_stop])
def test_the_main_button_can_be_read_in_forms_and_questions(
    page: Page, full_dashboard: str, opened: Callable[[Page], None], scheme: Literal["light", "dark"]
) -> None:
    """They stand outside of the app's element, which alone says whether it is light or dark; axe passes over the question."""
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{full_dashboard}/containers")
    opened(page)
    page.wait_for_function(DRAWN, arg=scheme == "dark", timeout=15_000)
    button = page.locator(PRIMARY).last
    letters = button.locator("p").evaluate("each => getComputedStyle(each).color")
    ground = button.evaluate("each => getComputedStyle(each).backgroundColor")
    assert contrast(letters, ground) >= ENOUGH_CONTRAST, (letters, ground)
