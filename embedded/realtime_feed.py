"""The change feed: who subscribed to what, and for each transaction who gets which frame.

Transactions are dealt with in three steps: match every change with the bindings (pure, in memory), ask the
database what it alone can decide (rows under row level security, filters without an exact equivalent here; one
round trip each for all that is at hand), then write the frames. Nothing is written before everything is known,
so a database that goes away in between delays a transaction and never halves it.

Subscriptions that would get the same bytes (same version, topic, ids and rights) share an audience: its frame is
made once however many they are.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Final

from embedded.phoenix import changes
from embedded.phoenix.changes import ChangeData, Envelope
from embedded.realtime_access import NO_ACCESS, Access, Database, Reader, Resolved
from embedded.wal import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from embedded.phoenix.channel import Token
    from embedded.phoenix.frames import Vsn
    from embedded.phoenix.matching import Condition
    from embedded.realtime_outbox import Outbox
    from embedded.wal import Change, Relation, Transaction, Value

_ACCESS_SECONDS: Final = 30.0
"""Rights are read again after this long; ALTER TABLE, GRANT and REVOKE on the table show at once in the stream."""
_YIELD_BYTES: Final = 1024 * 1024


_PolicyValues = tuple[str | None, ...]
_Visible = dict[tuple[int, Reader], frozenset[_PolicyValues]]


@dataclass(eq=False, slots=True)
class Subscription:
    """The live bindings of one channel."""

    outbox: Outbox
    vsn: Vsn
    topic: str
    legacy: bool
    token: Token
    bindings: tuple[Resolved, ...]
    active: bool = True


@dataclass(frozen=True, slots=True)
class _Entry:
    """One binding of an audience on one table."""

    id: int
    event: str | None
    conditions: tuple[Condition, ...]


@dataclass(eq=False, slots=True)
class _Audience:
    """Subscriptions that get the same frames of a table."""

    vsn: Vsn
    topic: str
    legacy: bool
    reader: Reader
    access: Access
    entries: tuple[_Entry, ...]
    view: _View
    members: list[Subscription] = field(default_factory=list)
    envelopes: dict[Hashable, Envelope] = field(default_factory=dict)

    def envelope(self, ids: tuple[int, ...], change_type: str) -> Envelope:
        """Return what goes around the data, made once for each combination of ids."""
        key: Hashable = change_type if self.legacy else ids
        found = self.envelopes.get(key)
        if found is None:
            found = (
                Envelope.legacy(self.vsn, self.topic, change_type)
                if self.legacy
                else Envelope.of(self.vsn, self.topic, ids)
            )
            self.envelopes[key] = found
        return found


@dataclass(frozen=True, slots=True)
class _View:
    """How somebody sees the changes of a table; equal views share their encoded data."""

    columns: frozenset[str] | None
    """None: all of them."""
    keys_only_deleted: bool
    error: str | None


@dataclass(eq=False, slots=True)
class _Plan:
    """What a table's changes lead to, while neither the table nor the subscriptions change."""

    relation: Relation
    version: int
    made_at: float
    audiences: list[_Audience]
    positions: dict[str, int]
    policy_columns: tuple[str, ...]


@dataclass(eq=False, slots=True)
class _Hit:
    """An audience that wants a change, by these bindings, if `check` lets it."""

    audience: _Audience
    ids: tuple[int, ...]
    checked: bool


@dataclass(eq=False, slots=True)
class _Wanted:
    """A change of a table that somebody subscribed to."""

    change: Change
    plan: _Plan
    timestamp: str
    hits: list[_Hit] = field(default_factory=list)


