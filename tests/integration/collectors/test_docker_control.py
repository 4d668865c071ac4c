"""Commands to real containers, and what is said when they cannot be carried out."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from collectors.docker_connection import connect_to, from_environment
from collectors.docker_control import DockerControl
from monitoring.control import Command, CommandRefused, EngineAway, NoSuchContainer, Unconfirmed

WELL_BEHAVED = "trap 'exit 3' TERM; echo begun; while :; do sleep 0.1; done"


@pytest.fixture
def control() -> DockerControl:
    return DockerControl("web-1", from_environment)


@pytest.mark.docker
async def test_a_command_is_done_when_its_event_came(control: DockerControl, containers: Any) -> None:
    name = await asyncio.to_thread(containers.run, "sh", "-c", WELL_BEHAVED)
    stopped = await control.command(Command.STOP, name)
    assert (stopped.changed, stopped.status, stopped.exit_code, stopped.name) == (True, "exited", 3, name)
    again = await control.command(Command.STOP, name)
    assert (again.changed, again.status, again.at) == (False, "exited", None)
    started = await control.command(Command.START, stopped.container)
    assert (started.changed, started.status, started.exit_code, started.name) == (True, "running", None, name)
    assert not (await control.command(Command.START, name)).changed
    restarted = await control.command(Command.RESTART, name)
    assert restarted.changed
    assert stopped.at is not None
    assert started.at is not None
    assert restarted.at is not None
    assert stopped.at < started.at < restarted.at
    found = {one.name: one for one in await control.containers()}
    assert (found[name].status, found[name].id) == ("running", restarted.container)
    assert [line.text for line in await control.logs(name, 2)] == ["begun", "begun"]
    assert len(await control.logs(name, 100)) == 3
    assert await control.logs(name, 0) == []


@pytest.mark.docker
async def test_a_container_that_does_not_end_is_killed_after_its_grace(
    control: DockerControl, containers: Any
) -> None:
    name = await asyncio.to_thread(containers.run, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    stopped = await control.command(Command.STOP, name, grace_seconds=1)
    assert (stopped.status, stopped.exit_code) == ("exited", 137)


@pytest.mark.docker
async def test_what_docker_refuses_is_said_in_its_words(control: DockerControl, containers: Any) -> None:
    with pytest.raises(NoSuchContainer, match="web-1 has no container 'nobody'"):
        await control.command(Command.STOP, "nobody")
    with pytest.raises(NoSuchContainer):
        await control.logs("nobody", 1)
    name = f"{containers.run('true')}-broken"
    await asyncio.to_thread(
        containers.command,
        "create",
        "--name",
        name,
        "--network",
        "none",
        containers.image,
        "/no/such/program",
    )
    containers.made.append(name)
    with pytest.raises(CommandRefused, match=f"web-1: cannot start {name}: .*no such file"):
        await control.command(Command.START, name)


@pytest.mark.docker
async def test_a_docker_that_goes_away_meanwhile_leaves_it_open(way: Any, containers: Any) -> None:
    name = await asyncio.to_thread(containers.run, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    control = DockerControl("web-1", way.connect)
    stopping = asyncio.create_task(control.command(Command.STOP, name, grace_seconds=3))
    async with asyncio.timeout(20):
        while "kill" not in await asyncio.to_thread(_events, name):  # Docker has begun
            await asyncio.sleep(0.05)
    await way.cut(close=True)
    with pytest.raises(Unconfirmed, match="look at the container's state"):
        await stopping


def _events(name: str) -> str:
    command = ["docker", "events", "--since", "1m", "--until", "0s", "--filter", f"container={name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


async def test_without_an_engine_nothing_is_done_and_it_is_said() -> None:
    control = DockerControl("web-1", lambda: connect_to("unix:///nonexistent/docker.sock"))
    said = "no container engine answers on web-1: there is no socket; is the daemon installed and started?"
    with pytest.raises(EngineAway, match=said):
        await control.containers()
    with pytest.raises(EngineAway):
        await control.command(Command.START, "a")
    with pytest.raises(EngineAway):
        await control.logs("a", 1)


def crossfade(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would."""
    variables: Mapping[str, str] = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-m", "crossfade", "containers", *arguments],
        capture_output=True, text=True, timeout=60, check=False, env=variables, cwd=Path(__file__).parents[3],
    )  # fmt: skip


def test_the_command_says_when_there_is_no_docker() -> None:
    ended = crossfade("list", DOCKER_HOST="unix:///nonexistent/docker.sock")
    assert ended.returncode == 1
    assert ended.stderr.startswith("crossfade: no container engine answers on ")
    assert ended.stdout == ""


@pytest.mark.docker
def test_the_command_lists_controls_and_shows_logs(containers: Any) -> None:
    name = containers.run("sh", "-c", WELL_BEHAVED)
    listed = json.loads(crossfade("list", "--format", "json").stdout)
    assert {"name": name, "status": "running"}.items() <= next(o for o in listed if o["name"] == name).items()
    stopped = crossfade("stop", name)
    assert stopped.returncode == 0
    assert stopped.stdout.endswith("done; exited, exit code 3\n")
    assert crossfade("start", name, "--format", "json").returncode == 0
    assert crossfade("restart", name, "--grace", "1").returncode == 0
    assert crossfade("logs", name, "-n", "1").stdout.endswith("begun\n")
    followed = subprocess.Popen(
        [sys.executable, "-m", "crossfade", "containers", "logs", "-f", name],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert followed.stdout is not None
        assert followed.stdout.readline().endswith("begun\n")
    finally:
        followed.terminate()
        followed.communicate(timeout=20)
    refused = crossfade("stop", "nobody")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "has no container 'nobody'" in refused.stderr
