"""What a forwarder and a publisher see of the owner's spool.

``adapters.spool.Spool`` is the one implementation; forwarders (`adapters.postgres_writer`, `adapters.legacy_link`) ask
for no more than this.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from monitoring.cursor import Cursor
from monitoring.events import Draft, Event, Position, StreamId

PathName = Literal["supabase", "legacy"]
"""The two ways an event takes out of the spool."""


class Outbox(Protocol):
    """The owner's log: every event in the order it was written, numbered by one rising *position*."""

    @property
    def owner(self) -> UUID:
        """Who writes; made once and kept in the file."""
        ...

    @property
    def position(self) -> int:
        """The position of the newest event; 0 before the first."""
        ...

    def heads(self) -> Cursor:
        """Return the last event of every stream, acknowledged or not."""
        ...

    def epoch_of(self, stream: StreamId) -> int | None:
        """Return the epoch the stream is written in; None when it was never opened here."""
        ...

    def open_stream(
        self, stream: StreamId, epoch: int, previous: Position | None, at: datetime, *, drained: bool = True
    ) -> Event:
        """Begin an epoch with its ``stream_opened`` event."""
        ...

    def is_open(self, stream: StreamId) -> bool:
        """Tell whether events of the stream are taken."""
        ...

    def drained(self, stream: StreamId) -> bool:
        """Tell whether every enabled path has acknowledged all of a stream's events; never true too early."""
        ...

    def close_stream(self, stream: StreamId) -> None:
        """Refuse further events of a stream until it is opened or resumed: its lease is another's."""
        ...

    def release_stream(self, stream: StreamId) -> None:
        """Refuse further events of a stream, also after a restart, until it is opened or resumed: its lease is let go."""
        ...

    def resume_stream(self, stream: StreamId) -> None:
        """Go on with a closed or released stream in the epoch it has: its lease is ours."""
        ...

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Give each draft its identity and keep it: all of them, or none and an error."""
        ...

    def read(self, after: int, limit: int) -> list[tuple[int, Event]]:
        """Return the next kept events after a position, with their own positions, in order."""
        ...

    def acknowledge(self, path: PathName, position: int) -> None:
        """Note that everything up to a position has arrived at the end of a path."""
        ...

    def acknowledged(self, path: PathName) -> int:
        """Return up to where a path has acknowledged."""
        ...

    async def appended(self, after: int) -> None:
        """Wait until there is an event after the position."""
        ...
