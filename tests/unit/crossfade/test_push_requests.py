"""HTTP requests are counted by method, route and class of status, and no request suffers from it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from crossfade.pushing.requests import BUCKETS_MS, MAX_ROUTES, CountingMiddleware, RequestCounts


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_interval_is_told_with_its_length_and_its_buckets() -> None:
    clock = Clock()
    counts = RequestCounts(clock)
    for status, duration_ms in ((200, 4.0), (204, 5.0), (201, 5.1), (503, 9_999.0)):
        counts.count("GET", "/a", status, duration_ms)
    clock.now = 2.0
    told = counts.read()
    assert told == {
        "count": 4,
        "errors": 1,
        "duration_ms_total": 10013.1,
        "interval_seconds": 2.0,
        "bucket_bounds_ms": list(BUCKETS_MS),
        "routes": [
            {"method": "GET", "route": "/a", "status": "2xx", "count": 3, "duration_ms_total": 14.1,
             "buckets": [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]},
            {"method": "GET", "route": "/a", "status": "5xx", "count": 1, "duration_ms_total": 9999.0,
             "buckets": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]},
        ],
    }  # fmt: skip


def test_silence_is_told_once_so_that_the_rate_falls_to_nothing() -> None:
    counts = RequestCounts(Clock())
    assert counts.read() is None
    counts.count("GET", "/", 200, 1)
    assert (counts.read() or {})["count"] == 1
    assert (counts.read() or {})["count"] == 0
    assert counts.read() is None


def test_routes_and_methods_are_bounded() -> None:
    counts = RequestCounts(Clock())
    for number in range(MAX_ROUTES + 50):
        counts.count("GET", f"/{number}", 200, 1)
    counts.count("NONSENSE", "/0", 200, 1)
    told = counts.read() or {}
    assert len(told["routes"]) == MAX_ROUTES + 2
    by_route = {(row["method"], row["route"]): row["count"] for row in told["routes"]}
    assert by_route["GET", "other"] == 50
    assert by_route["other", "other"] == 1
    assert told["count"] == MAX_ROUTES + 51


async def ask(app: Any, *paths: str, **options: Any) -> list[tuple[str, str, str, int]]:
    counts = RequestCounts()
    counted = CountingMiddleware(app, counts.count, **options)
    transport = httpx.ASGITransport(app=counted, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        for path in paths:
            method, _, target = path.partition(" ")
            await client.request(method, target)
    rows = (counts.read() or {})["routes"]
    return [(row["method"], row["route"], row["status"], row["count"]) for row in rows]


async def test_routes_of_fastapi_are_named_as_they_were_declared() -> None:
    app = FastAPI()

    @app.get("/users/{user}")
    async def user(user: int) -> int:
        if user == 13:
            raise HTTPException(409)
        if user == 14:
            raise RuntimeError("a bug")
        return user

    assert await ask(
        app, "GET /users/1", "GET /users/2", "GET /users/13", "GET /users/14", "GET /users/x", "GET /wp-admin"
    ) == [
        ("GET", "/users/{user}", "2xx", 2),
        ("GET", "/users/{user}", "4xx", 2),
        ("GET", "/users/{user}", "5xx", 1),
        ("GET", "unmatched", "4xx", 1),
    ]


async def test_routes_of_starlette_are_named_by_their_parameters() -> None:
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("here")

    inner = [Route("/{name}/edit", page, methods=["POST"])]
    app = Starlette(routes=[Route("/plain", page), Mount("/items", routes=inner)])
    assert await ask(app, "GET /plain", "POST /items/7/edit", "POST /items/8/edit", "GET /no") == [
        ("GET", "/plain", "2xx", 1),
        ("GET", "unmatched", "4xx", 1),
        ("POST", "/items/{name}/edit", "2xx", 2),
    ]


async def test_a_function_of_the_application_names_routes_and_may_fail() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def named(scope: Any) -> str:
        return {"/a": "a"}[scope["path"]]

    assert await ask(app, "GET /a", "GET /b", route_of=named) == [
        ("GET", "a", "2xx", 1),
        ("GET", "other", "2xx", 1),
    ]


async def test_what_is_no_request_passes_through() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], receive, send))

    async def receive() -> dict[str, Any]:
        return {}

    async def send(_: Any) -> None:
        pass

    counts = RequestCounts()
    counted = CountingMiddleware(app, counts.count)
    for kind in ("websocket", "lifespan"):
        await counted({"type": kind}, receive, send)
    assert seen == [("websocket", receive, send), ("lifespan", receive, send)]
    assert counts.read() is None


async def test_an_exception_of_the_application_goes_on_and_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("its own")

    counts = RequestCounts()
    with pytest.raises(LookupError):
        await CountingMiddleware(app, counts.count)(
            {"type": "http", "method": "GET", "path": "/"},
            lambda: None,
            lambda _: None,  # type: ignore[arg-type,return-value]
        )
    assert (counts.read() or {})["errors"] == 1
