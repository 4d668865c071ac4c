"""Exports by HTTP: events or a series as CSV or JSON lines, streamed page by page, each page as the caller.

An export that fails on its way ends without the end that HTTP has for bodies, so that nobody takes it for the whole.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from services.access import Caller
from services.database import Database
from services.documents import problems
from services.events import FIND_SQL, DeviceQuery, KindQuery, ProjectQuery, arguments, written
from services.feed import Here, Reader, TopicQuery
from services.ranges import FieldQuery, FromQuery, StreamQuery, ToQuery, range_of, stream_of, text_of
from services.series import MOST_POINTS

router = APIRouter(prefix="/api/export", tags=["export"], responses=problems(400, 401, 403, 503))

MOST_ROWS = 1_000_000
_PAGE = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
EVENT_COLUMNS = ("id", "stream", "epoch", "seq", "kind", "occurred_at", "payload")
SERIES_COLUMNS = ("begin", "mean", "low", "high", "samples")

FormatQuery = Annotated[Literal["csv", "jsonl"], Query(alias="format", description="CSV, or JSON lines")]
_MEDIA = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the export",
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
        },
    }
}


@router.get("/events", response_class=Response, responses=_STREAMED)
async def events(
    here: Here,
    reader: Reader,
    topic: TopicQuery = None,
    start: FromQuery = None,
    end: ToQuery = None,
    kind: KindQuery = None,
    device: DeviceQuery = None,
    project: ProjectQuery = None,
    format_: FormatQuery = "jsonl",
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS, description="how many events at most")] = 100_000,
) -> Response:
    """Events by topic, time, kind, device and project, the newest first: what `/api/events` has, in one answer."""
    asked = arguments(topic, start, end, kind, device, project)
    pages = _pages(here.database, reader, asked, limit)
    first = await anext(pages)  # whatever is wrong is said with its status
    return _download(_events(first, pages, format_), format_, "events")


@router.get("/series", response_class=Response, responses=_STREAMED)
async def series(
    here: Here,
    reader: Reader,
    stream: StreamQuery,
    field: FieldQuery,
    start: FromQuery = None,
    end: ToQuery = None,
    points: Annotated[
        int, Query(ge=1, le=MOST_POINTS, description="about so many steps at most")
    ] = MOST_POINTS,
    format_: FormatQuery = "csv",
) -> Response:
    """A number over a range, a line a step: what `/api/series` has, with times as text."""
    since, until = range_of(start, end)
    sql = "select public.cf_series($1, $2, $3, $4, $5)"
    path = text_of(field, "query field")
    answer = await here.database.answer(reader, sql, stream_of(stream), path, since, until, points)
    rows = [
        (datetime.fromtimestamp(begin, UTC).isoformat().replace("+00:00", "Z"), *values)
        for begin, *values in orjson.loads(answer)["points"]
    ]
    lines = _header(SERIES_COLUMNS, format_) + _lines(SERIES_COLUMNS, rows, format_)
    return _download(_once(lines), format_, "series")


async def _pages(
    database: Database, caller: Caller, asked: Sequence[object], limit: int
) -> AsyncIterator[list[Mapping[str, Any]]]:
    place: object = None
    left = limit
    while True:
        size = min(left, _PAGE)
        found = orjson.loads(await database.answer(caller, FIND_SQL, *asked, written(place), size))
        yield found["events"]
        left -= len(found["events"])
        place = found["next"]
        if place is None or not left:
            return


async def _events(
    first: list[Mapping[str, Any]], pages: AsyncIterator[list[Mapping[str, Any]]], format_: str
) -> AsyncIterator[bytes]:
    yield _header(EVENT_COLUMNS, format_) + _event_lines(first, format_)
    async for page in pages:
        yield _event_lines(page, format_)


def _event_lines(page: Iterable[Mapping[str, Any]], format_: str) -> bytes:
    return _lines(EVENT_COLUMNS, [[event[name] for name in EVENT_COLUMNS] for event in page], format_)


async def _once(lines: bytes) -> AsyncIterator[bytes]:
    yield lines


def _header(columns: Sequence[str], format_: str) -> bytes:
    return (",".join(columns) + "\r\n").encode() if format_ == "csv" else b""


def _lines(columns: Sequence[str], rows: Iterable[Sequence[Any]], format_: str) -> bytes:
    if format_ == "jsonl":
        return b"".join(
            orjson.dumps(dict(zip(columns, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE)
            for row in rows
        )
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """Return a value as a cell; text that a spreadsheet would run gets an apostrophe in front (OWASP, CSV injection)."""
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _download(lines: AsyncIterator[bytes], format_: str, name: str) -> Response:
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="crossfade-{name}.{format_}"',
    }
    return StreamingResponse(lines, headers=headers, media_type=_MEDIA[format_])
