"""What clients saw, compared with what was published: each client's counts and digests, stream by stream. Pure.

A client reports every ten seconds what each of its subscriptions has been handed so far (`monitoring.seen`). Two such
reports, subtracted, are a *block*: of so many events, with such a digest, between two positions of each stream. What was
published between the same positions is known here (`validation.published`), so that no clocks need to agree and no
report is waited for. A client whose newest position stays behind what was published long ago is *behind*: that is how
streams show that it may not see at all.

A block that differs in anything is disturbed: for each cohort of clients, and each class in which it differs, blocks are
counted as evidence, as those of the taps are (`validation.statistics`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from monitoring.errors import InvalidTopic
from monitoring.events import Event, Position, StreamId
from monitoring.seen import MASK, Digest, shared_digests
from monitoring.topics import Selection, parse_topics
from validation.published import KEEP_SECONDS, Published
from validation.statistics import DEFAULT, Block, Evidence, Standard

MAX_CLIENTS = 2_000
"""Subscriptions that are compared at a time; of more it is said that they are not."""
MAX_SAMPLES = 20
_MAX_COHORTS = 100
_RECENT = 10_000
ANY = "any"
"""The evidence of all classes together."""
OTHERS = "(others)"
EVERYBODY = "everybody"
"""The cohort of clients that are in none."""
_PREFIX = "clients/"
_ON_THE_WAY_SECONDS = 10.0
"""How old a report may be that is read here, from another machine."""


class Fault(StrEnum):
    """How what a client saw differs from what was published."""

    MISSING = "missing"
    REPEATED = "repeated"
    CHANGED = "changed"
    REORDERED = "reordered"
    BEHIND = "behind"
    EXTRA = "extra"


FAULTS = {
    Fault.MISSING: "the client was handed fewer events than were published, or was told of a gap",
    Fault.REPEATED: "it was handed more",
    Fault.CHANGED: "as many, but they say something else",
    Fault.REORDERED: "an event came after a later one of its stream",
    Fault.BEHIND: "what was published long ago has not come yet",
    Fault.EXTRA: "it has positions that were never published",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What one subscription of a client says; ``source`` tells those of equal names apart."""

    source: str
    client: str
    cohort: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One stream of one client's block that differs."""

    client: str
    cohort: str
    stream: StreamId
    fault: Fault
    events: int
    words: str


@dataclass(frozen=True, slots=True)
class ClientsResult:
    """What clients saw, in figures. ``cohorts`` has the evidence of each cohort by class of faults, and of any."""

    clients: int = 0
    blocks: int = 0
    agree: int = 0
    differ: int = 0
    events: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)
    """Blocks that differ, by class; one may be in several."""
    samples: tuple[Difference, ...] = ()
    cohorts: Mapping[str, Mapping[str, Evidence]] = field(default_factory=dict)
    not_compared: tuple[str, ...] = ()

    @property
    def finding(self) -> str | None:
        """One sentence when anything differs."""
        if not self.differ:
            return None
        told = ", ".join(f"{count} {fault}" for fault, count in self.faults.items())
        return f"what clients saw differs from what was published in {self.differ} of {self.blocks} blocks ({told})"


class _Row:
    """One stream of a report."""

    __slots__ = ("backwards", "count", "digest", "position", "told")

    def __init__(self, said: object) -> None:
        match said:
            case [int(epoch), int(seq), int(count), int(digest), int(backwards), int(told)]:
                self.position = Position(epoch, seq)
                self.count, self.digest, self.backwards, self.told = count, digest, backwards, told
            case _:
                raise ValueError(f"not a stream's figures: {said!r}")


class _Subscription:
    def __init__(self, at: float) -> None:
        self.first_seen = at
        self.block = 0
        self.rows: dict[StreamId, _Row] = {}
        self.ahead: dict[StreamId, float] = {}


@dataclass(slots=True)
class _Tally:
    events: int = 0
    found: list[Difference] = field(default_factory=list)


