"""The MCP server, asked by the official SDK's own client over a real socket, as each role."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from crossfade.wiring import Role, access_token
from embedded.ports import free_port
from monitoring.events import Event
from tests.conftest import ROOT, EmbeddedSupabase
from tests.control_process import ControlProcess
from tests.e2e.installation import clean_environment
from tests.fakes.event_factory import event
from tests.integration.query.conftest import append

READS = {"devices", "containers", "metrics", "series", "events", "alerts", "migration", "commands"}
ACTS = {"control_container", "submit_command", "cancel_command"}
Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(scope="module")
def control(embedded_supabase: EmbeddedSupabase) -> Iterator[ControlProcess]:
    postgres = embedded_supabase.postgres
    started = ControlProcess(postgres.data_dir, postgres.dsn("authenticator"), "--no-docker")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def url(embedded_supabase: EmbeddedSupabase, control: ControlProcess) -> Iterator[str]:
    """The MCP server over the embedded Supabase, with a control service."""
    postgres, port = embedded_supabase.postgres, free_port("127.0.0.1")
    command = [
        *(sys.executable, "-m", "crossfade.mcp", "--data-dir", str(postgres.data_dir), "--port", str(port)),
        *("--control-url", control.url),
    ]
    log_file = Path(postgres.data_dir) / "mcp.log"
    with log_file.open("ab") as log:
        environment = clean_environment(DATABASE_URL=postgres.dsn("authenticator"))
        process = subprocess.Popen(command, stderr=log, cwd=ROOT, env=environment)
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, log_file.read_text()
        assert time.monotonic() < deadline
        try:
            httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            break
    yield f"http://127.0.0.1:{port}/mcp"
    process.terminate()
    assert process.wait(30) == 0, log_file.read_text()


@pytest.fixture
def connect(url: str, embedded_supabase: EmbeddedSupabase) -> Connect:
    @asynccontextmanager
    async def as_role(role: str, name: str = "ann") -> AsyncIterator[Client]:
        secret = embedded_supabase.keys.jwt_secret
        token = access_token(secret, name, Role(role), now=time.time(), seconds=600)
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            yield client

    return as_role


async def asked(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    found: dict[str, Any] = answer.structured_content
    return found


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error, answer.structured_content
    return " ".join(each.text for each in answer.content)


@pytest.fixture
async def device(embedded_supabase: EmbeddedSupabase) -> str:
    """A device of which there is a reading."""
    name = f"dev-{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(embedded_supabase.postgres.dsn())
    try:
        made: Event = event(f"{name}/system", 1, cpu_usage=42.5, memory_usage=10.0)
        await append(connection, (made,))
    finally:
        await connection.close()
    return name


async def test_a_viewer_has_the_tools_that_read_and_they_read(connect: Connect, device: str) -> None:
    async with connect("viewer") as client:
        assert {each.name for each in (await client.list_tools()).tools} == READS
        (found,) = (await asked(client, "devices", device=device))["devices"]
        assert found["cpu_usage"] == 42.5
        told = (await asked(client, "events", device=device))["events"]
        assert [each["kind"] for each in told] == ["metric_collected"]
        metrics = await asked(client, "metrics", stream=f"{device}/system")
        assert metrics["newest"][0]["payload"]["cpu_usage"] == 42.5
        assert "cpu_usage" in metrics["fields"]
        series = await asked(client, "series", stream=f"{device}/system", field="cpu_usage", hours=24 * 3000)
        assert series["field"] == "cpu_usage"
        assert (await asked(client, "containers", device=device))["containers"] == []
        assert (await asked(client, "alerts", device=device))["alerts"] == []
        assert (await asked(client, "migration"))["delivery"]["mode"] == "changes"
        assert "agents" in await asked(client, "commands")


async def test_an_operator_has_those_that_act_and_the_control_service_decides(
    connect: Connect, embedded_supabase: EmbeddedSupabase, device: str
) -> None:
    connection = await asyncpg.connect(embedded_supabase.postgres.dsn())
    offers = '{"echo": {"timeout_seconds": 5, "parameters": {}}}'
    await connection.execute("insert into cf_agents values ($1, $2, '1', $3)", device, uuid.uuid4(), offers)
    try:
        async with connect("operator", "olga") as client:
            assert {each.name for each in (await client.list_tools()).tools} == READS | ACTS
            made = await asked(client, "submit_command", agent=device, command="echo", idempotency_key=device)
            assert (made["state"], made["submitted_by"]) == ("queued", "olga")
            ended = await asked(client, "cancel_command", command_id=made["id"])
            assert ended["state"] == "cancelled"
            who = await connection.fetchval("select who from cf_audit where id = $1", uuid.UUID(made["id"]))
            assert who == "olga"
            assert "it may run echo" in await refused(
                client, "submit_command", agent=device, command="format"
            )
            told = await refused(client, "control_container", name="shop", action="stop", device=device)
            assert f"no containers of {device} can be reached" in told
    finally:
        await connection.close()


async def test_a_viewer_cannot_call_what_it_is_not_shown(connect: Connect, device: str) -> None:
    async with connect("viewer") as client:
        assert "nknown tool" in await refused_or_raised(
            client, "submit_command", agent=device, command="echo"
        )


async def refused_or_raised(client: Client, tool: str, **arguments: Any) -> str:
    try:
        return await refused(client, tool, **arguments)
    except MCPError as error:
        return str(error)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("devices", {"device": "a\0b"}),
        ("events", {"minutes": 10**9}),
        ("events", {"limit": "all"}),
        ("metrics", {"stream": "no-slash"}),
        ("series", {"stream": "a/b", "field": "x", "hours": -1}),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    connect: Connect, tool: str, arguments: dict[str, Any]
) -> None:
    async with connect("viewer") as client:
        assert "validation error" in (await refused_or_raised(client, tool, **arguments)).lower()


@pytest.mark.parametrize("authorization", [None, "Bearer nonsense", "Basic eDp5"])
def test_without_a_token_of_the_project_nothing_is_answered(url: str, authorization: str | None) -> None:
    headers = {"Accept": "application/json, text/event-stream"}
    headers |= {"Authorization": authorization} if authorization else {}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    answer = httpx.post(url, json=body, headers=headers, timeout=20)
    assert answer.status_code == 401
    assert answer.headers["x-content-type-options"] == "nosniff"
