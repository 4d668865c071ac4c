"""A service in memory that replays a small host with containers, for the dashboard's tests and for looking at it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from monitoring.cursor import Cursor
from monitoring.errors import Unreachable
from monitoring.events import Event, Position, StreamId, format_time, uuid7
from monitoring.service import (
    Backend,
    Capabilities,
    Gap,
    Health,
    Item,
    MonitoringService,
    Moved,
    Snapshot,
    Status,
)
from monitoring.subscription import Subscription
from monitoring.topics import Topic

SYSTEM = StreamId("box-1/system")
CONTAINERS = StreamId("box-1/containers")
_GIB = 1 << 30
_ids = count(1)

_IMAGES = (
    ("api", "registry.example/shop/api:2.14.1", "running", "healthy", 12.4),
    ("cache", "redis:7.4-alpine", "running", None, 0.6),
    ("db", "postgres:17.2", "running", "healthy", 38.1),
    ("mailer", "registry.example/shop/mailer:2.14.1", "restarting", "unhealthy", None),
    ("migrate", "registry.example/shop/api:2.14.1", "exited", None, None),
    ("proxy", "nginx:1.27", "running", "starting", 2.2),
)


def event(
    stream: StreamId, seq: int, kind: str, at: datetime, payload: dict[str, object], epoch: int = 1
) -> Event:
    return Event(uuid7(int(at.timestamp() * 1000), next(_ids)), stream, epoch, seq, kind, at, payload)


def reading(seq: int, at: datetime) -> Event:
    """A reading of the host, as its collector writes it."""
    wave = math.sin(seq / 18) + 0.4 * math.sin(seq / 3.1)
    used = (9.4 + 0.4 * wave) * _GIB
    return event(
        SYSTEM,
        seq,
        "metric_collected",
        at,
        {
            "hostname": "box-1",
            "cpu_usage": None if seq == 2 else round(34 + 22 * wave, 1),
            "memory_usage": round(100 * used / (24 * _GIB), 1),
            "cores": 8,
            "load": [round(2.1 + wave, 2), 1.98, 1.7],
            "memory": {"total_bytes": 24 * _GIB, "used_bytes": int(used), "available_bytes": int(24 * _GIB - used)},
            "disks": [
                {"mount": "/", "device": "/dev/vda1", "fs": "ext4", "total_bytes": 96 * _GIB, "used_bytes": 61 * _GIB},
                {"mount": "/var/lib/postgresql", "device": "/dev/vdb", "fs": "xfs", "total_bytes": 512 * _GIB, "used_bytes": 448 * _GIB},
                {"mount": "/boot/efi", "device": "/dev/vda15", "fs": "vfat", "total_bytes": 129718272, "used_bytes": 12275712},
            ],
            "networks": [
                {"name": "lo", "rx_bytes_per_second": 9e6, "tx_bytes_per_second": 9e6},
                {"name": "eth0", "rx_bytes_per_second": 1.9e6 + 8e5 * wave, "tx_bytes_per_second": 6.1e5 + 2e5 * wave},
            ],
            "uptime_seconds": 372_000 + 2 * seq,
            "interval_seconds": 2.0,
        },
    )  # fmt: skip


def containers(seq: int, at: datetime) -> Event:
    """A reading of the containers, as their collector writes it."""
    rows = [
        {
            "id": f"{number:064x}",
            "name": name,
            "image": image,
            "status": status,
            "health": health,
            "running": status == "running",
            "cpu_percent": cpu,
            "memory_used_bytes": None if cpu is None else int((number + 1) * 87.3e6),
            "memory_limit_bytes": 2 * _GIB,
        }
        for number, (name, image, status, health, cpu) in enumerate(_IMAGES)
    ]
    return event(
        CONTAINERS,
        seq,
        "containers_collected",
        at,
        {"source": "docker", "available": True, "containers": rows},
    )


def alert_changed() -> Event:
    """An alert that fires, as the alerting process tells it."""
    told = {
        "id": "a-1",
        "rule": "disk-full",
        "device": "box-1",
        "item": "/",
        "severity": "warning",
        "state": "firing",
        "firing": True,
        "summary": "make room",
    }
    return event(StreamId("crossfade/alerts"), 1, "alert_changed", datetime.now(UTC), told)


def parity_report(at: datetime, verdict: str = "PASS") -> dict[str, object]:
    """A report of the live comparison, as it is written for other processes."""
    counts = {
        "matched": 18_402,
        "mismatch": 0,
        "missing_legacy": 0,
        "missing_supabase": 0,
        "duplicate": 0,
        "extra": 0,
    }
    side = {"delivered": 18_402, "latency": {"p50_seconds": 0.0043, "p99_seconds": 0.021, "max_seconds": 0.2}}
    return {
        "verdict": verdict,
        "reasons": ["every one of 18402 decided events matched"],
        "ended_at": format_time(at),
        "decided": 18_402,
        "pending": 2,
        "coverage": 0.9998,
        "counts": counts if verdict == "PASS" else counts | {"missing_supabase": 3},
        "sides": {
            "legacy": side,
            "supabase": side | {"latency": {"p50_seconds": 0.018, "p99_seconds": 0.064}},
        },
    }


def clients_report() -> dict[str, Any]:
    """What a comparison's report has of what clients saw: one cohort is well, of another two clients disagree."""

    def evidence(blocks: int, disturbed: int, bound: float) -> dict[str, object]:
        return {
            "blocks": blocks,
            "disturbed": disturbed,
            "events": 15 * blocks,
            "findings": disturbed,
            "upper_bound": bound,
            "tripped_at_events": None,
            "verdict": "INCONCLUSIVE",
        }

    return {
        "clients": 3,
        "blocks": 180,
        "agree": 178,
        "differ": 2,
        "events": 2700,
        "faults": {"missing": 1, "behind": 1},
        "samples": [
            {
                "client": f"ops-{number}",
                "cohort": "ops",
                "stream": "box-1/system",
                "fault": fault,
                "events": 1,
                "words": words,
            }
            for number, fault, words in (
                (1, "missing", "1 of 2 did not come"),
                (2, "behind", "1 published over 35 s ago have not come, its newest is 1:7"),
            )
        ],
        "cohorts": {
            "default": {"any": evidence(120, 0, 0.0304), "missing": evidence(120, 0, 0.0304)},
            "ops": {
                "any": evidence(60, 2, 0.18),
                "missing": evidence(60, 1, 0.12),
                "behind": evidence(60, 1, 0.12),
                "changed": evidence(60, 0, 0.06),
            },
        },
        "not_compared": ["2 reports of clients that cannot be read: they may be of another version"],
    }


