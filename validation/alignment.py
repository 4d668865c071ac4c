"""The core of validation: sightings in, decisions out.

Three parties see each event: the *truth* (the owner's spool, which numbers events before either path has them), and
the two sides as a viewer sees them. An event is opened by whoever sees it first and decided once, when it is older
than the grace:

- Both sides have it: it is compared with what was published.
- A side has passed it, that is, delivered later events of its stream: since sides deliver in order, it is missing.
- A side is merely behind (an outage, a slow path): it gets until the cap. So a restart whose events are delivered
  afterwards is no loss, and a side that stays silent is.

The grace grows with the measured skew, up to the cap. What arrives after it was decided revises the decision. All
times are seconds of one monotonic clock that the caller reads. Memory is bounded: beyond ``max_open`` open events
the comparison is suspended, and what passes meanwhile is counted as excluded.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from monitoring.events import BEGINNING, Position, StreamId
from monitoring.service import Backend
from validation.comparison import first_difference
from validation.latency import LatencySketch
from validation.observation import Decision, Key, Outcome, SideFigures, key_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monitoring.events import Event

_MISSING = {
    frozenset({Backend.LEGACY}): Outcome.MISSING_LEGACY,
    frozenset({Backend.SUPABASE}): Outcome.MISSING_SUPABASE,
    frozenset(Backend): Outcome.MISSING_BOTH,
}
_STALL_SECONDS = 2.0
"""When nobody asked for decisions for so long, this process itself stood still: first take in what queued up."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait and how much to keep."""

    grace_seconds: float = 5.0
    grace_cap_seconds: float = 15.0
    max_open: int = 20_000
    max_remembered: int = 20_000
    truth_is_complete: bool = True
    """False when other owners' streams are on the backends too: streams unknown to the truth are then foreign."""


@dataclass(slots=True)
class _Arrival:
    event: Event | None  # None once compared: contents are the bulk of the memory
    times: int = 1
    reordered: bool = False


@dataclass(slots=True)
class _Open:
    opened_at: float
    published: bool = False
    truth: Event | None = None
    arrivals: dict[Backend, _Arrival] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Remembered:
    outcome: Outcome
    opened_at: float
    arrived: set[Backend]


@dataclass(slots=True)
class _Published:
    """What the truth has of one stream: the window's start, and the last seq of each epoch since."""

    start: Position
    last: dict[int, int]

    def next_seq(self, epoch: int) -> int:
        """Return the first seq of the epoch that is not published yet."""
        return self.last.get(epoch, self.start.seq if epoch == self.start.epoch else 0) + 1


