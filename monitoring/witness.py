"""What one client saw, in blocks: a client's events of ten seconds. Pure.

Events are lost in bursts, so the statistics of a rollout count blocks and not events. A client gives evidence on the new
path in two ways: *live*, when it is served by it, and *shadow*, when it opens it besides and discards what comes. A
shadow is opened where the client stands, so it has to bring all that the client gets from then on. Its block is disturbed
when the path told of a gap, failed, or, being live for ten seconds, has not brought what the client had ten seconds ago,
however short the blocks are. One that does not become live within 30 s has failed.

Of each of its subscriptions a client also tells counts and digests (`monitoring.seen`), for others to check.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.events import Event, Position, StreamId
from monitoring.seen import Digest, Seen, digest_of
from monitoring.service import Backend, Gap, Item, MoveAbandoned, Moved
from monitoring.topics import Topic

BLOCK_SECONDS = 10.0
GRACE_SECONDS = 10.0
"""How much later than the client a shadow may have an event: what is merely late is no loss."""
READY_SECONDS = 30.0
"""How long a shadow may take to become live, or live again."""


@dataclass(slots=True)
class Counts:
    """Figures of one path since the client began; they only rise."""

    blocks: int = 0
    disturbed: int = 0
    events: int = 0
    findings: int = 0
    errors: int = 0

    def to_json(self) -> dict[str, int]:
        """Return them as plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class _Block:
    events: int = 0
    findings: int = 0
    errors: int = 0


class Witness:
    """One client, seen from within. ``clock`` is monotonic; ``digest`` may be shared by those handed the same events."""

    def __init__(
        self,
        client: str,
        clock: Callable[[], float],
        *,
        block_seconds: float = BLOCK_SECONDS,
        digest: Digest = digest_of,
    ) -> None:
        self.client = client
        self._clock = clock
        self._block_seconds = block_seconds
        self._ends = clock() + block_seconds
        self.backend: Backend | None = None
        self.shadow: Backend | None = None
        self.live = Counts()
        self.shadowed = Counts()
        self.note = ""
        """What disturbed the newest disturbed block."""
        self._block, self._shadow_block = _Block(), _Block()
        self._positions: dict[StreamId, Position] = {}
        self._shadow_positions: dict[StreamId, Position] = {}
        self._due: deque[tuple[float, Mapping[StreamId, Position]]] = deque()
        """What the client had, and when: the oldest first."""
        self._is_live: Callable[[], bool] = lambda: False
        self._live_at = clock()
        self._live_since: float | None = None
        self._digest = digest
        self._numbers = itertools.count(1)
        self._seen: dict[int, Seen] = {}

    def follows(self, topics: Collection[Topic], start: Mapping[StreamId, Position]) -> Follower:
        """Return what takes note of one subscription of the client, from a cursor on."""
        number = next(self._numbers)
        seen = self._seen[number] = Seen(topics, start, self._digest)
        return Follower(self, seen, lambda: self._seen.pop(number, None))

    def serves(self, backend: Backend) -> None:
        """Note by which backend the client is served now."""
        self.backend = backend

    def took(self, item: Item) -> None:
        """Note what the client was handed."""
        match item:
            case Event():
                self._block.events += self.backend is Backend.SUPABASE
                if self.shadow is not None:
                    self._positions[item.stream] = item.position
            case Gap():
                if self.backend is Backend.SUPABASE:
                    self._block.findings += 1
                    self.note = f"gap in {item.stream}: {item.reason}"
            case Moved():
                if item.from_backend is Backend.SUPABASE and item.reason.endswith("is down"):
                    self._block.errors += 1
                    self.note = item.reason
            case MoveAbandoned():
                if item.to_backend is Backend.SUPABASE:
                    self._block.errors += 1
                    self.note = item.reason
        self.close_block()

    def opens_shadow(self, backend: Backend, is_live: Callable[[], bool]) -> None:
        """Note that the client opens a path besides, at the place where it stands; ``is_live`` tells how that is doing."""
        self._begin_shadow(backend, is_live)

    def closes_shadow(self) -> None:
        """Note that the client has no path besides any more."""
        self._begin_shadow(None, lambda: False)

    def _begin_shadow(self, backend: Backend | None, is_live: Callable[[], bool]) -> None:
        self.shadow, self._is_live = backend, is_live
        self._live_at, self._live_since = self._clock(), None
        self._positions, self._shadow_positions = {}, {}
        self._due.clear()

    def discarded(self, item: Item) -> None:
        """Note what the path that is opened besides has brought."""
        if isinstance(item, Event):
            self._shadow_block.events += 1
            self._shadow_positions[item.stream] = item.position
        elif isinstance(item, Gap):
            self._shadow_block.findings += 1
            self.note = f"shadow: gap in {item.stream}: {item.reason}"

    def shadow_failed(self, reason: str) -> None:
        """Note that the path cannot be opened."""
        self._shadow_block.errors += 1
        self.note = f"shadow: {reason}"

    def close_block(self) -> None:
        """End the block whose time is up; call it whenever something happened, and before reading the figures."""
        now = self._clock()
        if now < self._ends:
            return
        self._ends = now + self._block_seconds
        for seen in self._seen.values():
            seen.close_block()
        _close(
            self.live, self._block
        )  # also of one who had to leave it within the block, or could not get there
        self._block = _Block()
        if self.shadow is not None:
            self._judge_shadow(now)
        _close(self.shadowed, self._shadow_block)  # also of one that was closed because it failed
        self._shadow_block = _Block()

    def _judge_shadow(self, now: float) -> None:
        self._due.append((now, dict(self._positions)))
        if not self._is_live():
            self._live_since = None
            if now - self._live_at >= READY_SECONDS:
                self.shadow_failed(f"{self.shadow} was not live for {now - self._live_at:.0f} s")
                self._live_at = now
            return
        self._live_at = now
        if self._live_since is None:
            self._live_since = now
        if now - self._live_since < GRACE_SECONDS:
            return  # what came in while it was joining is on its way through
        due: Mapping[StreamId, Position] = {}
        while self._due and now - self._due[0][0] >= GRACE_SECONDS:
            _, due = self._due.popleft()
        behind = [stream for stream, at in due.items() if self._shadow_positions.get(stream, (0, 0)) < at]
        if behind:
            self._shadow_block.findings += len(behind)
            self.note = f"shadow: {behind[0]} is behind"

    def to_json(self) -> dict[str, Any]:
        """Return the client's figures as plain JSON."""
        return {
            "backend": self.backend,
            "shadow": self.shadow,
            "live": self.live.to_json(),
            "shadowed": self.shadowed.to_json(),
            "note": self.note,
        }

    def sees(self) -> dict[str, Any]:
        """Return what each subscription of the client has been handed, as of the end of the newest block."""
        return {str(number): seen.to_json() for number, seen in self._seen.items()}


@dataclass(frozen=True, slots=True)
class Follower:
    """One subscription of a witness. Call ``close`` when it has ended: then it is reported no more."""

    witness: Witness
    seen: Seen
    close: Callable[[], object]

    def took(self, item: Item) -> None:
        """Note what the client was handed."""
        self.seen.took(item)
        self.witness.took(item)


def _close(counts: Counts, block: _Block) -> None:
    if not (block.events or block.findings or block.errors):
        return  # nothing happened: no evidence of anything
    counts.blocks += 1
    counts.disturbed += bool(block.findings or block.errors)
    counts.events += block.events
    counts.findings += block.findings
    counts.errors += block.errors
