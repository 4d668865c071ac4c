"""Events for tests, made as a spool would make them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from monitoring.events import Event, Kind, Position, StreamId, stream_opened, uuid7

START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


def event(stream: str = "web-1/system", seq: int = 1, epoch: int = 1, **payload: Any) -> Event:
    """Return an ordinary event at a place; its identity follows from the place."""
    number = hash((stream, epoch, seq)) & (1 << 74) - 1
    at = START + timedelta(seconds=2 * seq, days=epoch)
    return Event(
        uuid7(int(at.timestamp() * 1000), number), StreamId(stream), epoch, seq, Kind.METRIC_COLLECTED, at,
        payload or {"n": seq},
    )  # fmt: skip


def opened(
    stream: str = "web-1/system",
    epoch: int = 1,
    previous: tuple[int, int] | None = None,
    *,
    drained: bool = True,
) -> Event:
    """Return the first event of an epoch."""
    draft = stream_opened(
        StreamId(stream),
        at=START,
        owner="test",
        previous=Position(*previous) if previous else None,
        drained=drained,
    )
    first = event(stream, 1, epoch)
    return Event(first.id, first.stream, epoch, 1, draft.kind, first.occurred_at, draft.payload)


def run(stream: str, count: int, epoch: int = 1, previous: tuple[int, int] | None = None) -> list[Event]:
    """Return an epoch's first ``count`` events."""
    return [opened(stream, epoch, previous), *(event(stream, seq, epoch) for seq in range(2, count + 1))]
