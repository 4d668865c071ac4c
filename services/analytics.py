"""The analytics service: what the history adds up to, computed in the database.

Its routes depend on what every service is given alone, so that the query service can have them too. Each answer is per
interval, from the level of history that fits the range, and bounded; it stands for 15 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services import application
from services.asked import topics_of
from services.conditional import ANALYTICS_SECONDS, conditional
from services.documents import problems
from services.events import ProjectQuery
from services.feed import Here, Reader, TopicQuery
from services.paging import NextQuery, page, place_of
from services.problems import invalid
from services.provided import Shared
from services.ranges import (
    FieldQuery,
    FromQuery,
    IntervalQuery,
    StreamQuery,
    ToQuery,
    device_of,
    interval_of,
    range_of,
    stream_of,
    text_of,
)
from services.rates import Rate

router = APIRouter(prefix="/api/analytics", tags=["analytics"], responses=problems(400, 401, 403, 503))

MOST_INTERVALS = 1000
MOST_TOP_INTERVALS = 200
MOST_TARGETS = 100
MOST_CELLS = 10_000
"""Targets times intervals of one answer about availability."""
_NOT_CHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "nothing has changed"}}

_AVAILABILITY_SQL = """
with device as (
  select device from public.cf_devices_latest
  where ($1::text[] is null or device = any ($1)) and ($2::text is null or device >= $2)
    and ($3::uuid is null or device in (select m.device from public.cf_project_members m where m.project = $3))
), target as (
  select device, '' as item from device where $4::text is null
  union
  select c.device, c.name from public.cf_containers_latest c join device using (device) where $4 in ('*', c.name)
  union
  select c.device, c.item from public.cf_status_changes c join device using (device)
  where c.item <> '' and $4 in ('*', c.item) and c.at >= $6 and c.at < $7
), page as (
  select device, item from target where $2::text is null or (device, item) > ($2, $5) order by device, item limit $9
)
select jsonb_build_object('interval_seconds', extract(epoch from $8::interval),
  'targets', coalesce(jsonb_agg(public.cf_availability(device, item, $6, $7, $8) order by device, item), '[]'),
  'next', case when count(*) = $9
    then jsonb_agg(jsonb_build_array(device, item) order by device desc, item desc) -> 0 end) from page
"""


class RatesDocument(BaseModel):
    """How fast a counter rose; intervals without a sample are not there."""

    stream: str
    field: str
    level: str = Field(description="the level of history it is from", examples=["1m"])
    interval_seconds: float
    intervals: list[Annotated[list[float], Field(min_length=3, max_length=3)]] = Field(
        description="[begin in seconds since 1970, per second, increase]",
        examples=[[[1795680000, 1520.5, 91230]]],
    )


class EventRateDocument(BaseModel):
    """The events of one name."""

    name: str
    total: int
    intervals: list[Annotated[list[float], Field(min_length=3, max_length=3)]] = Field(
        description="[begin in seconds since 1970, per second, events]", examples=[[[1795680000, 2.5, 150]]]
    )


class EventRatesDocument(BaseModel):
    """How many events there were, the most frequent first; ``since`` is when the feed begins."""

    by: str
    interval_seconds: float
    since: str | None
    total: int
    rates: list[EventRateDocument]


class PercentilesInterval(BaseModel):
    """The percentiles of one interval, in the order in which they were asked for."""

    begin: float
    samples: int
    low: float
    high: float
    values: list[float]


class PercentilesDocument(BaseModel):
    """Percentiles of a number; ``of`` says of what: samples, or the means of buckets where the range is long."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "stream": "web-1/system",
                    "field": "cpu_usage",
                    "level": "raw",
                    "of": "samples",
                    "interval_seconds": 300,
                    "percentiles": [50, 99],
                    "intervals": [
                        {"begin": 1795680000, "samples": 60, "low": 2.0, "high": 41.5, "values": [11.0, 38.2]}
                    ],
                }
            ]
        }
    )

    stream: str
    field: str
    level: str
    of: str
    interval_seconds: float
    percentiles: list[float]
    intervals: list[PercentilesInterval]


