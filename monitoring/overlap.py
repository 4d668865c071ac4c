"""The hand-over between two feeds of which one, or both, bring events without identity.

Pure; it stands where `monitoring.sequencer` stands when every leg has identity. Positions cannot be compared, so two
copies of one event are recognised by their fingerprint and *counted*, because two events may well be equal.

While a client moves, its *active* leg goes on delivering and the *candidate* is only compared: what both brought is
matched, what only the candidate has brought is held. A switch delivers what is held, and from then on drops the
candidate's copies of what the other leg had delivered. Why that loses nothing:

* Let no leg bring an event later than ``lag`` after it happened. The candidate covers everything from the moment it is
  live, so all that the active leg brings later than ``lag`` after that moment, the candidate brings too: such a
  delivery is *certain* to have a copy, and each may swallow one.
* What the active leg brought before may or may not have a copy on the candidate. Such a *doubtful* delivery swallows
  only what comes within ``lag`` of it, as its own copy would.
* Could it swallow an equal event that is not its copy? Yes; but that one the active leg brings within ``lag`` as well,
  and a switch waits for three times ``lag``, when every doubtful delivery is out of reach. The count that is then off
  by one is put right as soon as the equal events pause for ``lag``, when both legs have brought the same; if they
  never pause, a switch delivers the event in doubt again.

So each event is delivered exactly once, as far as the legs keep to ``lag``, and equal ones that never pause at least
once. Whether the legs do is seen from what they bring: something older than ``lag`` that only one leg has brought makes
the pair not aligned, and `alignment` says which. A switch that cannot wait (the active leg failed) is right as well
when the candidate was live in time; otherwise it tells a Gap of unknown extent for each stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from monitoring.cursor import Cursor
from monitoring.delivered import Delivered, Delivery, Leg, Place
from monitoring.events import (
    BEGINNING,
    OWN_DEVICE,
    OWN_KINDS,
    UNIDENTIFIED_EPOCH,
    Event,
    Position,
    StreamId,
    device_of,
)
from monitoring.fingerprint import EXACT, Fingerprint, Likeness, fingerprint
from monitoring.held import Held, HeldEvent
from monitoring.service import Capabilities, Gap, Item

_SETTLED: Final = 3
"""So many times ``lag`` after the candidate became live, no doubtful delivery can swallow anything any more."""
_UNKNOWN: Final = "what happened during the move is not known: neither feed can say what it did not bring"


@dataclass(frozen=True, slots=True)
class OverlapLimits:
    """How two feeds are compared; times in seconds."""

    lag: float = 2.0
    """How long after it happened a healthy leg has brought an event, at most."""
    quiet: float = 10.0
    """With nothing to match, the two count as aligned after this long, and not as certain."""
    window: float = 60.0
    """How long a delivery is remembered. What comes later than this may come twice."""
    silence: float = 10.0
    """How long a leg may have brought nothing any more when it is said to be down."""
    max_delivered: int = 20_000
    """How many deliveries are remembered at most; the oldest are forgotten first."""
    max_held: int = 20_000
    """How many of the candidate's events are held at most. Beyond that a switch has to tell a Gap."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the candidate stands to the active leg. ``reason`` is a sentence for people."""

    ready: bool
    certain: bool
    """Whether a switch now is proven to lose and double nothing; else doubles are possible."""
    matched: int
    """Events that both legs have brought since the candidate was opened."""
    reason: str


@dataclass(slots=True, eq=False)
class _Doubt:
    """Equal events of which doubtful deliveries swallowed some, perhaps not their own copies."""

    last_at: float
    swallowed: deque[Event] = field(default_factory=deque)


