"""State against state: the snapshots of both backends, stream by stream and kind by kind, every field that differs. Pure.

A client begins with a snapshot: the newest event of each stream and kind. Two snapshots can be compared only where they
stand at the same position of a stream, and streams move on meanwhile. So several pairs are taken, and of each stream the
first one counts in which both stand alike; what never did is *moving*. What only the legacy server lacks, and that was
published before the run, is *excluded*: its memory begins with its last start. All that Supabase lacks is missing.

Events about the delivery itself are no state of anything, and are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from monitoring.cursor import Cursor
from monitoring.events import BEGINNING, OWN_KINDS, Event, Position, StreamId, from_json, to_json
from monitoring.service import Snapshot
from validation.comparison import differences, encode
from validation.rules import NO_RULES, Rules
from validation.verdict import Verdict

MAX_SAMPLES = 20
_FIELDS_SHOWN = 20


class StateClass(StrEnum):
    """What the states of both say of one stream and kind; each is in exactly one."""

    MATCHED = "matched"
    MISMATCH = "mismatch"
    MISSING_LEGACY = "missing_legacy"
    MISSING_SUPABASE = "missing_supabase"
    MOVING = "moving"
    EXCLUDED = "excluded"


STATE_FINDINGS = (StateClass.MISMATCH, StateClass.MISSING_LEGACY, StateClass.MISSING_SUPABASE)
STATE_MEANINGS = {
    StateClass.MATCHED: "the same event on both",
    StateClass.MISMATCH: "another event, or a field of it differs",
    StateClass.MISSING_LEGACY: "not in the legacy server's state",
    StateClass.MISSING_SUPABASE: "not in Supabase's state",
    StateClass.MOVING: "not compared: the stream moved on between the snapshots",
    StateClass.EXCLUDED: "not compared: from before the run, and the legacy server has begun anew since",
}


@dataclass(frozen=True, slots=True)
class StateDifference:
    """One stream and kind that differs, with every field that does."""

    stream: StreamId
    kind: str
    found: StateClass
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StateResult:
    """What the comparison of states found; None of it when there was none, and ``problem`` says why."""

    counts: Mapping[StateClass, int] = field(default_factory=dict)
    samples: tuple[StateDifference, ...] = ()
    passed: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""

    @property
    def entries(self) -> int:
        """How many pairs of stream and kind there are."""
        return sum(self.counts.values())

    @property
    def differ(self) -> int:
        """How many are in a class that makes a run fail."""
        return sum(self.counts.get(each, 0) for each in STATE_FINDINGS)

    @property
    def finding(self) -> str | None:
        """One sentence when anything differs."""
        if not self.differ:
            return None
        told = ", ".join(f"{self.counts[each]} {each}" for each in STATE_FINDINGS if self.counts.get(each))
        return f"the states differ in {self.differ} of {self.entries} entries ({told})"


def verdict_of(result: StateResult) -> Verdict:
    """Return what a comparison of states alone amounts to."""
    if result.problem:
        return Verdict.ERROR
    if result.differ:
        return Verdict.FAIL
    if not result.entries:
        return Verdict.NO_DATA
    return Verdict.INCONCLUSIVE if result.counts[StateClass.MOVING] else Verdict.PASS


class States:
    """Compares pairs of snapshots; ``start`` is where the run began, empty where all that is missing counts."""

    def __init__(self, start: Mapping[StreamId, Position], rules: Rules = NO_RULES) -> None:
        self._start = dict(start)
        self._rules = rules
        self._done: set[StreamId] = set()
        self._moving: dict[StreamId, tuple[bool, _Kinds, _Kinds]] = {}
        self._counts: Counter[StateClass] = Counter()
        self._samples: list[StateDifference] = []
        self._passed: Counter[str] = Counter()

    def take(self, legacy: Snapshot, supabase: Snapshot) -> bool:
        """Compare a pair, where that was not possible with an earlier one; return whether another would tell more."""
        old, new = _by_stream(legacy), _by_stream(supabase)
        self._moving = {}
        for stream in sorted((legacy.cursor.keys() | supabase.cursor.keys()) - self._done):
            one, other = (each.cursor.get(stream, BEGINNING) for each in (legacy, supabase))
            kinds = old.get(stream, {}), new.get(stream, {})
            if one == other:
                self._done.add(stream)
                self._compare(stream, *kinds)
            else:
                self._moving[stream] = (BEGINNING in (one, other), *kinds)
        return bool(self._moving)

    def finish(self) -> StateResult:
        """Return what was found, once. A stream that one side still does not know is missing there."""
        for stream, (unknown, old, new) in self._moving.items():
            if unknown:
                self._compare(stream, old, new)
            else:
                self._counts[StateClass.MOVING] += len(old.keys() | new.keys())
        counts = {each: self._counts[each] for each in StateClass}
        return StateResult(counts, tuple(self._samples), dict(self._passed))

    def _compare(self, stream: StreamId, old: _Kinds, new: _Kinds) -> None:
        for kind in sorted(old.keys() | new.keys()):
            found, details = self._class_of(stream, old.get(kind), new.get(kind))
            self._counts[found] += 1
            if found in STATE_FINDINGS and len(self._samples) < MAX_SAMPLES:
                self._samples.append(StateDifference(stream, kind, found, details))

    def _class_of(
        self, stream: StreamId, old: Event | None, new: Event | None
    ) -> tuple[StateClass, tuple[str, ...]]:
        if new is None:
            return StateClass.MISSING_SUPABASE, (_has("legacy", old),)
        if old is None:
            if new.position <= self._start.get(stream, BEGINNING):
                return StateClass.EXCLUDED, ()
            return StateClass.MISSING_LEGACY, (_has("supabase", new),)
        if old.position != new.position:
            return StateClass.MISMATCH, (f"{_has('legacy', old)}, {_has('supabase', new)}",)
        found, passed = differences(encode(old), encode(new), self._rules)
        self._passed.update(passed)
        if not found:
            return StateClass.MATCHED, ()
        told = tuple(f"{each.path}: legacy has {each.expected}, supabase has {each.actual}" for each in found)
        return StateClass.MISMATCH, told[:_FIELDS_SHOWN]


def _has(side: str, event: Event | None) -> str:
    return f"{side} has {event.epoch}:{event.seq}" if event is not None else ""


_Kinds = Mapping[str, Event]


def _by_stream(snapshot: Snapshot) -> dict[StreamId, dict[str, Event]]:
    found: dict[StreamId, dict[str, Event]] = {}
    for event in snapshot.state:
        if event.kind not in OWN_KINDS:
            found.setdefault(event.stream, {})[event.kind] = event
    return found


def snapshot_to_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot's form in a recording."""
    return {"cursor": snapshot.cursor.to_json(), "state": [to_json(each) for each in snapshot.state]}


def snapshot_from_json(value: Mapping[str, Any]) -> Snapshot:
    """Read ``snapshot_to_json``; raises InvalidCursor, InvalidEvent, KeyError or TypeError."""
    return Snapshot(tuple(from_json(each) for each in value["state"]), Cursor.from_json(value["cursor"]))
