"""Who is sent the changes of a table: subscriptions, grouped by what they would get, and found by what changed.

An audience wants the same changes in the same form; only the topic differs between its rooms, and which rows its
readers may see. So a change is matched once for an audience and encoded once for a view, however many subscribe.
All is pure; plans hold while neither the table nor the subscriptions change.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from embedded.phoenix import changes
from embedded.phoenix.changes import ChangeData, Envelope
from embedded.realtime_access import NO_ACCESS, Access, Reader
from embedded.realtime_bindings import Resolved
from embedded.wal import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from embedded.phoenix.channel import Token
    from embedded.phoenix.frames import Vsn
    from embedded.phoenix.matching import Condition
    from embedded.realtime_outbox import Outbox
    from embedded.wal import Change, Relation, Value

PolicyValues = tuple[str | None, ...]
"""What a table's policies look at, of one row."""
Decided = dict[tuple["Condition", str], bool]
"""What the database said of values that only it can compare."""

_MAYBE_TOO_LARGE: Final = changes.MAX_CHANGE_BYTES // 2
"""What is smaller is not worth measuring; 1,600 columns of short values come to no more."""


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
class Entry:
    """One binding of an audience on one table."""

    id: int
    event: str | None
    conditions: tuple[Condition, ...]


@dataclass(eq=False, slots=True)
class View:
    """How somebody sees the changes of a table. `columns` is None for all of them."""

    relation: Relation
    columns: frozenset[str] | None
    keys_only_deleted: bool
    error: str | None
    _columns_json: bytes = b""

    def __post_init__(self) -> None:
        shown = self.columns
        self._columns_json = changes.columns_json(
            (column.name, column.type_name)
            for column in self.relation.columns
            if shown is None or column.name in shown
        )

    def encoded(self, change: Change, timestamp: str) -> bytes:
        """Return the change's data as it is seen."""
        relation = self.relation
        deleted = change.type == "DELETE"
        record, old_record = change.record, change.old_record
        error = None
        if self.error is not None and not deleted:
            old = b"{}" if change.type == "UPDATE" else None
            return ChangeData(
                relation.schema, relation.table, change.type, b"{}", old, b"[]", None, self.error
            ).encoded()
        size = len(record or b"") + len(old_record or b"")
        if size > _MAYBE_TOO_LARGE and changes.is_too_large(
            (len(record or b""), len(old_record or b"")),
            ((column.name, column.type_name) for column in relation.columns),
        ):
            error = changes.TOO_LARGE
            record = changes.without_large(record) if record is not None else None
            old_record = changes.without_large(old_record) if old_record is not None else None
        if self.columns is not None:
            record = changes.only(record, self.columns) if record is not None else None
            old_record = changes.only(old_record, self.columns) if old_record is not None else None
        if deleted and self.keys_only_deleted and old_record is not None:
            keys = frozenset(column.name for column in relation.key)
            old_record = changes.only(old_record, keys)
        return ChangeData(
            relation.schema,
            relation.table,
            change.type,
            record,
            old_record,
            self._columns_json,
            timestamp,
            error,
        ).encoded()


