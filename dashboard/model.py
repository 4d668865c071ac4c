"""What a viewer sees, as one frozen value: items of a subscription in, the next state out. Pure.

Everything is bounded: ten minutes of samples of each host, the last few hundred events, the last few moves.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from dashboard import alerts, applications, checks, commands, drives, readings
from dashboard.alerts import Alert
from dashboard.applications import Application
from dashboard.checks import Check
from dashboard.commands import Command
from dashboard.drives import Drive
from dashboard.readings import Container, Host, Sample
from monitoring.cursor import Cursor
from monitoring.events import OWN_DEVICE, Event, Kind, Position, StreamId, category_of, device_of
from monitoring.service import Backend, Gap, Item, MoveAbandoned, Moved, Snapshot

WINDOW = timedelta(minutes=10)
"""How far back the charts go."""

FEED_LENGTH = 300
MOVES_LENGTH = 20
RATE_SECONDS = 30
"""What the rate of events is the mean of."""
_MAX_SAMPLES = 1200
"""Bound for collectors that are faster than twice a second."""

_REWIND_SYSTEM = 300
"""Events of a system stream that fill the charts: ten minutes at one every two seconds."""
_REWIND_OTHER = 20
_REWIND_ALL = 20_000
"""Events of all streams together; with many hosts the charts begin with less."""

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
class HostView:
    """Everything known of one host. Samples are in order of time, containers in order of name."""

    name: str
    newest: Host | None = None
    samples: tuple[Sample, ...] = ()
    containers: tuple[Container, ...] = ()
    containers_at: datetime | None = None
    docker_available: bool | None = None
    drives: tuple[Drive, ...] = ()
    drives_at: datetime | None = None
    drives_note: str = ""
    """Why nothing is known of its drives, if it was said."""
    checks: Mapping[str, Check] = field(default_factory=dict)
    """Of what it serves, by name."""
    status: str | None = None
    """What the collectors concluded: up, degraded, down, unreachable; None before they said."""

    @property
    def age_of(self) -> datetime | None:
        """When the newest reading was taken."""
        return None if self.newest is None else self.newest.sample.at

    def stale(self, now: datetime) -> bool:
        """Tell whether readings are overdue."""
        if self.newest is None:
            return False
        patience = max(_STALE_SECONDS, _STALE_INTERVALS * (self.newest.interval_seconds or 0))
        return (now - self.newest.sample.at).total_seconds() > patience


@dataclass(frozen=True, slots=True)
class State:
    """Everything this viewer knows. ``feed`` and ``moves`` are in order of time."""

    hosts: Mapping[str, HostView] = field(default_factory=dict)
    applications: Mapping[str, Application] = field(default_factory=dict)
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    """The open ones, by id."""
    commands: Mapping[str, Command] = field(default_factory=dict)
    """Those whose changes were pushed, by id."""
    feed: tuple[Event, ...] = ()
    moves: tuple[Move, ...] = ()
    arrivals: tuple[tuple[int, int], ...] = ()
    """How many live events came in each of the last seconds that had any, as (second, count)."""
    lost: tuple[tuple[datetime, int], ...] = ()
    """When a Gap came, and how many events it stands for (at least; an unknown end counts as one)."""
    seen_from: Cursor = field(default_factory=Cursor)
    """Where this viewer began: a Gap before it is only missing history."""

    @property
    def newest(self) -> HostView | None:
        """The host that was heard last."""
        heard = [(each.newest.sample.at, each.name) for each in self.hosts.values() if each.newest]
        return self.hosts[max(heard)[1]] if heard else None


def seeded(state: State, snapshot: Snapshot, now: datetime) -> State:
    """Return the state with a snapshot in it, so that the page is full before the first live event."""
    state = replace(state, seen_from=snapshot.cursor)
    for event in snapshot.state:
        state = applied(state, event, now)
    return state


def rewound(cursor: Cursor) -> Cursor:
    """Return a cursor some minutes before, within each stream's epoch: following from it fills the charts."""
    system = sum(category_of(stream) == "system" for stream in cursor)
    back = min(_REWIND_SYSTEM, _REWIND_ALL // max(system, 1))
    other = min(_REWIND_OTHER, _REWIND_ALL // max(len(cursor), 1))
    return Cursor(
        {
            stream: Position(
                position.epoch,
                max(0, position.seq - (back if category_of(stream) == "system" else other)),
            )
            for stream, position in cursor.items()
        }
    )


def applied(state: State, item: Item, now: datetime) -> State:
    """Return the state after one more item; history may come after the snapshot that is newer than it."""
    match item:
        case Event():
            return _with_event(_counted(state, item, now), item)
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
    """Return how old the newest reading of any host is; None before the first."""
    newest = state.newest
    at = newest.age_of if newest else None
    return None if at is None else max(now - at, timedelta())


def event_rate(state: State, now: datetime) -> float:
    """Return events a second over the last half minute, or since the first one while that is less."""
    moment = now.timestamp()
    if not state.arrivals:
        return 0.0
    seconds = min(float(RATE_SECONDS), max(moment - state.arrivals[0][0], 1.0))
    return sum(count for second, count in state.arrivals if second >= int(moment) - RATE_SECONDS) / seconds


def lost_events(state: State) -> int:
    """Return how many events this viewer will never get, at least."""
    return sum(count for _, count in state.lost)


def _stale(state: State, now: datetime) -> bool:
    newest = state.newest
    return newest is not None and newest.stale(now)


def _counted(state: State, event: Event, now: datetime) -> State:
    began = state.seen_from.get(event.stream)
    if began is not None and event.position <= began:
        return state  # history that fills the charts did not happen now
    second = int(now.timestamp())
    *before, last = state.arrivals or ((second, 0),)
    if last[0] != second:
        before, last = [*before, last], (second, 0)
    return replace(state, arrivals=(*before[-RATE_SECONDS:], (second, last[1] + 1)))


def _with_event(state: State, event: Event) -> State:
    state = _with_feed(state, event)
    name = device_of(event.stream)
    if event.kind in alerts.KINDS:
        return replace(state, alerts=alerts.applied(state.alerts, event))
    if event.kind == commands.CHANGED and name == OWN_DEVICE:
        return replace(state, commands=commands.applied(state.commands, event))
    if event.kind in applications.KINDS:
        told = applications.applied(state.applications.get(name) or Application(name), event)
        return replace(state, applications={**state.applications, name: told})
    host = _host_after(state.hosts.get(name) or HostView(name), event)
    return state if host is None else _with_host(state, host)


def _host_after(host: HostView, event: Event) -> HostView | None:  # noqa: PLR0911 - one for each kind
    """Return a host after an event about it; None when the event says nothing of it."""
    match event.kind:
        case Kind.METRIC_COLLECTED if category_of(event.stream) == "system":
            return _with_reading(host, event)
        case Kind.METRIC_COLLECTED if _newer_drives(host, event):
            return replace(
                host,
                drives=drives.drives(event.payload),
                drives_at=event.occurred_at,
                drives_note=readings.text(event.payload.get("reason")),
            )
        case Kind.CHECK_COMPLETED | Kind.CHECK_STATUS_CHANGED:
            return replace(host, checks=checks.applied(host.checks, event))
        case Kind.CONTAINERS_COLLECTED if _newer_containers(host, event):
            return replace(
                host,
                containers=readings.containers(event.payload),
                containers_at=event.occurred_at,
                docker_available=event.payload.get("available") is not False,
            )
        case Kind.CONTAINER_STATUS_CHANGED if _newer_containers(host, event):
            changed = readings.changed(host.containers, event.payload)
            return replace(host, containers=changed, containers_at=event.occurred_at)
        case Kind.DEVICE_STATUS_CHANGED:
            status = event.payload.get("new_status")
            return replace(host, status=status if isinstance(status, str) else None)
        case _:
            return None


def _with_host(state: State, host: HostView) -> State:
    if host.name in state.hosts:
        return replace(state, hosts={**state.hosts, host.name: host})
    return replace(state, hosts=dict(sorted({**state.hosts, host.name: host}.items())))


def _with_reading(host: HostView, event: Event) -> HostView:
    reading = readings.host(event.payload, event.occurred_at, host.name)
    newest = host.newest is None or reading.sample.at >= host.newest.sample.at
    return replace(
        host,
        newest=reading if newest else host.newest,
        samples=_with_sample(host.samples, reading.sample),
    )


def _with_sample(samples: tuple[Sample, ...], sample: Sample) -> tuple[Sample, ...]:
    """Insert a sample at its place in time, once, and drop what has left the window."""
    place = bisect_left(samples, sample.at, key=lambda each: each.at)
    if place < len(samples) and samples[place].at == sample.at:
        return samples
    merged = (*samples[:place], sample, *samples[place:])[-_MAX_SAMPLES:]
    first = bisect_left(merged, merged[-1].at - WINDOW, key=lambda each: each.at)
    return merged[first:]


def _with_feed(state: State, event: Event) -> State:
    """Insert an event at its place in time, once."""
    feed = state.feed
    if not feed or _place(feed[-1]) < _place(event):
        return replace(state, feed=(*feed, event)[-FEED_LENGTH:])
    at = bisect_left(feed, _place(event), key=_place)
    if at < len(feed) and feed[at].id == event.id:
        return state
    return replace(state, feed=(*feed[:at], event, *feed[at:])[-FEED_LENGTH:])


def _place(event: Event) -> tuple[datetime, StreamId, int, int]:
    return event.occurred_at, event.stream, event.epoch, event.seq


def _with_gap(state: State, gap: Gap, now: datetime) -> State:
    began = state.seen_from.get(gap.stream)
    last = gap.to_seq if gap.to_seq is not None else gap.from_seq
    if began is not None and Position(gap.epoch, last) <= began:
        return state  # older than this viewer: the charts just begin later
    first = max(gap.from_seq, began.seq + 1) if began and began.epoch == gap.epoch else gap.from_seq
    return replace(state, lost=(*state.lost, (now, last - first + 1))[-100:])


def _newer_containers(host: HostView, event: Event) -> bool:
    return host.containers_at is None or event.occurred_at >= host.containers_at


def _newer_drives(host: HostView, event: Event) -> bool:
    told = category_of(event.stream) == "drives" and isinstance(event.payload.get("drives"), list)
    return told and (host.drives_at is None or event.occurred_at >= host.drives_at)