class Feed:
    """Delivers transactions to subscriptions. One task calls `deliver`; the rest is called from the same loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._subscriptions: dict[Subscription, None] = {}
        self._version = 0
        self._plans: dict[int, _Plan] = {}
        self.transactions = 0
        self.changes = 0
        self.frames = 0

    def __len__(self) -> int:
        """Return the number of live subscriptions."""
        return len(self._subscriptions)

    def add(self, subscription: Subscription) -> None:
        """Deliver to the subscription from the next transaction on."""
        self._subscriptions[subscription] = None
        self._version += 1

    def remove(self, subscription: Subscription) -> None:
        """Deliver nothing more, not even of a transaction that is in work."""
        subscription.active = False
        if self._subscriptions.pop(subscription, True) is None:
            self._version += 1

    async def deliver(self, transactions: Sequence[Transaction]) -> None:
        """Write the changes, in order, to everybody who wants and may see them.

        Several transactions at once cost the database as many questions as one.
        """
        self.transactions += len(transactions)
        self.changes += sum(len(transaction.changes) for transaction in transactions)
        if not self._subscriptions:
            return
        wanted: list[_Wanted] = []
        for transaction in transactions:
            moment = transaction.commit_timestamp.astimezone(UTC).isoformat(timespec="milliseconds")
            timestamp = moment.replace("+00:00", "Z")
            for change in transaction.changes:
                if change.type == "TRUNCATE":
                    continue
                plan = self._plans.get(change.relation.oid)
                if plan is None or not self._current(plan, change.relation):
                    plan = await self._make_plan(change.relation)
                if plan.audiences:
                    wanted.append(_Wanted(change, plan, timestamp))
        if not wanted:
            return
        decided = await self._decide_in_sql(wanted)
        for item in wanted:
            item.hits = _hits(item.change, item.plan, decided)
        await self._write(wanted, await self._visible(wanted))

    # -- plans

    def _current(self, plan: _Plan, relation: Relation) -> bool:
        now = asyncio.get_running_loop().time()
        return (
            plan.relation is relation
            and plan.version == self._version
            and now - plan.made_at < _ACCESS_SECONDS
        )

    async def _make_plan(self, relation: Relation) -> _Plan:
        version = self._version
        interested = [
            (subscription, entries)
            for subscription in self._subscriptions
            if (entries := _entries(subscription, relation))
        ]
        old = self._plans.get(relation.oid)
        roles = {subscription.token.role for subscription, _ in interested}
        loop = asyncio.get_running_loop()
        made_at = loop.time()
        access: dict[str, Access] = {}
        if old is not None and old.relation is relation and made_at - old.made_at < _ACCESS_SECONDS:
            # only the subscriptions changed: what was read of the roles holds for the rest of its time
            access = {audience.reader[0]: audience.access for audience in old.audiences}
            made_at = old.made_at
        if missing := roles - access.keys():
            access |= await self._database.access(relation.oid, missing)
        positions = {column.name: index for index, column in enumerate(relation.columns)}
        plan = _Plan(
            relation,
            version,
            made_at,
            _audiences(relation, interested, access),
            positions,
            next((rights.policy_columns for rights in access.values() if rights.checked), ()),
        )
        self._plans[relation.oid] = plan
        return plan

    # -- what only the database can say

    async def _decide_in_sql(self, wanted: Iterable[_Wanted]) -> dict[tuple[Condition, str], bool]:
        values: dict[Condition, set[str]] = defaultdict(set)
        for item in wanted:
            change, plan = item.change, item.plan
            for audience in plan.audiences:
                for entry in audience.entries:
                    for condition in entry.conditions:
                        if condition.test is None:
                            value = _value(change, plan, condition)
                            if isinstance(value, str):
                                values[condition].add(value)
        decided: dict[tuple[Condition, str], bool] = {}
        for condition, texts in values.items():
            listed = list(texts)
            answers = await self._database.evaluate(condition, listed)
            decided.update(zip(((condition, text) for text in listed), answers, strict=True))
        return decided

    async def _visible(self, wanted: Iterable[_Wanted]) -> _Visible:
        """Return what the readers' policies show, of the values that the policies look at."""
        readers: dict[int, dict[Reader, None]] = defaultdict(dict)
        rows: dict[int, dict[_PolicyValues, None]] = defaultdict(dict)
        plans: dict[int, _Plan] = {}
        for item in wanted:
            asking = [hit.audience.reader for hit in item.hits if hit.checked]
            if asking:
                oid = item.change.relation.oid
                plans[oid] = item.plan
                readers[oid].update(dict.fromkeys(asking))
                rows[oid][_policy_values(item.change, item.plan)] = None
        shown: _Visible = {}
        for oid, plan in plans.items():
            values, asked = list(rows[oid]), list(readers[oid])
            answers = await self._database.visible(oid, plan.policy_columns, values, asked)
            for reader, seen in zip(asked, answers, strict=True):
                shown[oid, reader] = frozenset(values[index] for index in seen)
        return shown

    # -- frames

    async def _write(self, wanted: Iterable[_Wanted], visible: _Visible) -> None:
        written = 0
        for item in wanted:
            change, plan, timestamp = item.change, item.plan, item.timestamp
            data: dict[_View, bytes] = {}
            values = _policy_values(change, plan)
            for hit in item.hits:
                audience = hit.audience
                if hit.checked and values not in visible[change.relation.oid, audience.reader]:
                    continue
                body = data.get(audience.view)
                if body is None:
                    body = data[audience.view] = _encoded(change, audience.view, timestamp)
                frame = audience.envelope(hit.ids, change.type).frame(body)
                for member in audience.members:
                    if member.active:
                        member.outbox.write(frame)
                        self.frames += 1
                written += len(frame) * len(audience.members)
            if written > _YIELD_BYTES:
                written = 0
                await asyncio.sleep(
                    0
                )  # let transports drain, or a large transaction would look like slow clients


