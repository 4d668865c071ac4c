"""Known faults, put into the frames of a run, and what the comparison has to say of each. Pure.

Victims are chosen at random among the events that the sides delivered, never two neighbours of one stream, so that each
fault has one consequence. A fault on both sides hits the same events on both.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from monitoring.events import Event
from monitoring.service import PUSHING, Backend
from validation.frames import Frame, What
from validation.observation import Key, Outcome, key_of

_TICK_SECONDS = 0.5


class Fault(StrEnum):
    """What may go wrong on a path."""

    DROP = "drop"
    DUPLICATE = "duplicate"
    MUTATE = "mutate"
    REORDER = "reorder"
    """Delivered after the next event of its stream, within the grace."""
    REORDER_LATE = "reorder_late"
    """Delivered when it had been given up, after many later ones."""
    DELAY = "delay"
    """Delivered late, but within the grace and in order: no finding."""
    STALL = "stall"
    """A side says nothing for longer than is waited, then everything at once."""


@dataclass(frozen=True, slots=True)
class Injection:
    """Which fault, on which sides, for which share of the events."""

    fault: Fault
    sides: tuple[Backend, ...]
    rate: float
    seed: int = 0

    @property
    def expected(self) -> Outcome:
        """The class that its victims belong to."""
        if self.fault is Fault.DROP:
            if len(self.sides) > 1:
                return Outcome.MISSING_BOTH
            return Outcome.MISSING_LEGACY if self.sides[0] is Backend.LEGACY else Outcome.MISSING_SUPABASE
        return {
            Fault.DUPLICATE: Outcome.DUPLICATE,
            Fault.MUTATE: Outcome.MISMATCH,
            Fault.REORDER: Outcome.REORDERED,
            Fault.REORDER_LATE: Outcome.LATE,
            Fault.DELAY: Outcome.MATCHED,
            Fault.STALL: Outcome.LATE,
        }[self.fault]


@dataclass(frozen=True, slots=True)
class Injected:
    """Frames with faults in them, the events that have one, and those of which either class is right."""

    frames: tuple[Frame, ...]
    victims: frozenset[Key]
    either: frozenset[Key] = frozenset()


def inject(
    frames: Sequence[Frame], injection: Injection, *, grace_seconds: float, cap_seconds: float
) -> Injected:
    """Put faults into a run's frames; it needs events that both sides delivered, and may need a longer drain."""
    rng = random.Random(injection.seed)  # noqa: S311 - a seed, not a secret
    if injection.fault is Fault.STALL:
        return _stall(frames, injection, rng, cap_seconds)
    victims = _choose(frames, injection.rate, rng)
    following = _following(frames)
    out: list[tuple[float, Frame]] = []
    held: dict[tuple[Backend, str], float] = {}
    for frame in frames:
        event, side = frame.event, frame.side
        if frame.what is not What.DELIVERED or side not in injection.sides or event is None or side is None:
            out.append((frame.at, frame))
            continue
        key = key_of(event)
        if injection.fault is Fault.DELAY:
            until = held.get((side, event.stream), 0.0)
            if key in victims:
                until = held[side, event.stream] = max(
                    until, frame.at + rng.uniform(0.1, 0.8) * grace_seconds
                )
            out.append((max(frame.at, until), frame))
        elif key not in victims:
            out.append((frame.at, frame))
        else:
            out += _faulty(
                frame, injection.fault, following.get((side, key), frame.at), rng, grace_seconds + cap_seconds
            )
    return Injected(_in_order(out, 2 * (grace_seconds + cap_seconds)), victims)


def _faulty(
    frame: Frame, fault: Fault, following: float, rng: random.Random, beyond: float
) -> Iterator[tuple[float, Frame]]:
    """Yield what becomes of a delivery. ``following`` is when the next one of its stream comes."""
    match fault:
        case Fault.DUPLICATE:
            yield frame.at, frame
            yield frame.at, frame
        case Fault.MUTATE if frame.event is not None:
            yield frame.at, replace(frame, event=mutated(frame.event, rng))
        case Fault.REORDER:
            yield following + 1e-6, frame
        case Fault.REORDER_LATE:
            yield frame.at + 2 * beyond, frame
        case _:  # dropped
            return


