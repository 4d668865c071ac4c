"""What one subscription makes of a server without ids: pure, no sockets.

Every event is delivered as it comes, in epoch 0. A connection that broke is made good from the server's memory, where
it has one and it reaches back far enough; else a Gap of unknown extent is told for every stream that is known.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final
from uuid import UUID

from adapters.legacy_dialect import Misbehaved
from legacy_ws.protocol.foreign import Complaint, ForeignDialect, Memory, Observation, Reply
from monitoring.cursor import Cursor
from monitoring.events import UNIDENTIFIED_EPOCH, Event, StreamId, uuid7
from monitoring.fingerprint import Fingerprint, Observed, fingerprint
from monitoring.recall import recall
from monitoring.service import Gap, Item
from monitoring.topics import Selection, Topic

TAIL: Final = 512
"""The last events that are compared with a server's memory."""
_EARLY: Final = 1_000
"""Events that may come before the greeting."""
_BEGINS_NOW: Final = "the server has no ids: what happened since then is not known"
_AWAY: Final = "the connection was lost, and the server does not remember far enough back"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ForeignFeed:
    """The state of one subscription, over as many connections as it takes.

    Call ``connected`` for each of them and ``receive`` for each message; deliver what they return. It begins now: of
    the streams in ``since`` it can only say that it does not know what they missed. With ``had``, the last events that
    the client was given, oldest first, it goes on from those as after a cut.
    """

    def __init__(
        self,
        dialect: ForeignDialect,
        topics: Collection[Topic],
        since: Cursor | None,
        had: Sequence[Observed] = (),
    ) -> None:
        self._dialect = dialect
        self._selection = Selection(topics)
        self._since = since or Cursor()
        self._counts: dict[StreamId, int] = {}
        # Of every stream: the memory is of all of them.
        self._tail = deque((fingerprint(each, dialect.likeness) for each in had[-TAIL:]), maxlen=TAIL)
        self._streams = {each.stream for each in had}
        self._continues = bool(had)  # what the greeting tells of the time before may have been missed
        self._greeted = False
        self._early: list[Observation] = []
        self._remembered: Counter[Fingerprint] = Counter()
        self.counters: Counter[str] = Counter()
        """``duplicates_dropped``: told by the server's memory already; ``recovered``: missed, and found in it."""
        self.complaints: str = ""
        """What the server last complained of."""
        self.replies: list[bytes] = []
        """What the caller is to send, and to clear, after each message."""

    @property
    def live(self) -> bool:
        """Whether whatever happens now will come."""
        return self._greeted

    def connected(self) -> list[Item]:
        """Begin a connection; return what can be delivered now."""
        self._greeted = False
        self.replies.clear()
        self._early.clear()
        self._remembered.clear()
        return [] if self._dialect.greets else self._begin(Memory())

    def disconnected(self) -> None:
        """End the connection."""
        self._continues |= self._greeted
        self._greeted = False

    def receive(self, frame: str | bytes) -> list[Item]:
        """Take a message; return what can be delivered now. Raises MalformedMessage, Misbehaved."""
        items: list[Item] = []
        for said in self._dialect.decode(frame):
            match said:
                case Observation() if self._greeted:
                    items += self._news(said)
                case Observation():
                    if len(self._early) >= _EARLY:
                        raise Misbehaved(f"{_EARLY} events came, and no greeting")
                    self._early.append(said)
                case Memory() if not self._greeted:
                    items += self._begin(said)
                case Memory():
                    pass  # an answer to somebody's request for figures: no news
                case Complaint(reason):
                    self.complaints = reason
                case Reply(answer):
                    self.replies.append(answer)
        return items

    def _begin(self, memory: Memory) -> list[Item]:
        """Take the greeting: what was missed, what is not known, and what came before it."""
        self._greeted = True
        marks = [fingerprint(each, self._dialect.likeness) for each in memory.recent]
        items: list[Item] = []
        if not self._continues:
            self._tail.extend(marks)
            self._streams.update(each.stream for each in memory.recent)
            items += [
                Gap(name, at.epoch, at.seq + 1, None, _BEGINS_NOW)
                for name, at in self._since.items()
                if name in self._selection
            ]
        else:
            recalled = recall(tuple(self._tail), marks)
            if not (recalled.complete and self._timed):
                items += self._unknown()
            for index in recalled.news:
                self.counters["recovered"] += 1
                items += self._deliver(memory.recent[index], marks[index])
        if self._timed:
            self._remembered.update(marks)
        early, self._early = self._early, []
        for each in early:
            items += self._news(each)
        return items

    @property
    def _timed(self) -> bool:
        """Whether equal events can be told apart by their time: then a memory that follows on proves something."""
        return self._dialect.likeness.resolution is not None

    def _unknown(self) -> Iterable[Gap]:
        for stream in sorted(self._streams):
            if stream in self._selection:
                yield Gap(stream, UNIDENTIFIED_EPOCH, self._counts.get(stream, 0) + 1, None, _AWAY)

    def _news(self, seen: Observation) -> Iterable[Item]:
        mark = fingerprint(seen, self._dialect.likeness)
        if not self._remembered[mark]:
            return self._deliver(seen, mark)
        self._remembered[mark] -= 1  # broadcast while the greeting was being made
        if not self._continues:  # of the first greeting nothing was delivered
            return self._deliver(seen, None)
        self.counters["duplicates_dropped"] += 1
        return []

    def _deliver(self, seen: Observation, mark: Fingerprint | None) -> Iterable[Item]:
        """Deliver an event; without a mark it is the tail's already."""
        if mark is not None:
            self._tail.append(mark)
        self._streams.add(seen.stream)
        if seen.stream not in self._selection:
            return []
        seq = self._counts[seen.stream] = self._counts.get(seen.stream, 0) + 1
        return [nameless(seen, mark or fingerprint(seen, self._dialect.likeness), seq)]


def nameless(seen: Observation, mark: Fingerprint, seq: int) -> Event:
    """Return an observation as an event without identity; its id follows from the server's own, or its fingerprint."""
    digest = mark if seen.id is None else blake2b(seen.id.encode(), digest_size=16).digest()
    return Event(
        id=_uuid(seen.occurred_at, digest),
        stream=seen.stream,
        epoch=UNIDENTIFIED_EPOCH,
        seq=seq,
        kind=seen.kind,
        occurred_at=seen.occurred_at,
        payload=seen.payload,
    )


def _uuid(at: datetime, digest: bytes) -> UUID:
    milliseconds = max(0, int((at - _EPOCH).total_seconds() * 1000))
    return uuid7(milliseconds, int.from_bytes(digest) >> (8 * len(digest) - 74))
