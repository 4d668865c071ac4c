"""Commands by HTTP: who may, what is refused with which words, pages, and the record."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from tests.integration.control.conftest import OFFERS, HttpAs


@pytest.fixture
async def registered(http: HttpAs, agent_name: str) -> str:
    """An agent that has registered, whose instance is its name's uuid."""
    body = {"instance": instance(agent_name), "version": "1", "offers": OFFERS}
    answer = await http("agent", agent_name).post(f"/api/agents/{agent_name}/register", json=body)
    assert answer.status_code == 200, answer.text
    return agent_name


def instance(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


async def submitted(client: httpx.AsyncClient, to: str, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    body = {"agent": to, "command": "echo", "parameters": {"text": "hi"}, **more}
    return await client.post("/api/commands", json=body, headers=headers)


async def test_a_command_is_submitted_taken_reported_and_listed(http: HttpAs, registered: str) -> None:
    answer = await submitted(http(), registered)
    assert answer.status_code == 202, answer.text
    id_ = answer.json()["id"]
    agent = http("agent", registered)
    polled = await agent.post(f"/api/agents/{registered}/poll", json={"instance": instance(registered)})
    assert [each["id"] for each in polled.json()["commands"]] == [id_]
    done = {
        "instance": instance(registered),
        "state": "failed",
        "exit_code": 3,
        "output": "no\n",
        "message": "it broke",
    }
    assert (await agent.post(f"/api/agents/{registered}/commands/{id_}", json=done)).status_code == 200
    shown = (await http("viewer").get(f"/api/commands/{id_}")).json()
    assert (shown["state"], shown["exit_code"], shown["output"], shown["submitted_by"]) == (
        "failed",
        3,
        "no\n",
        "ann",
    )
    (audited,) = (await http().get("/api/audit", params={"device": registered})).json()["actions"]
    assert (audited["who"], audited["action"], audited["outcome"]) == ("ann", "command", "failed")
    assert (await http("viewer").get("/api/audit")).status_code == 403


async def test_the_idempotency_key_stands_for_one_command(http: HttpAs, registered: str) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = (await submitted(http(), registered, headers=key)).json()
    again = (await submitted(http(), registered, headers=key)).json()
    assert (again["id"], again["repeated"]) == (first["id"], True)
    other = await submitted(http(), registered, parameters={"text": "other"}, headers=key)
    assert (other.status_code, other.json()["type"]) == (409, "urn:crossfade:problem:conflict")


async def test_pages_hold_every_command_once(http: HttpAs, registered: str) -> None:
    made = [(await submitted(http(), registered)).json()["id"] for _ in range(7)]
    found: list[str] = []
    cursor: str | None = None
    while True:
        query = {"agent": registered, "limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = (await http("viewer").get("/api/commands", params=query)).json()
        found += [each["id"] for each in page["commands"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == made[::-1]
    queued = await http("viewer").get("/api/commands", params={"agent": registered, "state": "failed"})
    assert queued.json()["commands"] == []


@pytest.mark.parametrize("role", ["viewer", "agent"])
async def test_only_operators_submit_and_cancel(http: HttpAs, registered: str, role: str) -> None:
    refused = await submitted(http(role, registered), registered)
    assert refused.status_code == 403
    assert "operator" in refused.json()["detail"]
    command = (await submitted(http(), registered)).json()
    assert (await http(role, registered).post(f"/api/commands/{command['id']}/cancel")).status_code == 403
    assert (await http().post(f"/api/commands/{command['id']}/cancel")).json()["state"] == "cancelled"
    assert (await http(None).get("/api/commands")).status_code == 401


async def test_an_agent_speaks_for_itself_alone(http: HttpAs, registered: str) -> None:
    body = {"instance": instance(registered)}
    for role, name in (("operator", registered), ("agent", "another"), ("viewer", registered)):
        answer = await http(role, name).post(f"/api/agents/{registered}/poll", json=body)
        assert answer.status_code == 403, role
    older = {"instance": str(uuid.uuid4())}
    assert (
        await http("agent", registered).post(f"/api/agents/{registered}/poll", json=older)
    ).status_code == 409


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"agent": "nobody-here"}, 404, "no agent nobody-here has ever registered"),
        ({"command": "format"}, 404, "it may run echo"),
        ({"parameters": {"text": "hi", "force": "yes"}}, 400, "/parameters/force"),
        ({"parameters": {"text": "-rf"}}, 400, "must not begin with a dash"),
        ({"parameters": {"text": "a\0b"}}, 400, "not printable"),
        ({"parameters": {"text": ["a"]}}, 400, "/parameters/text"),
        ({"parameters": {"text": "x" * 101}}, 400, "more than 100 characters"),
        ({"timeout_seconds": 31}, 400, "may take 30 s at most"),
        ({"timeout_seconds": 0}, 400, "/timeout_seconds"),
        ({"timeout_seconds": "1e400"}, 400, "/timeout_seconds"),
        ({"expires_seconds": 10**9}, 400, "/expires_seconds"),
        ({"agent": "a\0"}, 400, "/agent"),
        ({"agent": "'; drop table cf_commands; --"}, 404, "drop table"),
        ({"agent": "../../etc"}, 400, "/agent"),
        ({"shell": "rm -rf /"}, 400, "/shell"),
    ],
)
async def test_what_cannot_be_meant_is_refused_in_words_that_help(
    http: HttpAs, registered: str, change: dict[str, Any], status: int, words: str
) -> None:
    answer = await submitted(http(), registered, **change)
    told = answer.json()
    assert answer.status_code == status, told
    places = [each["at"] for each in told.get("errors", [])]
    assert words in told["detail"] or words in places, told


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "ä"])
async def test_a_key_that_is_none_is_refused(http: HttpAs, registered: str, key: str) -> None:
    answer = await submitted(http(), registered, headers={"Idempotency-Key": key.encode("latin-1")})
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/agents/{name}/register", {"instance": "x", "version": "1", "offers": {}}, 400),
        ("/api/agents/{name}/register", {"version": "1", "offers": {"a": {"parameters": 3}}}, 400),
        ("/api/agents/{name}/poll", {"most": 1000}, 400),
        ("/api/agents/{name}/poll", {"have": ["x"]}, 400),
        ("/api/agents/{name}/commands/0", {"state": "running"}, 400),
        ("/api/agents/{name}/commands/00000000-0000-4000-8000-000000000000", {"state": "lost"}, 400),
        ("/api/agents/{name}/commands/00000000-0000-4000-8000-000000000000", {"state": "failed"}, 404),
        (
            "/api/agents/{name}/commands/00000000-0000-4000-8000-000000000000",
            {"state": "failed", "output": "\0"},
            400,
        ),
        (
            "/api/agents/{name}/commands/00000000-0000-4000-8000-000000000000",
            {"state": "failed", "progress": 101},
            400,
        ),
    ],
)
async def test_what_an_agent_cannot_mean_is_refused(
    http: HttpAs, registered: str, path: str, body: dict[str, Any], status: int
) -> None:
    filled = {"instance": instance(registered), **body}
    answer = await http("agent", registered).post(path.format(name=registered), json=filled)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_places_that_lead_nowhere_are_said(http: HttpAs) -> None:
    assert (await http().get(f"/api/commands/{uuid.uuid4()}")).status_code == 404
    assert (await http().get("/api/commands/1; drop table")).status_code == 400
    assert (await http().get("/api/commands", params={"cursor": "x"})).status_code == 400
    assert (
        await http().get("/api/audit", params={"cursor": "0001-01-01T00:00:00+23:59,x"})
    ).status_code == 400
    assert (await http().get("/ready")).json()["status"] == "ready"
