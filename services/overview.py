"""The whole on one page by HTTP: `/monitoring/dashboard` of seed 004, and `/api/data` of seed 002 for one-time fetches."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from legacy_ws.protocol.container_states import ContainerStates
from legacy_ws.protocol.containers import InitialState, container
from legacy_ws.protocol.records import encode
from monitoring.events import from_json
from services.conditional import conditional
from services.documents import problems
from services.feed import Here, Reader

router = APIRouter(tags=["overview"], responses=problems(401, 403, 503))


class SeedContainer(BaseModel):
    """A container in the form of seed 002, and its device."""

    name: str = Field(description="without the project's prefix (CROSSFADE_LEGACY_CONTAINER_PREFIX)")
    full_name: str
    status: str
    status_detail: str = Field(examples=["Up 2 hours (healthy)"])
    running: bool
    health: str | None
    id: str
    created: bool
    device: str = ""


class DataDocument(BaseModel):
    """All containers: what ``initial_state`` of `/ws/containers` says, with the same keys."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "initial_state",
                    "timestamp": "2025-11-25T22:52:32.016Z",
                    "containers": [
                        {
                            "name": "nginx-proxy",
                            "full_name": "latestrelayer-nginx-proxy",
                            "status": "running",
                            "status_detail": "Up 2 hours (healthy)",
                            "running": True,
                            "health": "healthy",
                            "id": "abc123ef",
                            "created": True,
                            "device": "web-1",
                        }
                    ],
                }
            ]
        }
    )

    type: str
    timestamp: str
    containers: list[SeedContainer]


class DashboardDocument(BaseModel):
    """Counts and the worst of everything, as of now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "devices": {
                        "total": 3,
                        "by_status": {"up": 2, "down": 1},
                        "cpu_usage_mean": 12.5,
                        "memory_usage_mean": 40.1,
                        "busiest": [{"device": "web-1", "cpu_usage": 61.0, "memory_usage": 48.0}],
                    },
                    "containers": {
                        "total": 12,
                        "running": 11,
                        "unhealthy": 0,
                        "by_status": {"running": 11, "exited": 1},
                    },
                    "sessions": 14,
                    "requests": {"total": 48211, "errors": 3, "per_second": 12.4},
                    "alerts": {"firing": 0, "by_severity": {}, "newest": []},
                    "polling": {"registered": 2, "enabled": 2, "heard_of": 2},
                    "streams": {"total": 7, "moved_in_a_minute": 7},
                    "delivery": {
                        "mode": "changes",
                        "beat": 41,
                        "beat_at": "2026-11-26T12:00:20.000000+00:00",
                    },
                    "storage": {
                        "used_bytes": 52428800,
                        "limit_bytes": 10000000000,
                        "trims": 0,
                        "hours_to_roll_up": 0,
                    },
                }
            ]
        }
    )

    devices: dict[str, Any]
    containers: dict[str, Any]
    sessions: int
    requests: dict[str, Any]
    alerts: dict[str, Any]
    polling: dict[str, Any]
    streams: dict[str, Any]
    delivery: dict[str, Any] | None
    storage: dict[str, Any] | None


@router.get(
    "/monitoring/dashboard",
    response_model=DashboardDocument,
    responses={304: {"description": "nothing has changed"}},
)
async def dashboard(request: Request, here: Here, reader: Reader) -> Response:
    """What a first page shows: devices, containers, sessions, requests, alerts, polling, delivery and storage."""
    answer = await here.database.answer(reader, "select public.cf_overview()")
    return conditional(request, answer.encode())


@router.get("/api/data", response_model=DataDocument)
async def data(here: Here, reader: Reader) -> Response:
    """Every container in the form of seed 002's `initial_state`, once; what follows is pushed on `/ws/containers`."""
    answer = await here.database.answer(reader, "select public.cf_snapshot('{categories.containers}')")
    events = [from_json(each) for each in orjson.loads(answer)["state"]]
    states = ContainerStates()
    for event in sorted(events, key=lambda each: (each.stream, each.position)):
        states.take(event)
    now = datetime.now(UTC)
    shown = tuple(container(state, now, here.container_prefix) for state in states.all)
    return Response(
        encode(InitialState(now, shown)), headers={"Cache-Control": "no-store"}, media_type="application/json"
    )
