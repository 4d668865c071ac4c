"""Every operation of every OpenAPI document of ours, asked what it says it takes and what it says it does not.

schemathesis makes the requests from the document, of the application as it is; they go over a real socket to the real
database. Whatever is answered has to be as the document says: its status, its type, its form; and never an error of ours.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from embedded.keys import sign
from tests.integration.openapi.conftest import APPS, Served, provided

pytestmark = pytest.mark.xdist_group("openapi")

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "5"))
"""Requests of each kind an operation; OPENAPI_EXAMPLES=300 searches further."""
ONE_BY_ONE = {("post", "/api/events")}
"""Operations that take a list with mistakes in it, and answer each entry by itself."""
OPEN = {"/health", "/ready", "/health/detailed", "/health/polling", "/metrics", "/metrics/performance"}


@functools.cache
def document(name: str) -> dict[str, Any]:
    """Return the document of an application that nothing was opened of."""
    app = APPS[name](provided("postgresql://nowhere/", "x" * 32, Path()))
    return app.openapi()


def operations() -> Iterator[Any]:
    """Return (application, method, path) of all operations."""
    for name in APPS:
        for path, methods in document(name)["paths"].items():
            for method in methods:
                yield pytest.param(name, method, path, id=f"{name}: {method.upper()} {path}")


def token(served: Served, role: str | None) -> dict[str, str]:
    """Return the header of a user with a role in Crossfade, or of one who is only signed in."""
    metadata = {"crossfade_role": role} if role else {}
    claims = {"role": "authenticated", "exp": int(time.time()) + 3600, "app_metadata": metadata, "sub": "x"}
    return {"Authorization": f"Bearer {sign(claims, served.keys.jwt_secret)}"}


@pytest.mark.parametrize(("name", "method", "path"), list(operations()))
def test_an_operation_does_what_its_document_says(served: Served, name: str, method: str, path: str) -> None:
    """Requests that the document allows, and others, of an operator; then some of a viewer, and of who has no role."""
    schema = schemathesis.openapi.from_dict(document(name))
    operation = schema[path][method]
    url = served.urls[name]
    session = requests.Session()

    def ask(headers: dict[str, str], mode: GenerationMode, examples: int, checks: list[Any]) -> None:
        @settings(
            max_examples=examples,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def each(case: Case) -> None:
            case.call_and_validate(base_url=url, headers=headers, session=session, checks=checks, timeout=30)

        each()

    with session:
        operator = token(served, "operator")
        ask(operator, GenerationMode.POSITIVE, EXAMPLES, CHECKS)
        if operation.body or list(operation.iter_parameters()):
            rejected = [] if (method, path) in ONE_BY_ONE else [negative_data_rejection]
            ask(operator, GenerationMode.NEGATIVE, EXAMPLES, [*CHECKS, *rejected])
        ask(token(served, "viewer"), GenerationMode.POSITIVE, 3, CHECKS)
        if path not in OPEN:
            for headers, status in ((token(served, None), 403), ({}, 401)):
                ask(headers, GenerationMode.POSITIVE, 2, [*CHECKS, only(status)])


def only(status: int) -> Any:
    """Return the check that nothing but this status is answered: nobody without a role gets any further."""

    def refused(context: object, response: schemathesis.Response, case: Case) -> None:
        assert response.status_code in {status, 400}, response.text

    return refused
