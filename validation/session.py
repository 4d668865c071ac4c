"""One comparison in progress: the core with its tallies, and its result so far. Pure; `runner` feeds it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from monitoring.events import format_time
from monitoring.service import Backend
from validation.alignment import Alignment, Limits
from validation.observation import Key, Outcome, SideFigures, key_of
from validation.report import to_json
from validation.result import Conditions, Result, SideResult, Thresholds, check_sum, decided_of, judge
from validation.tally import RollingTally, Tally

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from monitoring.events import Event, Position, StreamId

_RAW_REMEMBERED = 20_000

ALWAYS_OUT = (
    "log lines and commands, which are not events",
    "what clients draw: only what they are sent",
)


class RawRepeats:
    """Counts arrivals on the wire of one side, and which of them repeat one of the last arrivals.

    For information only: adapters drop repeats before a client sees them.
    """

    def __init__(self) -> None:
        self._recent: OrderedDict[Key, None] = OrderedDict()
        self.count = 0
        self.repeats = 0

    def add(self, event: Event) -> None:
        """Take an arrival."""
        self.count += 1
        key = key_of(event)
        if key in self._recent:
            self.repeats += 1
            return
        self._recent[key] = None
        if len(self._recent) > _RAW_REMEMBERED:
            self._recent.popitem(last=False)


class Session:
    """A comparison from ``start`` on. Times are seconds of one monotonic clock, or aware datetimes where they say so."""

    def __init__(
        self,
        start: Mapping[StreamId, Position],
        started_at: datetime,
        *,
        limits: Limits | None = None,
        thresholds: Thresholds | None = None,
        raw: Mapping[Backend, RawRepeats] | None = None,
    ) -> None:
        self.alignment = Alignment(start, limits)
        self._started_at = started_at
        self._thresholds = thresholds or Thresholds()
        self._tally = Tally()
        self._rolling = RollingTally()
        self._raw = raw or {}
        self._live = dict.fromkeys(Backend, True)

    def decide(self, now: float) -> None:
        """Decide what is due and add it up."""
        decisions = self.alignment.decide(now)
        self._tally.add(decisions)
        self._rolling.add(decisions)

    def set_live(self, side: Backend, *, live: bool) -> None:
        """Take note of whether a side is connected; each end of a connection counts as an outage."""
        if self._live[side] and not live:
            self.alignment.sides[side].outages += 1
        self._live[side] = live

    def gap(self, side: Backend) -> None:
        """Take note that a side said that events are gone."""
        self.alignment.sides[side].gaps += 1

    def result(
        self, ended_at: datetime, *, errors: tuple[str, ...] = (), doubts: tuple[str, ...] = ()
    ) -> Result:
        """Return what has been found so far; every decision that was made by ``decide`` is in it."""
        return self._result(
            self._tally.counts,
            self.alignment.published,
            self._started_at,
            ended_at,
            Conditions(errors, doubts),
            pending=self.alignment.pending,
        )

    def rolling(self, now: float, ended_at: datetime) -> dict[str, Any]:
        """Return a report on the last minutes as plain JSON, with the counts since the start as ``total``.

        For a comparison that never ends: what was found long ago does not decide the verdict of today, and what is
        younger than the grace is pending, not uncovered. Samples, latencies and the counts of each side are since the
        start.
        """
        total = self._tally.counts
        check_sum(total, published=self.alignment.published, pending=self.alignment.pending)
        counts = self._rolling.counts(now)
        known = sum(count for outcome, count in counts.items() if outcome is not Outcome.EXTRA)
        seconds = self._rolling.window_seconds
        started_at = max(self._started_at, ended_at - timedelta(seconds=seconds))
        pending = self.alignment.pending
        report = self._result(counts, known, started_at, ended_at, Conditions(), pending=0)
        return {
            **to_json(report),
            "published": known + pending,
            "pending": pending,
            "window_seconds": seconds,
            "live": {str(side): live for side, live in self._live.items()},
            "total": {
                "started_at": format_time(self._started_at),
                "published": self.alignment.published,
                "decided": decided_of(total),
                "counts": {str(outcome): count for outcome, count in total.items()},
            },
        }

    def _result(
        self,
        counts: Mapping[Outcome, int],
        published: int,
        started_at: datetime,
        ended_at: datetime,
        conditions: Conditions,
        *,
        pending: int,
    ) -> Result:
        alignment = self.alignment
        verdict, reasons = judge(
            counts,
            published=published,
            thresholds=self._thresholds,
            conditions=replace(conditions, doubts=(*conditions.doubts, *self._doubts())),
            silent=tuple(
                side for side, figures in alignment.sides.items() if published and not figures.delivered
            ),
        )
        return Result(
            verdict=verdict,
            reasons=reasons,
            started_at=started_at,
            ended_at=ended_at,
            counts=counts,
            pending=pending,
            published=published,
            sides={
                side: SideResult(self._figures(side), alignment.latency[side].figures()) for side in Backend
            },
            samples={outcome: found for outcome, found in self._tally.samples.items() if counts[outcome]},
            not_compared=self._not_compared(),
            thresholds=self._thresholds,
            grace_seconds=alignment.grace_seconds(),
            suspended=alignment.suspended,
        )

    def _figures(self, side: Backend) -> SideFigures:
        raw = self._raw.get(side)
        figures = self.alignment.sides[side]
        return replace(figures, raw=raw.count, raw_repeats=raw.repeats) if raw else replace(figures)

    def _doubts(self) -> tuple[str, ...]:
        alignment = self.alignment
        doubts = []
        if alignment.was_suspended:
            doubts.append("the comparison was suspended: too many events were open")
        if alignment.forgotten:
            doubts.append(f"{alignment.forgotten} deliveries were too late to be attributed")
        return tuple(doubts)

    def _not_compared(self) -> tuple[str, ...]:
        alignment = self.alignment
        found = (
            [f"{alignment.outside} deliveries from before the start or after the end"]
            if alignment.outside
            else []
        )
        if alignment.foreign:
            found.append(f"streams of other owners: {', '.join(sorted(alignment.foreign)[:10])}")
        return (*found, *ALWAYS_OUT)
