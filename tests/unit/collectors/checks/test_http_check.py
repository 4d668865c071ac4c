"""HTTP checks of foreign services, whose answers cannot be had here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
import respx

from collectors.checks.collector import CheckCollector, CheckFailed
from collectors.checks.config import HttpCheck
from collectors.checks.http import MISSING, HttpProbe, value_at
from collectors.checks.result import Result
from monitoring.device_status import Outcome

ADDRESS = "192.0.2.1"


async def found(host: str, port: int) -> Sequence[str]:
    return [ADDRESS]


async def ask(**keys: Any) -> Result:
    check = HttpCheck.model_validate({"http": "http://shop.example/health", "timeout": "2s", **keys})
    return await HttpProbe(check, find=found)()


@pytest.mark.parametrize(
    ("answer", "keys", "outcome", "reason"),
    [
        (httpx.Response(200), {}, "whole", "it answers 200"),
        (httpx.Response(204), {}, "whole", "it answers 204"),
        (httpx.Response(503), {}, "refused", "it answers 503"),
        (httpx.Response(503), {"status": [200, "5xx"]}, "whole", "it answers 503"),
        (httpx.Response(200, text="Welcome!"), {"contains": "Welcome"}, "whole", "it answers 200"),
        (httpx.Response(200, text="Sorry"), {"contains": "Welcome"}, "refused", "the answer does not contain 'Welcome'"),
        (httpx.Response(200, text="Traceback"), {"lacks": "Traceback"}, "refused", "the answer contains 'Traceback'"),
        (httpx.Response(200, json={"db": {"up": True}}), {"json": {"db.up": True}}, "whole", "it answers 200"),
        (httpx.Response(200, json={"db": {"up": 1}}), {"json": {"db.up": True}}, "refused", "db.up is 1, not True"),
        (httpx.Response(200, json={"db": None}), {"json": {"db.up": True}}, "refused", "db.up is nothing, not True"),
        (httpx.Response(200, text="<html>"), {"json": {"a": 1}}, "refused", "the answer is not JSON"),
        (httpx.ConnectTimeout("slow"), {}, "silent", "no answer within 2 s"),
        (httpx.ReadError("reset"), {}, "silent", "no whole answer: reset"),
        (httpx.ConnectError("no route"), {}, "silent", "it cannot be reached: no route"),
    ],
)  # fmt: skip
@respx.mock
async def test_an_answer_is_judged(answer: Any, keys: dict[str, Any], outcome: str, reason: str) -> None:
    route = respx.get(f"http://{ADDRESS}/health")
    if isinstance(answer, Exception):
        route.mock(side_effect=answer)
    else:
        route.mock(return_value=answer)
    result = await ask(**keys)
    assert (result.outcome.value, result.reason) == (outcome, reason)
    assert route.calls.last.request.headers["host"] == "shop.example"


@respx.mock
async def test_redirects_are_followed_and_told_and_headers_stay_with_their_host() -> None:
    respx.get(f"http://{ADDRESS}/health").mock(
        return_value=httpx.Response(302, headers={"location": "http://other.example/in?secret=1"})
    )
    other = respx.get(f"http://{ADDRESS}/in").mock(return_value=httpx.Response(200))
    result = await ask(headers={"X-Token": "mine"})
    assert result.outcome == Outcome.WHOLE
    assert result.details["redirects"] == ["http://other.example/in"]
    assert "x-token" not in other.calls.last.request.headers
    assert other.calls.last.request.headers["host"] == "other.example"


@pytest.mark.parametrize(
    ("location", "keys", "reason"),
    [
        ("/health", {}, "it redirects more than 5 times"),
        ("/login", {"redirects": "refuse"}, "it redirects to :///login"),
        ("ftp://files.example/", {}, "it redirects to ftp://files.example/, which is not HTTP"),
    ],
)
@respx.mock
async def test_redirects_that_lead_nowhere_are_refused(
    location: str, keys: dict[str, Any], reason: str
) -> None:
    respx.get(f"http://{ADDRESS}/health").mock(
        return_value=httpx.Response(301, headers={"location": location})
    )
    result = await ask(**keys)
    assert (result.outcome, result.reason) == (Outcome.REFUSED, reason)


@respx.mock
async def test_a_form_that_is_answered_by_a_redirect_is_not_sent_again() -> None:
    respx.post(f"http://{ADDRESS}/health").mock(
        return_value=httpx.Response(303, headers={"location": "/done"})
    )
    done = respx.get(f"http://{ADDRESS}/done").mock(return_value=httpx.Response(200))
    assert (await ask(method="POST", body="a=1")).outcome == Outcome.WHOLE
    assert done.calls.last.request.content == b""


async def test_a_name_without_an_address_is_silent() -> None:
    async def nowhere(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    check = HttpCheck.model_validate({"http": "http://shop.example/"})
    result = await HttpProbe(check, find=nowhere)()
    assert (result.outcome, result.latency_seconds) != (Outcome.WHOLE, None)
    assert result.reason == "shop.example has no address: Name or service not known"


async def test_a_resolver_that_hangs_is_given_up() -> None:
    async def hangs(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    check = HttpCheck.model_validate({"http": "http://shop.example/", "timeout": "50ms"})
    result = await HttpProbe(check, find=hangs)()
    assert (result.outcome, result.latency_seconds) == (Outcome.SILENT, None)


def test_a_path_leads_through_objects_and_lists() -> None:
    document = {"a": [{"b": 1}, None]}
    assert value_at(document, "a.0.b") == 1
    assert value_at(document, "a.1") is None
    assert value_at(document, "a.2") is MISSING
    assert value_at(document, "a.b") is MISSING


async def test_a_failing_check_tells_its_reading_and_its_status() -> None:
    result = Result(Outcome.REFUSED, "it answers 503", 0.01, {"status_code": 503})

    async def probe() -> Result:
        return result

    check = HttpCheck.model_validate({"http": "http://u:p@shop.example/health?k=v"})
    collector = CheckCollector("shop", check, "web-1", probe=probe)
    with pytest.raises(CheckFailed) as caught:
        await collector.collect()
    (draft,) = caught.value.drafts
    assert draft.stream == "web-1/checks"
    assert draft.payload == {
        "check": "shop", "type": "http", "target": "http://u@shop.example/health", "ok": False,
        "outcome": "refused", "reason": "it answers 503", "latency_ms": 10.0, "status_code": 503,
    }  # fmt: skip
    judge = collector.judge({})
    told = [
        change for _ in range(3) for change in judge.observe("shop", caught.value.outcome, str(caught.value))
    ]
    assert [(change.kind, change.payload["check"], change.payload["new_status"]) for change in told] == [
        ("check_status_changed", "shop", "down")
    ]
