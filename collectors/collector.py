"""What a collector is. `schedule` says how often it is asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, runtime_checkable

from monitoring.device_status import Outcome
from monitoring.events import Draft, StreamId

Publish = Callable[[Sequence[Draft]], None]
"""Takes what was observed. Never raises and never waits: what cannot be kept is counted where it is refused."""


class CollectorError(Exception):
    """Base of what collectors raise: the source could not be read; the message says why and what to do."""

    outcome: Outcome = Outcome.PARTIAL
    """What that says of the device: PARTIAL (it is there), REFUSED (it will not have us), SILENT (nobody answers)."""
    drafts: Sequence[Draft] = ()
    """What is to be told all the same."""


class Collector(Protocol):
    """One source of events."""

    @property
    def name(self) -> str:
        """What people call it; no other collector of the process has it."""
        ...

    @property
    def streams(self) -> Collection[StreamId]:
        """The streams it writes."""
        ...

    async def collect(self) -> Sequence[Draft]:
        """Take one reading; an empty answer means that there is nothing to tell.

        Raises CollectorError or OSError; may be cancelled at its deadline.
        """
        ...

    async def close(self) -> Sequence[Draft]:
        """Let go of the source; return what is to be told about that. Safe to call twice."""
        ...


@runtime_checkable
class Restless(Protocol):
    """A source at which one can glance between two readings, for next to nothing."""

    def stirred(self) -> bool:
        """Tell whether it has changed so much since the last reading that it should be read before its time.

        Never raises, and never waits.
        """
        ...


class Watcher(Protocol):
    """A source that also tells changes by itself, at once."""

    async def watch(self, publish: Publish) -> None:
        """Publish changes as they happen; never ends by itself."""
        ...
