"""Keys of applications that push: shown once, kept as hashes, for one application, revoked for good, good while the database is away."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from tests.integration.query.conftest import Token
from tests.query_process import QueryProcess


@pytest.fixture
def admin(query_process: QueryProcess, token: Token) -> Iterator[httpx.Client]:
    made = token(app_metadata={"crossfade_role": "admin", "crossfade_name": "root-of-all"})
    headers = {"Authorization": f"Bearer {made}"}
    with httpx.Client(base_url=query_process.url, headers=headers, timeout=20) as client:
        yield client


def event(application: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "stream": f"{application}/sessions",
        "kind": "session_created",
        "occurred_at": datetime.now(UTC).isoformat(),
        "payload": {"session_id": "s-1"},
    }


def push(url: str, key: str, *applications: str) -> httpx.Response:
    body = {"events": [event(each) for each in applications]}
    return httpx.post(f"{url}/api/events", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=20)


async def until(what: str, look: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 30
    while not await look():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def test_a_key_pushes_until_it_is_revoked_and_is_kept_as_a_hash(
    admin: httpx.Client, query_process: QueryProcess, connection: asyncpg.Connection, device: str
) -> None:
    answer = admin.post("/api/keys", json={"name": "the shop", "application": device})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    key, prefix = made["key"], made["prefix"]

    async def taken() -> bool:
        return push(query_process.url, key, device).status_code == 202

    await until("the key is taken", taken)
    told = push(query_process.url, key, device, "another-app").json()
    assert [each["kept"] for each in told["items"]] == [True, False]
    assert f"this key is for {device} alone" in told["items"][1]["reason"]
    row = await connection.fetchrow("select * from cf_api_keys where prefix = $1", prefix)
    secret = key.removeprefix(f"cfk_{prefix}_")
    assert len(row["hash"]) == 32
    assert secret not in str(dict(row))
    listed = admin.get("/api/keys").text
    assert prefix in listed
    assert secret not in listed

    async def noted() -> bool:
        return await connection.fetchval(
            "select used_at is not null from cf_api_keys where prefix = $1", prefix
        )

    await until("its use is noted", noted)
    assert admin.post(f"/api/keys/{prefix}/revoke").json()["revoked_by"] == "root-of-all"

    async def refused() -> bool:
        return push(query_process.url, key, device).status_code == 401

    await until("it is refused", refused)
    assert admin.post(f"/api/keys/{prefix}/revoke").json()["revoked_by"] == "root-of-all", (
        "again, nothing changes"
    )
    audited = await connection.fetch("select action, who from cf_audit where target = 'the shop' order by at")
    assert [tuple(each) for each in audited][-2:] == [
        ("key create", "root-of-all"),
        ("key revoke", "root-of-all"),
    ]
    assert secret not in query_process.log.read_text()


async def test_what_is_no_key_is_refused_and_a_key_does_nothing_but_push(
    admin: httpx.Client, query_process: QueryProcess, device: str
) -> None:
    key = admin.post("/api/keys", json={"name": "any", "for_seconds": 3600}).json()["key"]

    async def taken() -> bool:
        return push(query_process.url, key, device).status_code == 202

    await until("the key is taken", taken)
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    for each in (
        wrong,
        "cfk_",
        "cfk_zz",
        key.replace("cfk_", "cfk_0"),
        key + "x",
        f"cfk_{'0' * 12}_{'a' * 43}",
    ):
        answer = push(query_process.url, each, device)
        assert answer.status_code == 401, each
        assert answer.headers["www-authenticate"] == "Bearer"
        assert each not in answer.text
    headers = {"Authorization": f"Bearer {key}"}
    for method, path in (("GET", "/api/heads"), ("GET", "/api/keys"), ("POST", "/api/alerts/silences")):
        assert httpx.request(method, query_process.url + path, headers=headers, json={}).status_code == 401
    short = admin.post("/api/keys", json={"name": "short", "for_seconds": 0.5}).json()["key"]

    async def over() -> bool:
        return push(query_process.url, short, device).status_code == 401

    await until("it is over", over)


@pytest.mark.parametrize("role", ["viewer", "operator", "agent"])
async def test_only_admins_make_and_see_keys(query_process: QueryProcess, token: Token, role: str) -> None:
    headers = {"Authorization": f"Bearer {token(app_metadata={'crossfade_role': role})}"}
    async with httpx.AsyncClient(base_url=query_process.url, headers=headers, timeout=20) as client:
        assert (await client.get("/api/keys")).status_code == 403
        assert (await client.post("/api/keys", json={"name": "x"})).status_code == 403
        assert (await client.post(f"/api/keys/{'0' * 12}/revoke")).status_code == 403


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "/name"),
        ({"name": "a\0b"}, "/name"),
        ({"name": "x", "application": "a/b"}, "/application"),
        ({"name": "x", "for_seconds": -1}, "/for_seconds"),
        ({"name": "x", "scope": "all"}, "/scope"),
    ],
)
async def test_what_cannot_be_meant_is_refused(admin: httpx.Client, body: dict[str, Any], place: str) -> None:
    answer = admin.post("/api/keys", json=body)
    assert answer.status_code == 400
    assert place in [each["at"] for each in answer.json()["errors"]]
    assert admin.post("/api/keys/000000000000/revoke").status_code == 404
    assert admin.post("/api/keys/x' or 1=1/revoke").status_code == 400


@pytest.mark.parametrize("role", ["authenticated", "anon"])
async def test_nobody_reads_the_hashes_from_the_database(connection: asyncpg.Connection, role: str) -> None:
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("select set_config('role', $1, true)", role)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("select hash from cf_api_keys")
    finally:
        await transaction.rollback()
