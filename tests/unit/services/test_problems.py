"""Problems: their table is whole, documented, and what is unforeseen shows nothing of the inside."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from services.problems import Kind, Problem, install

PAGE = (Path(__file__).parents[3] / "docs/query.md").read_text()


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_status_and_is_documented(kind: Kind) -> None:
    status = Problem(kind, "x").response().status_code
    assert f"| `{kind}` | {status} |" in PAGE


async def test_a_bug_is_a_problem_that_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    install(app)

    @app.get("/bug")
    async def bug() -> None:
        raise ValueError("password=hunter2")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/bug")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:crossfade:problem:internal")
    assert "hunter2" not in answer.text
    assert "hunter2" in caplog.text


@pytest.mark.parametrize("kind", Kind)
def test_who_is_to_come_again_is_told_when(kind: Kind) -> None:
    answer = Problem(kind, "x").response()
    assert ("retry-after" in answer.headers) == (answer.status_code in {429, 503})
    known = Problem(kind, "x", headers={"Retry-After": "17"}).response()
    assert known.headers["retry-after"] == "17"
