"""Keys for applications that push, by HTTP: made, listed and revoked by admins."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from monitoring.errors import InvalidEvent
from monitoring.events import stream_id
from services.access import Caller
from services.documents import problems
from services.feed import Here, Reader
from services.key_ring import make_key
from services.problems import Kind, Problem, invalid

router = APIRouter(tags=["keys"], responses=problems(400, 401, 403, 404, 503))

_LONGEST_SECONDS = 10 * 366 * 86_400.0
_KEY: dict[str, Any] = {
    "id": "0b1b6c4e-58f5-4a0e-9a1c-6f4d4f1c2d3e",
    "name": "the shop",
    "prefix": "3f9a0c1b2d4e",
    "application": "app-7",
    "created_by": "ann",
    "created_at": "2026-11-26T12:00:00.000000+00:00",
    "expires_at": None,
    "revoked_by": None,
    "revoked_at": None,
    "used_at": None,
}
Printable = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]


async def admin(reader: Reader) -> Caller:
    """Return who calls; raises Problem for anybody but admins."""
    if not reader.administers:
        raise Problem(
            Kind.FORBIDDEN,
            "keys are for admins: app_metadata.crossfade_role must be admin (crossfade token NAME --role admin)",
        )
    return reader


Admin = Annotated[Caller, Depends(admin)]


class KeyDocument(BaseModel):
    """A key, without its secret, which is kept nowhere."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY]})

    id: str
    name: str
    prefix: str = Field(description="what the key begins with, after cfk_")
    application: str | None = Field(description="the only application whose streams it may push")
    created_by: str
    created_at: str
    expires_at: str | None
    revoked_by: str | None
    revoked_at: str | None
    used_at: str | None = Field(description="when it was last shown, within some seconds")


class NewKeyDocument(KeyDocument):
    """A key that was just made, with its text: shown this once."""

    key: str


class KeysDocument(BaseModel):
    """The keys, the newest first, revoked ones too."""

    keys: list[KeyDocument]


class KeyRequest(BaseModel):
    """What the key is for."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "the shop", "application": "app-7"}]}
    )

    name: Printable = Field(max_length=100)
    application: Printable | None = Field(default=None, max_length=100)
    for_seconds: float | None = Field(default=None, gt=0, le=_LONGEST_SECONDS, allow_inf_nan=False)


@router.post("/api/keys", status_code=201, response_model=NewKeyDocument, responses=problems(408, 413))
async def create(here: Here, caller: Admin, body: KeyRequest) -> Response:
    """Make a key. Its text is in this answer, and nowhere else."""
    if body.application is not None:
        try:
            stream_id(body.application, "any")
        except InvalidEvent as error:
            raise invalid("/application", error.reason.replace("device", "name", 1)) from None
    made = make_key()
    told = await here.database.change(
        caller,
        "select public.cf_create_key($1, $2, $3, $4, $5, $6)",
        uuid.uuid4(),
        body.name,
        made.prefix,
        made.hash,
        body.application,
        body.for_seconds,
    )
    return _json(orjson.dumps({**orjson.loads(told), "key": made.text}), 201)


@router.get("/api/keys", response_model=KeysDocument)
async def keys(here: Here, caller: Admin) -> Response:
    """The keys, without their secrets."""
    return _json(await here.database.answer(caller, "select public.cf_list_keys()"))


@router.post("/api/keys/{prefix}/revoke", response_model=KeyDocument)
async def revoke(
    here: Here, caller: Admin, prefix: Annotated[str, Path(pattern="^[0-9a-f]{12}$")]
) -> Response:
    """Revoke a key, for good: within a second nothing more is taken from whoever has it."""
    return _json(await here.database.change(caller, "select public.cf_revoke_key($1)", prefix))


def _json(text: str | bytes, status: int = 200) -> Response:
    return Response(text, status, {"Cache-Control": "no-store"}, media_type="application/json")
