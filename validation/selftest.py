"""The comparison proves itself: known faults in, and how many of them it found. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from monitoring.cursor import Cursor
from monitoring.events import Event, Position, format_time, stream_id, uuid7
from monitoring.service import PUSHING, Backend
from validation.errors import InvalidRecording
from validation.faults import Fault, Injection, inject
from validation.frames import VERSION, Frame, What
from validation.observation import Decision, Key, Outcome
from validation.replaying import apply, begin_from
from validation.session import Session
from validation.tally import ANY
from validation.terms import Terms

RATES = (0.0001, 0.001, 0.01, 0.1)
SIDES: tuple[tuple[Backend, ...], ...] = ((Backend.LEGACY,), (Backend.SUPABASE,), PUSHING)
_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Score:
    """How one kind of fault at one rate was found."""

    name: str
    sides: str
    rate: float
    expected: Outcome
    injected: int
    found: int
    """Of the injected, those in their class."""
    false: int
    """Events that have no fault and were not called matched."""
    tripped_at_events: int | None

    @property
    def recall(self) -> float:
        """The share of the faults that were found."""
        return self.found / self.injected if self.injected else 1.0

    @property
    def precision(self) -> float:
        """The share of what was called a finding that is one; 1 when nothing was."""
        real = 0 if self.expected is Outcome.MATCHED else self.found
        return real / (real + self.false) if real + self.false else 1.0

    @property
    def holds(self) -> bool:
        """Whether all faults were found and nothing else."""
        return self.found == self.injected and not self.false

    def to_json(self) -> dict[str, Any]:
        """Return its form in a report."""
        return {
            "fault": self.name,
            "sides": self.sides,
            "rate": self.rate,
            "class": str(self.expected),
            "injected": self.injected,
            "found": self.found,
            "false": self.false,
            "recall": self.recall,
            "precision": self.precision,
            "tripped_at_events": self.tripped_at_events,
            "holds": self.holds,
        }


def examine(
    frames: Sequence[Frame],
    *,
    faults: Iterable[Fault] = tuple(Fault),
    rates: Iterable[float] = RATES,
    sides: Iterable[tuple[Backend, ...]] = SIDES,
    seed: int = 0,
) -> Iterator[Score]:
    """Yield a score of the clean frames, then of each fault at each rate on each choice of sides.

    Raises InvalidRecording for frames of which the sides have nothing in common.
    """
    session, outcomes = play(frames)
    if session.counts[Outcome.MATCHED] < 2:  # noqa: PLR2004 - a victim needs a neighbour
        raise InvalidRecording("both sides have to have delivered some events of one stream")
    yield Score("clean", "-", 0.0, Outcome.MATCHED, 0, 0, len(outcomes), _tripped(session))
    genuine = frozenset(outcomes)
    chosen = tuple(rates)
    for fault in faults:
        for of_sides in sides:
            for rate in chosen[-1:] if fault is Fault.STALL else chosen:
                yield _examine(frames, Injection(fault, of_sides, rate, seed), genuine)


def _examine(frames: Sequence[Frame], injection: Injection, genuine: frozenset[Key]) -> Score:
    limits = begin_from(frames[0]).terms.limits
    made = inject(frames, injection, grace_seconds=limits.grace_seconds, cap_seconds=limits.grace_cap_seconds)
    session, outcomes = play(made.frames)
    expected = injection.expected
    found = sum(outcomes.get(key, Outcome.MATCHED) is expected for key in made.victims)
    false = sum(key not in made.victims and key not in made.either and key not in genuine for key in outcomes)
    sides = "both" if len(injection.sides) > 1 else str(injection.sides[0])
    return Score(
        injection.fault, sides, injection.rate, expected, len(made.victims), found, false, _tripped(session)
    )


def _tripped(session: Session) -> int | None:
    return session.evidence[ANY].tripped_at_events


def play(frames: Iterable[Frame]) -> tuple[Session, dict[Key, Outcome]]:
    """Return the session after all frames, and how every event ended that did not match."""
    outcomes: dict[Key, Outcome] = {}

    def watch(decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            if decision.outcome is Outcome.MATCHED:
                outcomes.pop(decision.key, None)
            else:
                outcomes[decision.key] = decision.outcome

    session: Session | None = None
    for frame in frames:
        if session is None:
            session = begin_from(frame, watch)
        elif frame.what is not What.END:
            apply(session, frame)
    if session is None:
        raise InvalidRecording("it is empty")
    return session, outcomes


def synthetic(
    *,
    streams: int = 20,
    seconds: float = 600.0,
    skew_seconds: float = 1.0,
    seed: int = 0,
    terms: Terms | None = None,
) -> list[Frame]:
    """Return the frames of a clean run: each stream about once in two seconds, and each side as late as it likes.

    A side's lateness changes from event to event, up to ``skew_seconds``; within a stream it keeps the order.
    """
    rng = random.Random(seed)  # noqa: S311 - a seed, not a secret
    timed: list[tuple[float, int, Callable[[float], Frame]]] = []
    names = [stream_id(f"synthetic-{number}", "system") for number in range(streams)]
    for name in names:
        at, seq, arrived = rng.random() * 2, 2, dict.fromkeys(PUSHING, 0.0)
        while at < seconds:
            event = Event(
                uuid7(int(at * 1000), rng.getrandbits(74)), name, 1, seq, "metric_collected",
                _AT + timedelta(seconds=at), {"n": seq, "cpu_usage": rng.random() * 100, "up": True, "host": "a"},
            )  # fmt: skip
            timed.append((at, 0, partial(_published, event)))
            for side in PUSHING:
                arrived[side] = max(arrived[side], at + rng.random() * skew_seconds)
                late = {"latency_seconds": arrived[side] - at}
                timed.append((arrived[side], 1, partial(_delivered, side, event, late)))
            at += 1 + rng.random() * 2
            seq += 1
    timed.sort(key=lambda each: each[:2])
    begin = {
        "version": VERSION,
        "started_at": format_time(_AT),
        "heads": Cursor(dict.fromkeys(names, Position(1, 1))).to_json(),
        "terms": (terms or Terms()).to_json(),
    }
    frames = [Frame(What.BEGIN, 0.0, more=begin), *(make(at) for at, _, make in timed)]
    return list(_ticked(frames, seconds + skew_seconds + 40))


def _published(event: Event, at: float) -> Frame:
    return Frame(What.PUBLISHED, at, event=event)


def _delivered(side: Backend, event: Event, more: dict[str, Any], at: float) -> Frame:
    return Frame(What.DELIVERED, at, side, event, more)


def _ticked(frames: Iterable[Frame], until: float) -> Iterator[Frame]:
    tick = 0.0
    for frame in frames:
        while frame.at > tick + 0.5:
            tick += 0.5
            yield Frame(What.DECIDE, tick)
        yield frame
    while tick < until:
        tick += 0.5
        yield Frame(What.DECIDE, tick)
