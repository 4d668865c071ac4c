"""Health, the same on every service: alive, of use, in detail, of the polling, and what is measured. Needs no token.

Nothing here tells what the data is or who reads it; it is for supervisors and Prometheus, and listens where the service does.
"""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.responses import Response

from monitoring import health as forms
from services import exposition
from services.components import Components
from services.documents import problems
from services.provided import Shared, shared
from services.vitals import Vitals

router = APIRouter(tags=["health"])

Common = Annotated[Shared, Depends(shared)]


class HealthDocument(BaseModel):
    """How the service is."""

    status: str
    version: str


class ComponentDocument(BaseModel):
    """How one thing is that the service leans on."""

    status: str
    required: bool
    latency_ms: float
    detail: str
    last_error: str | None
    last_error_at: str | None


class DetailedDocument(BaseModel):
    """How the service and what it leans on is."""

    service: str
    status: str
    version: str
    uptime_seconds: float
    components: dict[str, ComponentDocument]


class PollingDocument(BaseModel):
    """How the collectors do."""

    status: str
    detail: str
    age_seconds: float | None
    cycles: dict[str, Any]
    by_status: dict[str, int]
    collectors: dict[str, dict[str, Any]]


class PerformanceDocument(BaseModel):
    """What a service measured of itself."""

    service: str
    window_seconds: float
    requests: dict[str, Any]
    latency_ms: dict[str, Any]
    routes: dict[str, dict[str, Any]]
    queues: dict[str, int]
    pool: dict[str, int] | None
    process: dict[str, Any]


def _also(model: type[BaseModel], why: str) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a document that comes with 503, too."""
    return {503: {"model": model, "description": why}}


@router.get("/health")
async def health(here: Common) -> HealthDocument:
    """Whether the process is alive; says nothing of the database."""
    return HealthDocument(status="live", version=here.version)


@router.get("/ready", responses=problems(503))
async def ready(here: Common) -> HealthDocument:
    """Whether requests can be answered: the database is there and has Crossfade's tables."""
    await here.database.check()
    return HealthDocument(status="ready", version=here.version)


@router.get(
    "/health/detailed",
    response_model=DetailedDocument,
    responses=_also(DetailedDocument, "it is of no use now"),
)
async def detailed(request: Request, here: Common) -> Response:
    """Each thing that the service leans on: how it is, how long it took to answer, its last error. 503 when it is down."""
    vitals: Vitals = request.app.state.vitals
    components: Components = request.app.state.components
    found = forms.detailed(vitals.service, here.version, vitals.uptime_seconds, await components.look())
    return _json(found, 503 if found["status"] == forms.DOWN else 200)


@router.get(
    "/health/polling", response_model=PollingDocument, responses=_also(PollingDocument, "the collector hangs")
)
async def polling(here: Common) -> Response:
    """The collectors: readings, failures, lateness, the last success and error of each. 503 when they hang."""
    found = forms.polling(*here.reports.collect())
    return _json(found, 503 if found["status"] == forms.DOWN else 200)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}},
)
async def metrics(request: Request, here: Common) -> Response:
    """All of it for Prometheus."""
    components: Components = request.app.state.components
    accept = request.headers.get("accept", "")
    kind, body = exposition.exposed(request.app.state.vitals, here, await components.look(), accept)
    return Response(body, media_type=kind)


@router.get("/metrics/performance", response_model=PerformanceDocument)
async def performance(request: Request, here: Common) -> Response:
    """Requests, percentiles of the last five minutes, queues, the pool and the process."""
    vitals: Vitals = request.app.state.vitals
    return _json(vitals.performance() | {"queues": dict(here.queues()), "pool": here.database.pool()})


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, {"Cache-Control": "no-store"}, "application/json")
