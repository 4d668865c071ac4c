"""Alerts by HTTP: what there is and was, and what people ask: acknowledge, silence. Asking needs an operator.

What is asked becomes an event on ``crossfade/alert-requests``: kept on disk before it is answered, seen by the alerting
process as by every client, and a row in the database. So it works while the database is away, and says who asked.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from monitoring.events import OWN_DEVICE, Draft, format_time, stream_id, uuid7
from services.access import Caller
from services.conditional import conditional
from services.documents import problems
from services.feed import Here, Reader
from services.problems import Kind, Problem, invalid
from services.push import writer

router = APIRouter(tags=["alerts"], responses=problems(400, 401, 403, 503))

STREAM = stream_id(OWN_DEVICE, "alert-requests")
MAX_LIMIT = 500
LONGEST = timedelta(days=366)

_ALERT: dict[str, Any] = {
    "id": "0b1b6c4e-58f5-5a0e-9a1c-6f4d4f1c2d3e",
    "rule": "host-silent",
    "device": "web-1",
    "item": "",
    "severity": "critical",
    "state": "firing",
    "firing": True,
    "since": "2026-11-26T12:00:20.000000Z",
    "fired_at": "2026-11-26T12:00:20.000000Z",
    "resolved_at": None,
    "value": 20.1,
    "expected": "",
    "summary": "the host, its network or its collector is down",
    "flapping": False,
    "acknowledged_by": None,
    "acknowledged_at": None,
    "inhibited_by": None,
    "silenced_by": None,
    "changed_at": "2026-11-26T12:00:20.000000Z",
}
_PAGE_SQL = """
select jsonb_build_object(
  'alerts', coalesce(jsonb_agg(to_jsonb(a) - 'epoch' - 'seq' order by a.changed_at desc, a.id), '[]'),
  'next', case when count(*) = $5 then
    (jsonb_agg(jsonb_build_array(to_jsonb(a.changed_at), a.id) order by a.changed_at, a.id desc) -> 0) end)
from (
  select * from public.cf_alerts
  where ($1 = 'all' or state <> 'ok') and ($2::text is null or device = $2) and ($3::text is null or rule = $3)
    and ($4::jsonb is null or changed_at < ($4 ->> 0)::timestamptz
      or (changed_at = ($4 ->> 0)::timestamptz and id > ($4 ->> 1)::uuid))
  order by changed_at desc, id limit $5) a
"""
_SILENCES_SQL = """
select jsonb_build_object('silences', coalesce(jsonb_agg(to_jsonb(s) order by s.ends_at, s.id), '[]'))
from (select * from public.cf_alert_silences where ends_at > now() order by ends_at limit 1000) s
"""

Writer = Annotated[Caller, Depends(writer)]


class AlertDocument(BaseModel):
    """One episode of an alert."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ALERT]})

    id: str
    rule: str
    device: str
    item: str
    severity: str
    state: str
    firing: bool
    since: str | None
    fired_at: str | None
    resolved_at: str | None
    value: Any
    expected: str
    summary: str
    flapping: bool
    acknowledged_by: str | None
    acknowledged_at: str | None
    inhibited_by: str | None
    silenced_by: str | None
    changed_at: str


class AlertsDocument(BaseModel):
    """A page of alerts, those that changed last first; ``next`` asks for the page after it."""

    alerts: list[AlertDocument]
    next: str | None


