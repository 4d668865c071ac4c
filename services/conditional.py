"""Conditional answers (RFC 9110, 13): an entity tag of the content, and 304 for who has it already."""

from __future__ import annotations

import hashlib

from fastapi import Request
from starlette.responses import Response

HISTORY_SECONDS = 10
ANALYTICS_SECONDS = 15
"""How long answers stand for: what is shown of history is asked for every 10 s, of analytics every 15 to 30 s."""


def conditional(request: Request, content: bytes, *, seconds: int = 0) -> Response:
    """Return a JSON answer with its entity tag, or 304 without content when the client has the same one.

    The client that asked may keep it; after so many seconds it has to ask again.
    """
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    kept = f"max-age={seconds}" if seconds else "no-cache"
    headers = {"Cache-Control": f"private, {kept}", "Vary": "Authorization", "ETag": tag}
    if _known(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


def _known(if_none_match: str, tag: str) -> bool:
    """Tell whether a header names the tag; compares weakly, as If-None-Match does (13.1.2)."""
    return any(each.strip().removeprefix("W/") in {tag, "*"} for each in if_none_match.split(","))
