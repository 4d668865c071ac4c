"""``crossfade agent`` as a process: what it is told it runs, once, and what became of it is told whatever happens to it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.control_process import AgentProcess, ControlProcess
from tests.integration.control.conftest import HttpAs, TokenOf

FILE = """
commands:
  note:
    run: [sh, -c, 'echo "$1" >> "$0"; echo progress: 50% half; sleep "$2"; echo done', "{file}", "{text}", "{seconds}"]
    timeout: 60s
    parameters:
      file: {choices: [NOTES]}
      text: {pattern: "[a-z0-9-]+"}
      seconds: {minimum: 0, maximum: 600, default: 0}
  gate:
    run: [sh, -c, 'until [ -e "$0" ]; do sleep 0.05; done; echo through', "{file}"]
    timeout: 10m
    parameters:
      file: {choices: [NOTES.gate]}
end: true
"""


@pytest.fixture
async def agent(
    tmp_path: Path, agent_name: str, control_process: ControlProcess, token_of: TokenOf
) -> AsyncIterator[AgentProcess]:
    offers = FILE.replace("NOTES", str(tmp_path / "notes"))
    started = AgentProcess(tmp_path, agent_name, control_process.url, token_of("agent", agent_name), offers)
    yield started
    if started.process is not None and started.process.poll() is None:
        started.stop()


async def until(what: str, look: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)
    return found


async def submitted(
    client: httpx.AsyncClient, agent: AgentProcess, text: str, seconds: int = 0, **more: Any
) -> str:
    async def known() -> bool:
        assert agent.process is not None
        assert agent.process.poll() is None, agent.log.read_text()
        agents = (await client.get("/api/agents")).json()["agents"]
        return any(each["name"] == agent.name and each["heard"] for each in agents)

    await until("the agent registers", known)
    file = str(agent.log.parent / "notes")
    body = {
        "agent": agent.name,
        "command": "note",
        "parameters": {"file": file, "text": text, "seconds": seconds},
        **more,
    }
    answer = await client.post("/api/commands", json=body, headers={"Idempotency-Key": text})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def ended(client: httpx.AsyncClient, id_: str, *states: str) -> dict[str, Any]:
    wanted = states or ("succeeded", "failed", "timed_out", "cancelled", "refused", "expired", "lost")

    async def look() -> dict[str, Any] | None:
        told: dict[str, Any] = (await client.get(f"/api/commands/{id_}")).json()
        return told if told["state"] in wanted else None

    found: dict[str, Any] = await until(f"{id_} is {wanted}", look)
    return found


async def test_it_runs_what_it_is_told_and_tells_what_came_of_it(http: HttpAs, agent: AgentProcess) -> None:
    text = uuid.uuid4().hex
    told = await ended(http(), await submitted(http(), agent, text))
    assert (told["state"], told["exit_code"], told["output"]) == (
        "succeeded",
        0,
        "progress: 50% half\ndone\n",
    )
    assert (agent.log.parent / "notes").read_text() == f"{text}\n"


async def test_progress_is_told_and_it_is_ended_when_it_is_to_be(http: HttpAs, agent: AgentProcess) -> None:
    client = http()
    id_ = await submitted(client, agent, uuid.uuid4().hex, 600)

    async def half() -> bool:
        told = (await client.get(f"/api/commands/{id_}")).json()
        return (told["progress"], told["message"]) == (50.0, "half")

    await until("progress is told", half)
    assert (await client.post(f"/api/commands/{id_}/cancel")).status_code == 202
    told = await ended(client, id_)
    assert (told["state"], told["cancel_asked_by"]) == ("cancelled", "ann")
    too_long = await ended(client, await submitted(client, agent, uuid.uuid4().hex, 600, timeout_seconds=1.0))
    assert (too_long["state"], too_long["message"]) == (
        "timed_out",
        "ended after 1 s, which is all it may take",
    )


async def test_killed_and_started_again_it_runs_nothing_twice_and_says_what_it_lost(
    http: HttpAs, agent: AgentProcess
) -> None:
    client, text = http(), uuid.uuid4().hex
    id_ = await submitted(client, agent, text, 600)
    await ended(client, id_, "running")
    notes = agent.log.parent / "notes"

    async def begun() -> bool:
        return notes.exists()

    await until("it has begun", begun)
    agent.kill()
    waiting = await client.post(
        "/api/commands",
        json={"agent": agent.name, "command": "note", "parameters": {"file": str(notes), "text": "next"}},
    )
    agent.start()
    told = await ended(client, id_)
    assert told["state"] == "lost"
    assert "its agent" in told["message"]
    assert (await ended(client, waiting.json()["id"]))["state"] == "succeeded", (
        "what it had not taken it runs now"
    )
    again = await submitted(client, agent, text, 600)
    assert again == id_, "the key stands for the lost one"
    assert notes.read_text() == f"{text}\nnext\n"


async def test_an_end_that_nobody_could_hear_is_told_later_even_after_its_own_death(
    http: HttpAs, agent: AgentProcess, control_process: ControlProcess
) -> None:
    client, gate = http(), agent.log.parent / "notes.gate"
    await submitted(client, agent, uuid.uuid4().hex)
    body = {"agent": agent.name, "command": "gate", "parameters": {"file": str(gate)}}
    id_ = (await client.post("/api/commands", json=body)).json()["id"]
    await ended(client, id_, "running")
    control_process.kill()
    try:
        gate.touch()
        journal = agent.log.parent / "data" / "agents" / agent.name / f"{id_}.json"

        async def written() -> bool:
            return journal.exists() and "succeeded" in journal.read_text()

        await until("the end is in the journal", written)
        agent.kill()
    finally:
        control_process.start()
    agent.start()
    told = await ended(client, id_)
    assert (told["state"], told["output"]) == ("succeeded", "through\n")


async def test_stopped_it_ends_what_runs_and_says_so(http: HttpAs, agent: AgentProcess) -> None:
    client = http()
    id_ = await submitted(client, agent, uuid.uuid4().hex, 600)
    await ended(client, id_, "running")
    assert await asyncio.to_thread(agent.stop) == 0
    told = await ended(client, id_)
    assert (told["state"], told["message"]) == ("cancelled", "its agent was stopped")


async def test_a_second_process_of_the_same_name_takes_over_and_the_first_ends(
    http: HttpAs, agent: AgentProcess, tmp_path: Path, control_process: ControlProcess, token_of: TokenOf
) -> None:
    await submitted(http(), agent, uuid.uuid4().hex)
    (tmp_path / "second").mkdir()
    offers = FILE.replace("NOTES", str(tmp_path / "notes"))
    second = AgentProcess(
        tmp_path / "second", agent.name, control_process.url, token_of("agent", agent.name), offers
    )
    try:
        assert agent.process is not None
        assert await asyncio.to_thread(agent.process.wait, 60) == 1
        assert "another process has registered" in agent.log.read_text()
    finally:
        second.stop()


async def test_a_token_of_another_is_said_and_it_ends(
    tmp_path: Path, control_process: ControlProcess, token_of: TokenOf
) -> None:
    offers = FILE.replace("NOTES", str(tmp_path / "notes"))
    refused = AgentProcess(tmp_path, "web-9", control_process.url, token_of("operator", "web-9"), offers)
    assert refused.process is not None
    assert await asyncio.to_thread(refused.process.wait, 60) == 1
    assert "not that of agent web-9" in refused.log.read_text()
