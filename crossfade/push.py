"""Applications push what they know about themselves: sessions, connections, semaphores, HTTP requests.

::

    from crossfade import push

    app = push.application("app-7")
    app.session_created("s-1", user="ann")
    app.connection("redis", function_name="get", response_time_ms=1.5)

Nothing here waits and nothing raises, but `application` itself for what cannot be meant. A call puts an event into a
bounded buffer and returns whether there was room; a thread delivers batches. Use it alike from threads and from
asyncio. docs/push.md has the kinds, the settings, and what is lost when.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import secrets
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import orjson

from crossfade.errors import UsageError
from crossfade.pushing.buffer import Buffer
from crossfade.pushing.requests import ASGIApp, CountingMiddleware, RequestCounts, Scope
from monitoring import applications
from monitoring.errors import InvalidEvent
from monitoring.events import Draft, stream_id, uuid7
from monitoring.intake import storable

if TYPE_CHECKING:
    from crossfade.pushing.worker import OpenIntake, Worker

__all__ = ["Application", "Status", "application"]

MAX_EVENTS = 10_000
MAX_BYTES = 32_000_000
MAX_EVENT_BYTES = 400_000
"""Of one event's payload: with its envelope it fits what can be pushed."""
_GAUGES = 1_000
_JSON = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z

log = logging.getLogger(__name__)


def application(
    name: str,
    where: str | Path | None = None,
    *,
    token: str | Callable[[], str] | None = None,
    spool: str | Path | None = None,
    database_url: str | None = None,
    legacy_url: str | None = None,
    legacy_token: str = "",
    max_events: int = MAX_EVENTS,
    batch_seconds: float = 0.2,
    sample_seconds: float = 5.0,
) -> Application:
    """Return what pushes for one application; ``NAME/sessions``, ``NAME/connections`` and so on are its streams.

    Without ``spool``, events go to the query service, and those that the buffer has no room for during an outage are
    dropped and counted. ``where`` is a data directory of this machine (by default ``CROSSFADE_DATA_DIR``, else
    ``.crossfade``), or the address of a query service elsewhere, which needs a ``token`` of an operator.

    With ``spool``, the path of a file of this process's own, events are kept there first and go along both paths from
    there: nothing that was kept is lost. ``database_url`` and ``legacy_url`` (``ws://HOST:PORT/link``) with
    ``legacy_token`` say where to; by default it is what runs on the data directory.

    Raises UsageError.
    """
    from crossfade.pushing.places import place  # noqa: PLC0415 - importing push must not cost what the drivers cost

    for category in (applications.SESSIONS, applications.CONNECTIONS):
        try:
            stream_id(name, category)
        except InvalidEvent as error:
            raise UsageError(f"an application's name cannot be {name!r}: {error.reason}") from None
    open_intake = place(
        where, token, Path(spool) if spool is not None else None, database_url, legacy_url, legacy_token
    )
    return Application(
        name, open_intake, max_events=max_events, batch_seconds=batch_seconds, sample_seconds=sample_seconds
    )


@dataclass(frozen=True, slots=True)
class Status:
    """How pushing goes: events that wait, that are kept, and that are lost, by reason.

    Reasons: ``overflow`` (no room in the buffer), ``invalid`` (no JSON, or too large), ``refused`` (by the service),
    ``closed`` (left over when the application ended). ``problem`` says why events are not kept now.
    """

    waiting: int
    kept: int
    lost: Mapping[str, int]
    problem: str | None


