"""Containers by HTTP, through the real control service: of this machine, and of one behind a real sshd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from adapters.device_registry import DeviceRegistry
from tests.conftest import EmbeddedSupabase
from tests.control_process import ControlProcess
from tests.fakes.real_sshd import RealSshd
from tests.integration.collectors.test_docker_control import WELL_BEHAVED

pytestmark = pytest.mark.docker

As = Callable[[str], httpx.AsyncClient]


@pytest.fixture
async def http(control_process: ControlProcess, embedded_supabase: EmbeddedSupabase) -> AsyncIterator[As]:
    """Return a client of a role."""
    made: list[httpx.AsyncClient] = []

    def client(role: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {embedded_supabase.token(role)}"}
        made.append(httpx.AsyncClient(base_url=control_process.url, headers=headers, timeout=60))
        return made[-1]

    yield client
    for each in made:
        await each.aclose()


@pytest.fixture
async def behind(embedded_supabase: EmbeddedSupabase, tmp_path: Path) -> AsyncIterator[str]:
    """A device of the registry whose containers are this machine's, reached over a real sshd; its name."""
    directory = tmp_path / "sshd"
    directory.mkdir()
    sshd = RealSshd(directory)
    registry = DeviceRegistry(embedded_supabase.postgres.dsn())
    device = sshd.device("behind", host_key=sshd.host_key)
    await registry.add(device)
    try:
        yield device.name
    finally:
        await registry.remove(device.name)
        sshd.stop()


async def recorded(supabase: EmbeddedSupabase, name: str) -> list[tuple[str, str, str]]:
    """Return what the record has of a container: action, device, outcome."""
    connection = await asyncpg.connect(supabase.postgres.dsn())
    try:
        rows = await connection.fetch(
            "select action, device, outcome from public.cf_audit where target = $1 order by at", name
        )
    finally:
        await connection.close()
    return [tuple(row) for row in rows]


async def test_a_container_is_stopped_started_and_read_and_it_is_recorded(
    http: As, embedded_supabase: EmbeddedSupabase, containers: Any
) -> None:
    name = await asyncio.to_thread(containers.run, "sh", "-c", WELL_BEHAVED)
    operator = http("operator")
    stopped = (await operator.post(f"/api/container/{name}/stop")).json()
    assert (stopped["success"], stopped["status"], stopped["exit_code"]) == (True, "exited", 3)
    assert (stopped["device"], stopped["container"], stopped["changed"]) == ("this-host", name, True)
    again = (await operator.post(f"/api/container/{name}/stop")).json()
    assert (again["success"], again["changed"], again["at"]) == (True, False, None)
    assert (await operator.post(f"/api/container/{name}/start")).json()["status"] == "running"
    restarted = await operator.post(f"/api/container/{name}/restart", params={"grace_seconds": 1})
    assert restarted.json()["at"] > stopped["at"]
    log = (await http("viewer").get(f"/api/container/{name}/logs", params={"lines": 1})).json()
    assert [line.partition(" ")[2] for line in log["logs"]] == ["begun"]
    assert log["logs"][0].startswith(log["lastLogTimestamp"])
    listed = (await http("viewer").get("/api/containers")).json()
    assert name in [each["name"] for each in listed["containers"]]
    assert await recorded(embedded_supabase, name) == [
        ("container stop", "this-host", "done"),
        ("container stop", "this-host", "it was so already"),
        ("container start", "this-host", "done"),
        ("container restart", "this-host", "done"),
    ]


async def test_a_container_behind_ssh_is_commanded_the_same(
    http: As, embedded_supabase: EmbeddedSupabase, containers: Any, behind: str
) -> None:
    name = await asyncio.to_thread(containers.run, "sh", "-c", WELL_BEHAVED)
    stopped = await http("operator").post(f"/api/container/{name}/stop", params={"device": behind})
    assert stopped.status_code == 200, stopped.text
    assert (stopped.json()["device"], stopped.json()["status"]) == (behind, "exited")
    log = await http("viewer").get(f"/api/container/{name}/logs", params={"device": behind})
    assert [line.partition(" ")[2] for line in log.json()["logs"]] == ["begun"]
    assert await recorded(embedded_supabase, name) == [("container stop", behind, "done")]


async def test_what_cannot_be_done_has_its_status_and_says_why(
    http: As, embedded_supabase: EmbeddedSupabase, containers: Any
) -> None:
    name = await asyncio.to_thread(containers.run, "sh", "-c", WELL_BEHAVED)
    viewer, operator = http("viewer"), http("operator")
    forbidden = await viewer.post(f"/api/container/{name}/stop")
    assert forbidden.status_code == 403
    assert await recorded(embedded_supabase, name) == []
    nobody = await operator.post("/api/container/nobody/stop")
    assert (nobody.status_code, nobody.json()["type"]) == (404, "urn:crossfade:problem:not-found")
    assert "has no container 'nobody'" in nobody.json()["detail"]
    nowhere = await operator.post(f"/api/container/{name}/stop", params={"device": "nowhere"})
    assert nowhere.status_code == 404
    assert "no containers of nowhere can be reached" in nowhere.json()["detail"]
    assert (await operator.get(f"/api/container/{name}/logs", params={"lines": -1})).status_code == 400
