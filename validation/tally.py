"""Decisions added up: per class, with a few samples, by stream, by time, over the last minutes, and as evidence. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from validation.observation import FINDINGS, Decision, Key, Outcome
from validation.statistics import DEFAULT, BlockCounter, Evidence, Standard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from monitoring.events import StreamId

MAX_SAMPLES = 10
"""Samples kept per class."""
_MAX_PATHS = 100
_MAX_STREAMS = 2_000
OTHERS = "(others)"
"""What streams and paths beyond the first thousands are counted as."""
ANY = "any"
"""The name of the evidence of all classes of findings together."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One finding, for people to look at."""

    key: Key
    details: tuple[str, ...]


class Tally:
    """Counts of every class in all and by stream, the first samples of each class of finding, and evidence."""

    def __init__(self, standard: Standard = DEFAULT, evidence: Mapping[str, Evidence] | None = None) -> None:
        self._counts: Counter[Outcome] = Counter()
        self._passed: Counter[str] = Counter()
        self._samples: dict[Outcome, dict[Key, tuple[str, ...]]] = {outcome: {} for outcome in FINDINGS}
        self._streams: dict[str, Counter[Outcome]] = {}
        self.timeline = Timeline()
        self.blocks = Blocks(standard, evidence)

    def add(self, decisions: Iterable[Decision]) -> None:
        """Take decisions in; a revision moves its event to its new class."""
        for decision in decisions:
            outcome, replaced = decision.outcome, decision.replaces
            stream = self._of_stream(decision.key.stream)
            for counts in (self._counts, stream):
                counts[outcome] += decision.events
                if replaced is not None:
                    counts[replaced] -= 1
            self.timeline.add(decision)
            self.blocks.add(decision)
            for path in decision.passed:
                self._passed[path if path in self._passed or len(self._passed) < _MAX_PATHS else OTHERS] += 1
            if replaced is not None:
                self._samples.get(replaced, {}).pop(decision.key, None)
            samples = self._samples.get(outcome)
            if samples is not None and len(samples) < MAX_SAMPLES:
                samples[decision.key] = decision.details

    def _of_stream(self, stream: StreamId) -> Counter[Outcome]:
        name = stream if stream in self._streams or len(self._streams) < _MAX_STREAMS else OTHERS
        return self._streams.setdefault(name, Counter())

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """The number of events in each class."""
        return {outcome: self._counts[outcome] for outcome in Outcome}

    @property
    def passed(self) -> Mapping[str, int]:
        """How often a rule let a difference pass, by its path."""
        return dict(self._passed)

    @property
    def streams(self) -> Mapping[str, Mapping[Outcome, int]]:
        """The number of events in each class by stream; streams beyond two thousand are one, `OTHERS`."""
        return {stream: dict(+counts) for stream, counts in self._streams.items()}

    @property
    def samples(self) -> Mapping[Outcome, tuple[Sample, ...]]:
        """Samples of the classes that have any."""
        return {
            outcome: tuple(Sample(key, details) for key, details in samples.items())
            for outcome, samples in self._samples.items()
            if samples
        }


class Blocks:
    """Makes evidence of decisions, for each class of findings and for all of them together.

    The client is the one whose view was compared. A revision counts where it was made, as one event more.
    """

    def __init__(self, standard: Standard = DEFAULT, evidence: Mapping[str, Evidence] | None = None) -> None:
        self.standard = standard
        self._counters = {name: BlockCounter() for name in (ANY, *map(str, FINDINGS))}
        self._evidence = {name: (evidence or {}).get(name, Evidence()) for name in self._counters}

    def add(self, decision: Decision) -> None:
        """Take a decision in."""
        outcome = decision.outcome
        if outcome is Outcome.EXCLUDED:
            return
        if outcome not in FINDINGS:
            for name in self._counters:
                self._count(name, decision, finding=False)
        elif decision.replaces is not None:
            self._count(str(outcome), decision, finding=True)
            if decision.replaces not in FINDINGS:
                self._count(ANY, decision, finding=True)
        else:
            for name in self._counters:
                self._count(name, decision, finding=name in {ANY, outcome})

    def _count(self, name: str, decision: Decision, *, finding: bool) -> None:
        block = self._counters[name].add(decision.opened_at, finding=finding, events=decision.events)
        if block is not None:
            self._evidence[name] = self._evidence[name].add(block, self.standard)

    def evidence(self) -> Mapping[str, Evidence]:
        """Return what is known by now, with the blocks that are still open as they stand."""
        found = {}
        for name, counter in self._counters.items():
            block = counter.peek()
            found[name] = self._evidence[name].add(block, self.standard) if block else self._evidence[name]
        return found


class Timeline:
    """Counts over the whole of a run, however long: when there are too many buckets, each two become one."""

    def __init__(self, bucket_seconds: float = 1.0, max_buckets: int = 240) -> None:
        self.bucket_seconds = bucket_seconds
        self._max = max_buckets
        self._buckets: dict[int, Counter[Outcome]] = {}

    def add(self, decision: Decision) -> None:
        """Take a decision in; a revision counts where its event was counted."""
        number = int(decision.opened_at // self.bucket_seconds)
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = Counter()
        bucket[decision.outcome] += decision.events
        if decision.replaces is not None:
            bucket[decision.replaces] -= 1
        while len(self._buckets) > self._max:
            self._halve()

    def _halve(self) -> None:
        self.bucket_seconds *= 2
        halved: dict[int, Counter[Outcome]] = {}
        for number, counts in self._buckets.items():
            halved.setdefault(number // 2, Counter()).update(counts)
        self._buckets = halved

    def rows(self) -> list[tuple[float, Mapping[Outcome, int]]]:
        """Return (seconds of the caller's clock, counts) of each bucket that has any, in order."""
        return [
            (number * self.bucket_seconds, dict(+self._buckets[number])) for number in sorted(self._buckets)
        ]


class RollingTally:
    """Counts of the events that were first seen within the last ``window_seconds``, to the bucket."""

    def __init__(self, window_seconds: float = 600.0, bucket_seconds: float = 10.0) -> None:
        self.window_seconds = window_seconds
        self._bucket_seconds = bucket_seconds
        self._buckets: dict[int, Counter[Outcome]] = {}

    def add(self, decisions: Iterable[Decision]) -> None:
        """Take decisions in; a revision counts where its event was counted."""
        for decision in decisions:
            bucket = self._buckets.setdefault(int(decision.opened_at // self._bucket_seconds), Counter())
            bucket[decision.outcome] += decision.events
            if decision.replaces is not None:
                bucket[decision.replaces] -= 1

    def counts(self, now: float) -> Mapping[Outcome, int]:
        """Return the counts of the window that ends now, and forget what is older."""
        oldest = (now - self.window_seconds) // self._bucket_seconds
        for number in [number for number in self._buckets if number < oldest]:
            del self._buckets[number]
        total: Counter[Outcome] = Counter()
        for bucket in self._buckets.values():
            total.update(bucket)
        return {outcome: total[outcome] for outcome in Outcome}
