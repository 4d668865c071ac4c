"""A finding of a comparison, field by field: what the spool has, and what each side delivered. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dashboard.comparison import Sample

_DIFFERENCE = re.compile(
    r"(?P<side>legacy|supabase) (?P<path>\S+): (?P<of>expected|legacy has) (?P<expected>.*?), got (?P<actual>.*)\Z",
    re.DOTALL,
)
"""How `validation` writes the first field that differs on a side."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field on one side: its path, what it was compared with, and what was delivered, as JSON text.

    ``of`` is "expected" for what was published, or "legacy has" where that was not known any more.
    """

    side: str
    path: str
    of: str
    expected: str
    actual: str


def differences(sample: Sample) -> tuple[list[Difference], list[str]]:
    """Return the fields that differ, and what else was said of a finding."""
    found: list[Difference] = []
    others: list[str] = []
    for detail in sample.details:
        match = _DIFFERENCE.match(detail)
        if match is None:
            others.append(detail)
        else:
            found.append(Difference(**match.groupdict()))
    return found, others


def fields(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of an event as (path, JSON text), in the comparison's way of writing paths."""
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from fields(each, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value:
        for place, each in enumerate(value):
            yield from fields(each, f"{path}[{place}]")
    else:
        yield path, json.dumps(value, ensure_ascii=False)


def side_by_side(event: Mapping[str, Any] | None, sample: Sample) -> list[tuple[str, str, str, str]]:
    """Return rows of (field, published, on legacy, on Supabase), those that differ first.

    A side's value is the published one where the comparison names no difference; ``event`` is None where it is not kept.
    """
    found, _ = differences(sample)
    different: dict[str, dict[str, Difference]] = {}
    for each in found:
        different.setdefault(each.path, {})[each.side] = each
    rows = []
    for path, sides in different.items():
        first = next(iter(sides.values()))
        legacy = sides["legacy"].actual if "legacy" in sides else ""
        rows.append(
            (
                path,
                first.expected if first.of == "expected" else "",
                first.expected if first.of != "expected" else legacy,
                sides["supabase"].actual if "supabase" in sides else "",
            )
        )
    rows += [(path, value, "", "") for path, value in fields(event or {}) if path and path not in different]
    return rows
