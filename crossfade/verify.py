"""The check behind ``crossfade watch --verify``: was every event of every stream delivered once, in order? Pure.

Another's server numbers nothing, so of its events that cannot be said; they are counted, and the outcome tells it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from monitoring.events import Event
from monitoring.service import Gap

if TYPE_CHECKING:
    from monitoring.events import Position, StreamId
    from monitoring.service import Item

_KEPT = 20
"""Findings that are kept in words; all are counted."""


@dataclass(slots=True)
class DeliveryCheck:
    """Takes items in the order in which they were delivered. A stream counts from its first event on."""

    events: int = 0
    faults: int = 0
    unidentified: int = 0
    findings: list[str] = field(default_factory=list)
    _last: dict[StreamId, Position] = field(default_factory=dict)
    _seen: set[StreamId] = field(default_factory=set)
    _interrupted: set[StreamId] = field(default_factory=set)
    """Streams of which events without identity came since their last position."""

    @property
    def streams(self) -> int:
        """How many streams had events."""
        return len(self._seen)

    def take(self, item: Item) -> None:
        """Take the next item."""
        if isinstance(item, Gap):
            upto = "?" if item.to_seq is None else item.to_seq
            self._found(
                f"{item.stream} epoch {item.epoch}: gap from {item.from_seq} to {upto}, {item.reason}"
            )
        elif isinstance(item, Event):
            self._event(item)

    def _event(self, event: Event) -> None:
        self.events += 1
        self._seen.add(event.stream)
        if not event.identified:
            self.unidentified += 1
            self._interrupted.add(event.stream)
            return
        last = self._last.get(event.stream)
        here = f"{event.stream} epoch {event.epoch} seq {event.seq}"
        if last is not None and event.position <= last:
            self._found(f"{here}: double or out of order, after epoch {last.epoch} seq {last.seq}")
            return
        self._last[event.stream] = event.position
        interrupted = event.stream in self._interrupted
        self._interrupted.discard(event.stream)
        if last is None or interrupted:
            return
        follows = event.seq == last.seq + 1 if event.epoch == last.epoch else event.previous == last
        if not follows:
            self._found(f"{here}: hole after epoch {last.epoch} seq {last.seq}")

    def _found(self, finding: str) -> None:
        self.faults += 1
        if len(self.findings) < _KEPT:
            self.findings.append(finding)

    def summary(self) -> str:
        """Return the outcome as one line."""
        what = f"{self.events} events of {self.streams} streams"
        found = f"{self.faults} faults" if self.faults else "no hole, no double"
        if not self.unidentified:
            return f"{what}: {found}"
        unknown = (
            f"{self.unidentified} of a server that numbers nothing, of which holes and doubles are not known"
        )
        known = self.faults or self.unidentified < self.events
        return f"{what}: {found}, but {unknown}" if known else f"{what}: {unknown}"
