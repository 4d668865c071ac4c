"""Alerts by HTTP: who may read and who may ask, pages, and rows that only their readers see."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from monitoring.events import Event, StreamId, format_time
from tests.conftest import EmbeddedSupabase
from tests.integration.query.conftest import append
from tests.query_process import QueryProcess

START = datetime(2026, 11, 26, 12, tzinfo=UTC)


def change(device: str, number: int, **more: Any) -> dict[str, Any]:
    at = format_time(START + timedelta(seconds=number))
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{device} {number}")),
        "rule": "cpu", "device": device, "item": "", "severity": "warning", "state": "firing", "firing": True,
        "since": at, "fired_at": at, "resolved_at": None, "value": 95.5, "expected": "above 90", "summary": "",
        "flapping": False, "acknowledged_by": None, "acknowledged_at": None, "told": False, "revision": 1,
        "inhibited_by": None, "silenced_by": None, **more,
    }  # fmt: skip


async def publish(connection: asyncpg.Connection, changes: list[dict[str, Any]]) -> None:
    """Write alerts as the alerting process's spool does, in an epoch of their own."""
    stream = StreamId("crossfade/alerts")
    epoch = await connection.fetchval(
        "select coalesce(max(epoch), 0) + 1 from cf_events where stream = $1", stream
    )
    epoch = max(epoch, 1 + (await connection.fetchval("select coalesce(max(epoch), 0) from cf_alerts")))
    events = tuple(
        Event(uuid.uuid4(), stream, epoch, number, "alert_changed", START + timedelta(seconds=number), each)
        for number, each in enumerate(changes, 1)
    )
    await append(connection, events)


def client(query: QueryProcess, supabase: EmbeddedSupabase, role: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {supabase.token(role)}"}
    return httpx.AsyncClient(base_url=query.url, headers=headers, timeout=20)


async def test_alerts_come_in_pages_the_newest_first_each_once(
    query_process: QueryProcess,
    embedded_supabase: EmbeddedSupabase,
    connection: asyncpg.Connection,
    device: str,
) -> None:
    await publish(connection, [change(device, number) for number in range(7)])
    async with client(query_process, embedded_supabase, "viewer") as viewer:
        found: list[int] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await viewer.get("/api/alerts", params={"device": device, "limit": "3", **cursor})).json()
            found += [alert["since"] for alert in page["alerts"]]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert found == sorted(found, reverse=True)
        assert len(found) == len(set(found)) == 7

        first = await viewer.get("/api/alerts", params={"device": device})
        same = await viewer.get(
            "/api/alerts", params={"device": device}, headers={"If-None-Match": first.headers["etag"]}
        )
        assert same.status_code == 304


async def test_an_episode_is_one_row_that_is_open_until_it_is_resolved(
    query_process: QueryProcess,
    embedded_supabase: EmbeddedSupabase,
    connection: asyncpg.Connection,
    device: str,
) -> None:
    await publish(connection, [change(device, 0), change(device, 0, state="ok", firing=False, revision=2)])
    async with client(query_process, embedded_supabase, "viewer") as viewer:
        opened = (await viewer.get("/api/alerts", params={"device": device})).json()["alerts"]
        every = (await viewer.get("/api/alerts", params={"device": device, "state": "all"})).json()["alerts"]
    assert (opened, [alert["state"] for alert in every]) == ([], ["ok"])


@pytest.mark.parametrize(
    "cursor", ["x", "2026-11-26,nothing", ",", "2026-11-26T12:00:00Z,1", "0001-01-01,x", "'; drop"]
)
async def test_a_cursor_that_no_page_named_is_refused(
    query_process: QueryProcess, embedded_supabase: EmbeddedSupabase, cursor: str
) -> None:
    async with client(query_process, embedded_supabase, "viewer") as viewer:
        answer = await viewer.get("/api/alerts", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["errors"][0]["at"]) == (400, "query cursor")