class Alignment:
    """Brings the truth and both sides together, event by event. Feed it, then ask ``decide`` regularly."""

    def __init__(self, start: Mapping[StreamId, Position], limits: Limits | None = None) -> None:
        """Begin right after the positions in ``start``; streams that are not in it count from their first event."""
        self.limits = limits or Limits()
        self._streams = {stream: _Published(position, {}) for stream, position in start.items()}
        self._end: dict[StreamId, Position] | None = None
        self._open: dict[Key, _Open] = {}
        self._remembered: OrderedDict[Key, _Remembered] = OrderedDict()
        self._decisions: list[Decision] = []
        self._newest: dict[Backend, dict[StreamId, Position]] = {side: {} for side in Backend}
        self._dropped: dict[StreamId, Position] = {}
        self._skew = LatencySketch()
        self._asked_at: float | None = None
        self._hold_until = 0.0
        self._pending = 0
        self.sides = {side: SideFigures(side) for side in Backend}
        self.latency = {side: LatencySketch() for side in Backend}
        self.published = 0
        """Events that the truth published in the window."""
        self.outside = 0
        """Deliveries of events before the window's start or after its end; not compared."""
        self.forgotten = 0
        """Deliveries that came too late to be attributed to anything."""
        self.foreign: set[StreamId] = set()
        """Streams of other owners, which the truth knows nothing about."""
        self.suspended = False
        """Whether too many events are open at this moment."""
        self.was_suspended = False

    @property
    def pending(self) -> int:
        """Published events that no decision was returned for yet."""
        return self._pending + sum(decision.replaces is None for decision in self._decisions)

    @property
    def open(self) -> int:
        """Events that are held now, published or not."""
        return len(self._open)

    def grace_seconds(self) -> float:
        """Return how old an event has to be now to be decided."""
        skew = self._skew.quantile(0.999) or 0.0
        return min(self.limits.grace_cap_seconds, max(self.limits.grace_seconds, 2 * skew))

    def finish(self, heads: Mapping[StreamId, Position]) -> None:
        """End the window at these positions; deliveries of later events are no longer looked at."""
        self._end = dict(heads)
        for key in [
            key for key, entry in self._open.items() if not entry.published and self._is_outside(key)
        ]:
            del self._open[key]
            if self._is_foreign(key.stream) and key.stream not in heads:
                self.foreign.add(key.stream)

    def publish(self, event: Event, at: float) -> None:
        """Take an event from the truth, in order of each stream. Seqs that the truth has lost count as published."""
        previous = event.previous
        if previous is not None and self._knows_epoch(event.stream, previous.epoch):
            self.publish_upto(event.stream, previous, at)
        self.publish_upto(event.stream, Position(event.epoch, event.seq - 1), at)
        self._publish(key_of(event), event, at)

    def publish_upto(self, stream: StreamId, head: Position, at: float) -> None:
        """Take note that the stream was published up to ``head``, whether or not its events could be read."""
        known = self._streams.setdefault(stream, _Published(BEGINNING, {}))
        if head.epoch >= max(known.start.epoch, 1):
            for seq in range(known.next_seq(head.epoch), head.seq + 1):
                self._publish(Key(stream, head.epoch, seq), None, at)

    def observe(self, side: Backend, event: Event, at: float, latency_seconds: float | None = None) -> None:
        """Take an event as a side delivered it."""
        key = key_of(event)
        if self._is_outside(key):
            self.outside += 1
            return
        figures = self.sides[side]
        figures.delivered += 1
        if latency_seconds is not None:
            self.latency[side].add(latency_seconds)
        newest = self._newest[side].get(key.stream, BEGINNING)
        self._newest[side][key.stream] = max(newest, key.position)
        entry = self._open.get(key)
        if entry is None:
            remembered = self._remembered.get(key)
            if remembered is not None:
                self._revise(side, key, remembered)
                return
            if self._was_published(key) or not self._has_room():
                self._drop(key)
                return
            entry = self._open[key] = _Open(at)
        arrival = entry.arrivals.get(side)
        if arrival is not None:
            arrival.times += 1
            figures.duplicates += 1
            return
        reordered = key.position < newest
        figures.reordered += reordered
        entry.arrivals[side] = _Arrival(event, reordered=reordered)
        self._skew.add(at - entry.opened_at)
        _compare(entry)

    def decide(self, now: float) -> list[Decision]:
        """Return what was decided, revised or excluded since the last call."""
        if self._asked_at is not None and now - self._asked_at > _STALL_SECONDS:
            self._hold_until = now + self.limits.grace_seconds
        self._asked_at = now
        if now >= self._hold_until:
            grace, cap = self.grace_seconds(), self.limits.grace_cap_seconds
            due: list[Key] = []
            for key, entry in self._open.items():  # oldest first
                age = now - entry.opened_at
                if age <= grace:
                    break
                if age > cap or not self._is_behind(key, entry):
                    due.append(key)
            for key in due:
                self._close(key, self._open.pop(key))
        if self.suspended and len(self._open) <= self.limits.max_open // 2:
            self.suspended = False
        decisions, self._decisions = self._decisions, []
        return decisions

    def _is_behind(self, key: Key, entry: _Open) -> bool:
        """Tell whether a side that lacks the event may still deliver it in order."""
        return entry.published and any(
            self._newest[side].get(key.stream, BEGINNING) < key.position
            for side in Backend
            if side not in entry.arrivals
        )

    def _publish(self, key: Key, event: Event | None, at: float) -> None:
        known = self._streams[key.stream]
        if self._is_outside(key) or key.seq < known.next_seq(key.epoch):
            return
        known.last[key.epoch] = key.seq
        self.published += 1
        entry = self._open.get(key)
        if entry is None:
            if (
                key in self._remembered
                or key.position <= self._dropped.get(key.stream, BEGINNING)
                or not self._has_room()
            ):
                self._decisions.append(Decision(key, Outcome.EXCLUDED, at))
                return
            entry = self._open[key] = _Open(at)
        entry.published, entry.truth = True, event
        self._pending += 1
        _compare(entry)

    def _has_room(self) -> bool:
        if len(self._open) >= self.limits.max_open:
            self.suspended = self.was_suspended = True
        return not self.suspended

    def _drop(self, key: Key) -> None:
        self.forgotten += 1
        self._dropped[key.stream] = max(self._dropped.get(key.stream, BEGINNING), key.position)

    def _is_outside(self, key: Key) -> bool:
        known = self._streams.get(key.stream)
        if known is not None and key.position <= known.start:
            return True
        return self._end is not None and key.position > self._end.get(key.stream, BEGINNING)

    def _is_foreign(self, stream: StreamId) -> bool:
        return not self.limits.truth_is_complete and stream not in self._streams

    def _knows_epoch(self, stream: StreamId, epoch: int) -> bool:
        known = self._streams.get(stream)
        return known is not None and (epoch in known.last or epoch == known.start.epoch)

    def _was_published(self, key: Key) -> bool:
        known = self._streams.get(key.stream)
        return known is not None and key.epoch in known.last and key.seq <= known.last[key.epoch]

    def _close(self, key: Key, entry: _Open) -> None:
        self._pending -= entry.published
        if not entry.published and self._is_foreign(key.stream):
            self.foreign.add(key.stream)
            return
        outcome, details = _judge(entry)
        self._remember(key, _Remembered(outcome, entry.opened_at, set(entry.arrivals)))
        self._decisions.append(Decision(key, outcome, entry.opened_at, details))

    def _remember(self, key: Key, remembered: _Remembered) -> None:
        self._remembered[key] = remembered
        if len(self._remembered) > self.limits.max_remembered:
            self._remembered.popitem(last=False)

    def _revise(self, side: Backend, key: Key, remembered: _Remembered) -> None:
        """Take a delivery of an event that was decided already."""
        before = remembered.outcome
        outcome: Outcome = before
        if side in remembered.arrived:
            self.sides[side].duplicates += 1
            detail = f"{side}: delivered again"
            if before in {Outcome.MATCHED, Outcome.LATE, Outcome.REORDERED}:
                outcome = Outcome.DUPLICATE
        else:
            self.sides[side].late += 1
            remembered.arrived.add(side)
            detail = f"{side}: delivered after it was given up"
            if before in _MISSING.values():
                outcome = _MISSING.get(frozenset(set(Backend) - remembered.arrived), Outcome.LATE)
        remembered.outcome = outcome
        if outcome is not before:
            self._decisions.append(Decision(key, outcome, remembered.opened_at, (detail,), replaces=before))


