"""A host of one dialect for tests: it answers asks from what it is given, and parses what it sends."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from legacy_ws.protocol.dialect import Announce, Answer, Arrival, Ask, Dialect, Session
from monitoring.events import Event, StreamId, uuid7

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def told(stream: str, kind: str, seq: int = 2, at: datetime = NOW, **payload: Any) -> Event:
    """Return an event of a kind."""
    return Event(uuid7(int(at.timestamp() * 1000), seq), StreamId(stream), 1, seq, kind, at, payload)


class Peer:
    """One connection to a dialect: its messages, parsed, and its asks."""

    def __init__(self, dialect: Dialect, now: datetime = NOW) -> None:
        self.dialect = dialect
        self.session: Session = dialect.session()
        self.asks: list[Ask] = []
        self.messages: list[Any] = []
        self._take(self.session.opened(now))

    def send(self, now: datetime = NOW, **message: Any) -> list[Any]:
        """Send a message and return what it is answered at once."""
        return self._take(self.session.received(json.dumps(message), now))

    def _take(self, answers: Iterable[Answer]) -> list[Any]:
        sent = []
        for answer in answers:
            if isinstance(answer, bytes):
                sent.append(json.loads(answer))
            elif isinstance(answer, Announce):
                message = answer.telling(self.session.audience)
                sent += [json.loads(message)] if message else []
            else:
                self.asks.append(answer)
        self.messages += sent
        return sent

    def hears(self, event: Event, *, news: bool = True, at: datetime = NOW) -> Any:
        """Have the dialect take an event and return what this connection is told of it, None for nothing."""
        telling = self.dialect.take(Arrival(event, at), news=news)
        message = telling(self.session.audience) if telling else None
        return json.loads(message) if message else None

    def ticks(self, now: datetime) -> list[Any]:
        """Return what the clock tells this connection."""
        messages = [telling(self.session.audience) for telling in self.dialect.tick(now)]
        return [json.loads(message) for message in messages if message]
