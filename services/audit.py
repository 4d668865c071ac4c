"""The record of actions by HTTP, for operators."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict

from services.controlling import NAME, Here, Operator
from services.documents import problems
from services.problems import invalid

router = APIRouter(tags=["audit"], responses=problems(400, 401, 403, 503))

MAX_LIMIT = 500
_SQL = """
select jsonb_build_object(
  'actions', coalesce(jsonb_agg(to_jsonb(a) order by a.at desc, a.id), '[]'),
  'next', case when count(*) = $4 then
    (jsonb_agg(jsonb_build_array(to_jsonb(a.at), a.id) order by a.at, a.id desc) -> 0) end)
from (
  select * from public.cf_audit
  where ($1::text is null or device = $1)
    and ($2::timestamptz is null or at < $2 or (at = $2 and id > $3))
  order by at desc, id limit $4) a
"""


class ActionDocument(BaseModel):
    """Who had what done, when, and what came of it; while ``outcome`` is null that is not known."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0b1b6c4e-58f5-4a0e-9a1c-6f4d4f1c2d3e",
                    "at": "2026-11-26T12:00:00.000000+00:00",
                    "who": "ann",
                    "role": "operator",
                    "action": "container restart",
                    "device": "web-1",
                    "target": "ffmpeg-kick",
                    "detail": {"container": "ffmpeg-kick", "status": "running"},
                    "outcome": "done",
                    "finished_at": "2026-11-26T12:00:01.000000+00:00",
                }
            ]
        }
    )

    id: str
    at: str
    who: str
    role: str
    action: str
    device: str
    target: str
    detail: dict[str, Any]
    outcome: str | None
    finished_at: str | None


class ActionsDocument(BaseModel):
    """A page of the record, the newest first; ``next`` asks for the page after it."""

    actions: list[ActionDocument]
    next: str | None


@router.get("/api/audit", response_model=ActionsDocument)
async def audit(
    here: Here,
    operator: Operator,
    device: Annotated[str | None, Query(max_length=128, pattern=NAME)] = None,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
) -> Response:
    """What was done, the newest first. Kept for 400 days."""
    at, id_ = place(cursor)
    page = orjson.loads(await here.database.answer(operator, _SQL, device, at, id_, limit))
    page["next"] = None if page["next"] is None else f"{page['next'][0]},{page['next'][1]}"
    return Response(orjson.dumps(page), headers={"Cache-Control": "no-store"}, media_type="application/json")


def place(cursor: str | None) -> tuple[datetime | None, uuid.UUID | None]:
    """Return where a page begins: after this time and id; raises Problem."""
    if cursor is None:
        return None, None
    at, _, id_ = cursor.partition(",")
    try:
        return datetime.fromisoformat(at.replace(" ", "+")).astimezone(UTC), uuid.UUID(id_)
    except (ValueError, OverflowError):
        raise invalid("query cursor", "is none that a page named as `next`") from None
