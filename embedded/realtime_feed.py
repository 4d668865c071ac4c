"""The change feed: who subscribed to what, and for each transaction who gets which frame.

Transactions are dealt with in three steps: match every change with the bindings (pure, in memory), ask the
database what it alone can decide (rows under row level security, filters without an exact equivalent here; one
round trip each for all that is at hand), then write the frames. Large transactions are dealt with in parts. A
database that goes away in between is waited for: it delays a transaction and never halves it.

All that one connection gets of a batch is one write, and connections that get the same share its bytes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Final, NamedTuple

from embedded.phoenix.changes import spliced
from embedded.phoenix.limits import Rate
from embedded.realtime_audiences import Audience, Hit, Plan, PolicyValues, Room, Subscription, View, entries
from embedded.wal import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from embedded.phoenix.matching import Condition
    from embedded.realtime_access import Access, Database, Reader
    from embedded.realtime_audiences import Decided
    from embedded.realtime_outbox import Flusher, Outbox
    from embedded.wal import Change, Relation, Transaction, Value

__all__ = ["Feed", "Subscription"]

_ACCESS_SECONDS: Final = 30.0
"""Rights are read again after this long; ALTER TABLE, GRANT and REVOKE on the table show at once in the stream."""
_PART_BYTES: Final = 4 * 1024 * 1024
"""About as much is written to all connections together before they get time to drain; so much less than a client's
limit that one which keeps reading never exceeds it."""
_PART_CHANGES: Final = 1024

_Visible = dict[tuple[Plan, "Reader"], frozenset[PolicyValues]]


@dataclass(eq=False, slots=True)
class _Wanted:
    """A change of a table that somebody subscribed to."""

    change: Change
    plan: Plan
    timestamp: str
    hits: Sequence[Hit] = ()


class _Letter(NamedTuple):
    """A change for one audience: its place in the order, what surrounds the topic, and who may have it."""

    number: int
    before: bytes
    after: bytes
    values: PolicyValues | None
    """What policies look at; None if they need not be asked."""


@dataclass(frozen=True, slots=True)
class _Crowd:
    """The connections that have their subscriptions in just these rooms."""

    rooms: tuple[Room, ...]
    outboxes: list[Outbox]


class Feed:
    """Delivers transactions to subscriptions. One task calls `deliver`; the rest is called from the same loop.

    `events` counts what is delivered. While it is exceeded, changes are passed over and nobody is told, as the real
    server does; `passed_over` counts them.
    """

    def __init__(self, database: Database, flusher: Flusher, events: Rate | None = None) -> None:
        self._database = database
        self._flusher = flusher
        self._events = Rate(None) if events is None else events
        self._subscriptions: dict[Subscription, None] = {}
        self._version = 0
        self._plans: dict[int, Plan] = {}
        self._rights: dict[int, tuple[Relation, float, dict[str, Access]]] = {}
        """What was read of a table, and when; outlives its plan when only the subscriptions change."""
        self._grouped: tuple[int, tuple[Plan, ...], list[_Crowd]] = (0, (), [])
        self.transactions = 0
        self.changes = 0
        self.frames = 0
        self.passed_over = 0

    def __len__(self) -> int:
        """Return the number of live subscriptions."""
        return len(self._subscriptions)

    def add(self, subscription: Subscription) -> None:
        """Deliver to the subscription from the next transaction on."""
        self._subscriptions[subscription] = None
        self._changed()

    def remove(self, subscription: Subscription) -> None:
        """Deliver nothing more, not even of a transaction that is in work."""
        subscription.active = False
        if self._subscriptions.pop(subscription, True) is None:
            self._changed()

    def _changed(self) -> None:
        self._version += 1
        self._plans.clear()  # a batch that is in work keeps its own
        self._grouped = (0, (), [])

    def forget(self) -> None:
        """Deliver nothing more to any subscription there is."""
        for subscription in tuple(self._subscriptions):
            self.remove(subscription)

    async def deliver(self, transactions: Sequence[Transaction]) -> None:
        """Write the changes, in order, to everybody who wants and may see them; parts of a transaction will do.

        Several transactions at once cost the database as many questions as one.
        """
        self.transactions += sum(transaction.last for transaction in transactions)
        self.changes += sum(len(transaction.changes) for transaction in transactions)
        if not self._subscriptions:
            return
        wanted: list[_Wanted] = []
        fresh = asyncio.get_running_loop().time() - _ACCESS_SECONDS
        for transaction in transactions:
            moment = transaction.commit_timestamp.astimezone(UTC).isoformat(timespec="milliseconds")
            timestamp = moment.replace("+00:00", "Z")
            for change in transaction.changes:
                if change.type == "TRUNCATE":
                    continue
                relation = change.relation
                plan = self._plans.get(relation.oid)
                if plan is None or plan.relation is not relation or plan.made_at < fresh:
                    plan = await self._make_plan(relation)
                if plan.audiences:
                    wanted.append(_Wanted(change, plan, timestamp))
                if len(wanted) == _PART_CHANGES:
                    await self._deliver(wanted)
                    wanted = []
                    # what is much goes as fast as its readers, or it would look like slow clients
                    await self._flusher.relief()
        if wanted:
            await self._deliver(wanted)

    async def _deliver(self, wanted: Sequence[_Wanted]) -> None:
        """Deal with some changes; a large transaction comes in several such parts, so that memory stays bounded."""
        clock = asyncio.get_running_loop().time
        if self._events.exceeded(clock()):
            self.passed_over += len(wanted)
            return
        frames = self.frames
        await self._complete(wanted)
        decided = await self._decide_in_sql(wanted)
        for item in wanted:
            item.hits = item.plan.hits(item.change, decided)
        await self._write(wanted, await self._visible(wanted))
        self._events.add(self.frames - frames, clock())

    # -- plans

    async def _make_plan(self, relation: Relation) -> Plan:
        version = self._version
        interested = [
            (subscription, found)
            for subscription in self._subscriptions
            if (found := entries(subscription, relation))
        ]
        roles = {subscription.token.role for subscription, _ in interested}
        now = asyncio.get_running_loop().time()
        known, made_at, access = self._rights.get(relation.oid, (relation, now, {}))
        if known is not relation or made_at < now - _ACCESS_SECONDS:
            made_at, access = now, {}
        if missing := roles - access.keys():
            access = access | await self._database.access(relation.oid, missing)
        self._rights[relation.oid] = relation, made_at, access
        plan = Plan.of(relation, version, made_at, interested, access)
        if version == self._version:
            self._plans[relation.oid] = plan
        return plan

    # -- what only the database can say

    async def _complete(self, wanted: Iterable[_Wanted]) -> None:
        """Look up the large values that updates left alone, where a policy or a filter asks for them."""
        asked: dict[tuple[Plan, tuple[str, ...]], list[_Wanted]] = defaultdict(list)
        for item in wanted:
            if (names := item.plan.unknown(item.change)) and item.plan.relation.key:
                asked[item.plan, names].append(item)
        for (plan, names), items in asked.items():
            keys = [column.name for column in plan.relation.key]
            rows = [[_text(plan.value(item.change, key)) for key in keys] for item in items]
            found = await self._database.current(plan.relation.oid, keys, names, rows)
            for item, values in zip(items, found, strict=True):
                if values is not None:
                    item.change = plan.completed(item.change, names, values)

    async def _decide_in_sql(self, wanted: Iterable[_Wanted]) -> Decided:
        values: dict[Condition, set[str]] = defaultdict(set)
        for item in wanted:
            for condition in item.plan.sql_conditions:
                value = item.plan.value(item.change, condition.column)
                if isinstance(value, str):
                    values[condition].add(value)
        decided: Decided = {}
        for condition, texts in values.items():
            listed = list(texts)
            answers = await self._database.evaluate(condition, listed)
            decided.update(zip(((condition, text) for text in listed), answers, strict=True))
        return decided

    async def _visible(self, wanted: Iterable[_Wanted]) -> _Visible:
        """Return what the readers' policies show, of the values that the policies look at."""
        readers: dict[Plan, dict[Reader, None]] = {}
        rows: dict[Plan, dict[PolicyValues, None]] = {}
        asking: set[Audience] = set()
        for item in wanted:
            for hit in item.hits:
                if hit.checked:
                    plan, audience = item.plan, hit.audience
                    rows.setdefault(plan, {})[plan.policy_values(item.change)] = None
                    if audience not in asking:
                        asking.add(audience)
                        readers.setdefault(plan, {}).update(
                            dict.fromkeys(room.reader for room in audience.rooms.values())
                        )
        shown: _Visible = {}
        for plan, asked in readers.items():
            values, names = list(rows[plan]), list(asked)
            answers = await self._database.visible(plan.relation.oid, plan.policy_columns, values, names)
            for reader, seen in zip(names, answers, strict=True):
                shown[plan, reader] = frozenset(values[index] for index in seen)
        return shown

    # -- frames

    async def _write(self, wanted: Sequence[_Wanted], visible: _Visible) -> None:
        plans = tuple(dict.fromkeys(item.plan for item in wanted))
        letters: dict[Audience, list[_Letter]] = defaultdict(list)
        size = 0
        for number, item in enumerate(wanted):
            change = item.change
            data: dict[View, bytes] = {}
            for hit in item.hits:
                audience = hit.audience
                body = data.get(audience.view)
                if body is None:
                    body = data[audience.view] = audience.view.encoded(change, item.timestamp)
                before, after = audience.envelope(hit.ids, change.type).around(body)
                values = item.plan.policy_values(change) if hit.checked else None
                letters[audience].append(_Letter(number, before, after, values))
                size += (len(before) + len(after)) * audience.size
            if size > _PART_BYTES:
                self._send(plans, letters, visible)
                letters.clear()
                size = 0
                await self._flusher.relief()
        self._send(plans, letters, visible)

    def _send(
        self, plans: tuple[Plan, ...], letters: dict[Audience, list[_Letter]], visible: _Visible
    ) -> None:
        if not letters:
            return
        mail = _Mail(letters, visible)
        for crowd in self._crowds(plans):
            frames, count = mail.of(crowd.rooms)
            if count:
                self._flusher.send(crowd.outboxes, frames)
                self.frames += count * len(crowd.outboxes)

    def _crowds(self, plans: tuple[Plan, ...]) -> list[_Crowd]:
        """Return the connections that listen, grouped; the grouping holds while the subscriptions are the same."""
        version, known, crowds = self._grouped
        if version != self._version or known != plans:
            crowds = _grouped(plans)
            self._grouped = (self._version, plans, crowds)
        return crowds


