"""What a viewer sees, as one frozen value: items of a subscription in, the next state out. Pure.

Everything is bounded: ten minutes of samples, the last twenty events, the last few moves.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from dashboard import readings
from dashboard.readings import Container, Host, Sample
from monitoring.cursor import Cursor
from monitoring.events import Event, Kind, Position, StreamId, category_of, device_of
from monitoring.service import Backend, Gap, Item, MoveAbandoned, Moved, Snapshot

WINDOW = timedelta(minutes=10)
"""How far back the charts go."""

FEED_LENGTH = 20
MOVES_LENGTH = 5
_MAX_SAMPLES = 1200
"""Bound for collectors that are faster than twice a second."""

_REWIND_SYSTEM = 300
"""Events of a system stream that fill the charts: ten minutes at one every two seconds."""
_REWIND_OTHER = 20

_STALE_INTERVALS = 2.5
_STALE_SECONDS = 5.0
"""A feed is stale after two and a half missing readings, and never before this."""


class Phase(StrEnum):
    """Whether what the page shows is now."""

    CONNECTING = "connecting"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    STALE = "stale"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Connection:
    """Facts about the feed. ``down_since`` is None while it is live; ``detail`` is one sentence for people."""

    backend: Backend | None = None
    ever_live: bool = False
    down_since: datetime | None = None
    refused: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FeedRow:
    """An event as the feed lists it."""

    kind: str
    stream: StreamId
    epoch: int
    seq: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Move:
    """A change of backend of this viewer, or one that was given up (``done`` is False)."""

    done: bool
    from_backend: Backend
    to_backend: Backend
    reason: str
    at: datetime
    seconds: float = 0.0
    lost: int = 0
    duplicates_dropped: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """Everything this viewer knows. Sequences are in order of time, the feed newest first."""

    device: str | None = None
    host: Host | None = None
    samples: tuple[Sample, ...] = ()
    containers: tuple[Container, ...] = ()
    containers_at: datetime | None = None
    docker_available: bool | None = None
    device_status: str | None = None
    feed: tuple[FeedRow, ...] = ()
    moves: tuple[Move, ...] = ()
    lost: tuple[tuple[datetime, int], ...] = ()
    """When a Gap came, and how many events it stands for (at least; an unknown end counts as one)."""
    seen_from: Cursor = field(default_factory=Cursor)
    """Where this viewer began: a Gap before it is only missing history."""


def seeded(state: State, snapshot: Snapshot, now: datetime) -> State:
    """Return the state with a snapshot in it, so that the page is full before the first live event."""
    for event in snapshot.state:
        state = applied(state, event, now)
    return replace(state, seen_from=snapshot.cursor)


def rewound(cursor: Cursor) -> Cursor:
    """Return a cursor some minutes before, within each stream's epoch: following from it fills the charts."""
    return Cursor(
        {
            stream: Position(
                position.epoch,
                max(
                    0,
                    position.seq - (_REWIND_SYSTEM if category_of(stream) == "system" else _REWIND_OTHER),
                ),
            )
            for stream, position in cursor.items()
        }
    )


def applied(state: State, item: Item, now: datetime) -> State:
    """Return the state after one more item; history may come after the snapshot that is newer than it."""
    match item:
        case Event():
            return _with_event(state, item)
        case Gap():
            return _with_gap(state, item, now)
        case Moved():
            began = item.at - timedelta(seconds=item.seconds)
            move = Move(
                done=True,
                from_backend=item.from_backend,
                to_backend=item.to_backend,
                reason=item.reason,
                at=item.at,
                seconds=item.seconds,
                lost=sum(count for at, count in state.lost if at >= began),
                duplicates_dropped=item.duplicates_dropped,
            )
            return replace(state, moves=(*state.moves, move)[-MOVES_LENGTH:])
        case MoveAbandoned():
            move = Move(
                done=False,
                from_backend=item.from_backend,
                to_backend=item.to_backend,
                reason=item.reason,
                at=item.at,
            )
            return replace(state, moves=(*state.moves, move)[-MOVES_LENGTH:])
        case _:
            assert_never(item)