def _entries(subscription: Subscription, relation: Relation) -> list[tuple[_Entry, Resolved]]:
    """Return the bindings that cover the table, in reverse order: that is how `ids` lists them."""
    found: list[tuple[_Entry, Resolved]] = []
    for resolved in reversed(subscription.bindings):
        binding = resolved.binding
        if not binding.covers(relation.schema, relation.table):
            continue
        conditions = resolved.conditions.get((relation.schema, relation.table))
        if conditions is None and binding.filters:
            continue  # a table that was made after the join: its columns were never compared with the filter
        found.append((_Entry(binding.id, binding.event, conditions or ()), resolved))
    return found


def _audiences(
    relation: Relation,
    interested: Iterable[tuple[Subscription, list[tuple[_Entry, Resolved]]]],
    access: dict[str, Access],
) -> list[_Audience]:
    shared: dict[Hashable, _Audience] = {}
    for subscription, entries in interested:
        token = subscription.token
        rights = access.get(token.role, NO_ACCESS)
        by_select: dict[tuple[str, ...] | None, list[_Entry]] = defaultdict(list)
        for entry, resolved in entries:
            by_select[resolved.binding.select].append(entry)
        for select, chosen in by_select.items():
            reader = (token.role, token.claims if rights.checked else "")
            members = tuple(chosen)
            group: Hashable = (
                subscription.vsn,
                subscription.topic,
                subscription.legacy,
                reader,
                select,
                members,
            )
            audience = shared.get(group)
            if audience is None:
                view = _view(relation, rights, select)
                audience = shared[group] = _Audience(
                    subscription.vsn, subscription.topic, subscription.legacy, reader, rights, members, view
                )
            audience.members.append(subscription)
    return list(shared.values())


def _view(relation: Relation, access: Access, select: tuple[str, ...] | None) -> _View:
    keys = frozenset(column.name for column in relation.key)
    names = frozenset(column.name for column in relation.columns)
    shown = names & access.readable
    if select is not None:
        shown &= keys.union(select)
    error = None
    if not keys:
        error = changes.NO_PRIMARY_KEY
    elif not keys <= access.readable:
        error = changes.UNAUTHORIZED
    return _View(None if shown == names else shown, access.row_security, error)


