"""Routes of clients on other machines: the query service is asked each second, the last answer stays while it is away.

One request for up to 500 clients of a process, answered without content while none of their routes has changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import structlog

from adapters.backoff import Backoff
from adapters.query_client import BACKEND, AskedToWait, QueryClient
from monitoring.errors import Refused, Unreachable
from monitoring.route import Route, Routes
from monitoring.service import Backend

EVERY_SECONDS = 1.0
BATCH = 500
"""Clients in one request; the service takes no more."""
_CAP_SECONDS = 5.0

DEFAULT = Route(Backend.LEGACY, fallbacks=(Backend.POLLING,))
"""What holds before the first answer: where everybody comes from. Supabase is for who is known to be let there."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A client's route, and how it is known: ``age_seconds`` is None for the default."""

    route: Route
    age_seconds: float | None
    detail: str


@dataclass(slots=True)
class _Known:
    route: Route
    heard: float


class EdgeRoutes(Routes):
    """The routes of this process's clients, kept up to date by ``run``; whoever runs it ends it.

    A client is asked about from its first ``route`` on, until ``forget``. Belongs to one event loop.
    """

    def __init__(
        self,
        client: QueryClient,
        *,
        every_seconds: float = EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._every_seconds = every_seconds
        self._clock = clock
        self._known: dict[str, _Known | None] = {}
        self._tags: dict[tuple[str, ...], str] = {}
        self._listeners: set[Callable[[], None]] = set()
        self._new = asyncio.Event()  # somebody is asked about for the first time
        self._heard = asyncio.Event()
        self._problem = "not asked yet"

    def route(self, client_id: str) -> Route:
        """Return the newest answer for a client, the default before there is one."""
        known = self._of(client_id)
        return known.route if known else DEFAULT

    def explain(self, client_id: str) -> Answer:
        """Return a client's route with its age and the state of the edge in one sentence."""
        known = self._of(client_id)
        if known is None:
            detail = f"no answer from {BACKEND} yet ({self._problem or 'being asked'}): the legacy server by default"
            return Answer(DEFAULT, None, detail)
        age = self._clock() - known.heard
        state = f"{self._problem}; the last answer stays in force" if self._problem else "up to date"
        return Answer(known.route, age, f"from {self._client.url} {age:.1f} s ago: {state}")

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called after each change of any route; returns what ends that."""
        self._listeners.add(wake)
        return lambda: self._listeners.discard(wake)

    def forget(self, client_id: str) -> None:
        """Ask about a client no more."""
        self._known.pop(client_id, None)

    async def answered(self, client_id: str, seconds: float) -> Answer:
        """Wait for a client's first answer, not longer than some seconds; return what holds then."""
        try:
            async with asyncio.timeout(seconds):
                while self._of(client_id) is None:
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            pass  # the answer says that it is the default, and why
        return self.explain(client_id)

    async def run(self) -> NoReturn:
        """Ask until cancelled."""
        backoff = Backoff(cap=_CAP_SECONDS)
        while True:
            self._new.clear()
            try:
                await self._ask()
            except (Unreachable, Refused) as error:
                if error.reason != self._problem:
                    log.warning("routes.stale", reason=error.reason)
                self._problem = error.reason
                asked = error.retry_after_seconds if isinstance(error, AskedToWait) else 0.0
                await asyncio.sleep(asked + max(self._every_seconds, backoff.next()))
                continue
            self._problem = ""
            backoff.reset()
            await self._pause()

    def _of(self, client_id: str) -> _Known | None:
        if client_id not in self._known:
            self._known[client_id] = None
            self._new.set()
        return self._known[client_id]

    async def _pause(self) -> None:
        """Wait for the next turn; a client that is new is not kept waiting."""
        try:
            async with asyncio.timeout(self._every_seconds):
                await self._new.wait()
        except TimeoutError:
            pass

    async def _ask(self) -> None:
        """Ask about every client, batch by batch; raises Unreachable or Refused."""
        batches = list(_batches(self._known))
        self._tags = {batch: self._tags.get(batch, "") for batch in batches}
        for batch in batches:
            complete = all(self._known.get(client_id) for client_id in batch)
            answer = await self._client.routes(batch, self._tags[batch] if complete else "")
            now = self._clock()
            if answer.body is None:
                for client_id in batch:
                    if known := self._known.get(client_id):
                        known.heard = now
                continue
            routes = {client_id: _route(answer.body, client_id) for client_id in batch}
            self._take(routes, now)
            self._tags[batch] = answer.tag

    def _take(self, routes: Mapping[str, Route], now: float) -> None:
        changed = False
        for client_id, route in routes.items():
            if client_id not in self._known:
                continue  # forgotten meanwhile
            before = self._known[client_id]
            changed |= before is None or (before.route, before.route.shadow) != (route, route.shadow)
            self._known[client_id] = _Known(route, now)
        self._heard.set()
        if changed:
            for wake in tuple(self._listeners):
                wake()


def _batches(clients: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Give the clients in the order in which they came, so that a new one changes the last batch alone."""
    names = list(clients)
    return (tuple(names[at : at + BATCH]) for at in range(0, len(names), BATCH))


def _route(body: Any, client_id: str) -> Route:
    """Return a client's route in an answer; raises Refused for an answer that has none that can be read."""
    try:
        found = body["routes"][client_id]
        return Route(
            Backend(found["backend"]),
            frozenset(map(str, found["polled"])),
            tuple(Backend(each) for each in found["fallbacks"]),
            Backend(found["shadow"]) if found.get("shadow") else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(
            BACKEND, f"unreadable route of {client_id!r}: {error!r}", "it may be of another version"
        ) from error
