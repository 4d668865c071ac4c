"""Bad input and bad tokens: the right status, the place, and what to do next."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest

from tests.conftest import EmbeddedSupabase
from tests.integration.query.conftest import Token
from tests.query_process import QueryProcess

PATHS = [
    ("GET", "/api/heads"),
    ("GET", "/api/snapshot"),
    ("POST", "/api/events"),
    ("POST", "/api/events/after"),
    ("POST", "/ofrep/v1/evaluate/flags"),
    ("POST", "/ofrep/v1/evaluate/flags/live"),
    ("POST", "/api/routes"),
    ("GET", "/api/connection"),
]


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check that an answer is a problem of a kind, and return it."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
        body
    )
    assert (body["status"], body["type"]) == (status, f"urn:crossfade:problem:{kind}")
    return body


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_nothing_is_answered_without_a_token(
    query_process: QueryProcess, method: str, path: str
) -> None:
    async with httpx.AsyncClient(base_url=query_process.url) as client:
        refused = await client.request(method, path, json={} if method == "POST" else None)
    assert "bearer token" in problem(refused, 401, "unauthorized")["detail"]
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_tokens_that_are_not_good_are_refused_with_the_reason(
    http: httpx.AsyncClient, token: Token, embedded_supabase: EmbeddedSupabase
) -> None:
    now = time.time()
    none = jwt.encode({"role": "authenticated", "exp": now + 60}, None, algorithm="none")
    for header, status, kind, reason in (
        (f"Bearer {token(exp=int(now) - 1)}", 401, "unauthorized", "expired"),
        (f"Bearer {token(exp=None)}", 401, "unauthorized", '"exp"'),
        (f"Bearer {token(role=None)}", 401, "unauthorized", '"role"'),
        (f"Bearer {token(secret='x' * 40)}", 401, "unauthorized", "Signature"),
        (f"Bearer {none}", 401, "unauthorized", "not valid"),
        ("Bearer garbage", 401, "unauthorized", "not valid"),
        ("Basic dXNlcjpwYXNz", 401, "unauthorized", "bearer token"),
        (f"Bearer {embedded_supabase.keys.anon_key}", 403, "forbidden", "'anon'"),
        (f"Bearer {token(role='postgres')}", 403, "forbidden", "'postgres'"),
        (f"Bearer {token(app_metadata=None)}", 403, "forbidden", "crossfade_role"),
        (f"Bearer {token(app_metadata={'crossfade_role': 'nobody'})}", 403, "forbidden", "crossfade_role"),
        (f"Bearer {token(app_metadata={'crossfade_role': ['viewer']})}", 403, "forbidden", "crossfade_role"),
    ):
        refused = await http.get("/api/heads", headers={"Authorization": header})
        assert reason in problem(refused, status, kind)["detail"], header
    service = f"Bearer {embedded_supabase.keys.service_role_key}"
    assert (await http.get("/api/heads", headers={"Authorization": service})).status_code == 200


@pytest.mark.parametrize(
    ("body", "at", "reason"),
    [
        ({"topics": ["devices.web-1", "device.web-1"]}, "/topics/1", "'device' is not a kind of topic"),
        ({"topics": ["devices.a b"]}, "/topics/0", "must be 1-128 letters"),
        ({"topics": ["devices.a\u0000"]}, "/topics/0", "must be 1-128 letters"),
        ({"topics": ["global"] * 201}, "/topics", "more than 200"),
        ({"topics": "global"}, "/topics", "list"),
        ({"cursor": {"web-1/system": [1]}}, "/cursor/web-1~1system", "[epoch, seq]"),
        ({"cursor": {"web-1/system": [1, -1]}}, "/cursor/web-1~1system", "[epoch, seq]"),
        ({"cursor": {"web-1/system": [1, True]}}, "/cursor/web-1~1system", "[epoch, seq]"),
        ({"cursor": {"web-1/system": [1, 2**63]}}, "/cursor/web-1~1system", "beyond any event"),
        ({"cursor": {"web-1": [1, 1]}}, "/cursor/web-1", "not device/category"),
        (
            {"cursor": {"'; drop table cf_events; --/x": [1, 1]}},
            "/cursor/'; drop table cf_events; --~1x",
            "must be",
        ),
        ({"cursor": []}, "/cursor", "dictionary"),
        ({"limit": 0}, "/limit", "greater than or equal to 1"),
        ({"limit": 1001}, "/limit", "less than or equal to 1000"),
        ({"limit": "5"}, "/limit", "integer"),
        ({"after": {}}, "/after", "not permitted"),
        ([], "/", "dictionary"),
    ],
)
async def test_what_is_wrong_with_a_question_is_said_with_its_place(
    http: httpx.AsyncClient, body: object, at: str, reason: str
) -> None:
    refused = problem(await http.post("/api/events/after", json=body), 400, "invalid-request")
    (error,) = refused["errors"]
    assert error["at"] == at
    assert reason in error["detail"]
    assert at in refused["detail"]


async def test_every_mistake_is_named_at_once(http: httpx.AsyncClient) -> None:
    refused = await http.get("/api/snapshot", params={"topic": ["x", "global", "devices."]})
    errors = problem(refused, 400, "invalid-request")["errors"]
    assert [error["at"] for error in errors] == ["query topic (1)", "query topic (3)"]


async def test_bodies_that_are_no_json_are_refused(http: httpx.AsyncClient) -> None:
    typed = {"Content-Type": "application/json"}
    for content in (b"{", b"\xff\xfe", b'{"cursor": ' + b"[" * 100_000):
        refused = await http.post("/api/events/after", content=content, headers=typed)
        problem(refused, 400, "invalid-request")


async def test_large_bodies_are_refused_declared_or_not(http: httpx.AsyncClient) -> None:
    async def endless() -> Any:
        for _ in range(20):
            yield b" " * 100_000

    declared = await http.post("/api/events/after", content=b" " * 1_100_000)
    assert "1,048,576 bytes" in problem(declared, 413, "too-large")["detail"]
    problem(await http.post("/api/routes", content=endless()), 413, "too-large")


async def test_a_body_that_does_not_come_is_not_waited_for(query_process: QueryProcess) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", query_process.port)
    writer.write(b"POST /api/routes HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    async with asyncio.timeout(20):
        answer = await reader.read()  # to its end: the connection is closed
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:crossfade:problem:too-slow" in answer


async def test_unknown_paths_and_methods_are_problems_too(http: httpx.AsyncClient) -> None:
    problem(await http.get("/api/nothing"), 404, "not-found")
    wrong = await http.delete("/api/heads")
    problem(wrong, 405, "method-not-allowed")
    assert wrong.headers["allow"] == "GET"


NASTY = (
    "'; drop table cf_projects; --", "') or ('1'='1", "%00", "a\r\nSet-Cookie: x=1", "../../../etc/passwd", "%2e%2e%2f", "\u202e",
    "${jndi:ldap://x}", "{{7*7}}", "<script>alert(1)</script>", "x" * 4000, "\ufffe", "1e999", "-1", "null", "$.*", "[*]",
)  # fmt: skip
ASKED = [
    ("/api/events", ("topic", "from", "kind", "device", "project", "limit", "next")),
    ("/api/devices", ("status", "project", "next")),
    ("/api/containers", ("device", "status", "running", "name", "next")),
    ("/api/sessions", ("device", "next")),
    ("/api/projects", ("state", "device", "next")),
    ("/api/alerts", ("device", "rule", "cursor")),
    ("/api/export/series?stream=a/b", ("field", "format", "points")),
    ("/api/analytics/top", ("field", "category", "interval", "n")),
    ("/api/analytics/percentiles?stream=a/b&field=x", ("p", "interval", "to")),
    ("/api/analytics/availability", ("device", "container", "next")),
]


@pytest.mark.parametrize(("path", "names"), ASKED, ids=[path for path, _ in ASKED])
async def test_what_is_meant_for_another_interpreter_is_text_or_refused(
    http: httpx.AsyncClient, path: str, names: tuple[str, ...]
) -> None:
    for name in names:
        for text in NASTY:
            answer = await http.get(f"{path}{'&' if '?' in path else '?'}{name}={quote(text, safe='')}")
            assert answer.status_code in {200, 400}, (name, text, answer.text)
            assert "set-cookie" not in answer.headers
    assert (await http.get("/api/projects")).status_code == 200  # the tables are where they were


async def test_paths_do_not_lead_elsewhere(http: httpx.AsyncClient) -> None:
    for text in NASTY:
        answer = await http.get(f"/api/devices/{quote(text, safe='')}")
        assert answer.status_code in {400, 404}, (text, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_parameter_that_there_is_not_is_named(http: httpx.AsyncClient) -> None:
    refused = problem(await http.get("/api/events?devise=web-1"), 400, "invalid-request")
    assert refused["errors"] == [{"at": "query devise", "detail": "there is no such parameter"}]
    assert "device" in refused["detail"]
