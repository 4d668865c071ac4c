"""Routes: where one client is served, what of it is polled, and where it may go when that fails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from monitoring.events import StreamId, category_of
from monitoring.service import PUSHING, Backend
from monitoring.topics import Field, Topic


@dataclass(frozen=True, slots=True)
class Route:
    """How one client is to be served.

    ``polled`` are the categories that are switched off on the push path and polled instead. ``fallbacks`` are the
    backends that may stand in while ``backend`` fails, in order. ``shadow`` is one that the client opens besides and
    whose events it discards, to show that it could be served by it. Neither makes two routes different, since no client
    moves for them.
    """

    backend: Backend
    polled: frozenset[str] = frozenset()
    fallbacks: tuple[Backend, ...] = field(default=(*PUSHING, Backend.POLLING), compare=False)
    shadow: Backend | None = field(default=None, compare=False)

    def over(self, backend: Backend) -> Route:
        """Return the route by way of another backend; on polling nothing is left to be polled apart."""
        return replace(
            self, backend=backend, polled=frozenset() if backend is Backend.POLLING else self.polled
        )

    def within(self, backends: Collection[Backend]) -> Route | None:
        """Return the nearest route that needs only these backends; None when there is none."""
        usable = tuple(each for each in self.fallbacks if each in backends)
        polled = self.polled if Backend.POLLING in backends else frozenset[str]()
        shadow = self.shadow if self.shadow in backends else None
        for backend in (self.backend, *usable):
            if backend in backends:
                return replace(self, polled=polled, fallbacks=usable, shadow=shadow).over(backend)
        return None

    def ranked(self) -> Iterator[Route]:
        """Give this route, then those by way of its fallbacks, each backend once."""
        for backend in dict.fromkeys((self.backend, *self.fallbacks)):
            yield self.over(backend)

    def parts(self, topics: Collection[Topic]) -> Iterator[Part]:
        """Give the subscriptions that together bring the topics, each stream by one of them."""
        if not self.polled:
            yield Part(self.backend, frozenset(topics), lambda _: True)
            return
        yield Part(self.backend, frozenset(topics), lambda stream: category_of(stream) not in self.polled)
        everything = any(topic.value is None for topic in topics)
        polled = {Topic(Field.CATEGORY, category) for category in self.polled} if everything else topics
        yield Part(Backend.POLLING, frozenset(polled), lambda stream: category_of(stream) in self.polled)

    def __str__(self) -> str:
        return f"{self.backend}, {' and '.join(sorted(self.polled))} polled" if self.polled else self.backend


@dataclass(frozen=True, slots=True)
class Part:
    """One subscription of a route; ``brings`` tells which of its streams are taken from it."""

    backend: Backend
    topics: frozenset[Topic]
    brings: Callable[[StreamId], bool]


class Routes(Protocol):
    """Where the flags want each client. Answers at once, from the last good flags."""

    def route(self, client_id: str) -> Route:
        """Return how the client should be served now."""
        ...

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called after each change that may concern a client; returns what ends that."""
        ...
