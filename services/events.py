"""Events by HTTP: those that the feed still has, by topic and time, the newest first."""

from __future__ import annotations

import uuid
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from services.asked import topics_of
from services.conditional import conditional
from services.documents import EventDocument, problems
from services.feed import Here, Reader, TopicQuery
from services.paging import LimitQuery, NextQuery, Part, page, place_of
from services.problems import invalid
from services.ranges import FromQuery, ToQuery, aware, device_of, text_of

router = APIRouter(tags=["events"], responses=problems(400, 401, 403, 503))

MAX_KINDS = 20
PLACE: tuple[Part, ...] = ("moment", "text", "count", "count")
FIND_SQL = """
select public.cf_find_events($1, coalesce($2::timestamptz, '-infinity'), coalesce($3::timestamptz, 'infinity'), $4, $5, $6,
  $7, $8)
"""

KindQuery = Annotated[
    list[Annotated[str, Field(max_length=128)]] | None,
    Query(alias="kind", max_length=MAX_KINDS, description="several are united", examples=[["alert_changed"]]),
]
DeviceQuery = Annotated[str | None, Query(max_length=128, description="of one device", examples=["web-1"])]
ProjectQuery = Annotated[uuid.UUID | None, Query(description="of what belongs to a project")]


class EventsDocument(BaseModel):
    """A page of events, the newest first; ``next`` asks for those before them, null at the end."""

    events: list[EventDocument]
    next: str | None


@router.get(
    "/api/events", response_model=EventsDocument, responses={304: {"description": "nothing has changed"}}
)
async def events(
    request: Request,
    here: Here,
    reader: Reader,
    topic: TopicQuery = None,
    start: FromQuery = None,
    end: ToQuery = None,
    kind: KindQuery = None,
    device: DeviceQuery = None,
    project: ProjectQuery = None,
    limit: LimitQuery = 100,
    after: NextQuery = None,
) -> Response:
    """Events by topic, time, kind, device and project, the newest first, as far back as the feed is kept.

    Of many streams a page looks at a bounded part of the feed: where few events match it may be short, or empty, and
    still have a `next`.
    """
    asked = arguments(topic, start, end, kind, device, project)
    answer = await here.database.answer(reader, FIND_SQL, *asked, written(place_of(after, PLACE)), limit)
    return conditional(request, page(answer))


def arguments(
    topic: TopicQuery,
    start: FromQuery,
    end: ToQuery,
    kind: KindQuery,
    device: DeviceQuery,
    project: ProjectQuery,
) -> tuple[object, ...]:
    """Return what `FIND_SQL` is asked with, but for the place and the limit; raises Problem."""
    since, until = aware(start, "query from"), aware(end, "query to")
    if since is not None and until is not None and since >= until:
        raise invalid("query from", "it is not before `to`")
    for each in kind or ():
        text_of(each, "query kind")
    return (
        topics_of(topic or (), "query topic"),
        since,
        until,
        kind or None,
        device_of(device),
        project,
    )


def written(place: object) -> str | None:
    """Return a place as the database takes it."""
    return None if place is None else orjson.dumps(place).decode()