async def test_an_operator_asks_and_it_is_an_event_and_a_row_with_the_name(
    query_process: QueryProcess, embedded_supabase: EmbeddedSupabase, connection: asyncpg.Connection
) -> None:
    async with client(query_process, embedded_supabase, "operator") as operator:
        answer = await operator.post("/api/alerts/silences", json={"devices": ["web-*"], "for_seconds": 60})
        assert answer.status_code == 202, answer.text
        silence = answer.json()["id"]
        alert = str(uuid.uuid4())
        assert (await operator.post(f"/api/alerts/{alert}/acknowledge")).status_code == 202

        async def silences() -> list[str]:
            return [each["id"] for each in (await operator.get("/api/alerts/silences")).json()["silences"]]

        async with asyncio.timeout(20):
            while silence not in await silences():
                await asyncio.sleep(0.05)
        assert (await operator.post(f"/api/alerts/silences/{silence}/end")).status_code == 202
        async with asyncio.timeout(20):
            while silence in await silences():
                await asyncio.sleep(0.05)
    who = "00000000-0000-4000-8000-000000000001"
    row = await connection.fetchrow(
        "select made_by, ended_by from cf_alert_silences where id = $1", uuid.UUID(silence)
    )
    assert tuple(row) == (who, who)
    asked = await connection.fetch(
        "select kind, payload from cf_events where stream = 'crossfade/alert-requests' and kind like 'alert%'"
    )
    payloads = [(each["kind"], json.loads(each["payload"])) for each in asked]
    assert ("alert_acknowledged", {"alert_id": alert, "by": who}) in payloads


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("nobody", 403)])
@pytest.mark.parametrize(
    "path",
    [
        "/api/alerts/silences",
        f"/api/alerts/{uuid.UUID(int=1)}/acknowledge",
        f"/api/alerts/silences/{uuid.UUID(int=1)}/end",
    ],
)
async def test_only_operators_ask(
    query_process: QueryProcess, embedded_supabase: EmbeddedSupabase, role: str, status: int, path: str
) -> None:
    async with client(query_process, embedded_supabase, role) as caller:
        answer = await caller.post(path, json={"for_seconds": 1})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"for_seconds": 0},
        {"for_seconds": 1e12},
        {"for_seconds": 1, "device": ["x"]},
        {"for_seconds": 1, "devices": []},
        {"for_seconds": 1, "comment": "\0"},
        {"for_seconds": 1, "starts_at": "2026-11-26T12:00:00"},
        {"for_seconds": 1e6, "starts_at": "9999-12-31T23:59:59Z"},
    ],
)
async def test_a_silence_that_cannot_be_meant_is_refused(
    query_process: QueryProcess, embedded_supabase: EmbeddedSupabase, body: dict[str, Any]
) -> None:
    async with client(query_process, embedded_supabase, "operator") as operator:
        answer = await operator.post("/api/alerts/silences", json=body)
    assert answer.status_code == 400, answer.text


async def test_nobody_pushes_in_the_name_of_crossfade(
    query_process: QueryProcess, embedded_supabase: EmbeddedSupabase
) -> None:
    """An acknowledgement or an alert with somebody else's name in it."""
    event = {
        "id": str(uuid.uuid4()), "stream": "crossfade/alert-requests", "kind": "alert_acknowledged",
        "occurred_at": format_time(START), "payload": {"by": "the boss"},
    }  # fmt: skip
    async with client(query_process, embedded_supabase, "operator") as operator:
        (item,) = (await operator.post("/api/events", json={"events": [event]})).json()["items"]
    assert (item["kept"], item["again"]) == (False, False)
    assert "Crossfade itself" in item["reason"]


@pytest.mark.parametrize("table", ["cf_alerts", "cf_alert_silences"])
@pytest.mark.parametrize(
    ("role", "claims", "sees"),
    [
        ("authenticated", {"app_metadata": {"crossfade_role": "viewer"}}, True),
        ("authenticated", {"app_metadata": {"crossfade_role": "operator"}}, True),
        ("authenticated", {"app_metadata": {"crossfade_role": "admin"}}, True),
        ("authenticated", {"app_metadata": {"crossfade_role": "other"}}, False),
        ("authenticated", {}, False),
        ("service_role", {}, True),
        ("anon", {}, None),
    ],
)
async def test_each_role_sees_what_it_may_and_writes_nothing(
    connection: asyncpg.Connection,
    table: str,
    role: str,
    claims: dict[str, Any],
    sees: bool | None,  # noqa: FBT001 - pytest names it
) -> None:
    device = f"rls-{uuid.uuid4().hex[:8]}"
    await publish(connection, [change(device, 0)])
    await connection.execute(
        "insert into cf_alert_silences values ($1, '{*}', '{*}', '{*}', now(), now(), 'x', '')", uuid.uuid4()
    )
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(
            "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)",
            role,
            json.dumps(claims),
        )
        if sees is None:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetchval(f"select count(*) from {table}")  # noqa: S608 - two names of ours
            return
        count = await connection.fetchval(f"select count(*) from {table}")  # noqa: S608
        assert (count > 0) is sees
        if role != "service_role":
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"delete from {table}")  # noqa: S608
    finally:
        await transaction.rollback()
