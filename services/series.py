"""Time series by HTTP: a number of a stream over any range, from the level of history that fits it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from services.conditional import HISTORY_SECONDS, conditional
from services.documents import problems
from services.feed import Here, Reader
from services.ranges import FieldQuery, FromQuery, StreamQuery, ToQuery, range_of, stream_of, text_of

router = APIRouter(prefix="/api/series", tags=["series"], responses=problems(400, 401, 403, 503))

MOST_POINTS = 10_000


class SeriesDocument(BaseModel):
    """Steps of equal length; those without a sample are not there."""

    stream: str
    field: str
    level: str = Field(description="raw, 1m, 10m, 1h or 1d", examples=["10m"])
    step_seconds: float = Field(examples=[600])
    points: list[Annotated[list[float], Field(min_length=5, max_length=5)]] = Field(
        description="[begin in seconds since 1970, mean, lowest, highest, samples]",
        examples=[[[1795680000, 12.5, 3.0, 48.0, 300]]],
    )


@router.get("", response_model=SeriesDocument, responses={304: {"description": "nothing has changed"}})
async def series(
    request: Request,
    here: Here,
    reader: Reader,
    stream: StreamQuery,
    field: FieldQuery,
    start: FromQuery = None,
    end: ToQuery = None,
    points: Annotated[int, Query(ge=1, le=MOST_POINTS, description="about so many steps at most")] = 300,
) -> Response:
    """A number over a range: mean, lowest, highest and count of each step. The level follows the range.

    `from` is an hour before `to` when left out.
    """
    name, path = stream_of(stream), text_of(field, "query field")
    since, until = range_of(start, end)
    sql = "select public.cf_series($1, $2, $3, $4, $5)"
    answer = await here.database.answer(reader, sql, name, path, since, until, points)
    return conditional(request, answer.encode(), seconds=HISTORY_SECONDS)


@router.get("/fields", response_model=list[str], responses={304: {"description": "nothing has changed"}})
async def fields(request: Request, here: Here, reader: Reader, stream: StreamQuery) -> Response:
    """The numbers of a stream that there are series of."""
    answer = await here.database.answer(reader, "select public.cf_fields($1)", stream_of(stream))
    return conditional(request, answer.encode(), seconds=HISTORY_SECONDS)