class TopEntry(BaseModel):
    """A stream's number in one interval: its mean and its highest value."""

    stream: str
    field: str
    mean: float
    high: float


class TopInterval(BaseModel):
    """The highest means of one interval, the highest first."""

    begin: float
    top: list[TopEntry]


class TopDocument(BaseModel):
    """Who is at the top, per interval, of how many (``of``)."""

    category: str
    field: str
    level: str
    interval_seconds: float
    of: int
    newest_from_one_sample_each_seconds: float | None = Field(
        description="hours without a roll-up are judged by one sample in so many seconds; null when there are none"
    )
    intervals: list[TopInterval]


class AvailabilityDocument(BaseModel):
    """How much of the time a device or a container was up: up / (up + down + silent); null when nobody knows."""

    device: str
    container: str | None
    availability: float | None
    up_seconds: float
    down_seconds: float
    silent_seconds: float = Field(
        description="it was up when it was last heard of, and its samples did not come"
    )
    resolution_seconds: float = Field(description="silence that is shorter than twice this is not seen")
    changes: int = Field(description="of status, in the range")
    intervals: list[Annotated[list[float | None], Field(min_length=5, max_length=5)]] = Field(
        description="[begin in seconds since 1970, availability, up, down, silent seconds]",
        examples=[[[1795680000, 0.98, 3528, 72, 0]]],
    )


class AvailabilitiesDocument(BaseModel):
    """A page of targets, by device and container."""

    interval_seconds: float
    targets: list[AvailabilityDocument]
    next: str | None


@router.get("/rates", response_model=RatesDocument, responses=_NOT_CHANGED)
async def rates(
    request: Request,
    here: Here,
    reader: Reader,
    stream: StreamQuery,
    field: Annotated[
        str, Query(max_length=500, description="a counter", examples=["networks[eth0].rx_bytes"])
    ],
    start: FromQuery = None,
    end: ToQuery = None,
    interval: IntervalQuery = None,
) -> Response:
    """How fast a counter of a stream rose, per interval; one that begins anew at 0 is understood."""
    since, until = range_of(start, end)
    step = interval_of(interval, since, until, most=MOST_INTERVALS)
    sql = "select public.cf_rates($1, $2, $3, $4, $5)"
    path = text_of(field, "query field")
    answer = await here.database.answer(reader, sql, stream_of(stream), path, since, until, step)
    return conditional(request, answer.encode(), seconds=ANALYTICS_SECONDS)


@router.get("/events", response_model=EventRatesDocument, responses=_NOT_CHANGED)
async def event_rates(
    request: Request,
    here: Here,
    reader: Reader,
    topic: TopicQuery = None,
    start: FromQuery = None,
    end: ToQuery = None,
    interval: IntervalQuery = None,
    by: Annotated[
        Literal["category", "device", "kind", "stream"], Query(description="what is told apart")
    ] = "category",
    most: Annotated[int, Query(alias="n", ge=1, le=100, description="how many names at most")] = 20,
) -> Response:
    """How many events there were, per interval, as far back as the feed is kept (`since`)."""
    names = topics_of(topic or (), "query topic")
    since, until = range_of(start, end)
    step = interval_of(interval, since, until, most=MOST_INTERVALS)
    sql = "select public.cf_event_rates($1, $2, $3, $4, $5, $6)"
    answer = await here.database.answer(reader, sql, names, since, until, step, by, most)
    return conditional(request, answer.encode(), seconds=ANALYTICS_SECONDS)