@dataclass(eq=False, slots=True)
class Room:
    """Those of an audience who share the topic and the rights: they get the same bytes."""

    audience: Audience
    reader: Reader
    topic: bytes
    """As JSON."""
    members: list[Subscription] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Audience:
    """Subscriptions that want the same changes of a table, in the same form. `checked`: row by row, for each reader."""

    plan: Plan
    vsn: Vsn
    legacy: bool
    checked: bool
    view: View
    entries: tuple[Entry, ...]
    rooms: dict[tuple[Reader, str], Room] = field(default_factory=dict)
    size: int = 0
    _envelopes: dict[Hashable, Envelope] = field(default_factory=dict)

    def add(self, subscription: Subscription, reader: Reader) -> None:
        """Make the subscription a member."""
        key = reader, subscription.topic
        room = self.rooms.get(key)
        if room is None:
            room = self.rooms[key] = Room(self, reader, orjson.dumps(subscription.topic))
        room.members.append(subscription)
        self.size += 1

    def envelope(self, ids: tuple[int, ...], change_type: str) -> Envelope:
        """Return what goes around the data, made once for each combination of ids."""
        key: Hashable = change_type if self.legacy else ids
        found = self._envelopes.get(key)
        if found is None:
            found = Envelope.legacy(self.vsn, change_type) if self.legacy else Envelope.of(self.vsn, ids)
            self._envelopes[key] = found
        return found

    def matching(self, change: Change, holds: Callable[[Condition], bool]) -> tuple[int, ...]:
        """Return the ids of the bindings that want the change."""
        failing = change.type != "DELETE" and self.view.error is not None  # told to everybody, filters or not
        return tuple(
            [
                entry.id
                for entry in self.entries
                if (entry.event is None or entry.event == change.type)
                and (failing or not entry.conditions or all(map(holds, entry.conditions)))
            ]
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """An audience that wants a change, by these bindings; `checked`: if the reader's policies show it."""

    audience: Audience
    ids: tuple[int, ...]
    checked: bool


_IndexKey = tuple[str, "Callable[[str], Any]"]
"""A column and what makes its text a value that can be looked up."""


@dataclass(eq=False, slots=True)
class Plan:
    """What a table's changes lead to; `version` is that of the subscriptions, `made_at` when rights were read."""

    relation: Relation
    version: int
    made_at: float
    policy_columns: tuple[str, ...] = ()
    access: dict[str, Access] = field(default_factory=dict)
    audiences: list[Audience] = field(default_factory=list)
    sql_conditions: dict[Condition, None] = field(default_factory=dict)
    """Those that only the database can decide."""
    _constant_hits: dict[str, list[Hit]] | None = None
    """Where nobody filters: who wants a change, by its type."""
    _positions: dict[str, int] = field(default_factory=dict)
    _looked_at: tuple[str, ...] = ()
    """What policies or filters look at."""
    _unindexed: list[Audience] = field(default_factory=list)
    _index: dict[_IndexKey, dict[Any, list[Audience]]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        relation: Relation,
        version: int,
        made_at: float,
        interested: Iterable[tuple[Subscription, Sequence[tuple[Entry, Resolved]]]],
        access: dict[str, Access],
    ) -> Plan:
        """Return the plan for the subscriptions that have bindings on the table."""
        policy_columns = next((rights.policy_columns for rights in access.values() if rights.checked), ())
        plan = cls(relation, version, made_at, policy_columns, access)
        plan._positions = {column.name: index for index, column in enumerate(relation.columns)}
        plan.audiences = _audiences(plan, interested)
        conditions = [c for a in plan.audiences for entry in a.entries for c in entry.conditions]
        looked_at = {*policy_columns, *(condition.column for condition in conditions)}
        plan._looked_at = tuple(sorted(looked_at & plan._positions.keys()))
        plan.sql_conditions = {condition: None for condition in conditions if condition.test is None}
        for audience in plan.audiences:
            plan._enter(audience)
        if not any(entry.conditions for audience in plan.audiences for entry in audience.entries):
            plan._constant_hits = {}
        return plan

    def _enter(self, audience: Audience) -> None:
        """Put the audience where changes that it cannot want do not come by."""
        lookups: list[tuple[_IndexKey, frozenset[Any]]] = []
        for entry in audience.entries:
            for condition in entry.conditions:
                if condition.members is not None and condition.key is not None:
                    lookups.append(((condition.column, condition.key), condition.members))
                    break
        if len(lookups) < len(audience.entries) or audience.view.error is not None:
            self._unindexed.append(audience)
            return
        for key, members in lookups:
            found = self._index.setdefault(key, {})
            for member in members:
                found.setdefault(member, []).append(audience)

    def _candidates(self, change: Change) -> Iterable[Audience]:
        if not self._index:
            return self._unindexed
        found = dict.fromkeys(self._unindexed)
        for (column, key), audiences in self._index.items():
            value = self.value(change, column)
            if isinstance(value, str):
                found.update(dict.fromkeys(audiences.get(key(value), ())))
        return found

    def hits(self, change: Change, decided: Decided) -> list[Hit]:
        """Return who wants the change."""
        constant = self._constant_hits
        if constant is None:
            return self._hits(change, decided)
        hits = constant.get(change.type)
        if hits is None:
            hits = constant[change.type] = self._hits(change, decided)
        return hits

    def _hits(self, change: Change, decided: Decided) -> list[Hit]:
        known: dict[Condition, bool] = {}

        def holds(condition: Condition) -> bool:
            result = known.get(condition)
            if result is None:
                result = known[condition] = self._holds(change, condition, decided)
            return result

        found: list[Hit] = []
        changed = change.type != "DELETE"
        for audience in self._candidates(change):
            ids = audience.matching(change, holds)
            if ids:
                checked = changed and audience.checked and audience.view.error is None
                found.append(Hit(audience, ids, checked))
        return found

    def _holds(self, change: Change, condition: Condition, decided: Decided) -> bool:
        value = self.value(change, condition.column)
        if value is UNCHANGED:
            return False
        if condition.test is not None:
            return condition.test(value) is True
        # SQL's own comparisons with NULL are never true, except the one that asks for it
        return decided[condition, value] if value is not None else condition.matches_null

    def value(self, change: Change, name: str) -> Value:
        """Return the value that a filter tests: of the new row, of a deleted one its identity.

        UNCHANGED stands for a value that the change does not carry; nothing can be said of it.
        """
        position = self._positions.get(name)
        if position is None:
            return UNCHANGED
        row = change.new
        if row is None:
            if not self.relation.columns[position].is_identity:
                return UNCHANGED
            row = change.old
        value = row[position] if row is not None else UNCHANGED
        if value is UNCHANGED and change.old is not None and self.relation.replica_identity == "full":
            value = change.old[position]
        return value

    def unknown(self, change: Change) -> tuple[str, ...]:
        """Return the columns that policies or filters look at and the change does not carry."""
        if change.type != "UPDATE" or not self._looked_at or self.relation.replica_identity == "full":
            return ()
        row = change.new or ()
        if UNCHANGED not in row:
            return ()
        return tuple(name for name in self._looked_at if row[self._positions[name]] is UNCHANGED)

    def completed(self, change: Change, names: Sequence[str], values: Sequence[str | None]) -> Change:
        """Return the change with these values, to be compared; what is sent of it stays as it is."""
        row = list(change.new or ())
        for name, value in zip(names, values, strict=True):
            row[self._positions[name]] = value
        return type(change)(
            change.relation, change.type, change.record, change.old_record, tuple(row), change.old
        )

    def policy_values(self, change: Change) -> PolicyValues:
        """Return what the table's policies look at; rows that are equal in it are asked of once.

        A large value that an UPDATE left alone counts as NULL if it could not be looked up: its row is gone.
        """
        if not self.policy_columns:
            return ()
        row = change.new
        if row is None:
            return ()
        result = []
        for name in self.policy_columns:
            position = self._positions.get(name)
            value = None if position is None else row[position]
            if value is UNCHANGED and position is not None and change.old is not None:
                value = change.old[position]
            result.append(None if value is UNCHANGED else value)
        return tuple(result)


def entries(subscription: Subscription, relation: Relation) -> list[tuple[Entry, Resolved]]:
    """Return the bindings that cover the table, in reverse order: that is how `ids` lists them."""
    found: list[tuple[Entry, Resolved]] = []
    for resolved in reversed(subscription.bindings):
        binding = resolved.binding
        if not binding.covers(relation.schema, relation.table):
            continue
        conditions = resolved.conditions.get((relation.schema, relation.table))
        if conditions is None and binding.filters:
            continue  # a table that was made after the join: its columns were never compared with the filter
        found.append((Entry(binding.id, binding.event, conditions or ()), resolved))
    return found


def _audiences(
    plan: Plan, interested: Iterable[tuple[Subscription, Sequence[tuple[Entry, Resolved]]]]
) -> list[Audience]:
    shared: dict[Hashable, Audience] = {}
    views: dict[Hashable, View] = {}
    for subscription, bound in interested:
        token = subscription.token
        rights = plan.access.get(token.role, NO_ACCESS)
        reader = (token.role, token.claims) if rights.checked else ("", "")
        by_select: dict[tuple[str, ...] | None, list[Entry]] = defaultdict(list)
        for entry, resolved in bound:
            by_select[resolved.binding.select].append(entry)
        for select, chosen in by_select.items():
            view = _view(plan.relation, rights, select, views)
            members = tuple(chosen)
            group: Hashable = (subscription.vsn, subscription.legacy, rights.checked, view, members)
            audience = shared.get(group)
            if audience is None:
                audience = shared[group] = Audience(
                    plan, subscription.vsn, subscription.legacy, rights.checked, view, members
                )
            audience.add(subscription, reader)
    return list(shared.values())


def _view(
    relation: Relation, access: Access, select: tuple[str, ...] | None, views: dict[Hashable, View]
) -> View:
    """Return how somebody with these rights sees the table; who sees it equally shares the view."""
    request: Hashable = (access, select)
    if (found := views.get(request)) is not None:
        return found
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
    seen: Hashable = (None if shown == names else shown, access.row_security, error)
    view = views.get(seen)
    if view is None:
        view = views[seen] = View(relation, None if shown == names else shown, access.row_security, error)
    views[request] = view
    return view
