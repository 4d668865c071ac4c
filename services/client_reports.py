"""What clients on other machines saw: kept beside what the clients of this one report, for rollout and comparison.

A report is believed: whoever may read may say what he has read, and the rollout counts that as it counts what this
machine's clients say.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services.documents import MAX_CLIENTS, problems
from services.feed import Here, Reader
from services.problems import Kind, Problem

router = APIRouter(tags=["clients"], responses=problems(400, 401, 403, 408, 413))

ClientId = Annotated[str, Field(min_length=1, max_length=1024)]
Figures = Annotated[dict[ClientId, dict[str, Any]], Field(max_length=MAX_CLIENTS)]

_SEEN = {
    "web-1": {
        "1": {
            "topics": ["global"],
            "block": 7,
            "more": False,
            "unidentified": False,
            "streams": {"web-1/system": [1, 41, 12, 1234567890, 0, 0]},
        }
    }
}
_COUNTS = {"blocks": 6, "disturbed": 0, "events": 40, "findings": 0, "errors": 0}


class ReportDocument(BaseModel):
    """What the clients of one process see, as of now; each report takes the place of the process's last."""

    model_config = ConfigDict(extra="forbid")

    process: str = Field(pattern="^[0-9a-f]{8,64}$", description="names the process, by chance")
    clients: Figures = Field(
        description="who serves each client, and the blocks that give evidence",
        examples=[
            {
                "web-1": {
                    "backend": "supabase",
                    "shadow": None,
                    "live": _COUNTS,
                    "shadowed": dict.fromkeys(_COUNTS, 0),
                    "note": "",
                }
            }
        ],
    )
    sees: Figures = Field(
        default_factory=dict,
        description="of each of its subscriptions, per stream [epoch, seq, count, digest, backwards, told missing]",
        examples=[_SEEN],
    )


@router.post("/api/clients", status_code=204, response_class=Response, responses=problems(429))
async def report(here: Here, reader: Reader, body: ReportDocument) -> Response:
    """Keep what clients elsewhere saw; it is forgotten ten seconds after the last report."""
    kept = await asyncio.to_thread(
        here.client_reports.keep, reader.name, body.process, body.clients, body.sees
    )
    if not kept:
        raise Problem(Kind.TOO_MANY, "too many processes of this user report; wait until others have ended")
    return Response(status_code=204)
