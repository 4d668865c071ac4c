"""What clients saw, and the states that both backends begin a client with, read from a comparison's report. Pure.

The report is JSON that another process, maybe of another version, replaces while it runs: unknown fields are ignored
and missing ones are unknown. `docs/validation.md` says what a block and a class of differences is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dashboard.readings import mapping, mappings, number, text

_ANY = "any"
"""The evidence of all classes together."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one cohort since the comparison began; None is unknown.

    ``verdict`` is PASS, FAIL, INCONCLUSIVE or NO_DATA; ``upper_bound`` the share of disturbed blocks that is ruled out.
    """

    cohort: str
    verdict: str = ""
    blocks: int | None = None
    disturbed: int | None = None
    events: int | None = None
    upper_bound: float | None = None
    tripped_at_events: int | None = None
    faults: tuple[tuple[str, int], ...] = ()
    """Blocks in which the class was found, by class; those of which none was are left out."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One stream of one client's block that differs from what was published."""

    client: str
    cohort: str
    stream: str
    fault: str
    events: int | None
    words: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What clients saw. The counts are of the report's window, evidence and disagreements since the comparison began."""

    clients: int | None = None
    blocks: int | None = None
    agree: int | None = None
    differ: int | None = None
    events: int | None = None
    faults: tuple[tuple[str, int], ...] = ()
    cohorts: tuple[Evidence, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()
    """The newest, newest first."""
    unchecked: tuple[str, ...] | None = None
    """What of clients could not be checked, in words; None where the report does not say."""


@dataclass(frozen=True, slots=True)
class StateDifference:
    """One stream and kind whose newest event is not the same in both states."""

    stream: str
    kind: str
    found: str
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class States:
    """Snapshot against snapshot, in entries: one for each stream and kind. ``problem`` says why there was none."""

    entries: int | None = None
    differ: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    differences: tuple[StateDifference, ...] = ()
    problem: str = ""


def seen(report: Mapping[str, Any]) -> Seen | None:
    """Read what clients saw; None where the report has nothing of it."""
    found = mapping(report.get("clients"))
    if not found:
        return None
    unchecked = found.get("not_compared")
    return Seen(
        clients=_count(found.get("clients")),
        blocks=_count(found.get("blocks")),
        agree=_count(found.get("agree")),
        differ=_count(found.get("differ")),
        events=_count(found.get("events")),
        faults=_counts(found.get("faults")),
        cohorts=tuple(
            _evidence(str(name), mapping(of)) for name, of in mapping(found.get("cohorts")).items()
        ),
        disagreements=tuple(
            Disagreement(
                client=text(each.get("client")),
                cohort=text(each.get("cohort")),
                stream=text(each.get("stream")),
                fault=text(each.get("fault")),
                events=_count(each.get("events")),
                words=text(each.get("words")),
            )
            for each in reversed(mappings(found.get("samples")))
        ),
        unchecked=tuple(map(str, unchecked)) if isinstance(unchecked, list) else None,
    )


def states(report: Mapping[str, Any]) -> States | None:
    """Read the comparison of states; None where there was none."""
    found = mapping(report.get("states"))
    if not found:
        return None
    return States(
        entries=_count(found.get("entries")),
        differ=_count(found.get("differ")),
        counts=dict(_counts(found.get("counts"))),
        differences=tuple(
            StateDifference(
                stream=text(each.get("stream")),
                kind=text(each.get("kind")),
                found=text(each.get("class")),
                details=_texts(each.get("details")),
            )
            for each in mappings(found.get("samples"))
        ),
        problem=text(found.get("problem")),
    )


def _evidence(cohort: str, of: Mapping[str, Any]) -> Evidence:
    together = mapping(of.get(_ANY))
    disturbed = {str(name): _count(mapping(each).get("disturbed")) for name, each in of.items()}
    return Evidence(
        cohort=cohort,
        verdict=text(together.get("verdict")),
        blocks=_count(together.get("blocks")),
        disturbed=_count(together.get("disturbed")),
        events=_count(together.get("events")),
        upper_bound=number(together.get("upper_bound")),
        tripped_at_events=_count(together.get("tripped_at_events")),
        faults=tuple((name, count) for name, count in disturbed.items() if name != _ANY and count),
    )


def _counts(found: object) -> tuple[tuple[str, int], ...]:
    known = ((str(name), _count(value)) for name, value in mapping(found).items())
    return tuple((name, count) for name, count in known if count is not None)


def _count(value: object) -> int | None:
    known = number(value)
    return None if known is None else int(known)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()
