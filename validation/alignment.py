"""The core of validation: sightings in, decisions out.

Three parties see each event: the *truth* (the owner's spool, which numbers events before either path has them), and
the two sides as a viewer sees them. An event is opened by whoever sees it first and decided once, when it is older
than the grace:

- Both sides have it: it is compared with what was published.
- A side has passed it, that is, delivered later events of its stream: since sides deliver in order, it is missing.
- A side is merely behind (an outage, a slow path): it gets until the cap. So a restart whose events are delivered
  afterwards is no loss, and a side that stays silent is.

The grace grows with the measured skew, up to the cap. What arrives after it was decided revises the decision. All
times are seconds of one monotonic clock that the caller reads. Memory is bounded: of all but the newest open events
only digests are kept, and beyond ``max_open`` the comparison is suspended; what passes meanwhile counts as excluded.

Each stream's events are decided in the order in which they were opened, and no further than to the first that has to
wait: what was published after it waits for the same side. So a million open events cost a tick nothing.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from monitoring.cursor import Cursor
from monitoring.events import BEGINNING, UNIDENTIFIED_EPOCH, Position, StreamId
from monitoring.service import PUSHING, Backend
from validation.comparison import Content, encode
from validation.judging import MISSING, judge
from validation.latency import LatencySketch
from validation.limits import Limits
from validation.observation import SIDES, Decision, Key, Outcome, SideFigures
from validation.rules import NO_RULES, Rules
from validation.tracks import FOREVER, LEGACY, ONCE_EACH, SUPABASE, Newest, Remembered, Sighting, Track

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monitoring.events import Event

_STALL_SECONDS = 2.0
"""When nobody asked for decisions for so long, this process itself stood still: first take in what queued up."""
_RUN_SECONDS = 1.0
"""Matched events of a stream that were first seen within this are one decision."""
_SAMPLED_FROM = 4096
_SAMPLED = 16
"""Of so many deliveries, beyond the first thousands, one is put into the sketch of the skew."""


class Alignment:
    """Brings the truth and both sides together, event by event. Feed it, then ask ``decide`` regularly."""

    def __init__(
        self,
        start: Mapping[StreamId, Position],
        limits: Limits | None = None,
        rules: Rules = NO_RULES,
    ) -> None:
        """Begin right after the positions in ``start``; streams that are not in it count from their first event."""
        self.limits = limits or Limits()
        self._rules = rules
        self._start = dict(start)
        self._end: dict[StreamId, Position] | None = None
        self._tracks: dict[tuple[StreamId, int], Track] = {}
        self._newest: dict[StreamId, Newest] = {}
        self._known: set[StreamId] = set(start)
        self._recent: deque[tuple[Track, int]] = deque()
        self._recent_bytes = 0
        self._order: deque[tuple[Track, int]] = deque()  # of what is in the tracks' `others`
        self._decisions: list[Decision] = []
        self.skew = LatencySketch()
        """How much later than its first sighting an event was delivered."""
        self._asked_at: float | None = None
        self._hold_until = 0.0
        self._pending = 0
        self._undecided = 0
        self.sides = {side: SideFigures(side) for side in PUSHING}
        self._figures = [self.sides[side] for side in SIDES]
        self.latency = {side: LatencySketch() for side in PUSHING}
        self._latency = [self.latency[side] for side in SIDES]
        self.published = 0
        """Events that the truth published in the window."""
        self.outside = 0
        """Deliveries of events before the window's start or after its end; not compared."""
        self.forgotten = 0
        """Deliveries that came too late to be attributed to anything."""
        self.foreign: set[StreamId] = set()
        """Streams of other owners, which the truth knows nothing about."""
        self.open = 0
        """Events that are held now, published or not."""
        self.suspended = False
        """Whether too many events are open at this moment."""
        self.was_suspended = False

    @property
    def pending(self) -> int:
        """Published events that no decision was returned for yet."""
        return self._pending + self._undecided

    @property
    def streams(self) -> frozenset[StreamId]:
        """The streams that the truth knows."""
        return frozenset(self._known)

    def grace_seconds(self) -> float:
        """Return how old an event has to be now to be decided."""
        skew = self.skew.quantile(0.999) or 0.0
        return min(self.limits.grace_cap_seconds, max(self.limits.grace_seconds, 2 * skew))

    def finish(self, heads: Mapping[StreamId, Position]) -> None:
        """End the window at these positions; deliveries of later events are no longer looked at."""
        self._end = dict(heads)
        for track in self._tracks.values():
            track.end = self._end_of(track.stream, track.epoch)
            for seq in [seq for seq in track.open if seq > track.end]:
                if not self._opened(track, seq).published:
                    self._forget_open(track, seq)
                    if self._is_foreign(track.stream) and track.stream not in heads:
                        self.foreign.add(track.stream)

    def publish(self, event: Event, at: float) -> None:
        """Take an event from the truth, in order of each stream. Seqs that the truth has lost count as published."""
        previous = event.previous
        if previous is not None and self._knows_epoch(event.stream, previous.epoch):
            self.publish_upto(event.stream, previous, at)
        self.publish_content(event.stream, event.epoch, event.seq, encode(event), at)

    def publish_upto(self, stream: StreamId, head: Position, at: float) -> None:
        """Take note that the stream was published up to ``head``, whether or not its events could be read."""
        track = self._tracks.get((stream, head.epoch))
        if track is not None and head.seq <= track.published:
            self._known.add(stream)
            return
        start = self._start.get(stream, BEGINNING)
        if head.epoch < max(start.epoch, 1):
            return
        self._known.add(stream)
        if track is None and head.seq <= (start.seq if head.epoch == start.epoch else 0):
            return
        track = track or self._track(stream, head.epoch)
        if track is None:
            return
        last = min(head.seq, track.end)
        while track.published < last and not self.suspended:
            self._publish(track, track.published + 1, None, at)
        if track.published < last:
            self._exclude(track, last, at)

    def publish_content(self, stream: StreamId, epoch: int, seq: int, content: Content, at: float) -> None:
        """Take the content of an event from the truth, in order of each stream."""
        track = self._tracks.get((stream, epoch))
        if track is None:
            if epoch < max(self._start.get(stream, BEGINNING).epoch, 1):
                return
            self._known.add(stream)
            track = self._track(stream, epoch)
            if track is None:
                return
        elif not track.published:
            self._known.add(stream)
        if seq > track.published + 1:
            self.publish_upto(stream, Position(epoch, seq - 1), at)
        if track.published < seq <= track.end:
            self._publish(track, seq, content, at)

    def observe(self, side: Backend, event: Event, at: float, latency_seconds: float | None = None) -> None:
        """Take an event as a side delivered it."""
        number = LEGACY if side is Backend.LEGACY else SUPABASE
        self.observe_content(number, event.stream, event.epoch, event.seq, encode(event), at, latency_seconds)

    def observe_content(  # noqa: C901 - every delivery comes through here, and calls are what costs
        self,
        side: int,
        stream: StreamId,
        epoch: int,
        seq: int,
        content: Content,
        at: float,
        latency_seconds: float | None = None,
    ) -> None:
        """Take the content of an event as a side (0 legacy, 1 Supabase) delivered it."""
        track = self._tracks.get((stream, epoch)) or self._track(stream, epoch)
        if track is None:
            self.forgotten += 1
            return
        if seq <= track.start or seq > track.end:
            self.outside += 1
            return
        figures = self._figures[side]
        figures.delivered += 1
        if latency_seconds is not None:
            self._latency[side].add(latency_seconds)
        reordered = track.newest.passed(side, epoch, seq)
        sighting = track.open.get(seq)
        if type(sighting) is not Sighting:
            sighting = self._find(track, seq, sighting, side, at)
            if sighting is None:
                return
        shift = 16 * side
        times = sighting.times
        if times >> shift & 0xFFFF:
            sighting.times = times + (1 << shift)
            figures.duplicates += 1
            return
        sighting.times = times = times | 1 << shift
        if reordered:
            figures.reordered += 1
            sighting.reordered |= 1 << side
        if figures.delivered < _SAMPLED_FROM or not figures.delivered % _SAMPLED:
            self.skew.add(at - sighting.opened_at)
        if sighting.truth == content:  # nearly always
            if times == ONCE_EACH:
                self._recent_bytes -= len(content) if isinstance(content, bytes) else 0
                sighting.truth = None
            return
        held = sighting.held_bytes
        sighting.take_in(side, content, self._rules)
        self._recent_bytes += sighting.held_bytes - held

    def decide(self, now: float) -> list[Decision]:
        """Return what was decided, revised or excluded since the last call."""
        if self._asked_at is not None and now - self._asked_at > _STALL_SECONDS:
            self._hold_until = now + self.limits.grace_seconds
        self._asked_at = now
        if now >= self._hold_until:
            ripe, overdue = now - self.grace_seconds(), now - self.limits.grace_cap_seconds
            for track in self._tracks.values():
                if track.open:
                    self._decide(track, ripe, overdue)
        if self.suspended and self.open <= self.limits.max_open // 2:
            self.suspended = False
        decisions, self._decisions = self._decisions, []
        self._undecided = 0
        return decisions

    def begin(self, stream: StreamId, position: Position) -> None:
        """Begin the window of a stream that nothing is known of yet right after a position."""
        self._start[stream] = position

    def settle(self, now: float) -> list[Decision]:
        """Decide everything that is open, however young, and return what was decided."""
        for track in self._tracks.values():
            if track.open:
                self._decide(track, math.inf, math.inf)
        return self.decide(now)

    def decided(self) -> Cursor:
        """Return up to where every event of each stream is decided."""
        found = dict(self._start)
        for track in self._tracks.values():
            before = found.get(track.stream, BEGINNING)
            # An epoch counts once it has been published from: a peer may invent any.
            if track.published > track.start and track.epoch >= before.epoch:
                track.catch_up()
                found[track.stream] = max(before, Position(track.epoch, track.decided))
        waiting: dict[StreamId, Position] = {}
        for track in self._tracks.values():
            if track.open and track.published > track.start:
                place = Position(track.epoch, track.decided)
                waiting[track.stream] = min(place, waiting.get(track.stream, place))
        return Cursor({**found, **waiting})

    def _decide(self, track: Track, ripe: float, overdue: float) -> None:
        """Close a track's events from the oldest to the first that has to wait."""
        run, run_seq, run_at = 0, 0, 0.0
        closed: list[int] = []
        for seq, entry in track.open.items():
            sighting = entry if type(entry) is Sighting else Sighting.unpacked(entry)  # type: ignore[arg-type]
            opened_at = sighting.opened_at
            if opened_at >= ripe or (opened_at >= overdue and self._is_behind(track, seq, sighting)):
                break
            closed.append(seq)
            if (
                sighting.published
                and sighting.times == ONCE_EACH
                and not sighting.differences
                and not sighting.passed
                and not sighting.reordered
                and track.settle(seq, opened_at)
            ):
                if run and opened_at - run_at > _RUN_SECONDS:
                    self._matched(track, run_seq, run_at, run)
                    run = 0
                if not run:
                    run_at = opened_at
                run, run_seq = run + 1, seq
            else:
                self._close(track, seq, sighting)
        if run:
            self._matched(track, run_seq, run_at, run)
        for seq in closed:
            del track.open[seq]
        self.open -= len(closed)

    def _matched(self, track: Track, seq: int, at: float, count: int) -> None:
        self._pending -= count
        self._undecided += count
        self._decisions.append(
            Decision(Key(track.stream, track.epoch, seq), Outcome.MATCHED, at, events=count)
        )

    def _close(self, track: Track, seq: int, sighting: Sighting) -> None:
        if sighting.contents is not None or sighting.truth is not None:
            self._recent_bytes -= sighting.held_bytes
        if not sighting.published and self._is_foreign(track.stream):
            self.foreign.add(track.stream)
            return
        self._pending -= sighting.published
        self._undecided += sighting.published
        outcome, details = judge(sighting)
        arrived = [bool(sighting.times_on(side)) for side in (LEGACY, SUPABASE)]
        self._remember(track, seq, Remembered(outcome, sighting.opened_at, arrived))
        self._decisions.append(
            Decision(
                Key(track.stream, track.epoch, seq),
                outcome,
                sighting.opened_at,
                details,
                passed=sighting.passed,
            )
        )

    def _is_behind(self, track: Track, seq: int, sighting: Sighting) -> bool:
        """Tell whether a side that lacks the event may still deliver it in order."""
        newest = track.newest
        return sighting.published and any(
            not sighting.times_on(side) and (newest.epoch[side], newest.seq[side]) < (track.epoch, seq)
            for side in (LEGACY, SUPABASE)
        )

    def _publish(self, track: Track, seq: int, content: Content | None, at: float) -> None:
        track.published = seq
        self.published += 1
        entry = track.open.get(seq)
        if entry is None:
            decided = seq <= track.decided or seq in track.others
            if decided or seq <= track.dropped or not self._has_room():
                if not decided:
                    track.exclude(seq, seq)
                self._undecided += 1
                self._decisions.append(Decision(Key(track.stream, track.epoch, seq), Outcome.EXCLUDED, at))
                return
            sighting = self._open(track, seq, at)
        else:
            sighting = self._opened(track, seq)
        sighting.published = True
        self._pending += 1
        if content is not None:
            sighting.truth = content
            self._recent_bytes += len(content) if isinstance(content, bytes) else 0
        if sighting.times:
            before = sighting.held_bytes
            sighting.compare(self._rules)
            self._recent_bytes += sighting.held_bytes - before

    def _exclude(self, track: Track, last: int, at: float) -> None:
        """Count the rest of what was published as excluded: there is no room to wait for it."""
        count = last - track.published
        track.exclude(track.published + 1, last)
        track.published = last
        self.published += count
        self._undecided += count
        self._decisions.append(
            Decision(Key(track.stream, track.epoch, last), Outcome.EXCLUDED, at, events=count)
        )

    def _find(
        self, track: Track, seq: int, entry: Sighting | int | None, side: int, at: float
    ) -> Sighting | None:
        """Return the open event that a side has delivered, opened if need be; None when it is decided already."""
        if entry is not None:
            return self._opened(track, seq)
        remembered = track.others.get(seq)
        if remembered is not None:
            self._revise(track, seq, side, remembered)
            return None
        if max(track.forgotten, track.dropped) < seq <= track.decided:  # it matched
            was = Remembered(Outcome.MATCHED, track.opened_at(seq), [True, True])
            self._remember(track, seq, was)
            self._revise(track, seq, side, was)
            return None
        if seq <= track.published or not self._has_room():
            self.forgotten += 1
            track.dropped = max(track.dropped, seq)
            return None
        return self._open(track, seq, at)

    def _open(self, track: Track, seq: int, at: float) -> Sighting:
        sighting = track.open[seq] = Sighting(at)
        self.open += 1
        self._keep(track, seq)
        return sighting

    def _keep(self, track: Track, seq: int) -> None:
        """Keep the contents of an open event; those of the oldest go, when there are too many."""
        recent, limits = self._recent, self.limits
        recent.append((track, seq))
        while len(recent) > limits.max_recent or (
            self._recent_bytes > limits.max_recent_bytes and len(recent) > 1
        ):
            self._pack(*recent.popleft())

    def _pack(self, track: Track, seq: int) -> None:
        """Let go of the contents of what is still open."""
        entry = track.open.get(seq)
        if type(entry) is Sighting:
            self._recent_bytes -= entry.held_bytes
            track.open[seq] = entry.packed(self._rules)

    def _opened(self, track: Track, seq: int) -> Sighting:
        """Return an open event in full."""
        entry = track.open[seq]
        if type(entry) is Sighting:
            return entry
        sighting = track.open[seq] = Sighting.unpacked(entry)  # type: ignore[arg-type]
        self._keep(track, seq)
        return sighting

    def _forget_open(self, track: Track, seq: int) -> None:
        self._recent_bytes -= self._opened(track, seq).held_bytes
        del track.open[seq]
        self.open -= 1

    def _has_room(self) -> bool:
        if self.open >= self.limits.max_open:
            self.suspended = self.was_suspended = True
        return not self.suspended

    def _track(self, stream: StreamId, epoch: int) -> Track | None:
        """Return a new track; None when there are too many."""
        if len(self._tracks) >= self.limits.max_tracks:
            self.was_suspended = True
            return None
        start = self._start.get(stream, BEGINNING)
        if epoch > start.epoch or epoch == UNIDENTIFIED_EPOCH:
            before = 0
        else:
            before = start.seq if epoch == start.epoch else FOREVER
        newest = self._newest.setdefault(stream, Newest())
        track = Track(stream, epoch, newest, before, self._end_of(stream, epoch))
        self._tracks[stream, epoch] = track
        return track

    def _end_of(self, stream: StreamId, epoch: int) -> int:
        if self._end is None:
            return FOREVER
        end = self._end.get(stream, BEGINNING)
        return FOREVER if epoch < end.epoch else end.seq if epoch == end.epoch else -1

    def _is_foreign(self, stream: StreamId) -> bool:
        return not self.limits.truth_is_complete and stream not in self._known

    def _knows_epoch(self, stream: StreamId, epoch: int) -> bool:
        start = self._start.get(stream)
        track = self._tracks.get((stream, epoch))
        return (start is not None and epoch == start.epoch) or (
            track is not None and track.published > track.start
        )

    def _remember(self, track: Track, seq: int, remembered: Remembered) -> None:
        track.others[seq] = remembered
        track.catch_up()
        self._order.append((track, seq))
        if len(self._order) > self.limits.max_remembered:
            old, gone = self._order.popleft()
            if old.others.pop(gone, None) is not None:
                old.forgotten = max(old.forgotten, gone)

    def _revise(self, track: Track, seq: int, side: int, remembered: Remembered) -> None:
        """Take a delivery of an event that was decided already."""
        before = remembered.outcome
        outcome: Outcome = before
        if remembered.arrived[side]:
            self._figures[side].duplicates += 1
            detail = f"{SIDES[side]}: delivered again"
            if before in {Outcome.MATCHED, Outcome.LATE, Outcome.REORDERED}:
                outcome = Outcome.DUPLICATE
        else:
            self._figures[side].late += 1
            remembered.arrived[side] = True
            detail = f"{SIDES[side]}: delivered after it was given up"
            if before in MISSING.values():
                outcome = MISSING.get((remembered.arrived[0], remembered.arrived[1]), Outcome.LATE)
        remembered.outcome = outcome
        if outcome is not before:
            key = Key(track.stream, track.epoch, seq)
            self._decisions.append(Decision(key, outcome, remembered.opened_at, (detail,), replaces=before))
