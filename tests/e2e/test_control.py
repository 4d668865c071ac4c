"""An agent beside a whole installation: commands pushed to it, events of them on the stream, the page's own commands."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfade.client import connect
from monitoring.events import Event
from monitoring.service import Backend
from tests.e2e.installation import Installation, finish, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

PAGE = (Path(__file__).parents[2] / "docs/control.md").read_text()
FILE = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]


@pytest.fixture(scope="module")
def agent(installation: Installation) -> Iterator[Path]:
    """The agent of the page, with its file; yields its log."""
    (installation.directory / "agent.yaml").write_text(FILE)
    checked = installation.run("agent", "--check")
    assert "disk-usage: df -h {path}" in checked.stdout, checked.stderr
    running = installation.begin("agent", "--name", "web-1")
    told = "web-1 (heard"
    wait_until("the agent registers", lambda: told in installation.run("commands", "agents").stdout, 120)
    yield installation.directory
    running.send_signal(signal.SIGTERM)
    _, err = finish(running)
    assert running.returncode == 0, err
    assert "commands are pushed" in err


def test_the_commands_of_the_page_do_what_it_says(installation: Installation, agent: Path) -> None:
    words = ("commands", "submit", "web-1", "disk-usage", "path=/tmp", "--key", "first-look", "--wait")
    done = installation.run(*words, seconds=120)
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout
    assert "Filesystem" in done.stdout
    again = installation.run(*words)
    assert "its key had been used" in again.stdout
    assert "disk-usage" in installation.run("commands", "list").stdout
    listed = installation.run(
        "commands", "list", "--agent", "web-1", "--state", "succeeded", "--format", "json"
    )
    (one,) = [each for each in json.loads(listed.stdout) if each["idempotency_key"] == "first-look"]
    shown = installation.run("commands", "show", one["id"], "--format", "json")
    assert json.loads(shown.stdout)["output"].startswith("Filesystem")
    ended = installation.run("commands", "cancel", one["id"])
    assert (ended.returncode, "has ended already: succeeded" in ended.stderr) == (1, True)


@pytest.mark.parametrize("backend", [Backend.SUPABASE, Backend.LEGACY])
async def test_every_change_of_a_command_is_pushed_on_both_paths(
    installation: Installation, agent: Path, backend: Backend
) -> None:
    states: list[str] = []
    async with (
        connect(agent / ".crossfade", backend=backend) as client,
        client.subscribe("categories.commands") as events,
    ):
        await events.wait_live()
        words = ("commands", "submit", "web-1", "disk-usage", "--format", "json")
        done = await asyncio.to_thread(installation.run, *words)
        id_ = json.loads(done.stdout)["id"]
        async with asyncio.timeout(60):
            async for event in events:
                assert isinstance(event, Event), event
                if event.payload.get("id") == id_:
                    states.append(event.payload["state"])
                if states[-1:] == ["succeeded"]:
                    break
    assert states[:2] == ["queued", "taken"]


def test_what_cannot_be_meant_is_said_in_one_line(installation: Installation, agent: Path) -> None:
    for words, told in (
        (("submit", "web-1", "disk-usage", "path=-x"), "must not begin with a dash"),
        (("submit", "web-1", "format"), "it may run disk-usage, restart-shop"),
        (("submit", "nobody", "x"), "no agent nobody has ever registered"),
        (("submit", "web-1", "disk-usage", "path"), "is no parameter; write NAME=VALUE"),
        (("show", "x"), "path command_id"),
    ):
        done = installation.run("commands", *words)
        assert done.returncode in {1, 2}
        assert told in done.stderr
        assert done.stderr.count("\n") == 1
    installation.kill("control")
