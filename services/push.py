"""What applications push: each event is checked by itself, and kept before it is answered that it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Annotated, Any

import orjson
import structlog
from fastapi import APIRouter, Depends, Request, Security
from fastapi.security import HTTPBearer
from pydantic import ValidationError

from monitoring.applications import CONNECTION_EVENT
from monitoring.errors import InvalidEvent
from monitoring.events import OWN_DEVICE, Draft, StreamId, device_of, stream_id
from monitoring.intake import Taken, storable
from services.access import Caller, require_writer
from services.documents import problems
from services.key_ring import is_key
from services.problems import Kind, Problem
from services.provided import Provided, provided
from services.pushed import PAYLOADS, ItemDocument, PushDocument, PushedEvent, ReceiptDocument
from services.vitals import correlation_id

_CORRELATION = "correlation_id"
_log = structlog.get_logger(__name__)

router = APIRouter(tags=["push"], responses=problems(400, 401, 403, 408, 413))

_BEARER = Security(HTTPBearer(auto_error=False, description="an access token of an operator, or a key"))


async def writer(
    request: Request, here: Annotated[Provided, Depends(provided)], _: Annotated[object, _BEARER]
) -> Caller:
    """Return who calls; raises Problem for anybody who may not push."""
    found = here.tokens.caller(request.headers.get("authorization"))
    require_writer(found)
    return found


async def pushing_for(
    request: Request, here: Annotated[Provided, Depends(provided)], _: Annotated[object, _BEARER]
) -> str | None:
    """Return the only application that the caller may push for, None for any; raises Problem for anybody who may not."""
    authorization = request.headers.get("authorization")
    token = (authorization or "").strip().partition(" ")[2].strip()
    if is_key(token):
        return here.keys.find(token).application
    require_writer(here.tokens.caller(authorization))
    return None


@router.post("/api/events", status_code=202)
async def push(
    request: Request,
    here: Annotated[Provided, Depends(provided)],
    application: Annotated[str | None, Depends(pushing_for)],
    body: PushDocument,
) -> ReceiptDocument:
    """Keep up to 1,000 events; each is answered by itself, in order.

    What is `kept` is on the disk and will arrive on both paths. An event whose `id` was kept lately (among the newest
    20,000) is not kept twice, so that a request without an answer can be sent again as it was. What was refused with
    `again` may be kept later, the rest never. A request that came with an `X-Request-ID` or a `traceparent` marks its
    events with it: `correlation_id` in the payload, in `metadata` of a `connection_event`; other known kinds stay as they are.
    """
    correlated = correlation_id(request.scope)
    read = [_allowed(_read(each, correlated), application) for each in body.events]
    taken = iter(await here.intake.take([draft for draft in read if isinstance(draft, Draft)]))
    items = [
        _item(body.events[number], next(taken) if isinstance(each, Draft) else Taken(each))
        for number, each in enumerate(read)
    ]
    kept = [item for item in items if item.kept]
    if correlated:
        _log.info("events_kept", kept=len(kept), of=len(items), first=items[0].id)
    return ReceiptDocument(
        accepted=len(kept),
        repeated=sum(item.repeated for item in kept),
        refused=len(items) - len(kept),
        items=items,
    )


def _item(value: Any, taken: Taken) -> ItemDocument:
    id_ = value.get("id") if isinstance(value, dict) else None
    return ItemDocument(
        id=id_ if isinstance(id_, str) else None,
        kept=taken.refused is None,
        repeated=taken.repeated,
        reason=taken.refused,
        again=taken.again,
    )


def _allowed(read: Draft | str, application: str | None) -> Draft | str:
    """Return an event, or what is wrong with it; what is not the application's of a key is."""
    if application is not None and isinstance(read, Draft) and device_of(read.stream) != application:
        return f"/stream: this key is for {application} alone"
    return read


def _read(value: Any, correlated: str | None) -> Draft | str:
    """Return an event, or what is wrong with it."""
    try:
        text = orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise Problem(Kind.INVALID_REQUEST, "/events: nested too deeply") from None
    if not storable(text):
        return "the character U+0000 cannot be stored; leave it out"
    try:
        event = PushedEvent.model_validate_json(text, strict=True)
        model = PAYLOADS.get(event.kind)
        if model is not None:
            model.model_validate_json(orjson.dumps(event.payload), strict=True)
    except ValidationError as error:
        at = ("payload",) if error.title != PushedEvent.__name__ else ()
        return "; ".join(
            _mistake(at, each) for each in error.errors(include_url=False, include_input=False)[:3]
        )
    try:
        return Draft(
            _stream(event.stream),
            event.kind,
            event.occurred_at.astimezone(UTC),
            _marked(event.kind, event.payload, correlated),
            event.id,
        )
    except InvalidEvent as error:
        return f"/stream: {error.reason}"
    except OverflowError:
        return "/occurred_at: not a time that UTC has"


def _marked(kind: str, payload: dict[str, Any], correlated: str | None) -> dict[str, Any]:
    """Return a payload with the request's id where its kind has a place for it; what is there already stays."""
    if correlated is None:
        return payload
    if kind == CONNECTION_EVENT:
        return {**payload, "metadata": {_CORRELATION: correlated} | (payload.get("metadata") or {})}
    return payload if kind in PAYLOADS else {_CORRELATION: correlated} | payload


def _stream(text: str) -> StreamId:
    device, separator, category = text.partition("/")
    if not separator:
        raise InvalidEvent(f"{text!r} is not application/category")
    if device == OWN_DEVICE:
        raise InvalidEvent(f"{OWN_DEVICE} is Crossfade itself; choose another name")
    return stream_id(device, category)


def _mistake(at: Sequence[str], error: Any) -> str:
    place = "/".join(str(step) for step in (*at, *error["loc"]))
    return f"/{place}: {error['msg']}"
