"""The status of a device or a check, decided from its readings: pure, with hysteresis.

A blip is no outage and one good answer is no recovery, so that a status changes only after several readings in a row
have said so; only the very first good answer counts at once, for until then nothing is known.

============  =======================================================================================================
up            every reading is whole
degraded      it answers, but not everything: some reading fails, or it is on its way down, or on its way up again
down          it is reached and refuses: a closed port, a login that is not taken, an answer that is wrong
unreachable   nothing answers
unknown       nobody has read it yet, or nobody reads it any more
============  =======================================================================================================

Several sources may read one device, each at its own interval. Whether it is *reached* is the business of all of them
together: the first three that find nobody, whichever they are, have found out. A *partial* reading is the business of
its source: it stays degraded until that one is whole again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import assert_never


class Status(StrEnum):
    """How a device or a check is."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """What one reading found."""

    WHOLE = "whole"
    """All that was asked for."""
    PARTIAL = "partial"
    """An answer, but not all of it, or one that is only just acceptable."""
    REFUSED = "refused"
    """An answer that says no."""
    SILENT = "silent"
    """No answer."""


_LOST = {Outcome.REFUSED: Status.DOWN, Outcome.SILENT: Status.UNREACHABLE}


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """How many readings in a row a change of status takes."""

    degraded_after: int = 2
    lost_after: int = 3
    """Until down or unreachable."""
    up_after: int = 2


@dataclass(frozen=True, slots=True)
class Condition:
    """What is known of a device: its status, and how far the next one has come.

    ``since`` is when the status began, None while nothing was ever known. ``reason`` is a sentence for people.
    """

    status: Status = Status.UNKNOWN
    since: datetime | None = None
    reason: str = "not read yet"
    lost: Outcome | None = None
    """REFUSED or SILENT while the newest readings were that."""
    losses: int = 0
    """Readings in a row that did not get an answer that counts."""
    alike: int = 0
    """Those of them at the end that were of one kind."""
    goods: int = 0
    """Whole readings in a row."""
    partial: Mapping[str, int] = field(default_factory=dict)
    """Source -> its partial readings in a row."""


def observe(
    before: Condition,
    outcome: Outcome,
    *,
    source: str,
    reason: str,
    at: datetime,
    rule: Hysteresis = Hysteresis(),
) -> Condition:
    """Return what is known after one more reading of ``source``; the status has changed if ``since`` is ``at``."""
    counted = _count(before, outcome, source, rule)
    status = _decide(before.status, counted, outcome, rule)
    if status == before.status:
        return counted
    return replace(counted, status=status, since=at, reason=_said(status, outcome, reason))


def stop(before: Condition, *, reason: str, at: datetime) -> Condition:
    """Return what is known once nobody reads any more. The counts stay: an outage that lasts need not prove itself again."""
    if before.status == Status.UNKNOWN:
        return before
    return replace(before, status=Status.UNKNOWN, since=at, reason=reason)


def _count(before: Condition, outcome: Outcome, source: str, rule: Hysteresis) -> Condition:
    """Count, no further than a rule asks: a condition that lasts stays equal to itself, and need not be kept again."""
    others = {name: count for name, count in before.partial.items() if name != source}
    match outcome:
        case Outcome.WHOLE:
            goods = min(before.goods + 1, rule.up_after)
            return replace(before, lost=None, losses=0, alike=0, goods=goods, partial=others)
        case Outcome.PARTIAL:
            partial = {**others, source: min(before.partial.get(source, 0) + 1, rule.degraded_after)}
            return replace(before, lost=None, losses=0, alike=0, goods=0, partial=partial)
        case Outcome.REFUSED | Outcome.SILENT:
            alike = min(before.alike + 1, rule.degraded_after) if before.lost == outcome else 1
            losses = min(before.losses + 1, rule.lost_after)
            return replace(before, lost=outcome, losses=losses, alike=alike, goods=0)
        case _:
            assert_never(outcome)


def _decide(status: Status, now: Condition, outcome: Outcome, rule: Hysteresis) -> Status:
    if outcome in _LOST:
        return _losing(status, now, _LOST[outcome], rule)
    lasting = any(count >= rule.degraded_after for count in now.partial.values())
    match status:
        case Status.UNKNOWN:
            return Status.DEGRADED if now.partial else Status.UP
        case Status.UP:
            return Status.DEGRADED if lasting else Status.UP
        case _:
            return Status.UP if not now.partial and now.goods >= rule.up_after else Status.DEGRADED


def _losing(status: Status, now: Condition, lost: Status, rule: Hysteresis) -> Status:
    gone = status in {Status.DOWN, Status.UNREACHABLE}
    if gone:
        return lost if now.alike >= rule.degraded_after else status
    if now.losses >= rule.lost_after:
        return lost
    if status == Status.UP and now.losses >= rule.degraded_after:
        return Status.DEGRADED
    return status


def _said(status: Status, outcome: Outcome, reason: str) -> str:
    if status == Status.DEGRADED and outcome == Outcome.WHOLE:
        return "it answers again"
    return reason
