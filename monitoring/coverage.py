"""Whether a backend knows yet what a client has: one that is behind is no place to move a client to."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from monitoring.events import BEGINNING, Position, StreamId
from monitoring.topics import Topic, selects

PATIENCE_SECONDS = 10.0
"""A backend that is behind for longer counts as all there is: the owner that was ahead on the other path may be gone."""


class Coverage:
    """What a client has and its backend has not shown yet. Times are rising numbers of seconds."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._behind: dict[StreamId, Position] = {}
        self._since = 0.0

    def begin(
        self,
        ours: Mapping[StreamId, Position],
        heads: Mapping[StreamId, Position],
        topics: Collection[Topic],
        now: float,
    ) -> None:
        """Compare what the client has of the topics with the backend's heads."""
        self._since = now
        self._behind = {
            stream: position
            for stream, position in ours.items()
            if position > heads.get(stream, BEGINNING) and selects(topics, stream)
        }

    def shown(self, stream: StreamId, position: Position) -> None:
        """Note that the backend knows of a position."""
        if self._behind and position >= self._behind.get(stream, position):
            self._behind.pop(stream, None)

    def complete(self, now: float) -> bool:
        """Tell whether the backend knows all that the client had, or was waited for long enough."""
        if self._behind and now - self._since >= self._patience_seconds:
            self._behind.clear()
        return not self._behind

    @property
    def behind(self) -> Collection[StreamId]:
        """The streams in which the backend is behind the client."""
        return self._behind.keys()