def phase(connection: Connection, state: State, now: datetime) -> Phase:
    """Tell whether what the page shows is now."""
    if connection.refused:
        return Phase.REFUSED
    if not connection.ever_live:
        return Phase.CONNECTING
    if connection.down_since is not None:
        return Phase.RECONNECTING
    return Phase.STALE if _stale(state, now) else Phase.LIVE


def data_age(state: State, now: datetime) -> timedelta | None:
    """Return how old the newest reading is; None before the first."""
    return None if state.host is None else max(now - state.host.sample.at, timedelta())


def lost_events(state: State) -> int:
    """Return how many events this viewer will never get, at least."""
    return sum(count for _, count in state.lost)


def _stale(state: State, now: datetime) -> bool:
    age = data_age(state, now)
    if age is None or state.host is None:
        return False
    patience = max(_STALE_SECONDS, _STALE_INTERVALS * (state.host.interval_seconds or 0))
    return age.total_seconds() > patience


def _with_event(state: State, event: Event) -> State:
    state = _with_feed_row(state, event)
    match event.kind:
        case Kind.METRIC_COLLECTED if category_of(event.stream) == "system":
            return _with_reading(state, event)
        case Kind.CONTAINERS_COLLECTED if _newer_containers(state, event):
            return replace(
                state,
                device=state.device or device_of(event.stream),
                containers=readings.containers(event.payload),
                containers_at=event.occurred_at,
                docker_available=event.payload.get("available") is not False,
            )
        case Kind.CONTAINER_STATUS_CHANGED if _newer_containers(state, event):
            changed = readings.changed(state.containers, event.payload)
            return replace(state, containers=changed, containers_at=event.occurred_at)
        case Kind.DEVICE_STATUS_CHANGED if _ours(state, event):
            status = event.payload.get("new_status")
            return replace(state, device_status=status if isinstance(status, str) else None)
        case _:
            return state


def _with_reading(state: State, event: Event) -> State:
    if not _ours(state, event):
        return state
    device = device_of(event.stream)
    host = readings.host(event.payload, event.occurred_at, device)
    newest = state.host is None or host.sample.at >= state.host.sample.at
    return replace(
        state,
        device=device,
        host=host if newest else state.host,
        samples=_with_sample(state.samples, host.sample),
    )


def _with_sample(samples: tuple[Sample, ...], sample: Sample) -> tuple[Sample, ...]:
    """Insert a sample at its place in time, once, and drop what has left the window."""
    place = bisect_left(samples, sample.at, key=lambda each: each.at)
    if place < len(samples) and samples[place].at == sample.at:
        return samples
    merged = (*samples[:place], sample, *samples[place:])[-_MAX_SAMPLES:]
    first = bisect_left(merged, merged[-1].at - WINDOW, key=lambda each: each.at)
    return merged[first:]


def _with_feed_row(state: State, event: Event) -> State:
    row = FeedRow(event.kind, event.stream, event.epoch, event.seq, event.occurred_at)
    if row in state.feed:
        return state
    rows = sorted((row, *state.feed), key=lambda each: (each.at, each.epoch, each.seq), reverse=True)
    return replace(state, feed=tuple(rows[:FEED_LENGTH]))


def _with_gap(state: State, gap: Gap, now: datetime) -> State:
    began = state.seen_from.get(gap.stream)
    last = gap.to_seq if gap.to_seq is not None else gap.from_seq
    if began is not None and Position(gap.epoch, last) <= began:
        return state  # older than this viewer: the charts just begin later
    first = max(gap.from_seq, began.seq + 1) if began and began.epoch == gap.epoch else gap.from_seq
    return replace(state, lost=(*state.lost, (now, last - first + 1))[-100:])


def _ours(state: State, event: Event) -> bool:
    """Tell whether the event is of the host on the page: the first one seen."""
    return state.device in {None, device_of(event.stream)}


def _newer_containers(state: State, event: Event) -> bool:
    return _ours(state, event) and (state.containers_at is None or event.occurred_at >= state.containers_at)
