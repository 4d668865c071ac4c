"""What the clients' reports have added since the controller last looked: figures that only rise, made into differences. Pure.

A client that reports for the first time counts from there on, and one whose figures went down has begun anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from monitoring.rollout.state import Rollout
from monitoring.service import Backend

FIGURES = ("blocks", "disturbed", "events", "findings", "errors")


@dataclass(slots=True)
class Growth:
    """What the clients of one cohort have added on the new path, and where they are now."""

    blocks: int = 0
    disturbed: int = 0
    events: int = 0
    findings: int = 0
    errors: int = 0
    clients: int = 0
    on_supabase: int = 0
    astray: int = 0
    contributing: set[str] = field(default_factory=set)
    note: str = ""


class Ledger:
    """Remembers each client's figures from one look to the next."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str, str], tuple[int, ...]] = {}

    def grown(
        self,
        reports: Mapping[str, Mapping[str, Any]],
        cohort_of: Callable[[str], str],
        wanted: Callable[[str], Backend],
    ) -> Mapping[str, Growth]:
        """Return each cohort's growth since the last call; ``wanted`` is where the effective flags want a client."""
        found: dict[str, Growth] = {}
        last: dict[tuple[str, str, str], tuple[int, ...]] = {}
        for source, clients in reports.items():
            for client, said in clients.items():
                growth = found.setdefault(cohort_of(client), Growth())
                backend = said.get("backend")
                if backend is None:
                    continue  # not served yet
                growth.clients += 1
                growth.on_supabase += backend == Backend.SUPABASE
                growth.astray += backend != wanted(client)
                for path in ("live", "shadowed"):
                    figures = _figures(said.get(path))
                    key = (source, client, path)
                    last[key] = figures
                    self._add(growth, client, key, figures)
                growth.note = said.get("note") or growth.note
        self._last = last
        return found

    def _add(self, growth: Growth, client: str, key: tuple[str, str, str], figures: tuple[int, ...]) -> None:
        before = self._last.get(key)
        if before is None:
            return
        added = [now - then for now, then in zip(figures, before, strict=True)]
        if min(added) < 0 or not any(added):
            return
        growth.contributing.add(client)
        for name, number in zip(FIGURES, added, strict=True):
            setattr(growth, name, getattr(growth, name) + number)


def _figures(said: object) -> tuple[int, ...]:
    """Read one path's figures; zeros for what is of another version."""
    if not isinstance(said, Mapping):
        return (0,) * len(FIGURES)
    return tuple(number if isinstance(number := said.get(name), int) else 0 for name in FIGURES)


def resumed(journal: Rollout, checkpoint: Rollout) -> Rollout:
    """Return the journal's state with the dwell that a checkpoint of the same positions has seen since."""
    cohorts = {}
    for name, position in journal.cohorts.items():
        kept = checkpoint.cohorts.get(name)
        same = kept is not None and (kept.extent, kept.number, kept.rehearsal, kept.extended, kept.latch) == (
            position.extent,
            position.number,
            position.rehearsal,
            position.extended,
            position.latch,
        )
        if same and kept is not None and kept.dwelt > position.dwelt:
            cohorts[name] = replace(position, dwelt=kept.dwelt)
    return replace(journal, cohorts={**journal.cohorts, **cohorts})
