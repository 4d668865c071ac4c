"""The dashboard in a real browser: live figures, a flag that moves the viewer while it looks, and what operators do."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard.app import PAGES
from tests.e2e.installation import Installation, finish, wait_until
from tests.integration.collectors.conftest import Containers

PASSWORD = "correct horse battery"

AGENT = """
commands:
  say:
    description: say a word, once there is a file
    run: [sh, -c, 'echo progress: 40% waiting; until [ -e "$0" ]; do sleep 0.1; done; echo "$1 has been said"', GO, "{word}"]
    timeout: 2m
    parameters:
      word: {pattern: "[a-z-]+"}
end: true
"""

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


def sign_in(page: Page, email: str, role: str) -> None:
    page.get_by_role("button", name="Sign in to act").click()
    page.get_by_role("textbox", name="E-mail").fill(email)
    page.get_by_role("textbox", name="Password").fill(PASSWORD)
    page.get_by_role("textbox", name="Password").press("Enter")
    expect(page.get_by_text(f"{email} · {role}")).to_be_visible(timeout=30_000)


def test_two_viewers_of_different_roles_side_by_side(
    make_installation: Callable[[], Installation], browser: Browser
) -> None:
    """An operator has switches and a viewer none; a flag moves one of them and not the other."""
    made = make_installation()
    made.start("--no-docker")
    roles = {"ann@example.com": "operator", "bob@example.com": "viewer"}
    for email, role in roles.items():
        added = made.run("users", "add", email, "--role", role, "--password", PASSWORD)
        assert added.returncode == 0, added.stderr
    pages = {}
    for email, role in roles.items():
        page = pages[email] = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        page.goto(f"{made.part('dashboard')['address']}/migration")
        expect(page.get_by_text("Fed by legacy").first).to_be_visible(timeout=30_000)
        expect(page.get_by_text(re.compile("^viewer dashboard-"))).to_be_visible()
        sign_in(page, email, role)
        expect(page.get_by_text(f"viewer {email}")).to_be_visible(timeout=30_000)
        expect(page.get_by_text("Fed by legacy").first).to_be_visible(timeout=30_000)
    ann, bob = pages.values()
    for name in ("Apply", "Advance"):
        expect(ann.get_by_role("button", name=name)).to_be_visible(timeout=30_000)
        expect(bob.get_by_role("button", name=name)).to_have_count(0)
    expect(ann.get_by_role("slider")).to_have_count(1)
    expect(bob.get_by_role("slider")).to_have_count(0)

    assert made.run("flags", "set", "live.allow", "ann@example.com").returncode == 0
    expect(ann.get_by_text("Fed by Supabase").first).to_be_visible(timeout=30_000)
    expect(bob.get_by_text("Fed by legacy").first).to_be_visible()
    for page in pages.values():
        expect(page.get_by_text(re.compile(r"\d on legacy · 1 on Supabase"))).to_be_visible(timeout=30_000)
        expect(page.get_by_text("Live ·").first).to_be_visible(timeout=30_000)
    assert made.run("flags", "set", "live.percent", "100").returncode == 0
    expect(bob.get_by_text("Fed by Supabase").first).to_be_visible(timeout=30_000)


WATCH = """
window.states = [];
setInterval(() => {
  const line = document.querySelector('.st-key-state');
  const state = (line && line.innerText.match(/Live|Reconnecting|Connecting|Connected|Refused/) || [''])[0];
  const fed = (line && line.innerText.match(/Fed by (\\w+)/) || ['', ''])[1];
  const last = window.states[window.states.length - 1];
  if (state && (!last || last[0] !== state || last[1] !== fed)) window.states.push([state, fed]);
}, 50);
"""


def test_a_backend_that_is_killed_is_seen_to_go_and_come_back(
    make_installation: Callable[[], Installation], page: Page
) -> None:
    """Killed with its supervisor at a halt, so that it stays away: another backend takes over; then it comes back."""
    made = make_installation()
    made.start("--no-docker")
    page.add_init_script(WATCH)
    page.goto(made.part("dashboard")["address"])
    expect(page.get_by_text("Live ·").first).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Fed by legacy").first).to_be_visible(timeout=30_000)
    page.evaluate("window.states = []")
    assert made.process is not None
    made.process.send_signal(signal.SIGSTOP)
    try:
        os.kill(made.part("legacy")["pid"], signal.SIGKILL)
        wait_until(
            "it says that it reconnects",
            lambda: any(state == "Reconnecting" for state, _ in page.evaluate("window.states")),
            30,
        )
        expect(page.get_by_text("Fed by Supabase").first).to_be_visible(timeout=30_000)
        expect(page.get_by_text("Live ·").first).to_be_visible(timeout=30_000)
    finally:
        made.process.send_signal(signal.SIGCONT)
    expect(page.get_by_text("Fed by legacy").first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Live ·").first).to_be_visible(timeout=30_000)
    states = [(state, fed) for state, fed in page.evaluate("window.states")]
    seen = [state for place, (state, _) in enumerate(states) if not place or states[place - 1][0] != state]
    assert seen[:3] == ["Live", "Reconnecting", "Live"], states
    assert seen[-1] == "Live", states
    assert not set(seen) & {"Connecting", "Refused"}, states
    expect(page.get_by_text("0 lost").first).to_be_visible()


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
    sign_in(page, "ann@example.com", "operator")
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


def test_an_operator_has_a_command_run_and_tries_a_rule(
    make_installation: Callable[[], Installation], page: Page
) -> None:
    made = make_installation()
    (made.directory / "agent.yaml").write_text(AGENT.replace("GO", str(made.directory / "go")))
    made.start("--no-docker", "--with", "control")
    agent = made.begin("agent", "--name", "web-1")
    try:
        wait_until(
            "the agent registers", lambda: "web-1 (heard" in made.run("commands", "agents").stdout, 120
        )
        token = made.run("token", "ann", "--role", "operator").stdout.strip()
        page.goto(f"{made.part('dashboard')['address']}/events")
        page.get_by_role("button", name="Sign in to act").click(timeout=60_000)
        page.get_by_role("tab", name="Token").click()
        page.get_by_label("Access token").fill(token)
        page.get_by_role("button", name="Use the token").click()
        expect(page.get_by_text("ann · operator")).to_be_visible(timeout=30_000)
        page.get_by_label("word").fill("good-day")
        page.get_by_label("word").press("Enter")
        page.locator(".st-key-command-run button").click()
        page.get_by_role("button", name="Run say", exact=True).click(timeout=30_000)
        expect(page.get_by_text("40 %").first).to_be_visible(timeout=30_000)
        (made.directory / "go").touch()
        expect(page.get_by_text("good-day has been said").first).to_be_visible(timeout=30_000)
        (told,) = json.loads(made.run("commands", "list", "--format", "json").stdout)
        assert (told["state"], told["submitted_by"]) == ("succeeded", "ann")

        page.get_by_role("link", name="Alerts").click()
        page.locator(".st-key-rule-try button").click(timeout=30_000)
        expect(page.get_by_text("It would have fired 0 times")).to_be_visible(timeout=60_000)
    finally:
        agent.send_signal(signal.SIGTERM)
        finish(agent)