@router.get("/percentiles", response_model=PercentilesDocument, responses=_NOT_CHANGED)
async def percentiles(
    request: Request,
    here: Here,
    reader: Reader,
    stream: StreamQuery,
    field: FieldQuery,
    start: FromQuery = None,
    end: ToQuery = None,
    interval: IntervalQuery = None,
    at: Annotated[
        list[Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]] | None,
        Query(alias="p", max_length=20, description="50, 90, 95 and 99 when left out", examples=[[50, 99]]),
    ] = None,
) -> Response:
    """Percentiles of a number of a stream, per interval: of its samples where the range is no longer than 25 hours."""
    since, until = range_of(start, end)
    step = interval_of(interval, since, until, most=MOST_INTERVALS)
    sql = "select public.cf_percentiles($1, $2, $3, $4, $5, $6)"
    path = text_of(field, "query field")
    wanted = at or [50.0, 90.0, 95.0, 99.0]
    answer = await here.database.answer(reader, sql, stream_of(stream), path, since, until, step, wanted)
    return conditional(request, answer.encode(), seconds=ANALYTICS_SECONDS)


@router.get("/top", response_model=TopDocument, responses=_NOT_CHANGED)
async def top(
    request: Request,
    here: Here,
    reader: Reader,
    field: Annotated[
        str,
        Query(
            max_length=500,
            description="`*` stands for any name in brackets",
            examples=["cpu_usage", "containers[*].cpu_percent"],
        ),
    ],
    category: Annotated[str, Query(max_length=128, examples=["system"])] = "system",
    start: FromQuery = None,
    end: ToQuery = None,
    interval: IntervalQuery = None,
    most: Annotated[int, Query(alias="n", ge=1, le=100, description="how many of each interval")] = 10,
    project: ProjectQuery = None,
) -> Response:
    """Which streams of a category have the highest means of a number, per interval."""
    device_of(category, "query category")
    since, until = range_of(start, end)
    step = interval_of(interval, since, until, most=MOST_TOP_INTERVALS)
    sql = "select public.cf_top($1, $2, $3, $4, $5, $6, $7)"
    path = text_of(field, "query field")
    answer = await here.database.answer(reader, sql, category, path, since, until, step, most, project)
    return conditional(request, answer.encode(), seconds=ANALYTICS_SECONDS)


@router.get("/availability", response_model=AvailabilitiesDocument, responses=_NOT_CHANGED)
async def availability(
    request: Request,
    here: Here,
    reader: Reader,
    device: Annotated[
        list[Annotated[str, Field(max_length=128)]] | None,
        Query(max_length=50, description="all of them when left out", examples=[["web-1"]]),
    ] = None,
    container: Annotated[
        str | None,
        Query(min_length=1, max_length=300, description="a container's name, or `*` for all of the devices'"),
    ] = None,
    project: ProjectQuery = None,
    start: FromQuery = None,
    end: ToQuery = None,
    interval: IntervalQuery = None,
    limit: Annotated[int, Query(ge=1, le=MOST_TARGETS, description="how many targets at most")] = 20,
    after: NextQuery = None,
) -> Response:
    """How much of the range devices, or containers, were up, and the same per interval; `from` is a day before `to`."""
    names = [device_of(each) for each in device] if device else None
    since, until = range_of(start, end, reach=timedelta(days=1))
    step = interval_of(interval, since, until, most=MOST_INTERVALS)
    if limit * ((until - since) / step) > MOST_CELLS:
        raise invalid(
            "query interval", f"makes more than {MOST_CELLS:,} figures; take a longer one, or a lower limit"
        )
    place: Sequence[str | None] = place_of(after, ("text", "text")) or (None, "")
    item = text_of(container, "query container")
    answer = await here.database.answer(
        reader, _AVAILABILITY_SQL, names, place[0], project, item, place[1], since, until, step, limit
    )
    return conditional(request, page(answer), seconds=ANALYTICS_SECONDS)


def create_app(provided: Shared, *, cors_origins: Sequence[str] = (), rate: Rate | None = None) -> FastAPI:
    """Return the application of analytics as a process of its own."""
    description = (__doc__ or "").partition("\n")[0]
    return application.make(
        "analytics", description, provided, [router], cors_origins=cors_origins, rate=rate
    )
