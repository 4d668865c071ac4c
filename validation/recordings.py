"""Anybody's recordings of two streams, compared: a line of JSON an event, in files of any size. Pure.

Lines with ``stream``, ``epoch`` and ``seq`` are our own events (as ``crossfade watch --format json`` prints them) and are
compared by that identity, unless a ``key`` is named. Of any other objects the fields named as ``key`` are the identity, within
``stream``; without a key they are matched by what they say, the n-th of one to the n-th of the other.

The first recording (A) is the control: what it has counts as published. Both are read side by side, by their times where
they have some. What the files themselves are wrong about is counted, named by its line, and keeps the verdict from PASS.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from monitoring.errors import MonitoringError
from monitoring.events import UNIDENTIFIED_EPOCH, Event, Position, StreamId, from_json
from monitoring.fingerprint import Likeness, canonical_json, fingerprint
from monitoring.service import Backend
from validation.comparison import cut
from validation.limits import LINES_OUT_OF_STEP
from validation.result import Result
from validation.session import Session
from validation.terms import Terms

MAX_LINE_BYTES = 16 * 1024 * 1024
BACK_SECONDS = 60.0
"""A time that goes back by more than this is a clock that jumped."""
_IDS_REMEMBERED = 100_000
_NAMED = 3
_EVERY = 1_000
_NEVER = 1e15
_DEVICE = "recording"
_NO_TIME = datetime.min.replace(tzinfo=UTC)
_BY_CONTENT = Likeness(resolution=None)
_EXTRA = 2
"""The epoch of foreign events that the control does not have; those it has are in the first."""
_MAX_EARLY = 500_000
_MOST_SKIPPED = 0.01
"""A larger share of events outside the time that both cover is a doubt."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Where in foreign objects the identity, the stream and the time are; dotted paths."""

    key: tuple[str, ...] = ()
    stream: str | None = None
    time: str | None = None


