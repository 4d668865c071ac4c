"""Projects, and what belongs to them: made, listed, renamed, archived by operators, seen by viewers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from tests.conftest import EmbeddedSupabase
from tests.integration.query.conftest import Publish, Token
from tests.integration.query.test_query_events import every, told
from tests.query_process import QueryProcess


@pytest.fixture
async def operator(query_process: QueryProcess, token: Token) -> AsyncIterator[httpx.AsyncClient]:
    signed = token(app_metadata={"crossfade_role": "operator", "crossfade_name": "ann"})
    headers = {"Authorization": f"Bearer {signed}"}
    async with httpx.AsyncClient(base_url=query_process.url, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
async def project(operator: httpx.AsyncClient) -> dict[str, Any]:
    answer = await operator.post("/api/projects", json={"name": f"shop {uuid.uuid4()}"})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/projects/{made['id']}"
    return made


async def listed(http: httpx.AsyncClient, **query: Any) -> list[str]:
    found: list[str] = []
    while True:
        page = (await http.get("/api/projects", params=query)).json()
        found += [each["id"] for each in page["projects"]]
        if page["next"] is None:
            return found
        query["next"] = page["next"]


async def test_a_project_is_made_renamed_archived_and_taken_back(
    http: httpx.AsyncClient, operator: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    path = f"/api/projects/{project['id']}"
    assert project["created_by"] == "ann"
    assert (await http.get(path)).json() == project
    assert project["id"] in await listed(http, limit=1)
    name = f"store {uuid.uuid4()}"
    renamed = (await operator.patch(path, json={"name": name})).json()
    assert (renamed["name"], renamed["description"]) == (name, "")
    archived = (await operator.patch(path, json={"archived": True})).json()
    assert archived["archived_at"] is not None
    assert project["id"] not in await listed(http)
    assert project["id"] in await listed(http, state="archived")
    assert (await operator.patch(path, json={"archived": False})).json()["archived_at"] is None


async def test_a_name_is_one_projects_until_it_is_archived(
    operator: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    again = await operator.post("/api/projects", json={"name": project["name"].upper()})
    assert (again.status_code, again.json()["type"]) == (409, "urn:crossfade:problem:conflict")
    assert "archive" in again.json()["detail"]
    await operator.patch(f"/api/projects/{project['id']}", json={"archived": True})
    assert (await operator.post("/api/projects", json={"name": project["name"]})).status_code == 201
    back = await operator.patch(f"/api/projects/{project['id']}", json={"archived": False})
    assert back.status_code == 409


async def test_members_choose_what_is_seen(
    http: httpx.AsyncClient,
    operator: httpx.AsyncClient,
    project: dict[str, Any],
    publish: Publish,
    device: str,
) -> None:
    await publish(*told(f"{device}/sessions", ["session_counted"]), *told(f"{device}-other/sessions", ["x"]))
    path = f"/api/projects/{project['id']}/members/{device}"
    assert (await operator.put(path)).status_code == 204
    assert (await operator.put(path)).status_code == 204
    chosen = {"project": project["id"]}
    assert [each["stream"] for each in await every(http, **chosen)] == [f"{device}/sessions"]
    (found,) = (await http.get("/api/devices", params=chosen)).json()["devices"]
    assert (found["device"], found["application"], found["projects"]) == (device, True, [project["name"]])
    assert (await http.get(f"/api/devices/{device}")).json() == found
    assert await listed(http, device=device) == [project["id"]]
    assert (await operator.delete(path)).status_code == 204
    assert (await operator.delete(path)).status_code == 404
    assert (await http.get("/api/devices", params=chosen)).json()["devices"] == []


async def test_viewers_change_nothing_by_the_service_nor_in_the_database(
    http: httpx.AsyncClient,
    project: dict[str, Any],
    token: Token,
    embedded_supabase: EmbeddedSupabase,
    connection: asyncpg.Connection,
) -> None:
    path = f"/api/projects/{project['id']}"
    for asked in (
        http.post("/api/projects", json={"name": "mine"}),
        http.patch(path, json={"name": "mine"}),
        http.put(f"{path}/members/web-1"),
        http.delete(f"{path}/members/web-1"),
    ):
        refused = await asked
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:crossfade:problem:forbidden")
    rest = f"{embedded_supabase.url}/rest/v1/cf_projects"
    headers = {"apikey": embedded_supabase.keys.anon_key, "Authorization": f"Bearer {token()}"}
    async with httpx.AsyncClient(headers=headers) as client:
        assert (await client.post(rest, json={"name": "mine"})).status_code == 403
        await client.patch(f"{rest}?id=eq.{project['id']}", json={"name": "mine"})
    assert (
        await connection.fetchval("select name from cf_projects where id = $1", uuid.UUID(project["id"]))
        == (project["name"])
    )


async def test_nobody_signs_with_anothers_name(
    embedded_supabase: EmbeddedSupabase, token: Token, project: dict[str, Any]
) -> None:
    signed = token(app_metadata={"crossfade_role": "operator", "crossfade_name": "bob"})
    headers = {"apikey": embedded_supabase.keys.anon_key, "Authorization": f"Bearer {signed}"}
    async with httpx.AsyncClient(headers=headers) as client:
        forged = {"project": project["id"], "device": "web-1", "added_by": "ann"}
        refused = await client.post(f"{embedded_supabase.url}/rest/v1/cf_project_members", json=forged)
    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({}, "/"),
        ({"name": ""}, "/name"),
        ({"name": " shop"}, "/name"),
        ({"name": "a\0b"}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"archived": "yes"}, "/archived"),
        ({"owner": "me"}, "/owner"),
        ({"name": None}, "/name"),
    ],
)
async def test_a_change_that_cannot_be_meant_is_refused_by_place(
    operator: httpx.AsyncClient, project: dict[str, Any], body: dict[str, Any], at: str
) -> None:
    refused = await operator.patch(f"/api/projects/{project['id']}", json=body)
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["at"] == at


async def test_what_is_not_there_is_not_found(operator: httpx.AsyncClient) -> None:
    none = f"/api/projects/{uuid.uuid4()}"
    answers = await asyncio.gather(
        operator.get(none),
        operator.patch(none, json={"name": "x"}),
        operator.put(f"{none}/members/web-1"),
        operator.get("/api/devices/no-such-device"),
    )
    assert [each.status_code for each in answers] == [404] * 4
