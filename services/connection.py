"""What a client elsewhere needs to connect: the addresses of the backends as that client reaches them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from fastapi import APIRouter, Request

from services.documents import ConnectionDocument, SupabaseDocument, UrlDocument, problems
from services.feed import Here, Reader
from services.problems import Problem

router = APIRouter(tags=["connection"], responses=problems(401, 403))

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}\Z|[0-9A-Fa-f:.]{2,45}\Z")


@router.get("/api/connection")
async def connection(request: Request, here: Here, reader: Reader) -> ConnectionDocument:
    """Where Supabase, the legacy server and this service are, and Supabase's public key.

    Where the parts listen on every address, the URLs have the host by which this request came. Answered without the
    database too, but for the mode.
    """
    try:
        mode = await here.database.answer(reader, "select mode from public.cf_delivery")
    except Problem:
        mode = None
    backends = here.backends
    came_by = request.url.hostname or ""
    host = came_by if backends.everywhere and _HOST.match(came_by) else None
    ours = f"{request.url.scheme}://{request.url.netloc}"
    supabase_url = at_host(backends.supabase_url, host) if backends.supabase_ours else backends.supabase_url
    return ConnectionDocument(
        version=here.version,
        supabase=SupabaseDocument(url=supabase_url, key=backends.supabase_key, mode=mode),
        legacy=UrlDocument(url=at_host(backends.legacy_url, host)) if backends.legacy_url else None,
        polling=UrlDocument(url=ours),
    )


def at_host(url: str, host: str | None) -> str:
    """Return a URL with its host replaced, the port kept; unchanged for no host."""
    if host is None:
        return url
    parts = urlsplit(url)
    shown = f"[{host}]" if ":" in host else host
    return urlunsplit(parts._replace(netloc=f"{shown}:{parts.port}" if parts.port else shown))
