"""Decisions added up: per class, with a few samples, over all time and over the last minutes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from validation.observation import FINDINGS, Decision, Key, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_SAMPLES = 10
"""Samples kept per class."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One finding, for people to look at."""

    key: Key
    details: tuple[str, ...]


class Tally:
    """Counts of every class, and the first samples of each class of finding."""

    def __init__(self) -> None:
        self._counts: Counter[Outcome] = Counter()
        self._samples: dict[Outcome, dict[Key, tuple[str, ...]]] = {outcome: {} for outcome in FINDINGS}

    def add(self, decisions: Iterable[Decision]) -> None:
        """Take decisions in; a revision moves its event to its new class."""
        for decision in decisions:
            self._counts[decision.outcome] += 1
            if decision.replaces is not None:
                self._counts[decision.replaces] -= 1
                self._samples.get(decision.replaces, {}).pop(decision.key, None)
            samples = self._samples.get(decision.outcome)
            if samples is not None and len(samples) < MAX_SAMPLES:
                samples[decision.key] = decision.details

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """The number of events in each class."""
        return {outcome: self._counts[outcome] for outcome in Outcome}

    @property
    def samples(self) -> Mapping[Outcome, tuple[Sample, ...]]:
        """Samples of the classes that have any."""
        return {
            outcome: tuple(Sample(key, details) for key, details in samples.items())
            for outcome, samples in self._samples.items()
            if samples
        }


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
            bucket[decision.outcome] += 1
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
