"""Polling through the installed command: switched to, failed over to, and left again."""

from __future__ import annotations

import json
import os
import signal

import httpx
import pytest

from crossfade.paths import DataDir
from tests.e2e.installation import Installation, events, finish, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


def whole(out: str) -> None:
    """Check that what was printed of the host's stream has no hole and no double."""
    printed = [(e["epoch"], e["seq"]) for e in events(out) if e["stream"] == "e2e/system"]
    assert printed
    assert printed == [(printed[0][0], printed[0][1] + n) for n in range(len(printed))]


def test_switching_push_off_polls_everybody_and_back(installation: Installation) -> None:
    watcher = installation.begin("watch", "--for", "26s", "--verify", "--client", "switched")
    assert watcher.stdout is not None
    assert watcher.stderr is not None
    first = watcher.stdout.readline()
    try:
        done = installation.run("flags", "set", "websocket_enabled", "false")
        assert done.returncode == 0, done.stderr
        said = installation.run("flags", "explain", "switched").stdout
        assert "polling: websocket_enabled is false in the flag file" in said
        moved = watcher.stderr.readline()
        while "moved: legacy to polling" not in moved:
            assert moved, "the watcher ended"
            moved = watcher.stderr.readline()
    finally:
        installation.run("flags", "set", "websocket_enabled", "true")
    out, err = finish(watcher)
    assert watcher.returncode == 0, err
    assert "moved: polling to legacy" in err
    whole(first + out)


def test_polling_stands_in_while_both_pushing_paths_hang(installation: Installation) -> None:
    watcher = installation.begin("watch", "--for", "60s", "--verify", "--client", "abandoned")
    assert watcher.stdout is not None
    assert watcher.stderr is not None
    first = watcher.stdout.readline()
    frozen = [installation.part(name)["pid"] for name in ("legacy", "realtime")]
    try:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        said = watcher.stderr.readline()
        while "to polling" not in said:
            assert said, "the watcher ended without polling"
            said = watcher.stderr.readline()
        address = installation.part("query")["address"]
        assert httpx.get(f"{address}/ready", timeout=5).json()["status"] == "ready"
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGKILL)  # the supervisor brings fresh ones
    out, err = finish(watcher, 90)
    assert watcher.returncode == 0, err
    moves = [line for line in err.splitlines() if line.startswith("moved: ")]
    assert moves[0].startswith("moved: polling to "), err  # to whichever push is back first
    assert "to legacy in" in moves[-1], err
    whole(first + out)
    wait_until("all is healthy again", installation.healthy, 60)


def test_a_switch_of_the_environment_is_the_reason_that_is_shown(installation: Installation) -> None:
    installation.environment["WEBSOCKET_CONTAINER_STATS"] = "false"
    try:
        explained = installation.run("flags", "explain", "web-1")
        assert "containers polled: websocket_container_stats is false in the environment" in explained.stdout
        as_json = json.loads(installation.run("flags", "explain", "web-1", "--format", "json").stdout)
        assert as_json["polled"] == ["containers"]
        assert "set by the environment" in installation.run("flags", "list").stdout
        done = installation.run("flags", "set", "websocket_container_stats", "true")
        assert "the environment (WEBSOCKET_CONTAINER_STATS) wins" in done.stderr
    finally:
        del installation.environment["WEBSOCKET_CONTAINER_STATS"]


def test_the_query_service_comes_back_when_it_is_killed(installation: Installation) -> None:
    installation.kill("query")
    keys = DataDir.of(installation.directory / ".crossfade").keys
    headers = {"Authorization": f"Bearer {json.loads(keys.read_text())['service_role_key']}"}
    address = installation.part("query")["address"]
    assert "e2e/system" in httpx.get(f"{address}/api/heads", headers=headers, timeout=5).json()
