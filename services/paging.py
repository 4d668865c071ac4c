"""Where a page begins: an opaque text that the page before named as ``next``, and that nobody has to trust."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import Query

from services.problems import Problem, invalid
from services.ranges import aware

Part = Literal["text", "moment", "count", "uuid"]
NextQuery = Annotated[
    str | None,
    Query(alias="next", max_length=1200, description="`next` of the page before; it says where to go on"),
]
LimitQuery = Annotated[int, Query(ge=1, le=1000, description="how many at most")]
_LARGEST = 2**63 - 1


def name_place(place: object) -> str | None:
    """Return the text that names a place; None for none."""
    return None if place is None else base64.urlsafe_b64encode(orjson.dumps(place)).rstrip(b"=").decode()


def place_of(text: str | None, parts: Sequence[Part]) -> list[Any] | None:
    """Return the place that a text names, whose parts are of these kinds; raises Problem for any other."""
    if text is None:
        return None
    try:
        found = orjson.loads(
            base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        )
    except (binascii.Error, ValueError):
        found = None
    if not isinstance(found, list) or [each for each in found if each is None] or len(found) != len(parts):
        raise _unknown()
    for part, value in zip(parts, found, strict=True):
        if not _is(part, value):
            raise _unknown()
    return found


def _is(part: Part, value: object) -> bool:
    match part:
        case "text":
            return isinstance(value, str) and "\0" not in value
        case "count":
            return type(value) is int and 0 <= value <= _LARGEST
        case "moment" | "uuid":
            try:
                return isinstance(value, str) and (
                    str(uuid.UUID(value)) == value
                    if part == "uuid"
                    else aware(datetime.fromisoformat(value), "") is not None
                )
            except (ValueError, Problem):
                return False


def _unknown() -> Exception:
    return invalid("query next", "is none that a page named as `next`")


def page(answer: str) -> bytes:
    """Return a page as it is answered: the place in its ``next`` by its name."""
    found = orjson.loads(answer)
    found["next"] = name_place(found["next"])
    return orjson.dumps(found)
