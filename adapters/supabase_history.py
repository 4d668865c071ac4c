"""What a Supabase project remembers: heads, snapshots and missed events, read by RPC as the viewer.

Every foreign answer is translated here, every foreign error in `adapters.supabase_errors`; nothing of `postgrest` or
`httpx` leaks through.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import httpx
import structlog
from postgrest.exceptions import APIError
from supabase._async.client import SupabaseException

from adapters.supabase_connection import Project
from adapters.supabase_errors import BACKEND, Mode, of_rpc
from monitoring.cursor import Cursor
from monitoring.errors import InvalidCursor, InvalidEvent, Refused, Unreachable
from monitoring.events import Event, from_json
from monitoring.service import Snapshot
from monitoring.topics import Topic
from supabase import AsyncClient, AsyncClientOptions, acreate_client

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 10.0
PAGE = 500
"""Events a page: under the hosted limit of 1,000 rows, and well under a second to answer."""

_CALL_SECONDS = 20.0
"""The whole of a call; the timeout above is that of each of its steps."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what a client missed. ``heads`` is as of the same moment; ``more`` says that the page was full.

    ``through`` says how far the page goes in each of its streams: a row that is no event of ours is left out of
    ``events``, and nothing but a hole shows where it was.
    """

    events: tuple[Event, ...]
    through: Cursor
    heads: Cursor
    more: bool
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """How a project delivers at one moment: the mode, the newest heartbeat's number, and how far each stream is."""

    mode: Mode
    beat: int
    beat_seconds: float
    heads: Cursor


class SupabaseHistory:
    """The RPCs of one project, asked with the token of one viewer. Call ``close`` at the end."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._client: AsyncClient | None = None
        self._http: httpx.AsyncClient | None = None

    async def state(self, topics: Collection[Topic]) -> State:
        """Return how events are delivered now, and how far each stream is. Raises Unreachable or Refused."""
        answer = await self._call("cf_delivery_state", {"p_topics": _names(topics)})
        try:
            return State(
                Mode(answer["mode"]),
                int(answer["beat"]),
                float(answer["beat_seconds"]),
                _cursor(answer["heads"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(BACKEND, f"unreadable state of delivery: {error}") from error

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        """Return the newest event of each stream and kind. Raises Unreachable or Refused."""
        answer = await self._call("cf_snapshot", {"p_topics": _names(topics)})
        return Snapshot(_readable(answer.get("state")), _cursor(answer.get("cursor")))

    async def after(self, cursor: Cursor, topics: Collection[Topic], limit: int = PAGE) -> Page:
        """Return what a client with this cursor missed, oldest first per stream. Raises Unreachable or Refused."""
        answer = await self._call(
            "cf_events_after", {"p_cursor": cursor.to_json(), "p_topics": _names(topics), "p_limit": limit}
        )
        rows = answer.get("events")
        rows = rows if isinstance(rows, list) else []
        events = _readable(rows)
        through: dict[str, list[Any]] = {}
        for row in rows:  # in order, so that the last one stays
            through[row["stream"]] = [row["epoch"], row["seq"]]
        return Page(
            events,
            _cursor(through),
            _cursor(answer.get("heads")),
            bool(answer.get("more")),
            len(rows) - len(events),
        )

    async def positions_back(self, topics: Collection[Topic], seconds: float) -> Cursor:
        """Return where the streams stood so many seconds ago, by the database's clock. Raises Unreachable or Refused."""
        return _cursor(
            await self._call("cf_positions_back", {"p_topics": _names(topics), "p_seconds": seconds})
        )

    async def follow_logs(self, viewer: str, device: str, container: str, lines: int) -> None:
        """Say, or say again, that a viewer reads a container's log. Raises Unreachable or Refused."""
        await self._call("cf_follow_logs", {**_reader(viewer, device, container), "p_lines": lines})

    async def end_logs(self, viewer: str, device: str, container: str) -> None:
        """Say that a viewer reads a container's log no more. Raises Unreachable or Refused."""
        await self._answer("cf_end_logs", _reader(viewer, device, container))

    async def watch(self, viewer: UUID, devices: Collection[str]) -> float:
        """Say that a viewer watches these devices; return for how many seconds that holds.

        Raises Unreachable or Refused.
        """
        answer = await self._call("cf_watch_devices", {"p_viewer": str(viewer), "p_devices": sorted(devices)})
        try:
            return float(answer["seconds"])
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(BACKEND, f"unreadable answer of cf_watch_devices: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
        self._client = self._http = None

    async def _call(self, function: str, arguments: dict[str, Any]) -> dict[str, Any]:
        answer = await self._answer(function, arguments)
        if answer is None:
            raise Refused(
                BACKEND,
                f"{function} shows nothing to this key or user",
                "it needs app_metadata.crossfade_role viewer, operator or admin",
            )
        if not isinstance(answer, dict):
            raise Refused(BACKEND, f"{function} answered {type(answer).__name__}, not an object")
        return answer

    async def _answer(self, function: str, arguments: dict[str, Any]) -> Any:
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                client = await self._connected()
                return (await client.rpc(function, arguments).execute()).data
        except APIError as error:
            raise of_rpc(error, function) from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise Unreachable(
                BACKEND, f"{self._project.url}: {str(error) or type(error).__name__}"
            ) from error
        except (SupabaseException, httpx.InvalidURL) as error:
            raise Refused(BACKEND, str(error), "check SUPABASE_URL and SUPABASE_KEY") from error

    async def _connected(self) -> AsyncClient:
        if self._client is None:
            self._http = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, verify=_certificates())
            options = AsyncClientOptions(httpx_client=self._http, postgrest_client_timeout=TIMEOUT_SECONDS)
            self._client = await acreate_client(self._project.url, self._project.key, options)
        token = self._project.token()
        if token is not None:
            self._client.postgrest.auth(token)
        return self._client


@cache
def _certificates() -> ssl.SSLContext:
    """Return what servers are checked with; reading it takes tens of milliseconds, too long for each client anew."""
    return httpx.create_ssl_context()


def _reader(viewer: str, device: str, container: str) -> dict[str, Any]:
    return {"p_viewer": viewer, "p_device": device, "p_container": container}


def _names(topics: Collection[Topic]) -> list[str]:
    return sorted(map(str, topics))


def _cursor(value: object) -> Cursor:
    try:
        return Cursor.from_json(value)
    except InvalidCursor as error:
        raise Refused(BACKEND, f"unreadable heads: {error}") from error


def _readable(rows: object) -> tuple[Event, ...]:
    """Return the rows that are events of ours: whoever writes into the tables by hand must not end a subscription."""
    events = []
    for row in rows if isinstance(rows, list) else ():
        try:
            events.append(from_json(row))
        except InvalidEvent as error:
            log.warning("supabase.unreadable", what=str(error), begins=repr(row)[:200])
    return tuple(events)
