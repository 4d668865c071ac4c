"""Health of the query service as a process, over a real database; and what a request's id leads to."""

from __future__ import annotations

import json
import time

import asyncpg
import httpx

from tests.integration.query.test_push_events import event, operator, stored
from tests.query_process import QueryProcess

__all__ = ["operator"]


async def test_each_thing_the_service_leans_on_has_its_latency(query_process: QueryProcess) -> None:
    async with httpx.AsyncClient(base_url=query_process.url, timeout=20) as http:
        answer = await http.get("/health/detailed")
        told = answer.json()
        assert (answer.status_code, told["service"], told["status"]) == (200, "query", "ok")
        assert set(told["components"]) == {"database", "flags", "intake"}
        assert all(each["status"] == "ok" for each in told["components"].values())
        assert 0 < told["components"]["database"]["latency_ms"] < 3000
        performance = (await http.get("/metrics/performance")).json()
        assert performance["pool"]["limit"] >= performance["pool"]["in_use"] + performance["pool"]["idle"]
        assert performance["process"]["resident_bytes"] > 10_000_000
        assert performance["routes"]["/health/detailed"]["p50"] > 0
        assert performance["queues"]["supabase"] >= 0


async def test_the_polling_is_what_the_collector_wrote_and_its_figures_are_metrics(
    query_process: QueryProcess,
) -> None:
    ticks = {"read": 41, "failed": 2, "timed_out": 1, "late": 3, "skipped": 0, "last_error": "no route"}
    report = {
        "running": True,
        "collectors": {"web-1/system": ticks},
        "paths": {
            "supabase": {"enabled": True, "connected": True, "pending": 5},
            "legacy": {"enabled": False},
        },
        "spool": {"bytes": 100, "limit_bytes": 1000, "refused": 0},
    }
    path = query_process.data_dir / "run/collect.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report))
    try:
        async with httpx.AsyncClient(base_url=query_process.url, timeout=20) as http:
            told = (await http.get("/health/polling")).json()
            text = (await http.get("/metrics")).text
    finally:
        path.unlink()
    assert (told["status"], told["cycles"]["read"]) == ("degraded", 41)
    assert told["collectors"]["web-1/system"]["last_error"] == "no route"
    for line in (
        'crossfade_collector_reads_total{collector="web-1/system"} 41.0',
        'crossfade_collector_failing{collector="web-1/system"} 1.0',
        'crossfade_spool_pending_events{path="supabase"} 5.0',
        'crossfade_component_up{component="database",service="query"} 1.0',
    ):
        assert line in text
    assert 'path="legacy"' not in text.partition("crossfade_path_connected{")[2].partition("#")[0]


async def test_the_id_of_a_request_is_in_the_row_of_its_event_and_in_the_log(
    operator: httpx.AsyncClient, connection: asyncpg.Connection, device: str, query_process: QueryProcess
) -> None:
    id_ = f"req-{time.time_ns()}"
    used = {"connection_type": "redis", "metadata": {"pool": "a"}}
    events = [
        event(f"{device}/orders", "greeting", word="hello"),
        event(f"{device}/connections", "connection_event", **used),
        event(f"{device}/semaphores", "semaphore_gauge", name="s", in_use=1),
    ]
    answer = await operator.post("/api/events", json={"events": events}, headers={"X-Request-ID": id_})
    assert (answer.status_code, answer.headers["x-request-id"]) == (202, id_)
    assert answer.json()["accepted"] == 3
    (greeting,) = await stored(connection, f"{device}/orders", 1)
    (connected,) = await stored(connection, f"{device}/connections", 1)
    (gauge,) = await stored(connection, f"{device}/semaphores", 1)
    assert json.loads(greeting["payload"]) == {"word": "hello", "correlation_id": id_}
    assert json.loads(connected["payload"])["metadata"] == {"pool": "a", "correlation_id": id_}
    assert "correlation_id" not in gauge["payload"]
    (line,) = [line for line in query_process.log.read_text().splitlines() if id_ in line]
    assert "events_kept" in line
