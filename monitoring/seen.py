"""What one subscription of a client was handed, as counts and digests per stream, so that others can check it. Pure.

Counts and digests only grow. The digest of a stream is the sum of its events' digests: two reports of it, subtracted,
are the digest of what came between, whichever reports were missed. Whoever knows what was published between the same
two positions (`validation.clients`) can tell whether this was all of it, once, and unchanged; in order it was if no
event stood before one that had come already (``backwards``).

A report is made every ten seconds and not at every event, so that what it says of all streams is of one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from struct import Struct
from typing import Any

from monitoring.events import BEGINNING, Event, Position, StreamId
from monitoring.fingerprint import canonical_json
from monitoring.newest import OfNewest
from monitoring.service import Gap, Item
from monitoring.topics import Topic

MASK = (1 << 64) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT = Struct(">qI16s")
MAX_STREAMS = 2_000
"""Of more streams nothing is reported, but that there are more."""
_REMEMBERED = 512

Digest = Callable[[Event], int]


def digest_of(event: Event) -> int:
    """Return 64 bits of all that an event says and of its place; the order of keys does not count, nor 12 for 12.0."""
    # Made for every event of every client: bytes cost a third of what text does.
    since = event.occurred_at - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    moment = _MOMENT.pack(seconds, since.microseconds, event.id.bytes)
    place = "\0".join((event.stream, event.kind, str(event.epoch), str(event.seq), "")).encode()
    made = blake2b(b"".join((place, moment, canonical_json(event.payload))), digest_size=8)
    return int.from_bytes(made.digest())


def shared_digests() -> Digest:
    """Return ``digest_of`` for a process whose clients are handed the same objects: of the newest it is made once."""
    return OfNewest(digest_of, _REMEMBERED)


class _Stream:
    __slots__ = ("backwards", "count", "digest", "epoch", "seq", "told")

    def __init__(self, position: Position) -> None:
        self.epoch, self.seq = position
        self.count = self.digest = self.backwards = self.told = 0


class Seen:
    """The account of one subscription, from its cursor on."""

    def __init__(
        self, topics: Collection[Topic], start: Mapping[StreamId, Position], digest: Digest = digest_of
    ) -> None:
        self._topics = sorted(map(str, topics))
        self._digest = digest
        self._streams = {stream: _Stream(at) for stream, at in list(start.items())[:MAX_STREAMS]}
        self._more = len(start) > MAX_STREAMS
        self._unidentified = False
        self._block = 0
        self._report: dict[str, Any] = {}
        self.close_block()

    def took(self, item: Item) -> None:
        """Take note of what the client was handed."""
        if not isinstance(item, Event | Gap):
            return
        if item.epoch == 0:  # a server without ids: nobody else knows these positions
            self._unidentified = True
            return
        of = self._streams.get(item.stream)
        if of is None:
            if len(self._streams) >= MAX_STREAMS:
                self._more = True
                return
            of = self._streams[item.stream] = _Stream(BEGINNING)
        if isinstance(item, Gap):
            last = item.from_seq if item.to_seq is None else item.to_seq
            of.told += last - item.from_seq + 1
            of.epoch, of.seq = max((of.epoch, of.seq), (item.epoch, last))
            return
        if (item.epoch, item.seq) > (of.epoch, of.seq):
            of.epoch, of.seq = item.epoch, item.seq
        else:
            of.backwards += 1
        of.count += 1
        of.digest = of.digest + self._digest(item) & MASK

    def close_block(self) -> None:
        """Make a new report of where everything stands now."""
        self._block += 1
        self._report = {
            "topics": self._topics,
            "block": self._block,
            "more": self._more,
            "unidentified": self._unidentified,
            "streams": {
                stream: [of.epoch, of.seq, of.count, of.digest, of.backwards, of.told]
                for stream, of in self._streams.items()
            },
        }

    def to_json(self) -> dict[str, Any]:
        """Return the newest report: ``streams`` has [epoch, seq, count, digest, backwards, told missing] of each."""
        return self._report