class _Mail:
    """What rooms are sent of some changes, made once for all that get the same."""

    def __init__(self, letters: dict[Audience, list[_Letter]], visible: _Visible) -> None:
        self._letters = letters
        self._visible = visible
        self._shown: dict[tuple[Audience, frozenset[PolicyValues] | None], list[_Letter]] = {}
        self._parts: dict[tuple[int, int], list[bytes]] = {}

    def of(self, rooms: tuple[Room, ...]) -> tuple[bytes, int]:
        """Return the frames of the rooms, in the order of the changes, and how many they are."""
        if len(rooms) == 1:
            letters = self._of_room(rooms[0])
            topic = rooms[0].topic
            key = id(letters), len(topic)
            parts = self._parts.get(key)
            if parts is None:
                pieces = ((letter.before, letter.after) for letter in letters)
                parts = self._parts[key] = spliced(pieces, len(topic))
            return topic.join(parts), len(letters)
        ordered = [(letter, room.topic) for room in rooms for letter in self._of_room(room)]
        ordered.sort(key=lambda pair: pair[0].number)
        frames = [
            topic.join(spliced([(letter.before, letter.after)], len(topic))) for letter, topic in ordered
        ]
        return b"".join(frames), len(frames)

    def _of_room(self, room: Room) -> list[_Letter]:
        audience = room.audience
        seen = self._visible.get((audience.plan, room.reader)) if audience.checked else None
        letters = self._shown.get((audience, seen))
        if letters is None:
            letters = self._letters.get(audience, [])
            if audience.checked:
                letters = [
                    letter
                    for letter in letters
                    if letter.values is None or (seen is not None and letter.values in seen)
                ]
            self._shown[audience, seen] = letters
        return letters


def _grouped(plans: Iterable[Plan]) -> list[_Crowd]:
    heard: dict[Outbox, list[Room]] = defaultdict(list)
    for plan in plans:
        for audience in plan.audiences:
            for room in audience.rooms.values():
                for member in room.members:
                    if member.active:
                        heard[member.outbox].append(room)
    crowds: dict[tuple[Room, ...], _Crowd] = {}
    for outbox, rooms in heard.items():
        key = tuple(rooms)
        crowd = crowds.get(key)
        if crowd is None:
            crowd = crowds[key] = _Crowd(key, [])
        crowd.outboxes.append(outbox)
    return list(crowds.values())


def _text(value: Value) -> str | None:
    return None if value is UNCHANGED else value