@dataclass(slots=True)
class Problems:
    """What is wrong with a file, with the first lines of each kind."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[int]] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    """What exactly the first of a kind was, where the lines differ in that."""

    def add(self, what: str, line: int, exactly: str = "") -> None:
        """Count a problem. ``what`` is its kind, of which there are few; only the first says what it was exactly."""
        self.counts[what] += 1
        named = self.lines.setdefault(what, [])
        if len(named) < _NAMED:
            named.append(line)
        if exactly:
            self.first.setdefault(what, exactly)

    def told(self) -> list[str]:
        """Return a sentence for each kind of problem."""
        return [
            f"{self.name}: {count} x {what} (line {', '.join(map(str, self.lines[what]))}{', ...' if count > _NAMED else ''})"
            + (f", the first: {self.first[what]}" if what in self.first else "")
            for what, count in self.counts.items()
        ]


@dataclass(slots=True)
class Reader:
    """Reads one recording, whatever is in it."""

    name: str
    fields: Fields
    problems: Problems = field(init=False)
    events: int = 0
    newest: datetime | None = None
    _ids: dict[UUID, tuple[StreamId, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.problems = Problems(self.name)

    def read(self, lines: Iterable[bytes]) -> Iterator[Event]:
        """Yield the event of each line that has one. Lines come with their end, cut at `MAX_LINE_BYTES`."""
        inside = False  # a line that is too long
        for number, line in enumerate(lines, 1):
            whole = line.endswith(b"\n")
            if inside or (not whole and len(line) >= MAX_LINE_BYTES):
                if not inside:
                    self.problems.add(f"longer than {MAX_LINE_BYTES // 2**20} MiB", number)
                inside = not whole
                continue
            text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
            if not text:
                continue
            event = self._parse(text, number, whole=whole)
            if event is not None:
                self.events += 1
                yield event

    def _parse(self, text: bytes, number: int, *, whole: bool) -> Event | None:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            self.problems.add(_why_not_json(text, whole=whole), number)
            return None
        if not isinstance(value, dict):
            self.problems.add("no object", number)
            return None
        if not self.fields.key and {"stream", "epoch", "seq", "payload"} <= value.keys():
            try:
                event = from_json(value, identified=False)
            except MonitoringError as error:
                self.problems.add(
                    "no event of ours; a --key matches by other fields", number, cut(str(error))
                )
                return None
            self._check(event, number)
            return event
        return self._foreign(value, number)

    def _foreign(self, value: dict[str, Any], number: int) -> Event | None:
        fields = self.fields
        if missing := [path for path in fields.key if _at(value, path) is None]:
            self.problems.add(f"without {', '.join(missing)}", number)
            return None
        at = _time(_at(value, fields.time)) if fields.time else None
        if fields.time and at is None:
            self.problems.add(f"without a time at {fields.time}", number)
            return None
        name = _at(value, fields.stream) if fields.stream else "events"
        stream = StreamId(f"{_DEVICE}/{cut(str(name))}")
        event = Event(UUID(int=0), stream, UNIDENTIFIED_EPOCH, 1, "line", at or _NO_TIME, value)
        if at is not None:
            self._look_at_clock(at, number)
        return event

    def _check(self, event: Event, number: int) -> None:
        self._look_at_clock(event.occurred_at, number)
        if not event.identified:
            return
        place = (event.stream, event.epoch, event.seq)
        before = self._ids.setdefault(event.id, place)
        if before != place:
            self.problems.add("an id of another event, or another epoch", number)
        if len(self._ids) > _IDS_REMEMBERED:
            del self._ids[next(iter(self._ids))]

    def _look_at_clock(self, at: datetime, number: int) -> None:
        if self.newest is not None and (self.newest - at).total_seconds() > BACK_SECONDS:
            self.problems.add(f"a time that goes back by more than {BACK_SECONDS:g} s", number)
            self.newest = at
        self.newest = at if self.newest is None else max(self.newest, at)


def _why_not_json(text: bytes, *, whole: bool) -> str:
    if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in text[:64]:
        return "not UTF-8 (UTF-16?)"
    try:
        text.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    return "not JSON" if whole else "cut off in the middle of the last line"


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value


def _time(value: Any) -> datetime | None:
    """Read a time: RFC 3339, or seconds or milliseconds since 1970."""
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            return at if at.tzinfo else at.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)  # noqa: PLR2004 - ms
    except (ValueError, OverflowError, OSError):
        pass
    return None


def compare_recordings(
    control: Iterable[bytes],
    candidate: Iterable[bytes],
    *,
    names: tuple[str, str] = ("A", "B"),
    fields: Fields | None = None,
    terms: Terms | None = None,
    now: datetime,
) -> Result:
    """Compare two recordings; the control's events are what the candidate ought to have.

    Only the time that both cover is compared. Never raises for what is in them: problems are doubts, so that there is
    no PASS.
    """
    fields = fields or Fields()
    readers = [Reader(name, fields) for name in names]
    streams = [reader.read(lines) for reader, lines in zip(readers, (control, candidate), strict=True)]
    pairing = _Pairing(readers, streams)
    comparison = _Comparison(terms or Terms(), fields, now)
    for side, event in pairing:
        comparison.take(side, event)
    doubts = [told for reader in readers for told in reader.problems.told()]
    if not doubts and not any(reader.events for reader in readers):
        return replace(
            comparison.result(now, ()), reasons=(f"neither {names[0]} nor {names[1]} has an event",)
        )
    doubts += [f"{reader.name} has no events" for reader in readers if not reader.events]
    for reader, skipped in zip(readers, pairing.skipped, strict=True):
        if skipped:
            told = f"{skipped} of {reader.events} events of {reader.name} are from before or after the other's time"
            comparison.not_compared.append(told)
            if skipped > _MOST_SKIPPED * reader.events:
                doubts.append(told)
    return comparison.result(now, tuple(doubts))


class _Pairing:
    """The events of both recordings in one order: by time where there is one, else in turn."""

    def __init__(self, readers: list[Reader], events: list[Iterator[Event]]) -> None:
        self._readers = readers
        self._events = events
        self.skipped = [0, 0]

    def __iter__(self) -> Iterator[tuple[int, Event]]:
        waiting = [next(events, None) for events in self._events]
        if None not in waiting:
            begin = max(event.occurred_at for event in waiting if event is not None)
            for side in (0, 1):
                waiting[side] = self._skip(side, waiting[side], begin)
        side = 1
        while waiting != [None, None]:
            side = _next_side(waiting, side)
            event = waiting[side]
            waiting[side] = next(self._events[side], None)
            other = self._readers[1 - side]
            if event is None:
                continue
            if waiting[1 - side] is None and other.newest is not None and event.occurred_at > other.newest:
                self.skipped[side] += 1
            else:
                yield side, event

    def _skip(self, side: int, event: Event | None, begin: datetime) -> Event | None:
        while event is not None and event.occurred_at < begin:
            self.skipped[side] += 1
            event = next(self._events[side], None)
        return event


def _next_side(waiting: list[Event | None], last: int) -> int:
    control, candidate = waiting
    if control is None or candidate is None:
        return 1 if control is None else 0
    if control.occurred_at == candidate.occurred_at:
        return 1 - last
    return 0 if control.occurred_at < candidate.occurred_at else 1


class _Comparison:
    """Puts two recordings into a session. The clock counts events, since how late something came is not recorded."""

    def __init__(self, terms: Terms, fields: Fields, now: datetime) -> None:
        limits = replace(
            terms.limits, grace_seconds=LINES_OUT_OF_STEP, grace_cap_seconds=_NEVER, truth_is_complete=True
        )
        self._session = Session({}, now, terms=replace(terms, limits=limits, likeness=None))
        self._fields = fields
        self._numbers: dict[bytes, list[int]] = {}
        self._next: Counter[StreamId] = Counter()
        self._brought: Counter[bytes] = Counter()
        self._early: dict[bytes, deque[Event]] = {}
        self._waiting = 0
        self._dropped = 0
        self._at = 0.0
        self.not_compared: list[str] = []

    def take(self, side: int, event: Event) -> None:
        """Take an event of the control (0) or of the candidate (1)."""
        self._at += 1
        mark = event.stream.encode() if event.identified else self._mark(event)
        if side == 0:
            self._control(event, mark)
        else:
            self._candidate(event, mark)
        if self._at % _EVERY == 0:
            self._session.decide(self._at)

    def _control(self, event: Event, mark: bytes) -> None:
        session = self._session
        if event.identified:
            if mark not in self._numbers:  # what came before in this stream is not in the recording
                self._numbers[mark] = []
                session.alignment.begin(event.stream, Position(event.epoch, event.seq - 1))
            placed = event
        else:
            numbers = self._numbers.setdefault(mark, [])
            if not (self._fields.key and numbers):
                self._next[event.stream] += 1
                numbers.append(self._next[event.stream])
            placed = _placed(event, numbers[-1])
        session.publish(placed, self._at)
        session.deliver(Backend.LEGACY, placed, self._at)
        waiting = self._early.pop(mark, deque())
        self._waiting -= len(waiting)
        for early in waiting:
            self._candidate(early, mark)

    def _candidate(self, event: Event, mark: bytes) -> None:
        if event.identified:
            placed = event if mark in self._numbers else None
        else:
            numbers = self._numbers.get(mark, [])
            number = 0 if self._fields.key else self._brought[mark]
            placed = _placed(event, numbers[number]) if number < len(numbers) else None
            self._brought[mark] += placed is not None
        if placed is not None:
            self._session.deliver(Backend.SUPABASE, placed, self._at)
        elif self._waiting < _MAX_EARLY:
            self._waiting += 1
            self._early.setdefault(mark, deque()).append(event)
        else:
            self._dropped += 1

    def _mark(self, event: Event) -> bytes:
        if self._fields.key:
            said = [_at(event.payload, path) for path in self._fields.key]
            return canonical_json([event.stream, *said])
        return fingerprint(event, _BY_CONTENT)

    def result(self, now: datetime, doubts: tuple[str, ...]) -> Result:
        """Decide everything and return the result; what the candidate has alone is extra."""
        for waiting in self._early.values():
            for event in waiting:
                self._next[event.stream] += 1
                extra = (
                    event if event.identified else replace(event, epoch=_EXTRA, seq=self._next[event.stream])
                )
                self._session.deliver(Backend.SUPABASE, extra, self._at)
        self._session.settle(self._at)
        if self._dropped:
            doubts = (*doubts, f"{self._dropped} events could not be kept until their counterparts came")
        result = self._session.result(now, doubts=doubts)
        return replace(result, not_compared=(*self.not_compared, *result.not_compared))


def _placed(event: Event, number: int) -> Event:
    """Return a foreign event at the place of its counterpart in the control; its time only puts lines in order."""
    return replace(event, epoch=1, seq=number, occurred_at=_NO_TIME)