def _compare(entry: _Open) -> None:
    """Compare what can be compared, and let go of contents that are not needed any more."""
    if not entry.published:
        return
    waiting = {side: arrival for side, arrival in entry.arrivals.items() if arrival.event is not None}
    if entry.truth is not None:
        for side, arrival in waiting.items():
            _note(entry, side, entry.truth, arrival)
        if len(entry.arrivals) == len(Backend):
            entry.truth = None
    elif len(waiting) == len(Backend):  # the truth has lost the contents: the sides have each other
        _note(entry, Backend.SUPABASE, waiting[Backend.LEGACY].event, waiting[Backend.SUPABASE])
        waiting[Backend.LEGACY].event = None


def _note(entry: _Open, side: Backend, expected: Event | None, arrival: _Arrival) -> None:
    found = first_difference(expected, arrival.event) if expected and arrival.event else None
    if found is not None:
        entry.differences.append(f"{side} {found.path}: expected {found.expected}, got {found.actual}")
    arrival.event = None


def _judge(entry: _Open) -> tuple[Outcome, tuple[str, ...]]:
    """Put an event into its class; the docstring of `Outcome` has the order."""
    if not entry.published:
        return Outcome.EXTRA, tuple(f"{side}: not in the spool" for side in entry.arrivals)
    missing = _MISSING.get(frozenset(set(Backend) - entry.arrivals.keys()))
    if missing is not None:
        return missing, tuple(entry.differences)
    if entry.differences:
        return Outcome.MISMATCH, tuple(entry.differences)
    repeated = [
        f"{side}: {arrival.times} times" for side, arrival in entry.arrivals.items() if arrival.times > 1
    ]
    if repeated:
        return Outcome.DUPLICATE, tuple(repeated)
    reordered = [
        f"{side}: after a later one" for side, arrival in entry.arrivals.items() if arrival.reordered
    ]
    if reordered:
        return Outcome.REORDERED, tuple(reordered)
    return Outcome.MATCHED, ()
