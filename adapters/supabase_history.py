"""What a Supabase project remembers: heads, snapshots and missed events, read by RPC as the viewer.

Every foreign answer and every foreign error is translated here, in one table; nothing of `postgrest` or `httpx`
leaks through.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from postgrest.exceptions import APIError
from supabase._async.client import SupabaseException

from monitoring.cursor import Cursor
from monitoring.errors import InvalidCursor, InvalidEvent, Refused, Unreachable
from monitoring.events import Event, from_json
from monitoring.service import Snapshot
from monitoring.topics import Topic
from supabase import AsyncClient, AsyncClientOptions, acreate_client

BACKEND = "Supabase"
TIMEOUT_SECONDS = 10.0
PAGE = 500
"""Events a page: under the hosted limit of 1,000 rows, and well under a second to answer."""

_HINTS: Mapping[str, str] = {
    "PGRST202": "the functions of Crossfade are not there: apply supabase/migrations to this project",
    "PGRST205": "the tables of Crossfade are not there: apply supabase/migrations to this project",
    "PGRST301": "check SUPABASE_KEY: the project does not accept it",
    "PGRST303": "the access token has expired: sign in again",
    "42501": "this key or user may not read: it needs app_metadata.crossfade_role viewer, operator or admin",
    "401": "check SUPABASE_KEY: the project does not accept it",
}
_TRANSIENT_SQLSTATES = ("08", "40", "53", "57", "58")
"""Classes that say "not now": connection, serialisation, resources, operator's intervention, system."""
_HTTP_STATUS_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what a client missed. ``heads`` is as of the same moment; ``more`` says that the page was full."""

    events: tuple[Event, ...]
    heads: Cursor
    more: bool


class SupabaseHistory:
    """The RPCs of one project, asked with the token of one viewer. Call ``close`` at the end."""

    def __init__(self, url: str, key: str, access_token: Callable[[], str] | None = None) -> None:
        self._url = url
        self._key = key
        self._access_token = access_token
        self._client: AsyncClient | None = None
        self._http: httpx.AsyncClient | None = None

    async def heads(self, topics: Collection[Topic]) -> Cursor:
        """Return how far each stream of the topics is. Raises Unreachable or Refused."""
        return _cursor(await self._call("cf_heads", {"p_topics": _names(topics)}))

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        """Return the newest event of each stream and kind. Raises Unreachable or Refused."""
        answer = await self._call("cf_snapshot", {"p_topics": _names(topics)})
        return Snapshot(_events(answer.get("state")), _cursor(answer.get("cursor")))

    async def after(self, cursor: Cursor, topics: Collection[Topic], limit: int = PAGE) -> Page:
        """Return what a client with this cursor missed, oldest first per stream. Raises Unreachable or Refused."""
        answer = await self._call(
            "cf_events_after", {"p_cursor": cursor.to_json(), "p_topics": _names(topics), "p_limit": limit}
        )
        return Page(_events(answer.get("events")), _cursor(answer.get("heads")), bool(answer.get("more")))

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
        self._client = self._http = None

    async def _call(self, function: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            client = await self._connected()
            answer = await client.rpc(function, arguments).execute()
        except APIError as error:
            raise _translated(error, function) from error
        except httpx.HTTPError as error:
            raise Unreachable(BACKEND, f"{self._url}: {error or type(error).__name__}") from error
        except (SupabaseException, httpx.InvalidURL) as error:
            raise Refused(BACKEND, str(error), "check SUPABASE_URL and SUPABASE_KEY") from error
        if not isinstance(answer.data, dict):
            raise Refused(BACKEND, f"{function} answered {type(answer.data).__name__}, not an object")
        return answer.data

    async def _connected(self) -> AsyncClient:
        if self._client is None:
            self._http = httpx.AsyncClient(timeout=TIMEOUT_SECONDS)
            options = AsyncClientOptions(httpx_client=self._http, postgrest_client_timeout=TIMEOUT_SECONDS)
            self._client = await acreate_client(self._url, self._key, options)
        if self._access_token is not None:
            self._client.postgrest.auth(self._access_token())
        return self._client


def _translated(error: APIError, function: str) -> Unreachable | Refused:
    """Return our error for PostgREST's; the code is PostgREST's own, an SQLSTATE, or the HTTP status."""
    code = str(error.code or "")
    reason = f"{function}: {error.message or 'no message'} ({code})"
    if _transient(code):
        return Unreachable(BACKEND, reason)
    return Refused(BACKEND, reason, _HINTS.get(code, error.hint or ""))


def _transient(code: str) -> bool:
    """Tell whether a code says "not now" rather than "not you"."""
    if len(code) == _HTTP_STATUS_DIGITS:  # from a gateway in front of PostgREST
        return code.startswith("5") or code in {"408", "429"}
    return not code or code.startswith(("PGRST00", *_TRANSIENT_SQLSTATES))


def _names(topics: Collection[Topic]) -> list[str]:
    return sorted(map(str, topics))


def _cursor(value: object) -> Cursor:
    try:
        return Cursor.from_json(value)
    except InvalidCursor as error:
        raise Refused(BACKEND, f"unreadable heads: {error}") from error


def _events(value: object) -> tuple[Event, ...]:
    try:
        return tuple(from_json(each) for each in value) if isinstance(value, list) else ()
    except InvalidEvent as error:
        raise Refused(BACKEND, f"unreadable event: {error}") from error