class Clients:
    """Compares what clients report with what was published. Feed it both; times are of one monotonic clock."""

    def __init__(
        self,
        start: Mapping[StreamId, Position],
        *,
        topics: Iterable[str] = (),
        standard: Standard = DEFAULT,
        by_contents: bool = True,
        block_seconds: float = 10.0,
        cap_seconds: float = 15.0,
        evidence: Mapping[str, Evidence] | None = None,
        digest: Digest | None = None,
    ) -> None:
        """``by_contents`` is False where rules let fields differ: digests know no fields, so only counts are compared.

        ``block_seconds`` is how often clients report, ``cap_seconds`` how long a side may take at most.
        """
        self._published = Published(start, keep_seconds=max(KEEP_SECONDS, 4 * block_seconds))
        self._selection = Selection(parse_topics(topics))
        self._standard = standard
        self._by_contents = by_contents
        self._behind_seconds = cap_seconds + block_seconds + _ON_THE_WAY_SECONDS
        self._digest = digest or shared_digests()
        self._open: dict[tuple[str, str], _Subscription] = {}
        self._names: set[str] = set()
        self._blocks = self._differ = self._events = 0
        self._faults: Counter[str] = Counter()
        self._samples: deque[Difference] = deque(maxlen=MAX_SAMPLES)
        self._recent: deque[tuple[float, bool, frozenset[Fault], int]] = deque(maxlen=_RECENT)
        self._evidence: dict[str, dict[str, Evidence]] = {}
        for name, each in (evidence or {}).items():
            if name.startswith(_PREFIX):
                cohort, _, fault = name.removeprefix(_PREFIX).rpartition("/")
                self._evidence.setdefault(cohort, {})[fault] = each
        self._left_out = self._unreadable = self._unidentified = self._lost_track = 0

    def publish(self, event: Event, at: float) -> None:
        """Take an event from the truth."""
        self._published.add(event, self._digest(event), at)

    def publish_upto(self, heads: Mapping[StreamId, Position], at: float) -> None:
        """Take note of how far the truth is, whether or not its events could be read."""
        for stream, head in heads.items():
            self._published.add_upto(stream, head, at)
        self._published.forget(at)

    def report(self, reports: Iterable[Report], at: float) -> None:
        """Take what all clients that live say now; whoever is not among them has gone."""
        kept: dict[tuple[str, str], _Subscription] = {}
        self._left_out = self._unidentified = 0
        for said in reports:
            key = (said.source, said.client)
            if len(kept) >= MAX_CLIENTS:
                self._left_out += 1
                continue
            if len(self._names) < MAX_CLIENTS:
                self._names.add(said.client)
            subscription = self._open.get(key)
            try:
                kept[key] = self._look(said, subscription, at)
            except (KeyError, TypeError, ValueError, AttributeError, InvalidTopic):
                self._unreadable += 1  # of another version, or somebody's invention
        self._open = kept

    def result(self) -> ClientsResult:
        """Return what has been found since the beginning."""
        return ClientsResult(
            clients=len(self._names),
            blocks=self._blocks,
            agree=self._blocks - self._differ,
            differ=self._differ,
            events=self._events,
            faults=dict(self._faults),
            samples=tuple(self._samples),
            cohorts={name: dict(each) for name, each in self._evidence.items()},
            not_compared=tuple(self._not_compared()),
        )

    def recent(self, since: float) -> ClientsResult:
        """Return the same with the counts of the last time alone; evidence and samples are since the beginning."""
        whole = self.result()
        blocks = [each for each in self._recent if each[0] >= since]
        differ = sum(differs for _, differs, _, _ in blocks)
        faults = Counter(str(fault) for _, _, found, _ in blocks for fault in found)
        return ClientsResult(
            clients=len({client for _, client in self._open}),
            blocks=len(blocks),
            agree=len(blocks) - differ,
            differ=differ,
            events=sum(events for _, _, _, events in blocks),
            faults=dict(faults),
            samples=whole.samples,
            cohorts=whole.cohorts,
            not_compared=whole.not_compared,
        )

    @property
    def evidence(self) -> Mapping[str, Evidence]:
        """All evidence under names that ``__init__`` reads."""
        return {
            f"{_PREFIX}{cohort}/{fault}": each
            for cohort, of in self._evidence.items()
            for fault, each in of.items()
        }

    def _not_compared(self) -> Iterable[str]:
        if not self._names:
            yield "what clients saw: none reported"
        if self._left_out:
            yield f"{self._left_out} subscriptions of clients: too many report"
        if self._unidentified:
            yield f"{self._unidentified} subscriptions served by a server without ids: nobody else knows its positions"
        if self._unreadable:
            yield f"{self._unreadable} reports of clients that cannot be read: they may be of another version"
        if self._lost_track:
            each = "stretch" if self._lost_track == 1 else "stretches"
            yield f"{self._lost_track} {each} of clients' streams from before what is still known here"
        if self._names and not self._by_contents:
            yield "the contents that clients saw: rules let fields differ, and a digest knows no fields"

    def _look(self, said: Report, subscription: _Subscription | None, at: float) -> _Subscription:
        body = said.body
        block = int(body["block"])
        rows = {
            StreamId(stream): _Row(each)
            for stream, each in body["streams"].items()
            if stream in self._selection
        }
        if body["unidentified"]:
            self._unidentified += 1
        topics = Selection(parse_topics(body["topics"]))
        whole = not body["more"] and not body["unidentified"]
        if subscription is None or block < subscription.block:
            subscription = _Subscription(at)
            subscription.rows = rows
        elif block > subscription.block:
            tally = _Tally()
            for stream, row in rows.items():
                self._compare(said, subscription, stream, row, at, tally)
            if whole:
                self._find_behind(said, subscription, topics, at, tally)
            self._close(said.cohort or EVERYBODY, tally, at)
        subscription.block = block
        return subscription

    def _compare(
        self, said: Report, known: _Subscription, stream: StreamId, row: _Row, at: float, tally: _Tally
    ) -> None:
        published = self._published
        if stream not in published.streams:
            return  # another owner's
        now = published.place(stream, row.position)
        if row.position > published.head(stream):
            # The truth is read a moment after the event was delivered; what stays ahead of it was never published.
            since = known.ahead.setdefault(stream, at)
            if at - since >= self._behind_seconds:
                tally.found.append(_difference(said, stream, Fault.EXTRA, 1, f"is at {row.position}"))
            return
        known.ahead.pop(stream, None)
        before = known.rows.get(stream)
        known.rows[stream] = row
        if before is None:
            if not published.began_within(stream):
                return  # how far back it was delivered from is not known
            before = _Row([0, 0, 0, 0, 0, 0])
        then = published.place(stream, before.position)
        if now is None or then is None or row.count < before.count:
            self._lost_track += row.position != before.position
            return
        expected = now.count - then.count
        tally.events += max(expected, row.count - before.count)
        readable = self._by_contents and now.unread == then.unread
        found = _fault(row, before, expected, now.digest - then.digest & MASK if readable else None)
        if found is not None:
            tally.found.append(_difference(said, stream, *found))

    def _find_behind(
        self, said: Report, known: _Subscription, topics: Selection, at: float, tally: _Tally
    ) -> None:
        published, long_ago = self._published, at - self._behind_seconds
        if known.first_seen > long_ago:
            return
        for stream in published.streams:
            if stream not in topics or stream not in self._selection:
                continue
            row = known.rows.get(stream)
            position = row.position if row is not None else published.upto(stream, known.first_seen)
            due = published.upto(stream, long_ago)
            if position >= due or stream in known.ahead:
                continue
            last, here = published.place(stream, due), published.place(stream, position)
            count = max(1, last.count - here.count) if last and here else 1
            tally.events += count
            newest = (
                f"its newest is {position.epoch}:{position.seq}" if row is not None else "nothing of it came"
            )
            words = f"{count} published over {self._behind_seconds:.0f} s ago have not come, {newest}"
            tally.found.append(_difference(said, stream, Fault.BEHIND, count, words))

    def _close(self, cohort: str, tally: _Tally, at: float) -> None:
        """Count a block, and make evidence of it; one in which nothing was published is none."""
        if not tally.events and not tally.found:
            return
        self._blocks += 1
        self._events += tally.events
        by_fault: Counter[Fault] = Counter()
        for each in tally.found:
            by_fault[each.fault] += each.events
            self._samples.append(each)
        self._differ += bool(by_fault)
        self._faults.update(map(str, by_fault))
        self._recent.append((at, bool(by_fault), frozenset(by_fault), tally.events))
        if cohort not in self._evidence and len(self._evidence) >= _MAX_COHORTS:
            cohort = OTHERS
        of = self._evidence.setdefault(cohort, {name: Evidence() for name in (ANY, *map(str, Fault))})
        for name in (ANY, *map(str, Fault)):
            found = by_fault.total() if name == ANY else by_fault[Fault(name)]
            block = Block(max(tally.events, by_fault.total()), found, int(bool(found)))
            of[name] = of.get(name, Evidence()).add(block, self._standard)


def _fault(row: _Row, before: _Row, expected: int, digest: int | None) -> tuple[Fault, int, str] | None:
    """Return how what came since the last report differs from what was published; a digest of None is not known."""
    told, got, back = row.told - before.told, row.count - before.count, row.backwards - before.backwards
    if told > 0:
        return Fault.MISSING, told, f"was told of a gap of {told} of {expected}"
    if got < expected:
        return Fault.MISSING, expected - got, f"{expected - got} of {expected} did not come"
    if got > expected:
        return Fault.REPEATED, got - expected, f"{got} came of {expected}"
    if back > 0:
        return Fault.REORDERED, back, f"{back} of {got} came after a later one"
    if digest is not None and digest != row.digest - before.digest & MASK:
        return Fault.CHANGED, 1, f"{got} came, of which at least one says something else"
    return None


def _difference(said: Report, stream: StreamId, fault: Fault, events: int, words: str) -> Difference:
    return Difference(said.client, said.cohort or EVERYBODY, stream, fault, events, words)
