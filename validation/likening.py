"""Deliveries without identity, likened to what was published: how a server without ids takes part. Pure.

Each published event has a fingerprint; the n-th delivery of a fingerprint is the n-th published event that has it. A tap
may be ahead of the truth: what it brings waits for it. What nothing was published for within the horizon is a double,
when its fingerprint was delivered before, else an extra.

Several taps of one server are each other's *noise control*: an event counts as delivered when any of them brought it,
and what they disagree about is counted as noise, for it is not the other side's fault.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from monitoring.events import OWN_KINDS, UNIDENTIFIED_EPOCH
from monitoring.fingerprint import EXACT, Fingerprint, Likeness, fingerprint
from validation.comparison import Content, encode
from validation.observation import Key, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from monitoring.events import Event

_ON_THE_WAY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Recognised:
    """A delivery, with the identity that it turned out to have, and what was published under it."""

    key: Key
    content: Content
    at: float


@dataclass(slots=True)
class Noise:
    """What the taps of one server agree on, and what only some of them brought."""

    agreed: int = 0
    disagreed: int = 0

    def count(self, brought: list[int]) -> None:
        """Count the events of one fingerprint, of which each tap brought so many."""
        self.agreed += min(brought)
        self.disagreed += max(brought) - min(brought)

    @property
    def share(self) -> float | None:
        """The share of the events that not every tap brought; None when there were none."""
        seen = self.agreed + self.disagreed
        return self.disagreed / seen if seen else None


@dataclass(slots=True)
class _Alike:
    """What has one fingerprint: the published events, and how many of them each tap has brought."""

    published: list[tuple[Key, Content, float]]
    brought: list[int]
    early: deque[tuple[int, Event, float]] = field(default_factory=deque)
    seen_at: float = 0.0


class Likening:
    """Gives deliveries of one server's taps the identity of what was published.

    ``began_at`` is when all taps were live, in the caller's seconds: what came before is not known.
    """

    def __init__(
        self,
        likeness: Likeness = EXACT,
        *,
        taps: int = 1,
        began_at: float = -math.inf,
        horizon_seconds: float = 20.0,
        max_known: int = 200_000,
    ) -> None:
        self._likeness = likeness
        self._taps = taps
        self._began_at = began_at
        self._horizon = horizon_seconds
        self._max = max_known
        self._known: dict[Fingerprint, _Alike] = {}
        self._numbers = count(1)
        self.noise = Noise()
        self.forgotten = 0
        """Fingerprints that were let go before their time, because there were too many."""

    def published(self, event: Event, at: float) -> list[Recognised]:
        """Take a published event; return the deliveries that were ahead of it.

        What only our own delivery tells (an epoch's opening) no other server has: it counts as delivered.
        """
        key, content = key_of(event), encode(event)
        if event.kind in OWN_KINDS:
            return [Recognised(key, content, at)]
        alike = self._alike(fingerprint(event, self._likeness), at)
        alike.published.append((key, content, at))
        waiting, alike.early = alike.early, deque()
        return [each for tap, early, since in waiting for each in self._bring(alike, tap, early, since)]

    def delivered(self, event: Event, at: float, tap: int = 0) -> list[Recognised]:
        """Take a delivery; return it with its identity, unless that is not known yet or another tap was first."""
        alike = self._alike(fingerprint(event, self._likeness), at)
        return list(self._bring(alike, tap, event, at))

    def _bring(self, alike: _Alike, tap: int, event: Event, at: float) -> Iterator[Recognised]:
        number = alike.brought[tap]
        if number >= len(alike.published):
            alike.early.append((tap, event, at))
            return
        alike.brought[tap] += 1
        if number >= max((n for other, n in enumerate(alike.brought) if other != tap), default=0):
            key, content, _ = alike.published[number]
            yield Recognised(key, content, at)

    def expire(self, now: float) -> list[Recognised]:
        """Let go of what is older than the horizon; return the deliveries that nothing was published for."""
        found: list[Recognised] = []
        for mark, alike in list(self._known.items()):  # oldest first
            if now - alike.seen_at <= self._horizon and len(self._known) <= self._max:
                break
            self.forgotten += now - alike.seen_at <= self._horizon
            del self._known[mark]
            found += self._settle(alike)
        return found

    def noise_share(self) -> float | None:
        """Return the share of events that not every tap brought, but for the first and the newest.

        Of those, one tap may have brought its copy before the beginning, or have it on its way.
        """
        found = Noise(self.noise.agreed, self.noise.disagreed)
        newest = next(reversed(self._known.values())).seen_at if self._known else 0.0
        for alike in self._known.values():
            if newest - alike.seen_at > _ON_THE_WAY_SECONDS and self._is_whole(alike):
                found.count(self._told(alike))
        return found.share

    def _is_whole(self, alike: _Alike) -> bool:
        """Tell whether no tap can have brought its copy before the beginning, or this is but one of many copies."""
        return alike.seen_at > self._began_at + _ON_THE_WAY_SECONDS

    def _told(self, alike: _Alike) -> list[int]:
        """Return how many each tap has brought, with those that nothing was published for."""
        waiting = Counter(tap for tap, _, _ in alike.early)
        return [brought + waiting[tap] for tap, brought in enumerate(alike.brought)]

    def _settle(self, alike: _Alike) -> Iterator[Recognised]:
        if self._is_whole(alike):
            self.noise.count(self._told(alike))
        again = max(
            (sum(1 for each in alike.early if each[0] == tap) for tap in range(self._taps)), default=0
        )
        for _, event, at in list(alike.early)[:again]:
            if alike.published:
                key, content, _ = alike.published[-1]
                yield Recognised(key, content, at)
            else:
                yield Recognised(
                    Key(event.stream, UNIDENTIFIED_EPOCH, next(self._numbers)), encode(event), at
                )

    def _alike(self, mark: Fingerprint, at: float) -> _Alike:
        alike = self._known.pop(mark, None) or _Alike([], [0] * self._taps)
        alike.seen_at = at
        self._known[mark] = alike  # at the end: the newest
        return alike
