"""The feed by HTTP: heads, snapshots, and what a client missed, read by the functions that Supabase's clients call too."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request, Security
from fastapi.security import HTTPBearer
from starlette.responses import Response

from services.access import Caller, require_reader
from services.asked import cursor_of, topics_of
from services.conditional import conditional
from services.documents import EventsAfter, PageDocument, Positions, SnapshotDocument, problems
from services.provided import Provided, provided

router = APIRouter(tags=["feed"], responses=problems(400, 401, 403, 503))

_BEARER = Security(HTTPBearer(auto_error=False, description="an access token of the project"))


async def caller(
    request: Request, here: Annotated[Provided, Depends(provided)], _: Annotated[object, _BEARER]
) -> Caller:
    """Return who calls; raises Problem for anybody who may not read."""
    found = here.tokens.caller(request.headers.get("authorization"))
    require_reader(found)
    return found


Reader = Annotated[Caller, Depends(caller)]
Here = Annotated[Provided, Depends(provided)]
TopicQuery = Annotated[
    list[str] | None,
    Query(
        alias="topic",
        description="`global`, `devices.NAME`, `categories.NAME` or `metrics.NAME`; several are united, none means all",
        examples=[["devices.web-1"]],
    ),
]


@router.get("/api/heads", response_model=Positions, responses={304: {"description": "nothing has moved"}})
async def heads(request: Request, here: Here, reader: Reader, topic: TopicQuery = None) -> Response:
    """How far each stream of the topics is. With `If-None-Match` an idle poll is a 304 without content."""
    names = topics_of(topic or (), "query topic")
    answer = await here.database.answer(reader, "select public.cf_heads($1)", names)
    return conditional(request, answer.encode())


@router.get("/api/snapshot", response_model=SnapshotDocument)
async def snapshot(here: Here, reader: Reader, topic: TopicQuery = None) -> Response:
    """The newest event of each stream and kind, and the cursor from which to follow on, in one database snapshot."""
    names = topics_of(topic or (), "query topic")
    return _json(await here.database.answer(reader, "select public.cf_snapshot($1)", names))


@router.post("/api/events/after", response_model=PageDocument, responses=problems(408, 413))
async def events_after(here: Here, reader: Reader, body: EventsAfter) -> Response:
    """What a client with this cursor missed, oldest first per stream; when `more`, move the cursor on and ask again."""
    cursor = orjson.dumps(cursor_of(body.cursor, "/cursor").to_json()).decode()
    names = topics_of(body.topics, "/topics")
    sql = "select public.cf_events_after($1, $2, $3)"
    return _json(await here.database.answer(reader, sql, cursor, names, body.limit))


def _json(text: str) -> Response:
    return Response(text, headers={"Cache-Control": "no-store"}, media_type="application/json")