def mutated(event: Event, rng: random.Random) -> Event:
    """Return an event of which one value has changed."""
    paths = list(_leaves(event.payload, ()))
    if not paths:
        return replace(event, payload={**event.payload, "injected": True})
    return replace(event, payload=_changed(event.payload, rng.choice(paths)))


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(each, (*path, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _leaves(each, (*path, index))
    else:
        yield path


def _changed(value: Any, path: tuple[Any, ...]) -> Any:
    if not path:
        return _other(value)
    key, *rest = path
    if isinstance(value, Mapping):
        return {name: _changed(each, tuple(rest)) if name == key else each for name, each in value.items()}
    return [_changed(each, tuple(rest)) if index == key else each for index, each in enumerate(value)]


def _other(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 2 + 1
        case str():
            return value + "~"
        case _:
            return "injected"


def _choose(frames: Sequence[Frame], rate: float, rng: random.Random) -> frozenset[Key]:
    """Return victims: published, delivered by both sides, no two neighbours, none the last of its stream."""
    candidates = sorted(_common(frames))
    last: dict[tuple[str, int], int] = {}
    for key in candidates:
        last[key.stream, key.epoch] = max(last.get((key.stream, key.epoch), 0), key.seq)
    candidates = [key for key in candidates if key.seq < last[key.stream, key.epoch]]
    wanted = max(1, round(rate * len(candidates)))
    rng.shuffle(candidates)
    chosen: set[Key] = set()
    for key in candidates:
        if len(chosen) == wanted:
            break
        if not {key._replace(seq=key.seq - 1), key._replace(seq=key.seq + 1)} & chosen:
            chosen.add(key)
    return frozenset(chosen)


def _common(frames: Sequence[Frame]) -> set[Key]:
    seen: dict[Backend | None, set[Key]] = {side: set() for side in (None, *PUSHING)}
    for frame in frames:
        if frame.event is not None and frame.what in {What.PUBLISHED, What.DELIVERED}:
            seen[frame.side].add(key_of(frame.event))
    return set.intersection(*seen.values())


def _following(frames: Sequence[Frame]) -> dict[tuple[Backend, Key], float]:
    """Return when each side delivers the next event of the stream."""
    newest: dict[tuple[Backend, str], Key] = {}
    found: dict[tuple[Backend, Key], float] = {}
    for frame in frames:
        if frame.what is What.DELIVERED and frame.event is not None and frame.side is not None:
            before = newest.get((frame.side, frame.event.stream))
            if before is not None:
                found[frame.side, before] = frame.at
            newest[frame.side, frame.event.stream] = key_of(frame.event)
    return found


def _stall(frames: Sequence[Frame], injection: Injection, rng: random.Random, cap: float) -> Injected:
    """Hold back everything that the sides deliver in one stretch of more than twice the cap."""
    published = {
        key_of(frame.event): frame.at for frame in frames if frame.what is What.PUBLISHED and frame.event
    }
    at = sorted(published.values())
    length = 2.5 * cap
    begin = at[0] + rng.uniform(0.1, 0.4) * max(0.0, at[-1] - at[0] - length)
    end = begin + length
    out: list[tuple[float, Frame]] = []
    victims: set[Key] = set()
    either: set[Key] = set()
    for frame in frames:
        hit = frame.what is What.DELIVERED and frame.side in injection.sides and begin <= frame.at < end
        out.append((end if hit else frame.at, frame))
        if hit and frame.event is not None:
            key = key_of(frame.event)
            waited = end - published.get(key, frame.at)
            if waited > cap + 2 * _TICK_SECONDS:
                victims.add(key)
            elif waited > cap - 2 * _TICK_SECONDS:
                either.add(key)
    return Injected(_in_order(out, 2 * length), frozenset(victims), frozenset(either - victims))


def _in_order(frames: Collection[tuple[float, Frame]], drain_seconds: float) -> tuple[Frame, ...]:
    """Return the frames by their new times, with ticks in stead of the old ones until everything is decided."""
    begin, *rest = (frame for _, frame in frames)
    ticking = {What.DECIDE, What.END}
    moved = [
        (at, 0, replace(frame, at=at))
        for at, frame in frames
        if frame is not begin and frame.what not in ticking
    ]
    last = max((at for at, _, _ in moved), default=begin.at) + drain_seconds
    count = int((last - begin.at) / _TICK_SECONDS) + 2
    ticks = [
        (at, 1, Frame(What.DECIDE, at)) for at in (begin.at + n * _TICK_SECONDS for n in range(1, count))
    ]
    ordered = sorted([*moved, *ticks], key=lambda each: each[:2])
    end = [frame for frame in rest if frame.what is What.END]
    return (begin, *(frame for _, _, frame in ordered), *end)