def states_report() -> dict[str, Any]:
    """What a run's report has of the states: one entry differs, two moved on."""
    return {
        "entries": 14,
        "differ": 1,
        "counts": {
            "matched": 11,
            "mismatch": 1,
            "missing_legacy": 0,
            "missing_supabase": 0,
            "moving": 2,
            "excluded": 0,
        },
        "samples": [
            {
                "stream": "box-1/system",
                "kind": "metric_collected",
                "class": "mismatch",
                "details": ["payload.cores: legacy has 8, supabase has 4"],
            }
        ],
        "passed_by_rules": {},
        "problem": "",
    }


class ReplayedService(MonitoringService):
    """Ten minutes of a host as history, and its events live; ``outage`` and ``move`` are what tests do to it.

    ``known`` is told to every client besides: the newest of streams that say nothing more.
    """

    def __init__(
        self,
        *,
        history: int = 300,
        interval: float | None = 2.0,
        with_containers: bool = True,
        known: Sequence[Event] = (),
    ) -> None:
        self._known = tuple(known)
        begin = datetime.now(UTC) - timedelta(seconds=2 * history)
        self._events: list[Event] = []
        for seq in range(1, history + 1):
            at = begin + timedelta(seconds=2 * seq)
            self._events.append(reading(seq, at))
            if with_containers:
                self._events.append(containers(seq, at + timedelta(milliseconds=300)))
        self._interval = interval
        self._seq = history
        self._with_containers = with_containers
        self._items: asyncio.Queue[Item] = asyncio.Queue()
        self._live = asyncio.Event()
        self._live.set()
        self._up = True
        self.closed = False
        self.backend_now = Backend.LEGACY
        self.began = datetime.now(UTC)

    @property
    def backend(self) -> Backend:
        return self.backend_now

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        if not self._up:
            raise Unreachable("legacy", "connection refused")
        events = (*self._known, *self._events)
        newest = {(each.stream, each.kind): each for each in events}
        heads = {each.stream: each.position for each in events}
        return Snapshot(tuple(newest.values()), Cursor(heads))

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        return Subscription(lambda out: self._feed(since or Cursor(), out))

    async def health(self) -> Health:
        status = Status.LIVE if self._up else Status.RECONNECTING
        return Health(self.backend, status, datetime.now(UTC), "" if self._up else "connection refused")

    async def close(self) -> None:
        self.closed = True

    def outage(self, *, up: bool) -> None:
        """Take the connection away, or give it back; call inside the service's loop."""
        self._up = up

    def offer(self, items: Sequence[Item]) -> None:
        """Deliver items next."""
        for item in items:
            self._items.put_nowait(item)

    def move(self, to: Backend) -> None:
        """Deliver a move, as the router does."""
        self.offer([Moved(self.backend_now, to, f"the flags say {to}", datetime.now(UTC), 0.412, 37)])
        self.backend_now = to

    async def _feed(self, since: Cursor, out: Subscription[Item]) -> None:
        for each in (*self._known, *self._events):
            if each.position > since.get(each.stream, Position(0, 0)):
                await out.put(each)
        while True:
            out.live = self._up
            try:
                async with asyncio.timeout(min(self._interval or 0.1, 0.1)):
                    await out.put(await self._items.get())
            except TimeoutError:
                if self._up and self._interval is not None:
                    await self._tick(out)

    async def _tick(self, out: Subscription[Item]) -> None:
        now = datetime.now(UTC)
        if self._events and (now - self._events[-1].occurred_at).total_seconds() < (self._interval or 0):
            return
        self._seq += 1
        made = [reading(self._seq, now), *([containers(self._seq, now)] if self._with_containers else [])]
        self._events = [*self._events, *made][-1200:]
        for each in made:
            await out.put(each)


@asynccontextmanager
async def connected(service: ReplayedService) -> AsyncIterator[MonitoringService]:
    """Lend a service and close it, as the composition root does."""
    try:
        yield service
    finally:
        await service.close()


def gap(from_seq: int, to_seq: int) -> Gap:
    return Gap(SYSTEM, 1, from_seq, to_seq)
