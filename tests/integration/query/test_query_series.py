"""Time series by HTTP, seen by a viewer under row level security."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from monitoring.events import Event, Kind, StreamId
from tests.integration.query.conftest import Publish

NOW = datetime.now(UTC)


def samples(stream: str, ages: list[float]) -> list[Event]:
    return [
        Event(
            uuid4(), StreamId(stream), 1, seq, Kind.METRIC_COLLECTED, NOW - timedelta(seconds=age),
            {"cpu_usage": age, "disks": [{"mount": "/", "used_bytes": 7}]},
        )
        for seq, age in enumerate(ages, start=1)
    ]  # fmt: skip


@pytest.fixture
async def stream(publish: Publish, device: str) -> str:
    await publish(*samples(f"{device}/system", [60, 30, 7200, 7201, 7260]))
    return f"{device}/system"


async def asked(http: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    response = await http.get("/api/series", params=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_a_series_is_the_same_before_and_after_it_was_rolled_up(
    http: httpx.AsyncClient, connection: asyncpg.Connection, stream: str
) -> None:
    since = (NOW - timedelta(hours=6)).isoformat()
    query = {"stream": stream, "field": "cpu_usage", "from": since, "points": 300}
    before = await asked(http, **query)
    assert before["level"] == "1m"
    assert sum(count for *_, count in before["points"]) == 5
    assert {value for _, _, low, high, _ in before["points"] for value in (low, high)} == {
        60, 30, 7200, 7201, 7260,
    } or len(before["points"]) < 5  # fmt: skip
    pending = (
        "select count(*) from cf_rollup_pending where stream = $1 and hour < now() - interval '61 minutes'"
    )
    for _ in range(50):
        await connection.fetchval("select cf_maintain()")
    assert await connection.fetchval(pending, stream) == 0
    assert (await asked(http, **query))["points"] == before["points"]


async def test_without_a_range_the_last_hour_is_answered(http: httpx.AsyncClient, stream: str) -> None:
    answer = await asked(http, stream=stream, field="disks[/].used_bytes", points=1000)
    assert answer["level"] == "raw"
    assert [tuple(point[1:]) for point in answer["points"]] == [(7, 7, 7, 1)] * 2


async def test_fields_name_what_can_be_asked_for(http: httpx.AsyncClient, stream: str) -> None:
    response = await http.get("/api/series/fields", params={"stream": stream})
    assert response.json() == ["cpu_usage", "disks[/].used_bytes"]


async def test_what_nobody_ever_sampled_has_no_points(http: httpx.AsyncClient, stream: str) -> None:
    assert (await asked(http, stream=stream, field="nothing"))["points"] == []
    assert (await asked(http, stream="no-such/system", field="cpu_usage"))["points"] == []


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"stream": "web-1"}, "query stream"),
        ({"from": "2026-01-01T00:00:00"}, "query from"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "query from"),
        ({"points": 0}, "query points"),
        ({"to": "yesterday"}, "query to"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_place(
    http: httpx.AsyncClient, query: dict[str, Any], where: str
) -> None:
    response = await http.get("/api/series", params={"stream": "web-1/system", "field": "x", **query})
    assert response.status_code == 400
    assert response.json()["errors"][0]["at"] == where


async def test_who_may_not_read_sees_no_series(
    connection: asyncpg.Connection, http: httpx.AsyncClient, stream: str
) -> None:
    assert (await http.get("/api/series", headers={"Authorization": "Bearer x"})).status_code == 401
    async with connection.transaction():
        await connection.execute("set local role authenticated")
        text = await connection.fetchval(
            "select cf_series($1, 'cpu_usage', now() - interval '1 day', now())", stream
        )
    assert '"points": []' in text
