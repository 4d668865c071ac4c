"""The sequencer: events from any number of sources in, each event once and in order out.

Pure. Per stream it knows the last delivered position and holds events that came too early. What lies between is a
*hole*: the caller fetches history and calls ``fill``, which is authoritative: whatever history does not have either
becomes an explicit Gap, and the held events go out. Duplicates are dropped and counted.

How epochs follow each other: the first event of an epoch names the last position of the epoch before. A reader that
stands exactly there goes on; a reader that stands before it has a hole; so a change of owner is never mistaken for
one, and never hides one. When the owner before lost its lease without letting go of it, the event says so, and is held
like a hole: history may have more of the epoch before by then, and after that comes a Gap without an end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from monitoring.cursor import Cursor
from monitoring.events import BEGINNING, UNIDENTIFIED_EPOCH, Event, Position, StreamId
from monitoring.service import Gap

_NOT_DRAINED = "the owner before lost its lease: what it had not yet delivered is lost"


@dataclass(slots=True)
class _Stream:
    position: Position
    new: bool  # unknown to the client: whatever history begins with is its beginning, not a gap
    held: dict[Position, Event] = field(default_factory=dict)


class Sequencer:
    """Orders the events of many streams for one client. Not thread-safe.

    ``since`` is what the client has. At most ``max_held`` early events are kept over all streams; beyond that they
    are dropped and counted, which loses nothing: the hole stays open and ``fill`` brings them from history.
    Positions are all it knows, so it takes identified events only and raises ValueError for any other
    (`monitoring.overlap` is for those).
    """

    def __init__(self, since: Mapping[StreamId, Position] | None = None, *, max_held: int = 20_000) -> None:
        self._streams = {stream: _Stream(position, new=False) for stream, position in (since or {}).items()}
        self._max_held = max_held
        self._held = 0
        self.duplicates = 0
        """Events dropped because they had been delivered, or were held, already."""
        self.overflowed = 0
        """Early events dropped because too many were held; history has them."""

    @property
    def cursor(self) -> Cursor:
        """What has been delivered so far."""
        return Cursor(
            {name: stream.position for name, stream in self._streams.items() if stream.position > BEGINNING}
        )

    @property
    def waiting(self) -> bool:
        """Whether events are held because something before them is missing."""
        return self._held > 0

    @property
    def room(self) -> int:
        """How many more early events can be held without any being dropped."""
        return max(0, self._max_held - self._held)

    @property
    def holes(self) -> Cursor:
        """The streams with held events that cannot go out yet, at the position after which history is needed."""
        return Cursor({name: stream.position for name, stream in self._streams.items() if stream.held})

    def position(self, stream: StreamId) -> Position:
        """Return the last delivered position of a stream; BEGINNING when nothing was delivered."""
        known = self._streams.get(stream)
        return known.position if known else BEGINNING

    def offer(self, event: Event) -> list[Event]:
        """Take an event as it came in, from any source; return what can be delivered now, in order."""
        _check(event)
        stream = self._streams.get(event.stream)
        if stream is None:
            stream = self._streams[event.stream] = _Stream(BEGINNING, new=True)
        epoch, seq = stream.position
        if event.epoch == epoch and event.seq == seq + 1 and not stream.held:  # nearly every event
            stream.position, stream.new = Position(epoch, event.seq), False
            return [event]
        if event.position <= stream.position or event.position in stream.held:
            self.duplicates += 1
            return []
        if not _follows(event, stream.position):
            if self._held >= self._max_held:
                self.overflowed += 1
                # One held event marks the hole, so that it is found and filled.
                if stream.held:
                    return []
            stream.held[event.position] = event
            self._held += 1
            return []
        stream.position, stream.new = event.position, False
        return [event, *self._release(stream)]

    def fill(
        self, name: StreamId, history: Iterable[Event], upto: Position | None = None
    ) -> list[Event | Gap]:
        """Take the history of one stream: all that is retained after its position, in order, without omissions.

        ``upto`` is the stream's head at the moment the history was read, when the history reaches that far: what is
        missing before it, and is not held either, is gone, and is told as a Gap. Returns what can be delivered now.
        """
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = _Stream(BEGINNING, new=True)
        out: list[Event | Gap] = []
        for event in self._with_held(stream, history, upto):
            _check(event)
            if event.position <= stream.position:
                self.duplicates += 1
                continue
            if not _follows(event, stream.position) and not stream.new:
                out += _gaps(name, stream.position, event)
            stream.position, stream.new = event.position, False
            out.append(event)
            if stream.held.pop(event.position, None):
                self._held -= 1
        if upto is not None and upto > stream.position:
            if not stream.new:
                out += _gaps_upto(name, stream.position, upto)
            stream.position, stream.new = upto, False
        self._discard_passed(stream)
        out += self._release(stream)
        return out

    def settle(self, passed: Mapping[StreamId, Position]) -> list[Event | Gap]:
        """Take what is held up to these positions as history: whoever has passed them will not fill the holes."""
        out: list[Event | Gap] = []
        for name in list(self._streams):
            held = self._streams[name].held
            last = passed.get(name, BEGINNING)
            out += self.fill(name, [held[position] for position in sorted(held) if position <= last])
        return out

    @staticmethod
    def _with_held(stream: _Stream, history: Iterable[Event], upto: Position | None) -> Iterable[Event]:
        """Return history with what other sources brought of its holes; of a new stream it is the beginning."""
        if not stream.held:
            return history
        found = {event.position: event for event in history}
        first = min(found, default=BEGINNING) if stream.new else BEGINNING
        last = max(upto or BEGINNING, max(found, default=BEGINNING))
        found |= {at: event for at, event in stream.held.items() if first <= at <= last and at not in found}
        return [found[at] for at in sorted(found)]

    def forget_held(self) -> None:
        """Drop what is held: whoever brought it begins anew at the cursor, and brings it again."""
        for stream in self._streams.values():
            stream.held.clear()
        self._held = 0

    def _release(self, stream: _Stream) -> list[Event]:
        """Take held events that now follow on."""
        out: list[Event] = []
        while stream.held:
            following = stream.held.pop(Position(stream.position.epoch, stream.position.seq + 1), None)
            if following is None:
                opened = min(stream.held)
                if not _follows(stream.held[opened], stream.position):
                    break
                following = stream.held.pop(opened)
            self._held -= 1
            stream.position = following.position
            out.append(following)
        return out

    def _discard_passed(self, stream: _Stream) -> None:
        """Drop held events that history has gone past."""
        for position in [position for position in stream.held if position <= stream.position]:
            del stream.held[position]
            self._held -= 1
            self.duplicates += 1


def _check(event: Event) -> None:
    if event.epoch == UNIDENTIFIED_EPOCH:
        raise ValueError(f"an event of {event.stream} without identity has no place in a sequence")


def _follows(event: Event, position: Position) -> bool:
    """Tell whether nothing that anybody has lies between the position and the event.

    A reader may stand past the position that a new epoch names as the last of the one before: its owner died before
    one path had caught up with the other.
    """
    if event.epoch == position.epoch:
        return event.seq == position.seq + 1
    if event.epoch < position.epoch or event.previous is None or event.previous > position:
        return False
    return event.follows_drained


def _gaps(stream: StreamId, position: Position, event: Event) -> list[Gap]:
    """Name what lies between a position and the next event that history has."""
    if event.epoch == position.epoch:
        return [Gap(stream, event.epoch, position.seq + 1, event.seq - 1)]
    if event.previous is not None:
        gaps = _gaps_upto(stream, position, event.previous)
        last = max(position, event.previous)
        if not event.follows_drained and last > BEGINNING:
            gaps.append(Gap(stream, last.epoch, last.seq + 1, None, reason=_NOT_DRAINED))
        return gaps
    return _gaps_upto(stream, position, Position(event.epoch, event.seq - 1))


def _gaps_upto(stream: StreamId, position: Position, last: Position) -> list[Gap]:
    """Name what lies after a position up to another, inclusive, all of which is gone.

    Nothing lies between when ``last`` is not later: the client has more than the next epoch's owner knew of, which
    happens when the owner before died before its writer had caught up.
    """
    if last <= position:
        return []
    if last.epoch == position.epoch:
        return [Gap(stream, last.epoch, position.seq + 1, last.seq)]
    return [Gap(stream, position.epoch, position.seq + 1, None), Gap(stream, last.epoch, 1, last.seq)]
