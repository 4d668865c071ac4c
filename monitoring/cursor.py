"""Cursors: what exactly a client has, whichever backend it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from monitoring.errors import InvalidCursor
from monitoring.events import BEGINNING, Position, StreamId


class Cursor(Mapping[StreamId, Position]):
    """An immutable map from stream to the last delivered position. A stream that is absent is unknown to the client.

    ``back_seconds`` is how far back the client wants the streams that are absent; None where it wants all there is of
    them. It is no part of what the client has: it is not compared, and does not travel.
    """

    __slots__ = ("_positions", "back_seconds")

    def __init__(
        self, positions: Mapping[StreamId, Position] | None = None, *, back_seconds: float | None = None
    ) -> None:
        self._positions = dict(positions or {})
        self.back_seconds = back_seconds

    def __getitem__(self, stream: StreamId) -> Position:
        return self._positions[stream]

    def __iter__(self) -> Iterator[StreamId]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __repr__(self) -> str:
        return f"Cursor({self._positions!r})"

    def __hash__(self) -> int:
        return hash(frozenset(self._positions.items()))

    def covers(self, other: Mapping[StreamId, Position]) -> bool:
        """Tell whether this cursor is at or past the other in every stream that the other names."""
        return all(self._positions.get(stream, BEGINNING) >= position for stream, position in other.items())

    def merged(self, other: Mapping[StreamId, Position]) -> Cursor:
        """Return the later position of each stream of both."""
        merged = dict(self._positions)
        for stream, position in other.items():
            merged[stream] = max(merged.get(stream, BEGINNING), position)
        return Cursor(merged)

    def to_json(self) -> dict[str, list[int]]:
        """Return ``{stream: [epoch, seq]}``."""
        return {stream: [position.epoch, position.seq] for stream, position in self._positions.items()}

    @classmethod
    def from_json(cls, value: object) -> Cursor:
        """Read ``{stream: [epoch, seq]}``; raises InvalidCursor."""
        if not isinstance(value, Mapping):
            raise InvalidCursor(f"a cursor is an object of stream: [epoch, seq], got {type(value).__name__}")
        return cls({StreamId(str(stream)): _position(stream, pair) for stream, pair in value.items()})


def _position(stream: Any, pair: Any) -> Position:
    match pair:
        case [int(epoch), int(seq)] if epoch >= 0 and seq >= 0 and bool not in {type(epoch), type(seq)}:
            return Position(epoch, seq)
        case _:
            raise InvalidCursor(f"position of stream {stream!r} must be [epoch, seq], got {pair!r}")
