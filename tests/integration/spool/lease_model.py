"""The database as owners see it, as a model with a clock of its own.

What ``cf_acquire_leases``, ``cf_release_leases`` and ``cf_append`` promise; ``test_lease_model.py`` holds it against the
real functions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

import asyncpg
import orjson

from monitoring.events import Event, Position, StreamId, from_json


@dataclass(frozen=True)
class Lease:
    owner: UUID
    epoch: int
    ends: float
    released: bool = False
    follows_drained: bool = True


@dataclass
class LeaseModel:
    """Stands in for a connection: ``fetchval`` is all that leases and the writer ask of one."""

    now: float = 0.0
    leases: dict[StreamId, Lease] = field(default_factory=dict)
    rows: dict[StreamId, list[Event]] = field(default_factory=dict)
    heads: dict[StreamId, Position] = field(default_factory=dict)
    committed: list[Event] = field(default_factory=list)
    """What was stored since somebody last looked, in order."""

    async def fetchval(self, statement: str, owner: UUID, *arguments: Any) -> Any:
        match statement.partition("(")[0].rpartition(".")[2]:
            case "cf_acquire_leases":
                wanted, ttl = arguments
                answers = {
                    stream: self._acquire(StreamId(stream), owner, hint, float(ttl))
                    for stream, hint in sorted(orjson.loads(wanted).items())
                }
                return orjson.dumps(answers).decode()
            case "cf_release_leases":
                for stream in arguments[0]:
                    if self.leases[stream].owner == owner:
                        self.leases[stream] = replace(self.leases[stream], released=True)
                return len(arguments[0])
            case "cf_append":
                events, ttl = arguments
                return self._append(owner, [from_json(event) for event in orjson.loads(events)], float(ttl))
            case "cf_append_rows":
                streams, epochs, seqs, ids, _, kinds, times, payloads, ttl = arguments
                columns = zip(
                    ids, streams, epochs, seqs, kinds, times, map(orjson.loads, payloads), strict=True
                )
                return self._append(owner, [Event(*each) for each in columns], float(ttl))
            case other:
                raise AssertionError(other)

    def _acquire(self, stream: StreamId, owner: UUID, hint: int | None, ttl: float) -> dict[str, Any]:
        head = self.heads.get(stream)
        lease = self.leases.get(stream)
        if lease is None:
            lease = Lease(
                owner, max(hint or 1, head.epoch + 1 if head else 1), 0, follows_drained=head is None
            )
        elif lease.owner == owner or lease.released or lease.ends < self.now:
            if lease.owner != owner or hint not in {None, lease.epoch}:
                epoch = max(lease.epoch, hint or 0) + 1
                lease = Lease(owner, epoch, 0, follows_drained=lease.released)
        else:
            return {"owner": str(lease.owner), "until": lease.ends}
        self.leases[stream] = replace(lease, ends=self.now + ttl, released=False)
        previous = {"epoch": head.epoch, "seq": head.seq} if head else None
        return {"epoch": lease.epoch, "previous": previous, "drained": lease.follows_drained}

    def _append(self, owner: UUID, events: list[Event], ttl: float) -> int:
        refused: dict[str, int | None] = {}
        for stream in {event.stream for event in events}:
            epochs = [event.epoch for event in events if event.stream == stream]
            lease, head = self.leases.get(stream), self.heads.get(stream)
            if lease is None or lease.owner != owner or lease.epoch < max(epochs):
                refused[stream] = None
            elif head and min(epochs) < head.epoch:
                refused[stream] = head.epoch
        if refused:
            error = cast("Any", asyncpg.PostgresError("fenced"))
            error.sqlstate, error.detail = "CF002", orjson.dumps(refused).decode()
            raise error
        stored = 0
        for event in events:
            lease = self.leases[event.stream]
            self.leases[event.stream] = replace(lease, ends=self.now + ttl, released=False)
            rows = self.rows.setdefault(event.stream, [])
            if all(row.position != event.position for row in rows):
                rows.append(event)
                self.committed.append(event)
                stored += 1
            self.heads[event.stream] = max(self.heads.get(event.stream, event.position), event.position)
        return stored
