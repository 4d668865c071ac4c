"""One comparison in progress: the core with its tallies, and its result so far. Pure; `runner` feeds it.

Everything comes in through the methods here, and each hands its input to ``note`` first: what a run has noted,
`validation.replaying` makes the same result of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from monitoring.cursor import Cursor
from monitoring.events import Event, Position, StreamId, format_time
from monitoring.service import PUSHING, Backend, Snapshot
from monitoring.topics import GLOBAL, parse_topic, selects
from validation.alignment import Alignment
from validation.clients import Clients, ClientsResult, Report
from validation.frames import VERSION, Frame, What
from validation.likening import Likening, Recognised
from validation.observation import Decision, Outcome, SideFigures
from validation.repeats import RawRepeats
from validation.report import to_json
from validation.result import Conditions, Result, SideResult, check_sum, decided_of, judge
from validation.states import StateResult, States, snapshot_to_json
from validation.statistics import Evidence
from validation.tally import RollingTally, Tally
from validation.terms import Resumption, Terms
from validation.tracks import LEGACY
from validation.verdict import Verdict

_STREAMS_NAMED = 10
_MOST_NOISE = 0.5
"""When two connections of one server disagree about more than this, the server is fine and its dialect is not."""

ALWAYS_OUT = (
    "log lines and commands, which are not events",
    "what clients draw: only what they are sent",
)


class Session:
    """A comparison from ``start`` on. Times are seconds of one monotonic clock, or aware datetimes where they say so."""

    def __init__(
        self,
        start: Mapping[StreamId, Position],
        started_at: datetime,
        *,
        at: float = 0.0,
        terms: Terms | None = None,
        raw: Mapping[Backend, RawRepeats] | None = None,
        note: Callable[[Frame], None] | None = None,
        evidence: Mapping[str, Evidence] | None = None,
        watch: Callable[[Sequence[Decision]], None] | None = None,
    ) -> None:
        """Begin. ``note`` is handed each input, ``watch`` what is decided; ``evidence`` is gone on with."""
        self.terms = terms or Terms()
        self.alignment = Alignment(start, self.terms.limits, self.terms.rules)
        self._start = dict(start)
        self._likening = None
        if self.terms.likeness is not None:
            self._likening = Likening(
                self.terms.likeness,
                taps=self.terms.legacy_taps,
                began_at=at,
                horizon_seconds=self.terms.limits.grace_cap_seconds,
            )
        self.started_at = started_at
        self.began = at
        self._tally = Tally(self.terms.standard, evidence)
        self._rolling = RollingTally()
        self._raw = raw or {}
        self._clients = None
        if self.terms.clients_seconds is not None:
            self._clients = Clients(
                start,
                topics=self.terms.topics,
                standard=self.terms.standard,
                by_contents=not self.terms.rules,
                block_seconds=self.terms.clients_seconds,
                cap_seconds=self.terms.limits.grace_cap_seconds,
                evidence=evidence,
            )
        self._states: States | None = None
        self._state_result: StateResult | None = None
        self._live = dict.fromkeys(PUSHING, True)
        self._note = note
        self._watch = watch
        if note is not None:
            begin = {
                "version": VERSION,
                "started_at": format_time(started_at),
                "heads": Cursor(start).to_json(),
                "terms": self.terms.to_json(),
            }
            note(Frame(What.BEGIN, at, more=begin))

    def publish(self, event: Event, at: float) -> None:
        """Take an event from the truth, in order of each stream."""
        if self._note is not None:
            self._note(Frame(What.PUBLISHED, at, event=event))
        self.alignment.publish(event, at)
        if self._clients is not None:
            self._clients.publish(event, at)
        if self._likening is not None:
            self._recognise(self._likening.published(event, at))

    def publish_upto(self, heads: Mapping[StreamId, Position], at: float) -> None:
        """Take note that the truth has published this far, whether or not its events could be read."""
        if self._note is not None:
            self._note(Frame(What.HEADS, at, more={"heads": Cursor(heads).to_json()}))
        for stream, head in heads.items():
            self.alignment.publish_upto(stream, head, at)
        if self._clients is not None:
            self._clients.publish_upto(heads, at)

    def report(self, reports: Iterable[Report], at: float) -> None:
        """Take what all clients that live report of what they saw."""
        if self._clients is None:
            return
        said = list(reports)
        if self._note is not None:
            more = {"reports": [[each.source, each.client, each.cohort, each.body] for each in said]}
            self._note(Frame(What.CLIENTS, at, more=more))
        self._clients.report(said, at)

    def deliver(
        self, side: Backend, event: Event, at: float, latency_seconds: float | None = None, tap: int = 0
    ) -> None:
        """Take an event as a side delivered it; ``tap`` tells several of the legacy server apart."""
        if self._note is not None:
            more = {"latency_seconds": latency_seconds} | ({"tap": tap} if tap else {})
            self._note(Frame(What.DELIVERED, at, side, event, more))
        if self._likening is not None and side is Backend.LEGACY:
            if latency_seconds is not None and not tap:
                self.alignment.latency[side].add(latency_seconds)
            self._recognise(self._likening.delivered(event, at, tap))
        else:
            self.alignment.observe(side, event, at, latency_seconds)

    def _recognise(self, found: Iterable[Recognised]) -> None:
        for each in found:
            self.alignment.observe_content(LEGACY, *each.key, each.content, each.at)

    def decide(self, now: float) -> None:
        """Decide what is due and add it up."""
        if self._note is not None:
            self._note(Frame(What.DECIDE, now))
        if self._likening is not None:
            self._recognise(self._likening.expire(now))
        decisions = self.alignment.decide(now)
        self._tally.add(decisions)
        self._rolling.add(decisions)
        if self._watch is not None:
            self._watch(decisions)

    def settle(self, now: float) -> None:
        """Decide everything that is still open: nothing more will come. For recordings that are at their end."""
        decisions = self.alignment.settle(now)
        self._tally.add(decisions)
        self._rolling.add(decisions)

    def set_live(self, side: Backend, at: float, *, live: bool) -> None:
        """Take note of whether a side is connected; each end of a connection counts as an outage."""
        if self._live[side] is live:
            return
        if self._note is not None:
            self._note(Frame(What.LIVE, at, side, more={"live": live}))
        if not live:
            self.alignment.sides[side].outages += 1
        self._live[side] = live

    def gap(self, side: Backend, at: float) -> None:
        """Take note that a side said that events are gone."""
        if self._note is not None:
            self._note(Frame(What.GAP, at, side))
        self.alignment.sides[side].gaps += 1

    def finish(self, heads: Mapping[StreamId, Position], at: float) -> None:
        """End the window at these positions."""
        if self._note is not None:
            self._note(Frame(What.FINISH, at, more={"heads": Cursor(heads).to_json()}))
        self.alignment.finish(heads)

    def compare_states(self, legacy: Snapshot, supabase: Snapshot, at: float) -> bool:
        """Take a pair of snapshots; return whether another one would tell more."""
        if self._note is not None:
            more = {"legacy": snapshot_to_json(legacy), "supabase": snapshot_to_json(supabase)}
            self._note(Frame(What.STATES, at, more=more))
        self._states = self._states or States(self._start, self.terms.rules)
        return self._states.take(legacy, supabase)

    def end_states(self, at: float, problem: str = "") -> None:
        """Take no more snapshots; ``problem`` is why there were none, if so."""
        if self._note is not None:
            self._note(Frame(What.STATES_END, at, more={"problem": problem}))
        self._state_result = StateResult(problem=problem) if self._states is None else self._states.finish()

    @property
    def resumption(self) -> Resumption:
        """Where another comparison can go on from here."""
        return Resumption(self.alignment.decided(), {**self.evidence, **self._clients_evidence})

    @property
    def _clients_evidence(self) -> Mapping[str, Evidence]:
        return self._clients.evidence if self._clients is not None else {}

    @property
    def evidence(self) -> Mapping[str, Evidence]:
        """What has been learnt of each class of findings, and of all together (``any``)."""
        return self._tally.blocks.evidence()

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """The number of events in each class so far."""
        return self._tally.counts

    def result(
        self,
        ended_at: datetime,
        *,
        at: float | None = None,
        errors: tuple[str, ...] = (),
        doubts: tuple[str, ...] = (),
    ) -> Result:
        """Return what has been found so far; every decision that was made by ``decide`` is in it."""
        if self._note is not None and at is not None:
            more = {"ended_at": format_time(ended_at), "errors": [*errors], "doubts": [*doubts]}
            self._note(Frame(What.END, at, more=more))
        return self._result(
            self._tally.counts,
            self.alignment.published,
            self.started_at,
            ended_at,
            Conditions(errors, doubts),
            self._seen(),
            pending=self.alignment.pending,
        )

    def standing(self) -> Verdict:
        """Return the verdict on what is decided; what is too young for that is pending, not uncovered."""
        counts = self._tally.counts
        known = sum(count for outcome, count in counts.items() if outcome is not Outcome.EXTRA)
        at, seen = self.started_at, self._seen()
        return self._result(counts, known, at, at, Conditions(), seen, pending=0).verdict

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
        started_at = max(self.started_at, ended_at - timedelta(seconds=seconds))
        pending = self.alignment.pending
        seen = self._seen(now - seconds)
        report = self._result(counts, known, started_at, ended_at, Conditions(), seen, pending=0)
        return {
            **to_json(report),
            "published": known + pending,
            "pending": pending,
            "window_seconds": seconds,
            "live": {str(side): live for side, live in self._live.items()},
            "total": {
                "started_at": format_time(self.started_at),
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
        clients: ClientsResult,
        *,
        pending: int,
    ) -> Result:
        alignment, terms = self.alignment, self.terms
        states = self._state_result
        told = (clients.finding, states.finding if states is not None else None)
        findings = (*conditions.findings, *(each for each in told if each))
        verdict, reasons = judge(
            counts,
            published=published,
            thresholds=terms.thresholds,
            conditions=replace(conditions, doubts=(*conditions.doubts, *self._doubts()), findings=findings),
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
            sides={side: self._side(side) for side in PUSHING},
            samples={outcome: found for outcome, found in self._tally.samples.items() if counts[outcome]},
            not_compared=(*clients.not_compared, *self._not_compared()),
            thresholds=terms.thresholds,
            grace_seconds=alignment.grace_seconds(),
            suspended=alignment.suspended,
            streams=self._tally.streams,
            timeline=tuple((at - self.began, row) for at, row in self._tally.timeline.rows()),
            timeline_seconds=self._tally.timeline.bucket_seconds,
            evidence=self._tally.blocks.evidence(),
            standard=terms.standard,
            passed=self._tally.passed,
            rules=terms.rules,
            noise=self._noise(),
            skew=alignment.skew.figures(),
            clients=clients,
            states=states,
        )

    def _seen(self, since: float | None = None) -> ClientsResult:
        """Return what clients saw, since a moment or the beginning."""
        if self._clients is None:
            return ClientsResult()
        return self._clients.result() if since is None else self._clients.recent(since)

    def _side(self, side: Backend) -> SideResult:
        sketch = self.alignment.latency[side]
        return SideResult(self._figures(side), sketch.figures(), tuple(sketch.histogram()))

    def _figures(self, side: Backend) -> SideFigures:
        raw = self._raw.get(side)
        figures = self.alignment.sides[side]
        return replace(figures, raw=raw.count, raw_repeats=raw.repeats) if raw else replace(figures)

    def _noise(self) -> float | None:
        return self._likening.noise_share() if self._likening and self.terms.legacy_taps > 1 else None

    def _doubts(self) -> tuple[str, ...]:
        alignment = self.alignment
        doubts = []
        if alignment.was_suspended:
            doubts.append("the comparison was suspended: too many events were open")
        if alignment.forgotten:
            doubts.append(f"{alignment.forgotten} deliveries were too late to be attributed")
        if self._likening is not None and self._likening.forgotten:
            doubts.append(
                f"{self._likening.forgotten} fingerprints were let go too early: too many were waiting"
            )
        noise = self._noise()
        if noise is not None and noise > _MOST_NOISE:
            doubts.append(
                f"two connections to the legacy server disagree about {noise:.0%} of what it says; what differs between them "
                "belongs into the dialect's likeness (docs/writing-a-dialect.md)"
            )
        doubts += [
            f"the rule for {rule.path} expired on {rule.expires}; ask {rule.owner or 'its owner'}"
            for rule in self.terms.rules.expired
        ]
        return tuple(doubts)

    def _not_compared(self) -> tuple[str, ...]:
        alignment = self.alignment
        states = self._state_result
        problem = f"the states: {states.problem}" if states is not None and states.problem else ""
        found = ([problem] if problem else []) + (
            [f"{alignment.outside} deliveries from before the start or after the end"]
            if alignment.outside
            else []
        )
        if alignment.foreign:
            found.append(f"streams of other owners: {', '.join(sorted(alignment.foreign)[:_STREAMS_NAMED])}")
        seen = self._tally.streams
        found += [
            f"topic {topic}: nothing was published on it"
            for topic in self.terms.topics
            if topic != str(GLOBAL)
            and not any(selects([parse_topic(topic)], StreamId(name)) for name in seen)
        ]
        idle = sorted(alignment.streams - seen.keys())
        if idle:
            named = ", ".join(idle[:_STREAMS_NAMED]) + (", ..." if len(idle) > _STREAMS_NAMED else "")
            found.append(f"{len(idle)} streams that said nothing in this time: {named}")
        excluded = self._tally.counts[Outcome.EXCLUDED]
        if excluded:
            found.append(f"{excluded} events while the comparison was suspended")
        found += [
            f"{count} differences at {path}, which a rule let pass"
            for path, count in self._tally.passed.items()
        ]
        if self._likening is not None:
            found.append("identities on the legacy side, which has none: events are matched by what they say")
        return (*found, *ALWAYS_OUT)
