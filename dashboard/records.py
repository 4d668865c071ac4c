"""The port through which pages look things up beyond the feed: history, tables, past comparisons, the rollout.

Everything is read as the hub's viewer, so that whoever may look at the pages sees what a viewer sees and no more. Methods
may block for a moment, and raise ControlError, whose message says what happened and what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

Json = Mapping[str, Any]


class Records(Protocol):
    """What can be looked up."""

    def series(self, stream: str, field: str, start: datetime, end: datetime, points: int) -> Json:
        """Return a number over a range in about so many steps: the document of ``/api/series``."""
        ...

    def fields(self, stream: str) -> Sequence[str]:
        """Return the numbers of a stream that there is history of."""
        ...

    def rows(self, table: str, order: str, limit: int, offset: int) -> Sequence[Json]:
        """Return rows of one of our tables, in the order of ``order`` (PostgREST's: ``column.desc``)."""
        ...

    def event(self, stream: str, epoch: int, seq: int) -> Json | None:
        """Return an event as the feed has it; None where it is not kept any more."""
        ...

    def projects(self) -> Sequence[tuple[str, Sequence[str]]]:
        """Return the projects that are not archived, by name, each with its devices and applications."""
        ...

    def rollout(self) -> Json:
        """Return the rollout's ``state``, what its ``controller`` says (None when none runs), and ``steps`` by cohort."""
        ...

    def decisions(self, most: int) -> Sequence[Json]:
        """Return the newest entries of the rollout's journal, newest first."""
        ...

    def capacity(self) -> Json | None:
        """Return what the present load needs of the plan; None when nothing runs to measure."""
        ...

    def rules(self) -> Json:
        """Return the rules of alerts in force, with their ``file`` and what is wrong with it (``problem``)."""
        ...

    def agents(self) -> Sequence[Json]:
        """Return the agents, by name, with what each may run: those of ``/api/agents``."""
        ...

    def commands(self, most: int) -> Sequence[Json]:
        """Return the newest commands, newest first, without their output: those of ``/api/commands``."""
        ...

    def command(self, id_: str) -> Json:
        """Return one command with the end of its output."""
        ...

    def runs(self, most: int) -> Sequence[tuple[str, Json]]:
        """Return the newest comparisons that were kept, by name, newest first."""
        ...

    def run_page(self, name: str) -> str:
        """Return the report of a comparison as one HTML file."""
        ...
