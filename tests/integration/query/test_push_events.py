"""Events that applications push: kept, checked one by one, never twice, and in the rows that show the latest state."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from tests.conftest import EmbeddedSupabase
from tests.integration.query.conftest import Token
from tests.integration.query.test_query_refusals import problem
from tests.query_process import QueryProcess

Push = Callable[..., Awaitable[dict[str, Any]]]


def event(stream: str, kind: str = "greeting", **payload: Any) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat()
    return {"id": str(uuid.uuid4()), "stream": stream, "kind": kind, "occurred_at": at, "payload": payload}


@pytest.fixture
async def operator(query_process: QueryProcess, token: Token) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token(app_metadata={'crossfade_role': 'operator'})}"}
    async with httpx.AsyncClient(base_url=query_process.url, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
def push(operator: httpx.AsyncClient) -> Push:
    async def push(*events: dict[str, Any]) -> dict[str, Any]:
        answer = await operator.post("/api/events", json={"events": events})
        assert answer.status_code == 202, answer.text
        receipt: dict[str, Any] = answer.json()
        return receipt

    return push


async def stored(connection: asyncpg.Connection, stream: str, count: int) -> list[asyncpg.Record]:
    """Wait until so many events of a stream, the opening aside, are in the feed; return them."""
    async with asyncio.timeout(20):
        while True:
            rows = await connection.fetch(
                "select id::text, seq, kind, payload from cf_events where stream = $1 and kind <> 'stream_opened' order by seq",
                stream,
            )
            if len(rows) >= count:
                return list(rows)
            await asyncio.sleep(0.02)


async def test_what_is_kept_is_in_the_feed_with_the_ids_it_came_with(
    push: Push, connection: asyncpg.Connection, device: str
) -> None:
    sent = [event(f"{device}/things", number=number) for number in range(50)]
    receipt = await push(*sent)
    assert (receipt["accepted"], receipt["repeated"], receipt["refused"]) == (50, 0, 0)
    rows = await stored(connection, f"{device}/things", 50)
    assert [row["id"] for row in rows] == [each["id"] for each in sent]
    assert [json.loads(row["payload"])["number"] for row in rows] == list(range(50))


async def test_what_is_sent_again_is_not_twice_in_the_feed(
    push: Push, connection: asyncpg.Connection, device: str, query_process: QueryProcess
) -> None:
    sent = [event(f"{device}/things", number=number) for number in range(3)]
    twice = await push(sent[0], sent[0])
    assert [(item["kept"], item["repeated"]) for item in twice["items"]] == [(True, False), (True, True)]
    await push(*sent)
    query_process.kill()
    query_process.start()
    receipt = await push(*sent, event(f"{device}/things", number=3))
    assert (receipt["accepted"], receipt["repeated"]) == (4, 3)
    rows = await stored(connection, f"{device}/things", 4)
    assert [json.loads(row["payload"])["number"] for row in rows] == [0, 1, 2, 3]


async def test_requests_at_once_with_the_same_events_keep_each_once(
    push: Push, connection: asyncpg.Connection, device: str
) -> None:
    sent = [event(f"{device}/things", number=number) for number in range(20)]
    receipts = await asyncio.gather(*(push(*sent) for _ in range(8)))
    for number in range(20):
        items = [receipt["items"][number] for receipt in receipts]
        assert sum(item["kept"] and not item["repeated"] for item in items) == 1
        assert all(item["kept"] or item["again"] for item in items)
    await push(event(f"{device}/things", number=20))
    assert len(await stored(connection, f"{device}/things", 21)) == 21


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "x"}, "/id"),
        ({"id": 7}, "/id"),
        ({"stream": "app"}, "is not application/category"),
        ({"stream": "a b/c"}, "/stream"),
        ({"stream": "a/b/c"}, "/stream"),
        ({"kind": ""}, "/kind"),
        ({"kind": "stream_opened"}, "made by Crossfade alone"),
        ({"occurred_at": "2026-11-21T08:00:00"}, "/occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "/occurred_at"),
        ({"occurred_at": 5}, "/occurred_at"),
        ({"payload": []}, "/payload"),
        ({"payload": {"a": "\0"}}, "U+0000"),
        ({"payload": {"a": "x" * 600_000}}, "at most 500000"),
        ({"more": 1}, "/more"),
        ({"kind": "connection_event"}, "/payload/connection_type"),
        ({"kind": "session_created", "payload": {"session_id": 5}}, "/payload/session_id"),
        ({"kind": "semaphore_gauge", "payload": {"name": "s", "in_use": -1}}, "/payload/in_use"),
        ({"kind": "http_requests", "payload": {"count": 1}}, "/payload/interval_seconds"),
    ],
)
async def test_one_bad_event_is_refused_with_the_place_and_the_others_are_kept(
    push: Push, connection: asyncpg.Connection, device: str, change: dict[str, Any], reason: str
) -> None:
    good = [event(f"{device}/things", number=number) for number in range(2)]
    bad = event(f"{device}/things") | change
    receipt = await push(good[0], bad, good[1])
    assert [item["kept"] for item in receipt["items"]] == [True, False, True]
    assert (receipt["accepted"], receipt["refused"]) == (2, 1)
    assert reason in receipt["items"][1]["reason"]
    assert not receipt["items"][1]["again"]
    assert len(await stored(connection, f"{device}/things", 2)) == 2


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ([], "/"),
        ({}, "/events"),
        ({"events": []}, "/events"),
        ({"events": [1] * 1001}, "/events"),
        ({"events": [{}], "more": 1}, "/more"),
    ],
)
async def test_a_body_that_cannot_be_meant_is_a_problem(
    operator: httpx.AsyncClient, body: object, at: str
) -> None:
    refused = problem(await operator.post("/api/events", json=body), 400, "invalid-request")
    assert refused["errors"][0]["at"] == at


async def test_events_that_are_no_objects_are_refused_one_by_one(push: Push, device: str) -> None:
    receipt = await push(1, None, "x", [], {"id": {}}, event(f"{device}/things"))  # type: ignore[arg-type]
    assert [item["kept"] for item in receipt["items"]] == [False] * 5 + [True]


async def test_bodies_too_large_or_too_deep_are_problems(operator: httpx.AsyncClient, device: str) -> None:
    typed = {"Content-Type": "application/json"}
    problem(await operator.post("/api/events", content=b" " * 1_100_000, headers=typed), 413, "too-large")
    deep = b'{"events": [' + b"[" * 900 + b"]" * 900 + b"]}"
    problem(await operator.post("/api/events", content=deep, headers=typed), 400, "invalid-request")


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"app_metadata": {"crossfade_role": "viewer"}}, 403),
        ({"app_metadata": None}, 403),
        ({"role": "anon"}, 403),
        ({"app_metadata": {"crossfade_role": "operator"}}, 202),
        ({"app_metadata": {"crossfade_role": "admin"}}, 202),
        ({"role": "service_role", "app_metadata": None}, 202),
    ],
)
async def test_who_may_push(
    http: httpx.AsyncClient, token: Token, device: str, claims: dict[str, Any], status: int
) -> None:
    header = {"Authorization": f"Bearer {token(**claims)}"}
    answer = await http.post("/api/events", json={"events": [event(f"{device}/things")]}, headers=header)
    assert answer.status_code == status, answer.text


async def test_a_stream_of_another_owner_is_refused_for_now(
    push: Push, connection: asyncpg.Connection, device: str
) -> None:
    await connection.fetchval("select cf_acquire_lease($1, $2)", f"{device}/system", uuid.uuid4())
    receipt = await push(event(f"{device}/system"), event(f"{device}/things"))
    assert [(item["kept"], item["again"]) for item in receipt["items"]] == [(False, True), (True, False)]


async def test_a_service_whose_spool_another_process_has_says_so_and_serves_everything_else(
    query_process: QueryProcess, embedded_supabase: EmbeddedSupabase, operator: httpx.AsyncClient, device: str
) -> None:
    postgres = embedded_supabase.postgres
    second = QueryProcess(postgres.data_dir, postgres.dsn("authenticator"), query_process.flags)
    try:
        answer = await operator.post(f"{second.url}/api/events", json={"events": [event(f"{device}/things")]})
        (item,) = answer.json()["items"]
        assert (answer.status_code, item["kept"], item["again"]) == (202, False, True)
        assert "query-spool.db is in use by process" in item["reason"]
        assert (await operator.get(f"{second.url}/api/heads")).status_code == 200
    finally:
        second.stop()


async def test_a_dead_database_delays_what_is_kept_and_loses_nothing(
    push: Push, device: str, embedded_supabase: EmbeddedSupabase, query_process: QueryProcess
) -> None:
    await push(event(f"{device}/things", number=0))
    embedded_supabase.postgres.stop()
    try:
        receipt = await push(*(event(f"{device}/things", number=number) for number in range(1, 6)))
        assert receipt["accepted"] == 5
        new = await push(event(f"{device}/new"))
        assert [item["again"] for item in new["items"]] == [True]
        query_process.kill()
        query_process.start()
    finally:
        embedded_supabase.postgres.prepare()
        embedded_supabase.postgres.start()
    connection = await asyncpg.connect(embedded_supabase.postgres.dsn())
    try:
        rows = await stored(connection, f"{device}/things", 6)
        assert [json.loads(row["payload"])["number"] for row in rows] == list(range(6))
    finally:
        await connection.close()
