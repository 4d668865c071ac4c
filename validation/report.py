"""A result as text for people and as plain JSON for programs (docs/schemas/validation-report.json)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from monitoring.events import StreamId, category_of, format_time
from validation.clients import ANY as ANY_FAULT
from validation.comparison import cut
from validation.limits import LINES_OUT_OF_STEP
from validation.observation import FINDINGS, MEANINGS, MISSED_BY, Outcome
from validation.states import STATE_MEANINGS, StateClass
from validation.statistics import judge as judge_evidence
from validation.statistics import sentence
from validation.tally import ANY, OTHERS

if TYPE_CHECKING:
    from monitoring.service import Backend
    from validation.latency import LatencyFigures
    from validation.result import Result, SideResult
    from validation.states import StateResult
    from validation.statistics import Evidence, Standard

SCHEMA = 1
_REDACTED = "(redacted)"
_STREAMS_SHOWN = 20
_TIMELINE_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Privacy:
    """What of the contents a report may show."""

    only_keys: bool = False
    """Whether findings are told by their identity alone, without any value."""
    redacted: tuple[str, ...] = ()
    """Words: a difference at a path that has one of them is told without its values."""

    def shown(self, detail: str) -> str:
        """Return a finding's words as they may be shown."""
        words, colon, _ = detail.partition(": ")
        if not colon or not (self.only_keys or any(word in words for word in self.redacted)):
            return detail
        return f"{words}: {_REDACTED}"


OPEN = Privacy()


def by_category(result: Result) -> Mapping[str, Mapping[Outcome, int]]:
    """Return the counts of each category, which is what a topic of all devices selects."""
    found: dict[str, Counter[Outcome]] = {}
    for stream, counts in result.streams.items():
        name = stream if stream == OTHERS else category_of(StreamId(stream))
        found.setdefault(name, Counter()).update(counts)
    return dict(sorted(found.items()))


def parity_of(counts: Mapping[Outcome, int]) -> float | None:
    """Return the share that matched of what was decided; None when nothing was."""
    decided = sum(count for outcome, count in counts.items() if outcome is not Outcome.EXCLUDED)
    return counts.get(Outcome.MATCHED, 0) / decided if decided else None


def to_text(result: Result, privacy: Privacy = OPEN, about: Mapping[str, Any] | None = None) -> str:
    """Return the report that `crossfade validate` prints: the verdict first, then what it rests on.

    Of ``about`` it tells what stands for each side, where those are recordings.
    """
    return "\n".join(_lines(result, privacy, about or {})) + "\n"


