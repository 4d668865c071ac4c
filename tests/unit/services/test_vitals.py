"""What a service measures of its requests, driven through an application of the same making as every service's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter
from structlog.testing import capture_logs

from services import application
from services.access import Tokens
from services.components import Component
from services.database import Database
from services.problems import Kind, Problem
from services.provided import Shared

router = APIRouter()


@router.get("/things/{thing}")
async def thing(thing: str) -> dict[str, str]:
    if thing == "bug":
        raise RuntimeError("nobody had foreseen it")
    if thing == "refused":
        raise Problem(Kind.NOT_FOUND, "no such thing")
    return {"thing": thing}


async def broken() -> str:
    raise OSError("it is broken")


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose database is nowhere."""
    async with Database("postgresql://127.0.0.1:9/nowhere") as database:
        shared = Shared(
            database=database,
            tokens=Tokens("x" * 32),
            version="1.2.3",
            components=(Component("leaf", broken, required=False),),
            queues=lambda: {"supabase": 7},
        )
        app = application.make("things", "", shared, [router])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


async def test_requests_are_counted_by_route_and_never_by_path(http: httpx.AsyncClient) -> None:
    for path in ("/things/1", "/things/2", "/things/refused", "/nowhere/1", "/nowhere/2"):
        await http.get(path)
    await http.request("MADEUP", "/things/1")
    text = (await http.get("/metrics")).text
    count = 'crossfade_http_requests_total{method="%s",route="%s",service="things",status="%s"} %s'
    assert count % ("GET", "/things/{thing}", 200, "2.0") in text
    assert count % ("GET", "/things/{thing}", 404, "1.0") in text
    assert count % ("GET", "unmatched", 404, "2.0") in text
    assert 'method="other"' in text
    assert "MADEUP" not in text
    assert 'crossfade_http_unhandled_errors_total{service="things"} 0.0' in text


async def test_an_error_nobody_had_foreseen_is_counted_and_found_by_the_id_of_its_request(
    http: httpx.AsyncClient,
) -> None:
    with capture_logs() as lines:
        answer = await http.get("/things/bug", headers={"X-Request-ID": "abc-1"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "abc-1"
    assert "abc-1" in answer.json()["detail"]
    assert "nobody had foreseen" not in answer.text
    assert [line["event"] for line in lines] == ["request_failed", "request_not_answered"]
    told = (await http.get("/metrics/performance")).json()
    assert told["requests"]["unhandled_errors"] == 1
    assert told["requests"]["by_status"] == {"5xx": 1}
    assert told["queues"] == {"supabase": 7}
    assert told["routes"]["/things/{thing}"]["count"] == 1


@pytest.mark.parametrize(
    ("headers", "id_"),
    [
        ({"X-Request-ID": "a.b:c_d-1"}, "a.b:c_d-1"),
        ({"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}, "ab" * 16),
        ({"X-Request-ID": "evil\u00e9 line", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}, "ab" * 16),
        ({"traceparent": f"00-{'0' * 32}-{'cd' * 8}-01"}, None),
        ({"X-Request-ID": "x" * 129}, None),
        ({}, None),
    ],
)
async def test_a_request_has_the_id_that_it_came_with_or_one_of_ours(
    http: httpx.AsyncClient, headers: dict[str, str], id_: str | None
) -> None:
    sent = {name: value.encode() for name, value in headers.items()}
    told = (await http.get("/things/1", headers=sent)).headers["x-request-id"]
    assert told == id_ or (id_ is None and len(told) == 32)


async def test_a_service_is_live_but_not_ready_and_down_without_its_database(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health")).json() == {"status": "live", "version": "1.2.3"}
    assert (await http.get("/ready")).status_code == 503
    answer = await http.get("/health/detailed")
    assert answer.status_code == 503
    told = answer.json()
    assert (told["service"], told["status"]) == ("things", "down")
    assert told["components"]["database"]["status"] == "down"
    assert told["components"]["database"]["last_error"]
    assert told["components"]["leaf"]["status"] == "degraded"
    assert told["components"]["leaf"]["last_error"] == "it is broken"
    assert (await http.get("/health/polling")).json()["status"] == "off"
