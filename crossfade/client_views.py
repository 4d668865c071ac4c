"""What the clients of an installation report of what they saw, for the comparison: each with its cohort."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.client_reports import read_seen
from monitoring.flags.evaluation import compiled
from validation.clients import Report

if TYPE_CHECKING:
    from monitoring.flags.model import Flags


def client_views(directory: Path, flags: Callable[[], Flags]) -> Callable[[], Iterable[Report]]:
    """Return what reads the newest reports; ``flags`` returns those in force."""

    def read() -> Iterable[Report]:
        cohort_of = compiled(flags())
        return [
            Report(f"{source}#{number}", client, cohort_of(client).cohort, said)
            for source, clients in read_seen(directory).items()
            for client, subscriptions in clients.items()
            if isinstance(subscriptions, dict)
            for number, said in subscriptions.items()
        ]

    return read
