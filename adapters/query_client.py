"""The query service's client: what is asked by HTTP, and every foreign answer and error translated, in one place."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson

from monitoring.cursor import Cursor
from monitoring.errors import InvalidCursor, InvalidEvent, MonitoringError, Refused, Unreachable
from monitoring.events import Event, from_json
from monitoring.service import Snapshot
from monitoring.topics import GLOBAL, Topic

BACKEND = "the query service"
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
PAGE = 200
"""Events a page: what is in memory at once, at most."""
MAX_TOPICS = 100
"""More are asked for as everything, and chosen here: an address has room for so many."""
MAX_WAIT_SECONDS = 300.0

_NOT_MODIFIED = 304
_REFUSALS = frozenset({400, 401, 403, 404, 405, 406, 410, 413, 415, 422})
_HINTS: Mapping[int, str] = {
    401: "the access token is not accepted: sign in again",
    403: "the user needs app_metadata.crossfade_role viewer, operator or admin",
    404: "check the address: this is no query service of this version",
}


class AskedToWait(Unreachable):
    """A service that cannot answer now and says when to ask again."""

    def __init__(self, backend: str, reason: str, retry_after_seconds: float) -> None:
        super().__init__(backend, reason)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what a client missed. ``heads`` is as of the same moment; ``more`` says that the page was full."""

    events: tuple[Event, ...]
    heads: Cursor
    more: bool


@dataclass(frozen=True, slots=True)
class Tagged:
    """An answer with its entity tag; ``body`` is None when it is the one that the tag asked with stands for."""

    body: Any
    tag: str


class QueryClient:
    """One query service, asked with the token of one user. Call ``close`` at the end.

    ``access_token`` returns a token that is valid now. Every method raises Unreachable (AskedToWait when the service
    says for how long) or Refused.
    """

    def __init__(self, url: str, access_token: Callable[[], str]) -> None:
        self.url = url.rstrip("/")
        self._access_token = access_token
        self._http: httpx.AsyncClient | None = None

    async def heads(self, topics: Collection[Topic], tag: str = "") -> tuple[Cursor | None, str]:
        """Return how far each stream is, and the tag of this answer; None while it is what ``tag`` stands for."""
        answer = await self._tagged("GET", "/api/heads", tag, params={"topic": _names(topics)})
        return (None if answer.body is None else _cursor(answer.body)), answer.tag

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        """Return the newest event of each stream and kind."""
        answer = _object(await self._body("GET", "/api/snapshot", params={"topic": _names(topics)}))
        return Snapshot(_events(answer.get("state")), _cursor(answer.get("cursor")))

    async def after(self, cursor: Cursor, topics: Collection[Topic], limit: int = PAGE) -> Page:
        """Return what a client with this cursor missed, oldest first per stream."""
        body = {"cursor": cursor.to_json(), "topics": _names(topics), "limit": limit}
        answer = _object(await self._body("POST", "/api/events/after", json=body))
        return Page(_events(answer.get("events")), _cursor(answer.get("heads")), bool(answer.get("more")))

    async def routes(self, clients: Collection[str], tag: str = "") -> Tagged:
        """Return the routes of some clients as the service has them: ``{"routes": {client: {...}}}``."""
        return await self._tagged("POST", "/api/routes", tag, json={"clients": list(clients)})

    async def report(self, process: str, clients: Mapping[str, Any], sees: Mapping[str, Any]) -> None:
        """Tell what the clients of this process saw, in place of what it told last."""
        body = {"process": process, "clients": clients, "sees": sees}
        headers = {"Content-Type": "application/json"}
        await self._send("POST", "/api/clients", headers, content=orjson.dumps(body))

    async def connection(self) -> Mapping[str, Any]:
        """Return where the backends are, in the form of ``/api/connection``."""
        return _object(await self._body("GET", "/api/connection"))

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
        self._http = None

    def _token(self) -> str:
        try:
            return self._access_token()
        except MonitoringError:
            raise
        except Exception as error:  # whatever the caller's own code does
            reason = f"there is no access token: {str(error) or type(error).__name__}"
            raise Unreachable(BACKEND, reason) from error

    async def _body(self, method: str, path: str, **arguments: Any) -> Any:
        return _parsed(await self._send(method, path, {}, **arguments))

    async def _tagged(self, method: str, path: str, tag: str, **arguments: Any) -> Tagged:
        response = await self._send(method, path, {"If-None-Match": tag} if tag else {}, **arguments)
        if response.status_code == _NOT_MODIFIED:
            return Tagged(None, tag)
        return Tagged(_parsed(response), response.headers.get("etag", ""))

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str], **arguments: Any
    ) -> httpx.Response:
        authorized = {**headers, "Authorization": f"Bearer {self._token()}"}
        if self._http is None:  # made late: it reads certificates, and most clients never poll
            self._http = httpx.AsyncClient(timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS))
        try:
            response = await self._http.request(method, self.url + path, headers=authorized, **arguments)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise Refused(BACKEND, f"{self.url}: {error}", "check the address") from error
        except httpx.HTTPError as error:
            raise Unreachable(BACKEND, f"{self.url}: {str(error) or type(error).__name__}") from error
        if response.is_success or response.status_code == _NOT_MODIFIED:
            return response
        raise _failure(self.url, response)


def _failure(url: str, response: httpx.Response) -> Unreachable | Refused:
    """Return our error for an answer that is one."""
    reason = f"HTTP {response.status_code}: {_detail(response)}"
    if response.status_code in _REFUSALS:
        return Refused(BACKEND, reason, _HINTS.get(response.status_code, ""))
    wait = retry_after(response.headers.get("retry-after", ""), time.time())
    if wait is None:
        return Unreachable(BACKEND, f"{url}: {reason}")
    return AskedToWait(BACKEND, f"{url}: {reason}", wait)


def _detail(response: httpx.Response) -> str:
    """Return what a problem (RFC 9457) says; of anything else, as a proxy's page, its beginning."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("detail"), str):
        return str(body["detail"])
    return " ".join(response.text[:200].split()) or response.reason_phrase


def retry_after(text: str, now: float) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110, 10.2.3), at most five minutes; None for none that is one.

    ``now`` is the time in seconds since 1970, for the form that names a date.
    """
    try:
        seconds = float(text) if text.strip().isdecimal() else parsedate_to_datetime(text).timestamp() - now
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_WAIT_SECONDS) if math.isfinite(seconds) else None


def _parsed(response: httpx.Response) -> Any:
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        # A proxy's page of some kind: the service itself answers JSON.
        raise Unreachable(BACKEND, f"{response.url.path}: the answer is not JSON: {error}") from error


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Refused(BACKEND, f"answered {type(value).__name__}, not an object")
    return value


def _names(topics: Collection[Topic]) -> list[str]:
    return sorted(map(str, topics)) if len(topics) <= MAX_TOPICS else [str(GLOBAL)]


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