def to_json(
    result: Result, privacy: Privacy = OPEN, about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the report as plain JSON; durations are in seconds, shares from 0 to 1.

    ``about`` says what was compared and with what: versions, addresses, the hash of the configuration.
    """
    return {
        "schema": SCHEMA,
        "about": dict(about or {}),
        "verdict": str(result.verdict),
        "exit_code": result.exit_code,
        "reasons": list(result.reasons),
        "started_at": format_time(result.started_at),
        "ended_at": format_time(result.ended_at),
        "published": result.published,
        "decided": result.decided,
        "pending": result.pending,
        "coverage": result.coverage,
        "upper_bound_95": result.upper_bound,
        "suspended": result.suspended,
        "counts": {str(outcome): count for outcome, count in result.counts.items()},
        "categories": {name: _plain(counts) for name, counts in by_category(result).items()},
        "streams": {name: _plain(counts) for name, counts in result.streams.items()},
        "sides": {str(side): _side_json(figures) for side, figures in result.sides.items()},
        "skew": asdict(result.skew),
        "noise": result.noise,
        "evidence": {
            name: _evidence_json(evidence, result.standard) for name, evidence in result.evidence.items()
        },
        "standard": asdict(result.standard),
        "clients": _clients_json(result),
        "states": None if result.states is None else states_json(result.states, privacy),
        "samples": {
            str(outcome): [
                {
                    "stream": sample.key.stream,
                    "epoch": sample.key.epoch,
                    "seq": sample.key.seq,
                    "details": [privacy.shown(detail) for detail in sample.details],
                }
                for sample in samples
            ]
            for outcome, samples in result.samples.items()
        },
        "timeline": {
            "seconds": result.timeline_seconds,
            "rows": [{"at": at, **_plain(counts)} for at, counts in result.timeline],
        },
        "rules": [rule.to_json() for rule in result.rules.rules],
        "rules_expired": [rule.to_json() for rule in result.rules.expired],
        "passed_by_rules": dict(result.passed),
        "not_compared": list(result.not_compared),
        "thresholds": {**asdict(result.thresholds), "grace_seconds": result.grace_seconds},
    }


def _clients_json(result: Result) -> dict[str, Any]:
    seen = result.clients
    return {
        "clients": seen.clients,
        "blocks": seen.blocks,
        "agree": seen.agree,
        "differ": seen.differ,
        "events": seen.events,
        "faults": dict(seen.faults),
        "samples": [asdict(each) for each in seen.samples],
        "cohorts": {
            cohort: {name: _evidence_json(each, result.standard) for name, each in of.items()}
            for cohort, of in seen.cohorts.items()
        },
        "not_compared": list(seen.not_compared),
    }


def states_json(states: StateResult, privacy: Privacy = OPEN) -> dict[str, Any]:
    """Return a comparison of states as plain JSON."""
    return {
        "entries": states.entries,
        "differ": states.differ,
        "counts": {str(found): count for found, count in states.counts.items()},
        "samples": [
            {
                "stream": each.stream,
                "kind": each.kind,
                "class": str(each.found),
                "details": [privacy.shown(detail) for detail in each.details],
            }
            for each in states.samples
        ],
        "passed_by_rules": dict(states.passed),
        "problem": states.problem,
    }


def states_text(states: StateResult, privacy: Privacy = OPEN) -> Iterator[str]:
    """Yield what the comparison of states found, for people."""
    yield (
        f"State against state: {states.entries} entries (stream and kind), "
        f"{states.counts.get(StateClass.MATCHED, 0)} match, {states.differ} differ"
    )
    for found, count in states.counts.items():
        if count and found is not StateClass.MATCHED:
            yield f"  {found:<17}{count:>9}  {STATE_MEANINGS[found]}"
    for each in states.samples:
        yield f"  {each.stream} {each.kind}: {each.found}"
        for detail in each.details:
            yield f"    {cut(privacy.shown(detail))}"


def _evidence_json(evidence: Evidence, standard: Standard) -> dict[str, Any]:
    return {
        **evidence.to_json(),
        "upper_bound": evidence.upper_bound(standard),
        "verdict": str(judge_evidence(evidence, standard).verdict),
    }


def _plain(counts: Mapping[Outcome, int]) -> dict[str, int]:
    return {str(outcome): count for outcome, count in counts.items() if count}


def _lines(result: Result, privacy: Privacy, about: Mapping[str, Any]) -> Iterator[str]:
    yield from _head(result)
    if named := [f"{side} is {about[side]}" for side in result.sides if side in about]:
        yield ", ".join(named)
    yield ""
    for outcome, count in result.counts.items():
        yield f"  {outcome:<17}{count:>9}  {MEANINGS[outcome]}"
    yield f"  {'pending':<17}{result.pending:>9}  {_pending_text(result)}"
    yield f"  {'= published':<17}{result.published:>9}  every class but {Outcome.EXTRA}"
    yield ""
    for side, of_side in result.sides.items():
        yield f"  {side:<9}{_side_text(of_side)}"
    if result.noise is not None:
        yield f"  noise    two subscriptions of the legacy server disagree about {result.noise:.3%} of the events"
    yield from _clients(result)
    if result.states is not None and not result.states.problem:
        yield ""
        yield from states_text(result.states, privacy)
    yield from _topics(result)
    yield from _timeline(result)
    for outcome, samples in result.samples.items():
        yield ""
        yield f"{outcome}: {result.counts[outcome]}, of which {len(samples)}:"
        for sample in samples:
            yield f"  {sample.key}  {'; '.join(cut(privacy.shown(each)) for each in sample.details)}".rstrip()
    yield ""
    yield "Not compared:"
    for line in result.not_compared:
        yield f"  - {line}"


def _pending_text(result: Result) -> str:
    if (
        result.grace_seconds >= LINES_OUT_OF_STEP
    ):  # recordings: counted in lines, as no time of delivery is in them
        return f"the other recording may be up to {result.grace_seconds:,.0f} lines ahead"
    return f"younger than the grace of {result.grace_seconds:.1f} s"


def _head(result: Result) -> Iterator[str]:
    """Yield the five lines that a reader may stop after, and one for each side that was away."""
    seconds = (result.ended_at - result.started_at).total_seconds()
    yield f"{result.verdict}: {'; '.join(result.reasons)}"
    yield f"{result.published} published, {result.decided} decided, {result.pending} pending in {seconds:.1f} s"
    for side, of_side in result.sides.items():
        if of_side.figures.outages:
            yield _outages_text(side, of_side, result)
    if result.published:
        excluded = result.counts[Outcome.EXCLUDED]
        yield (
            f"coverage {result.coverage:.2%} (at least {result.thresholds.min_coverage:.0%} is needed), {excluded} excluded"
        )
    if result.upper_bound is not None:
        yield f"0 of {result.decided} differ: below {result.upper_bound:.3%} (95 %, valid at any look)"
    if (evidence := result.evidence.get(ANY)) and evidence.blocks:
        yield f"in blocks of 10 s, as losses come in bursts: {sentence(evidence, result.standard)}"


def _clients(result: Result) -> Iterator[str]:
    """Yield what clients saw, and what is known of each cohort of them."""
    seen = result.clients
    if not seen.clients and not seen.blocks:
        return
    yield ""
    yield (
        f"What clients saw: {seen.clients} clients, {seen.blocks} blocks compared ({seen.events} events): "
        f"{seen.agree} agree, {seen.differ} differ"
    )
    for each in seen.samples if seen.differ else ():
        yield f"  differs  {each.client} ({each.cohort})  {each.stream}  {each.fault}: {each.words}"
    for cohort, of in seen.cohorts.items():
        for name, evidence in of.items():
            if name == ANY_FAULT or evidence.findings:
                yield f"  {cohort:<14}{name:<10} {sentence(evidence, result.standard)}{_tripped(evidence)}"


def _tripped(evidence: Evidence) -> str:
    tripped = evidence.tripped_at_events
    return "" if tripped is None else f"; TRIPPED after {tripped} events"


def _topics(result: Result) -> Iterator[str]:
    """Yield the classes by topic, and the streams with the most findings."""
    categories = by_category(result)
    if not categories:
        return
    shown = [
        outcome
        for outcome in Outcome
        if outcome is Outcome.MATCHED or any(counts.get(outcome) for counts in categories.values())
    ]
    yield ""
    yield f"  {'topic':<28}" + "".join(f"{outcome:>18}" for outcome in shown) + f"{'parity':>10}"
    for name, counts in categories.items():
        yield _row(f"categories.{name}", counts, shown)
    worst = sorted(
        (
            (stream, counts)
            for stream, counts in result.streams.items()
            if any(counts.get(o) for o in FINDINGS)
        ),
        key=lambda each: -sum(each[1].get(outcome, 0) for outcome in FINDINGS),
    )
    for stream, counts in worst[:_STREAMS_SHOWN]:
        yield _row(stream, counts, shown)
    if len(worst) > _STREAMS_SHOWN:
        yield f"  and {len(worst) - _STREAMS_SHOWN} streams more with findings"


def _row(name: str, counts: Mapping[Outcome, int], shown: list[Outcome]) -> str:
    parity = parity_of(counts)
    figures = "".join(f"{counts.get(outcome, 0):>18}" for outcome in shown)
    return f"  {name:<28}{figures}{'-' if parity is None else f'{parity:.2%}':>10}"


def _timeline(result: Result) -> Iterator[str]:
    """Yield one character for each interval: a dot where everything matched, a digit or # where something was found."""
    if len(result.timeline) < 2:  # noqa: PLR2004 - one point is no line
        return
    last = result.timeline[-1][0]
    width = max(result.timeline_seconds, (last + result.timeline_seconds) / _TIMELINE_WIDTH)
    found: Counter[int] = Counter()
    seen: set[int] = set()
    for at, counts in result.timeline:
        place = max(0, int(at / width))
        seen.add(place)
        found[place] += sum(counts.get(outcome, 0) for outcome in FINDINGS)
    line = "".join(_mark(place, found[place], seen) for place in range(max(seen) + 1))
    yield ""
    yield f"  timeline {line}  {width:.0f} s each; . matched, 1-9 and # findings"


def _mark(place: int, found: int, seen: set[int]) -> str:
    if place not in seen:
        return " "
    return "." if not found else str(found) if found < 10 else "#"  # noqa: PLR2004 - one digit


def _outages_text(side: Backend, of_side: SideResult, result: Result) -> str:
    """Say that a side was away, and whether that cost anything."""
    times = "1 time" if of_side.figures.outages == 1 else f"{of_side.figures.outages} times"
    missed = sum(result.counts[outcome] for outcome in MISSED_BY[side])
    cost = f"{missed} events were missed" if missed else "nothing was missed"
    if not missed and result.pending:
        cost += f" so far, {result.pending} pending"
    return f"{side} was away {times}, {cost}"


def _side_text(side: SideResult) -> str:
    figures, latency = side.figures, side.latency
    text = f"{figures.delivered} delivered, latency {latency_text(latency)}"
    for name, count in (
        ("duplicate", figures.duplicates),
        ("reordered", figures.reordered),
        ("late", figures.late),
        ("told gaps", figures.gaps),
        ("outages", figures.outages),
        ("repeats on the wire, dropped by the client", figures.raw_repeats),
    ):
        if count:
            text += f", {count} {name}"
    return text


def latency_text(latency: LatencyFigures) -> str:
    """Return a distribution in three figures."""
    if latency.p50_seconds is None or latency.p99_seconds is None or latency.max_seconds is None:
        return "unknown"
    return " ".join(
        f"{name} {seconds * 1000:.0f} ms"
        for name, seconds in (
            ("p50", latency.p50_seconds),
            ("p99", latency.p99_seconds),
            ("max", latency.max_seconds),
        )
    )


def _side_json(side: SideResult) -> dict[str, Any]:
    figures, latency = asdict(side.figures), side.latency
    del figures["backend"]
    return {**figures, "latency": {**asdict(latency), "histogram": [list(each) for each in side.histogram]}}