class Application:
    """Pushes for one application. ``application`` makes one; it ends with ``close``, a ``with`` block or the process."""

    def __init__(
        self,
        name: str,
        open_intake: OpenIntake,
        *,
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
        batch_seconds: float = 0.2,
        sample_seconds: float = 5.0,
        exit_seconds: float = 2.0,
    ) -> None:
        """Push to what ``open_intake`` opens. ``exit_seconds`` is what the end of the process waits for the last events."""
        self.name = name
        self._open_intake = open_intake
        self._limits = {"max_events": max_events, "max_bytes": max_bytes}
        self._seconds = (batch_seconds, sample_seconds)
        self._begin()
        mine = weakref.WeakMethod(self.close)
        atexit.register(_if_alive, mine, exit_seconds)
        if hasattr(os, "register_at_fork"):
            again = weakref.WeakMethod(self._begin)
            os.register_at_fork(after_in_child=lambda: _if_alive(again))

    def _begin(self) -> None:
        """Start with nothing; also in the child of a fork, which has no thread, and whose locks may be held for ever."""
        self._lock = threading.RLock()  # what an event says of itself (str) may push, too
        self._buffer = Buffer(**self._limits)
        self._worker: Worker | None = None
        self._closed = False
        self._sessions = applications.SessionList()
        self._gauges: dict[str, dict[str, Any]] = {}
        self._gauges_told: dict[str, dict[str, Any]] = {}
        self._requests = RequestCounts()
        self._said: set[str] = set()

    def session_created(self, session_id: str, **attributes: Any) -> bool:
        """Tell that a session began."""
        return self._push(
            applications.SESSIONS,
            applications.SESSION_CREATED,
            lambda: self._sessions.created(str(session_id), _plain(attributes)),
        )

    def session_updated(self, session_id: str, **attributes: Any) -> bool:
        """Tell attributes of a session that changed; the others stay as they are."""
        return self._push(
            applications.SESSIONS,
            applications.SESSION_UPDATED,
            lambda: self._sessions.updated(str(session_id), _plain(attributes)),
        )

    def session_destroyed(self, session_id: str, *, reason: str | None = None) -> bool:
        """Tell that a session ended."""
        return self._push(
            applications.SESSIONS,
            applications.SESSION_DESTROYED,
            lambda: self._sessions.destroyed(str(session_id), reason),
        )

    def connection(
        self,
        connection_type: str,
        *,
        direction: Literal["inbound", "outbound"] = "outbound",
        script_name: str | None = None,
        function_name: str | None = None,
        data_size_bytes: int = 0,
        response_time_ms: float | None = None,
        error: str | BaseException | None = None,
        **metadata: Any,
    ) -> bool:
        """Tell of one use of a connection: ``websocket``, ``redis``, ``supabase``, ``kimi``, ``glm`` or any other type."""
        return self._push(
            applications.CONNECTIONS,
            applications.CONNECTION_EVENT,
            lambda: {
                "connection_type": connection_type,
                "direction": direction,
                "script_name": script_name or self.name,
                "function_name": function_name,
                "data_size_bytes": data_size_bytes,
                "response_time_ms": response_time_ms,
                "error": None if error is None else str(error) or type(error).__name__,
                "metadata": metadata,
            },
        )

    def semaphore(
        self, name: str, *, in_use: int, limit: int | None = None, waiting: int | None = None
    ) -> None:
        """Set a semaphore's gauge; the newest value of each interval is pushed, when it changed."""
        gauge = {"name": name, "limit": limit, "in_use": in_use, "waiting": waiting}
        with self._lock:
            if name in self._gauges or len(self._gauges) < _GAUGES:
                self._gauges[name] = gauge
        self._work()

    def event(self, category: str, kind: str, payload: Mapping[str, Any]) -> bool:
        """Push an event of a kind of your own on ``NAME/category``."""
        return self._push(category, kind, lambda: dict(payload))

    def count_requests(self, app: ASGIApp, route_of: Callable[[Scope], str] | None = None) -> ASGIApp:
        """Return an ASGI application with its HTTP requests counted; each interval's counts are pushed.

        ``route_of`` names the route of a request that has been answered, from its scope; by default as Starlette and
        FastAPI do. It must name few: at most 200 are counted apart.
        """
        return CountingMiddleware(app, self._count, route_of)

    def status(self) -> Status:
        """Return how it goes."""
        buffer, worker = self._buffer, self._worker
        lost = {reason: count for reason, count in buffer.lost.items() if count}
        return Status(len(buffer), buffer.kept, lost, worker.problem if worker else None)

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait at most so long until all that was pushed is kept; False when it is not, or some was lost on the way.

        Losses count from the last ``flush`` on. With a spool, what is kept will arrive whatever dies; without one, the
        query service has it on its disk.
        """
        self._sample()
        worker = self._worker
        if worker is not None:
            worker.hurry()
        return self._buffer.wait_kept(seconds)

    async def aflush(self, seconds: float = 5.0) -> bool:
        """Do as ``flush``, without holding up the event loop."""
        return await asyncio.to_thread(self.flush, seconds)

    def close(self, seconds: float = 5.0) -> None:
        """Deliver what can be within so many seconds, and end; the rest is lost, counted and said. Safe to call twice."""
        if self._closed:
            return
        self._sample()
        self._closed = True
        worker = self._worker
        ended = worker is None or worker.stop(seconds)
        left = self._buffer.give_up("closed")
        if left:
            late = "" if ended else f" ({self.name} did not wait for an answer that was on its way)"
            log.warning("%s ended with %d events that nobody kept: they are lost%s", self.name, left, late)

    def _push(self, category: str, kind: str, payload: Callable[[], Mapping[str, Any]]) -> bool:
        """Put an event into the buffer; False when it is lost. Never raises."""
        try:
            with self._lock:
                if self._closed:
                    self._lose("closed", "it is closed")
                    return False
                body = orjson.dumps(payload(), default=str, option=_JSON)
                if len(body) > MAX_EVENT_BYTES or not storable(body):
                    self._lose(
                        "invalid", f"{kind} is larger than {MAX_EVENT_BYTES} bytes or has U+0000 in it"
                    )
                    return False
                now = datetime.now(UTC)
                identity = uuid7(int(now.timestamp() * 1000), secrets.randbits(74))
                draft = Draft(stream_id(self.name, category), kind, now, orjson.loads(body), identity)
                if not self._buffer.put(draft, len(body)):
                    self._say("overflow", "the buffer is full; events are lost until it has room again")
                    return False
            worker = self._work()
            if worker is not None:
                worker.nudge()
        except Exception as error:  # noqa: BLE001 - whatever it is, the application goes on
            self._lose("invalid", f"{kind} cannot be pushed: {error}")
            return False
        return True

    def _sample(self) -> None:
        """Push what is counted over time."""
        with self._lock:
            changed = [gauge for name, gauge in self._gauges.items() if self._gauges_told.get(name) != gauge]
            self._gauges_told = dict(self._gauges)
        for gauge in changed:
            self._push(applications.SEMAPHORES, applications.SEMAPHORE_GAUGE, partial(dict, gauge))
        counts = self._requests.read()
        if counts is not None:
            self._push(applications.REQUESTS, applications.HTTP_REQUESTS, partial(dict, counts))

    def _count(self, method: str, route: str, status: int, duration_ms: float) -> None:
        self._requests.count(method, route, status, duration_ms)
        self._work()

    def _work(self) -> Worker | None:
        """Return the worker, started with the first thing there is to do; None when the system has no thread for it."""
        if self._worker is None and not self._closed:
            from crossfade.pushing.worker import Pace, Worker  # noqa: PLC0415 - as above

            with self._lock:
                if self._worker is None:
                    worker = Worker(self._buffer, self._open_intake, self._sample, Pace(*self._seconds))
                    try:
                        worker.start()
                    except RuntimeError as error:
                        self._say("thread", f"there is no thread to deliver it: {error}")
                        return None
                    self._worker = worker
        return self._worker

    def _lose(self, reason: str, sentence: str) -> None:
        self._buffer.lose(reason)
        self._say(reason, sentence)

    def _say(self, reason: str, sentence: str) -> None:
        """Say once that events are lost for a reason; ``status`` counts them."""
        if reason not in self._said:
            self._said.add(reason)
            log.warning("%s: an event is lost: %s (said once; status() counts them)", self.name, sentence)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as JSON has them, so that nobody changes them later; what JSON has not becomes text."""
    plain: dict[str, Any] = orjson.loads(orjson.dumps(attributes, default=str, option=_JSON))
    return plain


def _if_alive(method: weakref.WeakMethod[Any], *arguments: Any) -> None:
    call = method()
    if call is not None:
        with contextlib.suppress(Exception):
            call(*arguments)
