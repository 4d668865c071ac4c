"""Flags for clients elsewhere: OFREP for any OpenFeature SDK, and routes of many clients of ours in one request.

Answered from memory, without the database: clients learn where to go while it is away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from monitoring.flags.routing import evaluate_route
from services.conditional import conditional
from services.documents import MAX_CLIENTS, problems
from services.evaluations import (
    ErrorCode,
    EvaluationError,
    evaluation,
    evaluations,
    route_json,
    targeting_key,
)
from services.feed import Here, Reader

router = APIRouter(tags=["flags"], responses=problems(401, 403, 408, 413))

_STATUS = {ErrorCode.FLAG_NOT_FOUND: 404}
_BAD_REQUEST = 400

_REQUEST: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "context": {
                            "type": "object",
                            "properties": {
                                "targetingKey": {"type": "string", "description": "the client's id"}
                            },
                        }
                    },
                },
                "example": {"context": {"targetingKey": "web-1"}},
            }
        },
    }
}
"""OFREP's evaluation request. Read by hand: its mistakes are answered in OFREP's form."""


class EvaluationDocument(BaseModel):
    """A flag's value for one client (OFREP: evaluationSuccess)."""

    key: str = Field(examples=["live"])
    value: Any = Field(examples=["supabase"])
    variant: str = Field(examples=["supabase"])
    reason: str = Field(examples=["SPLIT"])
    metadata: dict[str, str]


class FailureDocument(BaseModel):
    """Why a flag has no value (OFREP: evaluationFailure)."""

    key: str | None = None
    errorCode: str = Field(examples=["TARGETING_KEY_MISSING"])  # noqa: N815 - OFREP's name
    errorDetails: str  # noqa: N815 - OFREP's name


class BulkDocument(BaseModel):
    """Every flag (OFREP: bulkEvaluationSuccess); ``metadata.problem`` while the flag file is refused."""

    flags: list[EvaluationDocument | FailureDocument]
    metadata: dict[str, str]


class RoutesAsked(BaseModel):
    """The clients of one process."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"clients": ["web-1", "web-2"]}]}
    )

    clients: list[Annotated[str, Field(min_length=1, max_length=1024)]] = Field(max_length=MAX_CLIENTS)


class RouteDocument(BaseModel):
    """How one client is served."""

    backend: str = Field(examples=["supabase"])
    polled: list[str] = Field(
        description="categories that are polled and not pushed", examples=[["containers"]]
    )
    fallbacks: list[str] = Field(examples=[["legacy", "polling"]])
    shadow: str | None = Field(default=None, description="opened besides, what comes is discarded")


class RoutesDocument(BaseModel):
    """How each of the clients is served; ``problem`` while the flag file is refused and the last good one in force."""

    routes: dict[str, RouteDocument]
    problem: str | None


@router.post(
    "/ofrep/v1/evaluate/flags/{key}",
    response_model=EvaluationDocument,
    responses={400: {"model": FailureDocument}, 404: {"model": FailureDocument}},
    openapi_extra=_REQUEST,
)
async def evaluate_flag(request: Request, key: str, here: Here, _: Reader) -> Response:
    """One flag for the client `context.targetingKey` (OFREP)."""
    try:
        found = evaluation(here.flags.current(), key, await _client(request))
    except EvaluationError as error:
        return _failed({"key": key, **error.to_json()}, _STATUS.get(error.code, _BAD_REQUEST))
    return Response(orjson.dumps(found), media_type="application/json")


@router.post(
    "/ofrep/v1/evaluate/flags",
    response_model=BulkDocument,
    responses={304: {"description": "nothing has changed"}, 400: {"model": FailureDocument}},
    openapi_extra=_REQUEST,
)
async def evaluate_flags(request: Request, here: Here, _: Reader) -> Response:
    """Every flag for the client `context.targetingKey` (OFREP); with `If-None-Match` 304 while nothing has changed."""
    try:
        client = await _client(request)
    except EvaluationError as error:
        return _failed(error.to_json(), _BAD_REQUEST)
    problem = here.flags.problem()
    bulk = {
        "flags": evaluations(here.flags.current(), client),
        "metadata": {"problem": problem} if problem else {},
    }
    return conditional(request, orjson.dumps(bulk))


@router.post(
    "/api/routes",
    response_model=RoutesDocument,
    responses={**problems(400), 304: {"description": "nothing has changed"}},
)
async def routes(request: Request, here: Here, _: Reader, asked: RoutesAsked) -> Response:
    """The routes of up to 500 clients at once; with `If-None-Match` 304 while none has changed."""
    flags = here.flags.current()
    found = {client: route_json(evaluate_route(flags, client)) for client in asked.clients}
    return conditional(request, orjson.dumps({"routes": found, "problem": here.flags.problem()}))


async def _client(request: Request) -> str:
    """Return the client of an OFREP request, whatever its content type says; raises EvaluationError."""
    try:
        body = orjson.loads(await request.body() or b"{}")
    except orjson.JSONDecodeError as error:
        raise EvaluationError(ErrorCode.PARSE_ERROR, f"the body is not JSON: {error}") from None
    return targeting_key(body)


def _failed(body: Mapping[str, Any], status: int) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