class SilenceRequest(BaseModel):
    """What not to tell of: patterns (``web-*``; ``!web-9`` leaves out), and how long."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"devices": ["web-*"], "for_seconds": 7200, "comment": "new kernel"}]
        },
    )

    rules: list[str] = Field(default_factory=lambda: ["*"], min_length=1, max_length=50)
    devices: list[str] = Field(default_factory=lambda: ["*"], min_length=1, max_length=50)
    items: list[str] = Field(default_factory=lambda: ["*"], min_length=1, max_length=50)
    starts_at: AwareDatetime | None = Field(default=None, description="now, if it is not given")
    for_seconds: float = Field(gt=0, le=LONGEST.total_seconds(), strict=True)
    comment: str = Field(default="", max_length=500)


class SilenceDocument(BaseModel):
    """A silence."""

    id: str
    rules: list[str]
    devices: list[str]
    items: list[str]
    starts_at: str
    ends_at: str
    made_by: str
    comment: str
    ended_by: str | None = None


class SilencesDocument(BaseModel):
    """The silences that are, or are to come."""

    silences: list[SilenceDocument]


class KeptDocument(BaseModel):
    """What was asked is on the disk; the alerting process hears of it within a second."""

    kept: Literal[True] = True
    id: str


@router.get(
    "/api/alerts", response_model=AlertsDocument, responses={304: {"description": "nothing has changed"}}
)
async def alerts(
    request: Request,
    here: Here,
    reader: Reader,
    state: Annotated[
        Literal["open", "all"], Query(description="those that are not well, or the resolved too")
    ] = "open",
    device: Annotated[str | None, Query(max_length=128)] = None,
    rule: Annotated[str | None, Query(max_length=64)] = None,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
) -> Response:
    """Alerts, those that changed last first; resolved ones are kept for 90 days. With `If-None-Match` 304."""
    for name, text in (("device", device), ("rule", rule)):
        if text is not None and "\0" in text:
            raise invalid(f"query {name}", "the character U+0000 cannot be looked for")
    answer = await here.database.answer(reader, _PAGE_SQL, state, device, rule, _place(cursor), limit)
    page = orjson.loads(answer)
    page["next"] = None if page["next"] is None else f"{page['next'][0]},{page['next'][1]}"
    return conditional(request, orjson.dumps(page))


def _place(cursor: str | None) -> str | None:
    """Return where a page begins as JSON; raises Problem."""
    if cursor is None:
        return None
    at, _, id_ = cursor.partition(",")
    try:
        moment = datetime.fromisoformat(at).astimezone(UTC)
        return orjson.dumps([moment.isoformat(), str(uuid.UUID(id_))]).decode()
    except (ValueError, OverflowError):
        raise invalid("query cursor", "is none that a page named as `next`") from None


@router.get("/api/alerts/silences", response_model=SilencesDocument)
async def silences(here: Here, reader: Reader) -> Response:
    """What is silenced now or will be."""
    return Response(
        (await here.database.answer(reader, _SILENCES_SQL)).encode(), media_type="application/json"
    )


@router.post("/api/alerts/silences", status_code=202, responses=problems(408, 413))
async def silence(here: Here, caller: Writer, body: SilenceRequest) -> KeptDocument:
    """Silence alerts for a while: they are not told, and when it is over what still fires is."""
    start = (body.starts_at or datetime.now(UTC)).astimezone(UTC)
    try:
        end = start + timedelta(seconds=body.for_seconds)
    except OverflowError:
        raise invalid("/starts_at", "is too far away") from None
    id_ = _new_id()
    payload = {
        "id": str(id_),
        "rules": body.rules,
        "devices": body.devices,
        "items": body.items,
        "starts_at": format_time(start),
        "ends_at": format_time(end),
        "by": caller.name,
        "comment": body.comment,
    }
    await _keep(here, "alert_silenced", payload)
    return KeptDocument(id=str(id_))


@router.post("/api/alerts/silences/{silence_id}/end", status_code=202)
async def end_silence(
    here: Here, caller: Writer, silence_id: Annotated[uuid.UUID, Path(description="the silence's id")]
) -> KeptDocument:
    """End a silence before its time; what fires is told."""
    await _keep(here, "alert_silence_ended", {"id": str(silence_id), "by": caller.name})
    return KeptDocument(id=str(silence_id))


@router.post("/api/alerts/{alert_id}/acknowledge", status_code=202)
async def acknowledge(
    here: Here, caller: Writer, alert_id: Annotated[uuid.UUID, Path(description="the alert's id")]
) -> KeptDocument:
    """Say that somebody is on it: it is not told again until it is resolved."""
    await _keep(here, "alert_acknowledged", {"alert_id": str(alert_id), "by": caller.name})
    return KeptDocument(id=str(alert_id))


async def _keep(here: Any, kind: str, payload: Mapping[str, Any]) -> None:
    if "\\u0000" in orjson.dumps(payload).decode():
        raise Problem(Kind.INVALID_REQUEST, "the character U+0000 cannot be stored; leave it out")
    draft = Draft(STREAM, kind, datetime.now(UTC), payload, _new_id())
    (taken,) = await here.intake.take([draft])
    if taken.refused is not None:
        again = {"Retry-After": "1"} if taken.again else None
        raise Problem(Kind.NOT_KEPT, f"it was not kept: {taken.refused}", headers=again)


def _new_id() -> uuid.UUID:
    return uuid7(time.time_ns() // 1_000_000, secrets.randbits(74))
