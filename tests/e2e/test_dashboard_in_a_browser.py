"""The dashboard in a real browser: live figures, and a flag that moves the viewer while it looks."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from crossfade.addresses import free_port
from dashboard.app import PAGES
from tests.e2e.installation import ROOT, Installation, clean_environment, wait_until
from tests.integration.collectors.conftest import Containers

PASSWORD = "correct horse battery"

pytestmark = [pytest.mark.e2e, pytest.mark.chromium, pytest.mark.xdist_group("e2e-own")]


def test_the_dashboard_is_live_and_follows_the_flags(
    make_installation: Callable[[], Installation], page: Page
) -> None:
    made = make_installation()
    made.start("--no-docker")
    page.goto(made.part("dashboard")["address"])
    expect(page.get_by_text("Live ·").first).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Fed by legacy").first).to_be_visible()
    assert made.run("flags", "set", "live.percent", "100").returncode == 0
    expect(page.get_by_text("Fed by Supabase").first).to_be_visible(timeout=30_000)
    expect(page.get_by_text("0 lost").first).to_be_visible(timeout=30_000)
    page.goto(f"{made.part('dashboard')['address']}/hosts?range=1+h")
    expect(page.get_by_text("mean and highest").first).to_be_visible(timeout=30_000)
    parity = json.loads((made.directory / ".crossfade/run/parity.json").read_text())
    assert parity["counts"]["missing_supabase"] == parity["counts"]["missing_legacy"] == 0


@pytest.fixture
def full_dashboard(tmp_path: Path) -> Iterator[str]:
    """The address of a dashboard with something on every page."""
    port = free_port("127.0.0.1")
    script = ROOT / "tests/fakes/dashboard_script.py"
    process = subprocess.Popen(
        [sys.executable, "-m", "crossfade.dashboard", "--port", str(port), "--script", str(script)],
        cwd=tmp_path, env=clean_environment(PYTHONPATH=str(ROOT)),
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


def test_every_page_is_drawn_under_its_content_security_policy(page: Page, full_dashboard: str) -> None:
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text) if "Content Security" in said.text else None)
    page.on("pageerror", lambda error: refused.append(str(error)))
    for path in PAGES:
        page.goto(f"{full_dashboard}/{path if path != 'overview' else ''}")
        expect(page).to_have_title("Crossfade", timeout=30_000)
        expect(page.get_by_test_id("stMarkdown").or_(page.get_by_test_id("stDataFrame")).first).to_be_visible(
            timeout=30_000
        )
    page.goto(f"{full_dashboard}/validation")
    expect(page.locator("canvas").first).to_be_visible(timeout=30_000)
    assert not refused


@pytest.mark.docker
def test_an_operator_moves_clients_and_stops_a_container(
    make_installation: Callable[[], Installation], page: Page, containers: Containers
) -> None:
    name = containers.run("/bin/sh", "-c", "while :; do echo an order is taken; sleep 1; done")
    made = make_installation()
    made.start()
    added = made.run("users", "add", "ann@example.com", "--role", "operator", "--password", PASSWORD)
    assert added.returncode == 0, added.stderr
    assert "ann@example.com  operator" in made.run("users", "list").stdout
    page.goto(f"{made.part('dashboard')['address']}/migration")
    expect(page.get_by_text("Fed by legacy").first).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Sign in to act").click()
    page.get_by_role("textbox", name="E-mail").fill("ann@example.com")
    page.get_by_role("textbox", name="Password").fill(PASSWORD)
    page.get_by_role("textbox", name="Password").press("Enter")
    expect(page.get_by_text("ann@example.com · operator")).to_be_visible(timeout=30_000)
    page.get_by_role("slider").press("End")
    expect(page.get_by_text("would move to Supabase")).to_contain_text(
        re.compile(r"clients [1-9]\d* would move to Supabase"), timeout=30_000
    )
    page.get_by_label("Why").fill("all of them")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("Fed by Supabase").first).to_be_visible(timeout=30_000)
    (change,) = json.loads(made.run("flags", "history", "--format", "json").stdout)["changes"]
    assert (change["who"], change["why"]) == ("ann@example.com", "all of them")

    page.get_by_role("link", name="Containers").click()
    chosen = page.get_by_label("Container", exact=True)
    chosen.fill(name)
    chosen.press("Enter")
    expect(page.get_by_text("an order is taken").first).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("button", name=f"Stop {name}").click()
    expect(page.get_by_text(f"{name} is exited")).to_be_visible(timeout=20_000)
