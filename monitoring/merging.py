"""How a client's legs become one stream of items: by position where every leg has identities, else by likeness.

Both have the same shape, so that `monitoring.moving` need not know which it has. The *active* leg is authoritative: it
is in order and tells its own gaps. What the candidate brings must cost the client nothing until it takes over.
"""

# ruff: noqa: ARG002 - the shape of the methods is that of `Merge`

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import chain
from typing import Protocol

from monitoring.cursor import Cursor
from monitoring.events import BEGINNING, Event, Position, StreamId
from monitoring.overlap import Overlap, OverlapLimits
from monitoring.sequencer import Sequencer
from monitoring.service import Capabilities, Gap, Item

_FOR_THE_CANDIDATE = 10_000
"""Early events that are held of a candidate even when the active leg has brought as many as it may."""
_ENDLESS = 1 << 62
"""The last seq of an epoch whose end is unknown."""


class Merge(Protocol):
    """One client's legs, named by any hashable, as one stream of items. ``now`` is a rising number of seconds."""

    @property
    def cursor(self) -> Cursor:
        """What the client has of streams with identity."""
        ...

    @property
    def duplicates(self) -> int:
        """Copies that were dropped."""
        ...

    def start(self, now: float) -> Cursor:
        """Return where a leg that is opened now begins."""
        ...

    def open(self, leg: Hashable, capabilities: Capabilities, since: Cursor | None) -> None:
        """Take a leg, opened at ``since`` or, where that is None, at now: the first is active, the next a candidate."""
        ...

    def live(self, leg: Hashable, now: float) -> None:
        """Note that a leg is connected and up to date; safe to repeat."""
        ...

    def drained(self, leg: Hashable, now: float) -> None:
        """Note that nothing of what a leg has brought waits for the client."""
        ...

    def down(self, leg: Hashable, now: float) -> None:
        """Note that a leg is not; safe to repeat."""
        ...

    def offer(self, leg: Hashable, event: Event, now: float) -> Sequence[Item]:
        """Take an event as a leg brought it; return what can be delivered now."""
        ...

    def gap(self, leg: Hashable, gap: Gap, now: float) -> Sequence[Item]:
        """Take a gap as a leg told it; a candidate's are told only when it takes over."""
        ...

    def obstacle(self, now: float) -> str | None:
        """Say why the candidate is not ready; None once it has all that the client had a moment ago."""
        ...

    def loss(self) -> str | None:
        """Say what the client would lose by the candidate, if anything is known."""
        ...

    def lacking(self) -> str | None:
        """Say what the active leg has lost, and others may still have, if anything: it waits to be filled."""
        ...

    def room(self) -> int:
        """How many items can be taken from the active leg and kept until what it lacks is filled."""
        ...

    def concede(self) -> Sequence[Item]:
        """Give up waiting for what the active leg lacks: return its gaps, and what was held behind them."""
        ...

    def switch(self, now: float) -> Sequence[Item]:
        """Make the candidate the active leg; return what only it has brought so far, its gaps first."""
        ...

    def restart(self) -> bool:
        """Tell whether some of what the active leg brought was dropped; if so forget the leg, to open it anew."""
        ...

    def drop(self) -> None:
        """Forget the candidate."""
        ...


def merge(since: Cursor, backends: Collection[Capabilities], lag: float) -> Merge:
    """Return the merge for a client of these backends; a leg may be ``lag`` seconds behind the other."""
    foreign = [each for each in backends if not each.identity]
    if foreign:
        return Overlap(since, likeness=foreign[0].likeness, limits=OverlapLimits(lag=lag))
    return Sequenced(since, lag)


class _Known:
    """What is known of one leg."""

    def __init__(self, since: Mapping[StreamId, Position]) -> None:
        self.positions = dict(since)
        self.gaps: dict[StreamId, list[Gap]] = {}
        self.live = False
        self.overflowed = False


