"""Where our server answers other than the recordings on purpose. `docs/embedded-supabase.md` mirrors this table.

A difference explains frames: those of the recording that do not come (`instead_of`) and those that come in their
place (`ours`). Both are regular expressions, searched in the normal form of `compare`. What no entry explains fails
the scenario, and so does an entry that explains nothing: the table cannot go stale.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.conformance.compare import Difference


@dataclass(frozen=True, slots=True)
class Chosen:
    """A difference we chose in one scenario, and why."""

    scenario: str
    reason: str
    connection: str = ".*"
    instead_of: str | None = None
    ours: str | None = None

    def explains(self, difference: Difference) -> bool:
        """Say whether this is the reason of a difference."""
        pattern = self.instead_of if difference.expected else self.ours
        return (
            pattern is not None
            and re.fullmatch(self.connection, difference.connection) is not None
            and re.search(pattern, difference.key) is not None
        )


CHOSEN: Final[tuple[Chosen, ...]] = ()

NOT_REPLAYED: Final[Mapping[str, str]] = {}
"""Scenarios that cannot be replayed, and why."""


def unexplained(scenario: str, found: Iterable[Difference]) -> tuple[list[Difference], list[Chosen]]:
    """Return the differences that nothing explains, and the entries of the scenario that explain nothing."""
    entries = [entry for entry in CHOSEN if entry.scenario == scenario]
    idle = dict.fromkeys(range(len(entries)))
    left: list[Difference] = []
    for difference in found:
        reasons = [index for index, entry in enumerate(entries) if entry.explains(difference)]
        for index in reasons:
            idle.pop(index, None)
        if not reasons:
            left.append(difference)
    return left, [entries[index] for index in idle]