class Overlap:
    """Delivers one client's events from its active leg, compares a candidate's, and switches. Not thread-safe.

    ``since`` is what the client has of identified streams. Legs are named by any hashable; ``now`` is a rising number
    of seconds. The first leg that is opened is the active one. Memory is bounded by the limits.
    """

    def __init__(
        self,
        since: Mapping[StreamId, Position] | None = None,
        *,
        likeness: Likeness = EXACT,
        limits: OverlapLimits | None = None,
    ) -> None:
        self._likeness = likeness
        self._limits = limits or OverlapLimits()
        self._positions = dict(since or {})
        self._active: Leg | None = None
        self._candidate: Leg | None = None
        self._counted: dict[StreamId, int] = {}  # events without identity delivered, per stream
        self._nameless: set[StreamId] = set()
        """Streams whose newest delivery had no identity: the client is further than its position in them says."""
        self._delivered = Delivered(
            window=self._limits.window, most=self._limits.max_delivered, lag=self._limits.lag
        )
        self._owed: deque[Delivery] = deque()  # the candidate must bring these
        self._held = Held(most=self._limits.max_held)
        self._doubts: dict[Fingerprint, _Doubt] = {}
        self._matched = 0
        self._held_is_excused_until = 0.0
        self.duplicates = 0
        """Copies dropped because the client has the event, or its other copy is held."""

    @property
    def cursor(self) -> Cursor:
        """What the client has of streams with identity; events without leave no trace in it."""
        return Cursor({name: at for name, at in self._positions.items() if at > BEGINNING})

    def start(self, now: float) -> Cursor:
        """Return where a leg that is opened now begins.

        A candidate of a leg without identity has to bring what the client was given and is still remembered, what waits
        for the client, and what the leg missed while it was down, of whatever stream. Older things it would only drop.
        """
        active = self._active
        if active is None or not (self._nameless or not active.resumes):
            return self.cursor
        since = now if active.down_since is None else active.down_since - self._limits.silence
        self._delivered.forget(now)
        if active.drained_at is not None:
            since = min(since, active.drained_at)
        if (oldest := next(iter(self._delivered), None)) is not None:
            since = min(since, oldest.came_after)
        known = {stream: at for stream, at in self.cursor.items() if stream not in self._nameless}
        return Cursor(known, back_seconds=now - since + self._limits.lag)

    @property
    def forgotten(self) -> int:
        """Deliveries forgotten for want of room: what comes of them later from another leg is delivered again."""
        return self._delivered.forgotten

    @property
    def held(self) -> int:
        """Events that wait for the active leg to bring them, or for a switch."""
        return len(self._held)

    def open(self, leg: Hashable, capabilities: Capabilities, since: Cursor | None = None) -> None:
        """Take a leg: the first is active, the next a candidate. ``since`` is the cursor its feed was opened with.

        Raises ValueError when there is a candidate already.
        """
        made = Leg(leg, capabilities.resume, capabilities.resume and since is not None)
        if self._active is None:
            self._active = made
        elif self._candidate is None:
            self._candidate = made
            self._matched = 0
            self._held_is_excused_until = 0.0
            if made.from_cursor:
                # What a feed with identities has brought stands before the cursor: it does not come again.
                self._owed.extend(each for each in self._delivered if not each.identified)
        else:
            raise ValueError("a client has one candidate at a time")

    def live(self, leg: Hashable, now: float) -> None:
        """Note that a leg is connected and up to date; safe to repeat."""
        known = self._leg(leg)
        known.down_since = None
        known.live_since = now if known.live_since is None else known.live_since
        known.drained_at = now if known.drained_at is None else known.drained_at
        known.covers_since = now if known.covers_since is None else known.covers_since

    def drained(self, leg: Hashable, now: float) -> None:
        """Note that nothing of what a leg has brought waits for the client."""
        self._leg(leg).drained_at = now

    def down(self, leg: Hashable, now: float) -> None:
        """Note that a leg is not connected; safe to repeat."""
        known = self._leg(leg)
        known.live_since = None
        known.down_since = now if known.down_since is None else known.down_since
        if not known.resumes:
            self._uncovered(known)

    def offer(self, leg: Hashable, event: Event, now: float) -> list[Item]:
        """Take an event as a leg brought it; return what can be delivered now."""
        known = self._leg(leg)
        if known.covers_since is None and known.down_since is None:
            known.covers_since = now
        known.last_at = now
        known.drained_at = now if known.drained_at is None else known.drained_at
        self._delivered.forget(now)
        while self._owed and (
            self._candidate in self._owed[0].swallowed or now - self._owed[0].at > self._limits.window
        ):
            self._owed.popleft()
        mark = fingerprint(event, self._likeness)
        self._resolve(mark, now)
        place = None
        if event.identified:
            if event.position <= known.brought.get(event.stream, BEGINNING):
                self.duplicates += 1
                return []
            known.brought[event.stream] = event.position
            place = Place(event.position)
            known.places.setdefault(event.stream, deque()).append(place)
        if known is self._active:
            return self._deliver(known, event, mark, place, now)
        if self._is_copy(known, event, mark, now):
            self._copied(known, event.stream, place)
        else:
            self._hold(known, event, mark, place, now)
        return []

    def gap(self, leg: Hashable, gap: Gap, now: float) -> list[Item]:
        """Take a gap as a leg told it; the candidate's are told only if it takes over."""
        known = self._leg(leg)
        if gap.epoch == UNIDENTIFIED_EPOCH:
            self._uncovered(known)
            known.covers_since = now
            if (
                known is self._active
            ):  # told to the client: what the candidate has of it, a switch still delivers
                self._held_is_excused_until = now + self._limits.lag
        if known is not self._active:
            if gap.epoch != UNIDENTIFIED_EPOCH:
                known.gaps.append(gap)
            return []
        if gap.to_seq is not None:
            upto = Position(gap.epoch, gap.to_seq)
            if upto <= self._positions.get(gap.stream, BEGINNING):
                return []
            self._positions[gap.stream] = known.brought[gap.stream] = upto
        return [gap]

    def alignment(self, now: float) -> Alignment:
        """Return how the candidate stands to the active leg."""
        candidate = self._candidate
        if candidate is None or candidate.live_since is None or candidate.covers_since is None:
            return Alignment(
                ready=False, certain=False, matched=self._matched, reason="the candidate is not live"
            )
        self._resolve_paused(now)
        obstacle = self._obstacle(candidate, candidate.live_since, candidate.covers_since, now)
        if obstacle or self._matched:
            reason = obstacle or f"{self._matched} events matched"
            return Alignment(ready=not obstacle, certain=not obstacle, matched=self._matched, reason=reason)
        waited = now - candidate.live_since >= self._limits.quiet
        reason = (
            "nothing happened that both could bring; doubles are possible"
            if waited
            else "nothing to match yet"
        )
        return Alignment(ready=waited, certain=False, matched=0, reason=reason)

    def _obstacle(self, candidate: Leg, live_since: float, covers_since: float, now: float) -> str | None:
        """Return why a switch now would not be proven right, whatever was matched."""
        lag = self._limits.lag
        if lost := self._lost(candidate):
            return f"the candidate has no history of {lost[0].stream}"
        if self._held.overflowed:
            return f"the active feed is more than {self._limits.max_held} events behind"
        if now < (live_since + lag if candidate.from_cursor else covers_since + _SETTLED * lag):
            return "the candidate has not been live for long enough"
        if missing := sum(1 for _ in self._late_owed(now)):
            return f"{missing} events did not come from the candidate within {lag:g} s"
        if ahead := sum(1 for _ in self._late_held(now)):
            return f"{ahead} events did not come from the active feed within {lag:g} s"
        return None

    def loss(self) -> str | None:
        """Say what the client would lose by the candidate, as far as that is known."""
        candidate = self._candidate
        if candidate is None:
            return None
        if lost := self._lost(candidate):
            return f"it has no history of {lost[0].stream}"
        return "it is too far ahead" if self._held.overflowed else None

    def lacking(self) -> str | None:
        """Say nothing: what a leg without identity lost, no other can be asked for, and the client is told at once."""

    def room(self) -> int:
        """Return a number that never matters: nothing of the active leg is held."""
        return self._limits.max_held

    def restart(self) -> bool:
        """Return False: what was dropped of a candidate is told as a gap when it takes over."""
        return False

    def concede(self) -> list[Item]:
        """Give up nothing, for the same reason."""
        return []

    def obstacle(self, now: float) -> str | None:
        """Say why a switch now may cost something; None when it does not."""
        alignment = self.alignment(now)
        return None if alignment.ready else alignment.reason

    def switch(self, now: float) -> list[Item]:
        """Make the candidate the active leg; return what only it has brought so far, gaps first.

        Lawful at any time: before the two are aligned it may double, and what it may lose it tells as Gaps.
        Raises ValueError without a candidate.
        """
        old, new = self._active, self._candidate
        if old is None or new is None:
            raise ValueError("there is no candidate to switch to")
        items: list[Item] = [*self._lost(new), *self._unknown(old, new, now), *self._undoubted(new, now)]
        new.gaps.clear()
        old.places.clear()
        self._active, self._candidate = new, None
        held = list(self._held)
        self._clear_candidate()
        for each in held:
            items.append(self._given(each.event))
            self._delivered.add(new, each.event, each.mark, now)
            self._settle(new, each.event.stream, each.place)
        return items

    def drop(self) -> None:
        """Forget the candidate and what only it has brought: the active leg goes on."""
        self._candidate = None
        self._clear_candidate()

    # Delivery

    def _deliver(
        self, active: Leg, event: Event, mark: Fingerprint, place: Place | None, now: float
    ) -> list[Item]:
        if self._is_copy(active, event, mark, now):  # the leg before this one had delivered it
            self.duplicates += 1
            self._settle(active, event.stream, place)
            return []
        self._settle(active, event.stream, place)
        delivery = self._delivered.add(active, event, mark, now)
        if self._candidate is not None:
            if self._candidate.must_bring(now, self._limits.lag) and not _ours(event):
                self._owed.append(delivery)
            self._match_held(self._candidate, delivery, now)
        return [self._given(event)]

    def _match_held(self, candidate: Leg, delivery: Delivery, now: float) -> None:
        """Let a new delivery swallow the copy that the candidate had brought before, if there is one."""
        held = self._held.oldest(delivery.mark)
        if held is None:
            return
        certain = candidate.must_bring(now, self._limits.lag)
        if not certain and now - held.at > self._limits.lag:
            return
        self._held.take(held)
        delivery.swallowed.append(candidate)
        if not certain:
            self._doubts.setdefault(delivery.mark, _Doubt(now)).swallowed.append(held.event)
        self._copied(candidate, held.event.stream, held.place)

    def _is_copy(self, leg: Leg, event: Event, mark: Fingerprint, now: float) -> bool:
        """Tell whether the client has the event from another leg, and use that delivery up."""
        delivery = self._delivered.copied_by(leg, mark, now)
        if delivery is not None:
            delivery.swallowed.append(leg)
            if leg is self._candidate and not leg.must_bring(delivery.at, self._limits.lag):
                self._doubts.setdefault(mark, _Doubt(now)).swallowed.append(event)
            return True
        if event.identified and event.position <= self._positions.get(event.stream, BEGINNING):
            return True
        return leg.from_cursor and self._delivered.before_all(event.stream, event.occurred_at)

    def _given(self, event: Event) -> Event:
        """Return the event as the client gets it: without identity, its seq counts over all legs."""
        if event.identified:
            self._nameless.discard(event.stream)
            return event
        self._nameless.add(event.stream)
        count = self._counted[event.stream] = self._counted.get(event.stream, 0) + 1
        return event if event.seq == count else replace(event, seq=count)

    # The candidate

    def _hold(self, leg: Leg, event: Event, mark: Fingerprint, place: Place | None, now: float) -> None:
        heard = event.stream in self._counted or event.stream in self._positions
        self._held.add(HeldEvent(event, mark, now, place, unheard=leg.live_since is None and not heard))

    def _copied(self, candidate: Leg, stream: StreamId, place: Place | None) -> None:
        self._matched += 1
        self.duplicates += 1
        self._settle(candidate, stream, place)

    def _settle(self, leg: Leg, stream: StreamId, place: Place | None) -> None:
        """Note that the client has an identified event; the cursor goes as far as everything before is settled."""
        if place is None:
            return
        place.settled = True
        places = leg.places[stream]
        while places and places[0].settled:
            self._positions[stream] = max(self._positions.get(stream, BEGINNING), places.popleft().position)

    def _lost(self, candidate: Leg) -> list[Gap]:
        """Return the candidate's gaps without those that the active leg has filled meanwhile."""
        candidate.gaps = [
            gap
            for gap in candidate.gaps
            if gap.to_seq is None
            or Position(gap.epoch, gap.to_seq) > self._positions.get(gap.stream, BEGINNING)
        ]
        return candidate.gaps

    def _uncovered(self, leg: Leg) -> None:
        """Note that what happens now, the leg will never bring."""
        leg.covers_since = None
        leg.from_cursor = False
        if leg is self._candidate:
            self._owed.clear()
            self._matched = 0

    def _unknown(self, old: Leg, new: Leg, now: float) -> Iterator[Gap]:
        """Yield a gap for each stream when events may lie between the old leg's end and the new one's beginning."""
        ended = now if old.down_since is None else max(old.last_at, old.down_since - self._limits.silence)
        covered = new.from_cursor or (
            new.covers_since is not None and new.covers_since <= ended - _SETTLED * self._limits.lag
        )
        streams = self._held.overflowed
        if not covered:
            streams = streams | self._positions.keys() | self._counted.keys()
            streams.update(each.event.stream for each in self._held)
        for stream in sorted(streams):
            at = self._positions.get(stream, BEGINNING)
            if stream in self._counted or at == BEGINNING:
                at = Position(UNIDENTIFIED_EPOCH, self._counted.get(stream, 0))
            yield Gap(stream, at.epoch, at.seq + 1, None, _UNKNOWN)

    def _resolve(self, mark: Fingerprint, now: float) -> None:
        """Settle what was in doubt once equal events have paused for ``lag``: then both legs have brought the same."""
        doubt = self._doubts.get(mark)
        if doubt is None:
            return
        if now - doubt.last_at <= self._limits.lag:
            doubt.last_at = now
            return
        del self._doubts[mark]
        if self._candidate is not None:
            self._delivered.use_up(self._candidate, mark, len(doubt.swallowed))

    def _resolve_paused(self, now: float) -> None:
        for mark in [mark for mark, doubt in self._doubts.items() if now - doubt.last_at > self._limits.lag]:
            self._resolve(mark, now)

    def _undoubted(self, new: Leg, now: float) -> Iterator[Item]:
        """Yield equal events that may have been swallowed wrongly, so that they are delivered, perhaps twice.

        An event like no other is taken for its copy: were it not, the switch came so early that it tells a Gap.
        """
        self._resolve_paused(now)
        for mark, doubt in self._doubts.items():
            if len(doubt.swallowed) == 1 == self._delivered.count(mark):
                continue
            count = len(doubt.swallowed)
            for event in list(doubt.swallowed)[self._delivered.use_up(new, mark, count) :]:
                yield self._given(event)

    def _late_owed(self, now: float) -> Iterator[Delivery]:
        for each in self._owed:
            if now - each.at <= self._limits.lag:
                return
            if self._candidate not in each.swallowed:
                yield each

    def _late_held(self, now: float) -> Iterator[HeldEvent]:
        for each in self._held.before(now - self._limits.lag):
            if not (each.unheard or _ours(each.event) or each.at <= self._held_is_excused_until):
                yield each

    def _clear_candidate(self) -> None:
        self._owed.clear()
        self._held.clear()
        self._doubts.clear()

    def _leg(self, key: Hashable) -> Leg:
        for leg in (self._active, self._candidate):
            if leg is not None and leg.key == key:
                return leg
        raise ValueError(f"{key!r} is neither the active leg nor the candidate")


def _ours(event: Event) -> bool:
    """Tell whether no server but ours tells of it: what it is about is the delivery, or Crossfade itself (its alerts)."""
    return event.kind in OWN_KINDS or device_of(event.stream) == OWN_DEVICE