class Sequenced(Merge):
    """Merges legs by position: each event once, in order, whatever the legs bring twice."""

    def __init__(self, since: Cursor, lag: float) -> None:
        self._sequencer = Sequencer(since)
        self._lag = lag
        self._legs: dict[Hashable, _Known] = {}  # the active one first
        self._target: tuple[float, Cursor] | None = None
        """When, and what the client had, when the candidate was last measured against it."""

    @property
    def cursor(self) -> Cursor:
        """What the client has."""
        return self._sequencer.cursor

    @property
    def duplicates(self) -> int:
        """Copies that were dropped."""
        return self._sequencer.duplicates

    def start(self, now: float) -> Cursor:
        """Return what the client has: every leg begins there."""
        return self.cursor

    def open(self, leg: Hashable, capabilities: Capabilities, since: Cursor | None) -> None:
        """Take a leg; see `Merge`."""
        if len(self._legs) > 1:
            raise ValueError("a client has one candidate at a time")
        self._legs[leg] = _Known(since or {})

    def live(self, leg: Hashable, now: float) -> None:
        """Note that a leg is live."""
        self._legs[leg].live = True

    def drained(self, leg: Hashable, now: float) -> None:
        """Note nothing: positions say what a client has, however late it reads."""

    def down(self, leg: Hashable, now: float) -> None:
        """Note that a leg is down: what it brings next is measured anew."""
        self._legs[leg].live = False

    def offer(self, leg: Hashable, event: Event, now: float) -> Sequence[Item]:
        """Take an event; see `Merge`."""
        known = self._legs[leg]
        known.positions[event.stream] = event.position
        if known is self._active:
            if not self._is_open(known, event.stream):
                return self._sequencer.fill(event.stream, [event])
            if not self._sequencer.room:  # nothing more can wait: what is lacking is given up
                return [*self._settled(known), *self._sequencer.fill(event.stream, [event])]
        before = self._sequencer.overflowed
        ordered = self._sequencer.offer(event)  # what does not follow on is held
        known.overflowed = known.overflowed or self._sequencer.overflowed > before
        return ordered

    def gap(self, leg: Hashable, gap: Gap, now: float) -> Sequence[Item]:
        """Take a gap; see `Merge`."""
        known = self._legs[leg]
        if gap.to_seq is not None:  # it goes on after it
            known.positions[gap.stream] = max(
                known.positions.get(gap.stream, BEGINNING), Position(gap.epoch, gap.to_seq)
            )
        if self._sequencer.position(gap.stream) < _end(gap):
            known.gaps.setdefault(gap.stream, []).append(gap)
        return ()

    def lacking(self) -> str | None:
        """Say what the active leg has lost, if the client still waits for it."""
        return self._lost(self._active)

    def room(self) -> int:
        """Hold only so much that the candidate, which is to fill what the active leg lacks, still has room."""
        if self.lacking() is None:
            return _ENDLESS  # nothing of it is held
        return max(0, self._sequencer.room - _FOR_THE_CANDIDATE)

    def concede(self) -> Sequence[Item]:
        """Tell the active leg's gaps, and what was held behind them."""
        return self._settled(self._active)

    def obstacle(self, now: float) -> str | None:
        """Say whether the candidate is not live, or more than ``lag`` seconds behind the client."""
        candidate = self._candidate
        if candidate is None or not candidate.live:
            self._target = None
            return "it is not live"
        if self._target is None or now - self._target[0] > self._lag:
            self._target = (now, self.cursor)
        behind = (
            stream
            for stream, position in self._target[1].items()
            if candidate.positions.get(stream, BEGINNING) < position
        )
        stream = next(behind, None)
        return f"it is behind in {stream}" if stream is not None else None

    def loss(self) -> str | None:
        """Say what the candidate does not have and the client has not got from elsewhere either."""
        candidate = self._candidate
        if candidate is None:
            return None
        if candidate.overflowed:
            return "it is too far ahead"
        return self._lost(candidate)

    def switch(self, now: float) -> Sequence[Item]:
        """Make the candidate the active leg; see `Merge`."""
        candidate = self._candidate
        if candidate is None:
            raise ValueError("there is no candidate to switch to")
        del self._legs[next(iter(self._legs))]
        self._target = None
        return self._settled(candidate)

    def restart(self) -> bool:
        """Tell whether the leg that took over had been too far ahead; see `Merge`."""
        if not self._active.overflowed:
            return False
        self._legs.clear()
        return True

    def drop(self) -> None:
        """Forget the candidate. What is held of it stays: it follows on once the active leg gets there."""
        for leg in list(self._legs)[1:]:
            del self._legs[leg]
        self._target = None

    @property
    def _active(self) -> _Known:
        return next(iter(self._legs.values()))

    @property
    def _candidate(self) -> _Known | None:
        return list(self._legs.values())[1] if len(self._legs) > 1 else None

    def _lost(self, known: _Known) -> str | None:
        """Say what a leg does not have and the client has not got from elsewhere either."""
        while known.gaps:
            stream, gaps = next(iter(known.gaps.items()))
            for gap in gaps:
                if self._sequencer.position(stream) < _end(gap):
                    where = (
                        f"after seq {gap.from_seq - 1}"
                        if gap.to_seq is None
                        else f"before seq {gap.to_seq + 1}"
                    )
                    return f"it has no history of {stream} {where}"
            del known.gaps[stream]
        return None

    def _is_open(self, known: _Known, stream: StreamId) -> bool:
        """Tell whether a hole in the stream waits to be filled by another leg."""
        at = self._sequencer.position(stream)
        return any(at < _end(gap) for gap in known.gaps.get(stream, ()))

    def _settled(self, known: _Known) -> Sequence[Item]:
        """Take a leg's gaps for final: return them, and what was held behind them."""
        items: list[Item] = []
        for gap in chain.from_iterable(known.gaps.values()):
            if gap.to_seq is not None:  # an end that is unknown shows with the next event, as the same gap
                items += self._sequencer.fill(gap.stream, [], upto=Position(gap.epoch, gap.to_seq))
        known.gaps = {}
        if known.overflowed:  # what is held has holes that are none
            self._sequencer.forget_held()
            return items
        return [*items, *self._sequencer.settle(known.positions)]


def _end(gap: Gap) -> Position:
    return Position(gap.epoch, _ENDLESS if gap.to_seq is None else gap.to_seq)
