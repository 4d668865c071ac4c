"""Rates of requests: a burst, then so many a second; and headers that every answer has."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.headers import SecureHeaders
from services.rates import Rate, RateLimited, Rates


@given(st.lists(st.floats(0, 0.2), min_size=50, max_size=200))
def test_never_more_than_the_burst_and_the_rate(pauses: list[float]) -> None:
    rates, now, admitted = Rates(Rate(10, 5)), 0.0, []
    for pause in pauses:
        now += pause
        if rates.wait("ann", now) == 0:
            admitted.append(now)
    for index, first in enumerate(admitted):
        for number, last in enumerate(admitted[index:], start=1):
            assert number <= 5 + (last - first) * 10 + 1e-6


def test_who_waits_as_long_as_was_told_is_let_in() -> None:
    rates = Rates(Rate(2, 3))
    assert [rates.wait("ann", 0.0) for _ in range(3)] == [0, 0, 0]
    wait = rates.wait("ann", 0.0)
    assert wait == 0.5
    assert rates.wait("ann", 0.25) == 0.25, "being refused costs nothing"
    assert rates.wait("bob", 0.25) == 0, "another caller has a share of its own"
    assert rates.wait("ann", wait) == 0


def test_callers_beyond_the_most_push_out_the_quietest() -> None:
    rates = Rates(Rate(1, 1), most=2)
    assert [rates.wait(name, 0.0) for name in ("a", "b", "c")] == [0, 0, 0]
    assert rates.wait("c", 0.0) > 0
    assert rates.wait("a", 0.0) == 0, "forgotten"


async def answered(
    app: Any, path: str = "/api", token: str = "", scheme: str = "http", address: str = "::1"
) -> Any:
    sent: list[Any] = []
    headers = [(b"authorization", token.encode())] if token else []
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": headers,
        "scheme": scheme,
        "client": (address, 1),
    }

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    assert Request(scope).url.path
    await Response("ok", headers={"Referrer-Policy": "origin"})(scope, receive, send)


async def test_a_token_has_its_rate_and_an_address_ten_times_that() -> None:
    app = RateLimited(fine, Rate(1, 2), clock=lambda: 0.0)
    statuses = [(await answered(app, token="Bearer a"))[0] for _ in range(3)]
    assert statuses == [200, 200, 429]
    status, headers = await answered(app, token="Bearer a")
    assert (status, headers["retry-after"], headers["content-type"]) == (429, "1", "application/problem+json")
    many = [(await answered(app, token=f"Bearer {n}"))[0] for n in range(30)]
    assert many.count(200) == 16, "of 20 from one address four are gone"
    assert (await answered(app, token="Bearer x", address="10.0.0.1"))[0] == 200
    assert (await answered(app, "/health"))[0] == 200, "whoever watches over us is not starved"


async def test_who_shows_no_token_is_counted_by_address() -> None:
    app = RateLimited(fine, Rate(1, 1), clock=lambda: 0.0)
    assert [(await answered(app))[0] for _ in range(2)] == [200, 429]


async def test_every_answer_says_what_a_browser_must_not_do_with_it() -> None:
    _, headers = await answered(SecureHeaders(fine))
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["referrer-policy"] == "origin", "what an answer says itself stays"
    assert "strict-transport-security" not in headers
    _, secure = await answered(SecureHeaders(fine), scheme="https")
    assert secure["strict-transport-security"].startswith("max-age=")
    _, page = await answered(SecureHeaders(fine), "/docs")
    assert "content-security-policy" not in page