def _hits(change: Change, plan: _Plan, decided: dict[tuple[Condition, str], bool]) -> list[_Hit]:
    """Return who wants the change."""
    hits: list[_Hit] = []
    known: dict[Condition, bool] = {}
    changed = change.type != "DELETE"
    for audience in plan.audiences:
        failing = changed and audience.view.error is not None  # told to everybody, filters or not
        ids = tuple(
            entry.id
            for entry in audience.entries
            if (entry.event is None or entry.event == change.type)
            and (failing or all(_holds(change, plan, c, decided, known) for c in entry.conditions))
        )
        if ids:
            hits.append(_Hit(audience, ids, changed and audience.access.checked and not failing))
    return hits


def _holds(
    change: Change,
    plan: _Plan,
    condition: Condition,
    decided: dict[tuple[Condition, str], bool],
    known: dict[Condition, bool],
) -> bool:
    result = known.get(condition)
    if result is None:
        value = _value(change, plan, condition)
        if value is UNCHANGED:
            result = False
        elif condition.test is not None:
            result = condition.test(value) is True
        else:
            # SQL's own comparisons with NULL are never true, except the one that asks for it
            result = decided[condition, value] if value is not None else condition.matches_null
        known[condition] = result
    return result


def _value(change: Change, plan: _Plan, condition: Condition) -> Value:
    """Return the value that a filter tests: of the new row, of a deleted one its identity.

    UNCHANGED stands for a value that the change does not carry; nothing can be said of it.
    """
    position = plan.positions.get(condition.column)
    if position is None:
        return UNCHANGED
    row = change.new
    if row is None:
        if not plan.relation.columns[position].is_identity:
            return UNCHANGED
        row = change.old
    value = row[position] if row is not None else UNCHANGED
    if value is UNCHANGED and change.old is not None and plan.relation.replica_identity == "full":
        value = change.old[position]
    return value


def _policy_values(change: Change, plan: _Plan) -> _PolicyValues:
    """Return what the table's policies look at; rows that are equal in it are asked of once.

    A large value that an UPDATE left alone counts as NULL, unless the table has full replica identity.
    """
    row = change.new
    if row is None:
        return ()
    result = []
    for name in plan.policy_columns:
        position = plan.positions.get(name)
        value = None if position is None else row[position]
        if value is UNCHANGED and position is not None and change.old is not None:
            value = change.old[position]
        result.append(None if value is UNCHANGED else value)
    return tuple(result)


def _encoded(change: Change, view: _View, timestamp: str) -> bytes:
    relation = change.relation
    deleted = change.type == "DELETE"
    record, old_record = change.record, change.old_record
    error = None
    if view.error is not None and not deleted:
        old = b"{}" if change.type == "UPDATE" else None
        return ChangeData(
            relation.schema, relation.table, change.type, b"{}", old, b"[]", None, view.error
        ).encoded()
    if len(record or b"") + len(old_record or b"") > changes.MAX_CHANGE_BYTES:
        error = changes.TOO_LARGE
        record = changes.without_large(record) if record is not None else None
        old_record = changes.without_large(old_record) if old_record is not None else None
    columns = [(column.name, column.type_name) for column in relation.columns]
    if view.columns is not None:
        columns = [pair for pair in columns if pair[0] in view.columns]
        record = changes.only(record, view.columns) if record is not None else None
        old_record = changes.only(old_record, view.columns) if old_record is not None else None
    if deleted and view.keys_only_deleted and old_record is not None:
        keys = frozenset(column.name for column in relation.key)
        old_record = changes.only(old_record, keys)
    return ChangeData(
        relation.schema,
        relation.table,
        change.type,
        record,
        old_record,
        changes.columns_json(columns),
        timestamp,
        error,
    ).encoded()
