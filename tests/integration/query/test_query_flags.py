"""Flags for clients elsewhere: OFREP as an OpenFeature SDK asks it, and routes of many clients at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from monitoring.flags.editing import edit
from monitoring.flags.evaluation import evaluate
from monitoring.flags.loading import load
from tests.conftest import EmbeddedSupabase
from tests.integration.query.conftest import Token
from tests.integration.query.test_query_refusals import problem
from tests.query_process import QueryProcess
from tests.service_process import ROOT

SHIPPED = (ROOT / "flags.yaml").read_text()


async def until(http: httpx.AsyncClient, key: str, client: str, value: object) -> float:
    """Ask until a flag has a value; returns how many seconds that took."""
    began = time.monotonic()
    while True:
        asked = {"context": {"targetingKey": client}}
        found = (await http.post(f"/ofrep/v1/evaluate/flags/{key}", json=asked)).json()
        if found.get("value") == value:
            return time.monotonic() - began
        assert time.monotonic() - began < 10, found
        await asyncio.sleep(0.02)


@pytest.fixture
def openfeature(query_process: QueryProcess, token: Token) -> Iterator[OpenFeatureClient]:
    """An OpenFeature client over the official OFREP provider, unchanged."""
    headers = {"Authorization": f"Bearer {token()}"}
    provider = OFREPProvider(query_process.url, headers_factory=lambda: headers)
    api.set_provider_and_wait(provider)
    yield api.get_client()
    provider.session.close()
    api.clear_providers()


def test_an_openfeature_sdk_gets_the_same_split_with_its_reasons(
    openfeature: OpenFeatureClient, flags: Path
) -> None:
    text = edit(edit(edit(SHIPPED, "live.percent", "50"), "live.allow", "friend"), "live.deny", "foe")
    flags.write_text(text)
    deadline = time.monotonic() + 10
    while openfeature.get_string_value("live", "", EvaluationContext("friend")) != "supabase":
        assert time.monotonic() < deadline
    mine = load(text)
    seen = set()
    for client in (f"web-{number}" for number in range(40)):
        details = openfeature.get_string_details("live", "none", EvaluationContext(client))
        assert (details.value, details.reason) == (evaluate(mine, client).value, Reason.SPLIT)
        assert details.variant == details.value
        seen.add(details.value)
    assert seen == {"legacy", "supabase"}
    for client, value in (("friend", "supabase"), ("foe", "legacy")):
        details = openfeature.get_string_details("live", "none", EvaluationContext(client))
        assert (details.value, details.reason) == (value, Reason.TARGETING_MATCH)
    route = openfeature.get_object_value("route", {}, EvaluationContext("foe"))
    assert route == {"backend": "legacy", "polled": [], "fallbacks": ["polling"]}
    assert openfeature.get_boolean_value("websocket_enabled", False) is True


def test_an_openfeature_sdk_is_told_what_is_wrong(openfeature: OpenFeatureClient) -> None:
    unknown = openfeature.get_string_details("nothing", "mine", EvaluationContext("web-1"))
    assert (unknown.value, unknown.error_code) == ("mine", ErrorCode.FLAG_NOT_FOUND)
    nobody = openfeature.get_string_details("live", "mine")
    assert (nobody.value, nobody.error_code) == ("mine", ErrorCode.TARGETING_KEY_MISSING)


async def test_all_flags_at_once_are_sent_again_only_when_one_has_changed(
    http: httpx.AsyncClient, flags: Path
) -> None:
    asked = {"context": {"targetingKey": "web-1", "country": "de"}}
    first = await http.post("/ofrep/v1/evaluate/flags", json=asked)
    found = {flag["key"]: flag for flag in first.json()["flags"]}
    assert found["live"]["value"] == "legacy"
    assert found["live"]["reason"] == "DEFAULT"
    assert found["websocket_system_alerts"]["value"] is True
    tag = {"If-None-Match": first.headers["etag"]}
    idle = await http.post("/ofrep/v1/evaluate/flags", json=asked, headers=tag)
    assert (idle.status_code, idle.content) == (304, b"")
    written = flags.with_suffix(".new")  # in one step: half a file would be refused, and that be told
    written.write_text(edit(SHIPPED, "kill", "true"))
    written.replace(flags)
    while (moved := await http.post("/ofrep/v1/evaluate/flags", json=asked, headers=tag)).status_code == 304:
        await asyncio.sleep(0.02)
    live = moved.json()["flags"][0]
    assert (live["value"], live["reason"], live["metadata"]["rule"]) == ("legacy", "STATIC", "KILLED")


async def test_without_a_client_only_what_needs_one_fails(http: httpx.AsyncClient) -> None:
    flags = (await http.post("/ofrep/v1/evaluate/flags", json={})).json()["flags"]
    assert {flag["key"] for flag in flags if "errorCode" in flag} == {"live", "route"}
    assert {flag["errorCode"] for flag in flags if "errorCode" in flag} == {"TARGETING_KEY_MISSING"}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "PARSE_ERROR"),
        (b"[]", "PARSE_ERROR"),
        (b'{"context": []}', "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": 7}}', "INVALID_CONTEXT"),
    ],
)
async def test_mistakes_are_told_in_ofreps_words(http: httpx.AsyncClient, content: bytes, code: str) -> None:
    for path in ("/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/live"):
        refused = await http.post(path, content=content)
        assert (refused.status_code, refused.json()["errorCode"]) == (400, code)
        assert refused.json()["errorDetails"]


async def test_switches_change_the_route_and_not_the_backend(http: httpx.AsyncClient, flags: Path) -> None:
    flags.write_text(edit(edit(SHIPPED, "websocket_container_stats", "false"), "live.allow", "web-1"))
    route = {"backend": "supabase", "polled": ["containers"], "fallbacks": ["legacy", "polling"]}
    assert await until(http, "route", "web-1", route) < 2
    flags.write_text(edit(SHIPPED, "websocket_enabled", "false"))
    assert await until(http, "live", "web-1", "polling") < 2
    asked = {"clients": ["web-1", "web-2"]}
    routes = (await http.post("/api/routes", json=asked)).json()["routes"]
    assert routes == {
        name: {"backend": "polling", "polled": [], "fallbacks": []} for name in asked["clients"]
    }


async def test_a_broken_file_is_told_and_changes_no_route(http: httpx.AsyncClient, flags: Path) -> None:
    flags.write_text(edit(SHIPPED, "live.percent", "100"))
    await until(http, "live", "web-1", "supabase")
    flags.write_text(SHIPPED.replace("kill: false", "kill: maybe"))
    asked = {"clients": ["web-1"]}
    while (answer := (await http.post("/api/routes", json=asked)).json())["problem"] is None:
        await asyncio.sleep(0.02)
    assert "kill must be true or false" in answer["problem"]
    assert answer["routes"]["web-1"]["backend"] == "supabase"


async def test_routes_are_asked_for_in_bounded_batches(http: httpx.AsyncClient) -> None:
    many = [f"web-{number}" for number in range(500)]
    answer = await http.post("/api/routes", json={"clients": many})
    assert answer.json()["routes"].keys() == set(many)
    again = await http.post(
        "/api/routes", json={"clients": many}, headers={"If-None-Match": answer.headers["etag"]}
    )
    assert again.status_code == 304
    problem(await http.post("/api/routes", json={"clients": [*many, "one-more"]}), 400, "invalid-request")
    problem(await http.post("/api/routes", json={"clients": [""]}), 400, "invalid-request")


async def test_a_client_elsewhere_is_told_how_to_connect(
    http: httpx.AsyncClient, embedded_supabase: EmbeddedSupabase, query_process: QueryProcess
) -> None:
    answer = (await http.get("/api/connection")).json()
    assert answer["supabase"] == {
        "url": "http://127.0.0.1:54321",
        "key": embedded_supabase.keys.anon_key,
        "mode": "changes",
    }
    assert answer["legacy"] == {"url": "ws://127.0.0.1:8001/ws"}
    assert answer["polling"] == {"url": query_process.url}
    assert answer["version"]


async def test_the_openapi_document_shows_every_operation_with_an_example(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    assert document["paths"].keys() == {
        "/api/heads",
        "/api/snapshot",
        "/api/events",
        "/api/events/after",
        "/ofrep/v1/evaluate/flags/{key}",
        "/ofrep/v1/evaluate/flags",
        "/api/routes",
        "/api/clients",
        "/api/keys",
        "/api/keys/{prefix}/revoke",
        "/api/connection",
        "/api/alerts",
        "/api/alerts/{alert_id}/acknowledge",
        "/api/alerts/silences",
        "/api/alerts/silences/{silence_id}/end",
        "/api/series",
        "/api/series/fields",
        "/api/devices",
        "/api/devices/{device}",
        "/api/containers",
        "/api/sessions",
        "/api/projects",
        "/api/projects/{project}",
        "/api/projects/{project}/members/{device}",
        "/api/export/events",
        "/api/export/series",
        "/api/analytics/rates",
        "/api/analytics/events",
        "/api/analytics/percentiles",
        "/api/analytics/top",
        "/api/analytics/availability",
        "/api/data",
        "/monitoring/dashboard",
        "/health",
        "/health/detailed",
        "/health/polling",
        "/metrics",
        "/metrics/performance",
        "/ready",
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["description"], path
            if body := operation.get("requestBody"):
                assert "example" in str(body) or "examples" in str(document["components"]["schemas"]), path
