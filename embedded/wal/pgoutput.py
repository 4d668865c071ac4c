"""Decoder of the output plugin pgoutput, protocol version 1: messages in, transactions out. Pure.

PostgreSQL documentation, "Logical Replication Message Formats". A table's description precedes its first change and
comes again whenever it was altered; it lacks the names and shapes of types made by users and, under REPLICA IDENTITY
FULL, the primary key. So ``decode`` hands it out and takes the completed Relation back by ``define``; until then a
description made of what is known serves.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from functools import partial
from json.encoder import encode_basestring as quote
from typing import TYPE_CHECKING, Final

from embedded.errors import ProtocolError
from embedded.wal.messages import timestamp
from embedded.wal.model import UNCHANGED, Change, Column, Relation, Transaction
from embedded.wal.row_json import row_encoder
from embedded.wal.types import BUILTIN_TYPES, unknown_type
from embedded.wal.values import column_encoder, is_json_already, jsonb_key_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from embedded.wal.model import ReplicaIdentity, Row, Value
    from embedded.wal.types import PgType

_BEGUN = struct.Struct("!QqI")
_COMMIT = struct.Struct("!BQQq")
_UINT32 = struct.Struct("!I")
_COLUMN_TAIL = struct.Struct("!Ii")
_IDENTITIES: dict[int, ReplicaIdentity] = {
    ord("d"): "default",
    ord("n"): "nothing",
    ord("f"): "full",
    ord("i"): "index",
}
_BEGIN, _COMMITTED, _RELATION = ord("B"), ord("C"), ord("R")
_INSERT, _UPDATE, _DELETE, _TRUNCATE = ord("I"), ord("U"), ord("D"), ord("T")
_NEW, _OLD, _KEY = ord("N"), ord("O"), ord("K")
_NULL, _TEXT, _TOASTED = ord("n"), ord("t"), ord("u")
_INSERTED_ROW = 6  # behind the kind, the table's oid and the marker
PART_CHANGES: Final = 1024
PART_BYTES: Final = 4 * 1024 * 1024
"""A transaction with more comes in parts: PostgreSQL sends it once it is committed, and memory stays bounded."""
_IGNORED = frozenset(b"OYM")  # origin, type, logical message: nothing we deliver depends on them


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A column as the stream describes it."""

    name: str
    type_oid: int
    is_identity: bool


@dataclass(frozen=True, slots=True)
class RelationMessage:
    """A table as the stream describes it."""

    oid: int
    schema: str
    table: str
    replica_identity: ReplicaIdentity
    columns: tuple[RelationColumn, ...]


def complete(
    message: RelationMessage,
    types: Mapping[int, PgType],
    primary_key: Iterable[str] | None,
) -> Relation:
    """Return the relation with its types and primary key; ``primary_key`` None if it could not be looked up.

    Under REPLICA IDENTITY DEFAULT the identity *is* the primary key, as of when the change was written.
    """
    keys = None if primary_key is None else frozenset(primary_key)
    columns = []
    for column in message.columns:
        pg_type = (
            types.get(column.type_oid) or BUILTIN_TYPES.get(column.type_oid) or unknown_type(column.type_oid)
        )
        if message.replica_identity == "default":
            is_key = column.is_identity
        elif keys is None:
            is_key = column.is_identity and message.replica_identity == "index"
        else:
            is_key = column.name in keys
        columns.append(
            Column(column.name, column.type_oid, pg_type.name, is_key, column.is_identity, pg_type)
        )
    # pgoutput writes an empty name for pg_catalog
    schema = message.schema or "pg_catalog"
    return Relation(message.oid, schema, message.table, tuple(columns), message.replica_identity)


_Member = tuple[str, int, "Callable[[str], str] | None"]
"""A key with its colon, the column's position, and what makes its text JSON (None: nothing needs to)."""


def _member(column: Column, index: int) -> _Member:
    encode = None if is_json_already(column.type) else column_encoder(column.type)
    return f"{quote(column.name)}: ", index, encode


class _Codec:
    """Turns rows of one relation into JSON; all that depends only on the table is worked out once."""

    __slots__ = ("_identity", "_mask", "_members", "count", "encode", "relation")

    def __init__(self, relation: Relation) -> None:
        self.relation = relation
        self.count = len(relation.columns).to_bytes(2, "big")
        self.encode = row_encoder(relation.columns)
        order = sorted(
            range(len(relation.columns)), key=lambda index: jsonb_key_order(relation.columns[index].name)
        )
        self._members = [_member(relation.columns[index], index) for index in order]
        self._identity: list[_Member] = [
            member for member in self._members if relation.columns[member[1]].is_identity
        ]
        self._mask = [column.is_identity for column in relation.columns]

    def row(self, message: bytes) -> Row:
        """The row of an INSERT that was encoded before."""
        return _parse_row(message, _INSERTED_ROW, len(self._mask))[0]

    def record(self, row: Row) -> bytes:
        """The whole row; a value that was not sent has no key."""
        return _json_object(self._members, row)

    def identity_record(self, row: Row) -> bytes:
        """The replica identity's columns only."""
        return _json_object(self._identity, row)

    def identity_of(self, row: Row) -> Row:
        """The row with everything outside the identity blanked."""
        return tuple(value if kept else None for value, kept in zip(row, self._mask, strict=True))


def _json_object(members: list[_Member], row: Row) -> bytes:
    parts = []
    for name, index, encode in members:
        value = row[index]
        if value is None:
            parts.append(name + "null")
        elif value is not UNCHANGED:
            parts.append(name + (encode(value) if encode else value))
    return ("{" + ", ".join(parts) + "}").encode()


class Decoder:
    """Decodes one replication connection's messages; use a new one for each connection.

    A new connection begins with whole transactions, so what was handed out before is left out: those that committed
    before the position ``delivered``, and of the one that commits at the position ``begun`` as many changes as
    ``begun_changes``. A transaction decoded again has the same changes.
    """

    __slots__ = (
        "_before", "_begun", "_begun_changes", "_changes", "_codecs", "_commit_at", "_delivered", "_moment", "_open",
        "_size", "_skip",
    )  # fmt: skip

    def __init__(self, delivered: int = 0, begun: int = 0, begun_changes: int = 0) -> None:
        self._delivered = delivered
        self._begun = begun
        self._begun_changes = begun_changes
        self._codecs: dict[int, _Codec] = {}
        self._changes: list[Change] = []
        self._size = 0
        self._before = 0
        self._skip = 0
        self._commit_at = 0
        self._moment: datetime = timestamp(0)
        self._open = False

    @property
    def idle(self) -> bool:
        """Whether no transaction is half read."""
        return not self._open

    def define(self, relation: Relation) -> None:
        """Use ``relation`` for the changes of its table from now on."""
        self._codecs[relation.oid] = _Codec(relation)

    def decode(self, message: bytes) -> Transaction | RelationMessage | None:
        """Take the next message; return the part or transaction it completes, or the table it describes.

        Raises ProtocolError.
        """
        try:
            return self._decode(message)
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise ProtocolError(
                f"A replication message is cut short or garbled: {message[:40]!r} ({error})."
            ) from error

    def _decode(self, message: bytes) -> Transaction | RelationMessage | None:
        kind = message[0]
        if kind == _INSERT and self._inserted(message):
            return self._part(message)
        if kind in (_INSERT, _UPDATE, _DELETE):
            self._row_change(kind, message)
            return self._part(message)
        if kind == _TRUNCATE:
            self._truncate(message)
            return self._part(message)
        if kind == _BEGIN:
            self._begin(message)
        elif kind == _COMMITTED:
            return self._commit(message)
        elif kind == _RELATION:
            described = _parse_relation(message)
            self.define(complete(described, BUILTIN_TYPES, None))
            return described
        elif kind not in _IGNORED:
            raise ProtocolError(f"PostgreSQL sent a replication message of the unknown kind {message[:1]!r}.")
        return None

    def _begin(self, message: bytes) -> None:
        if self._open:
            raise ProtocolError("PostgreSQL began a transaction inside another one.")
        self._commit_at, committed_at, _xid = _BEGUN.unpack_from(message, 1)
        self._moment = _moment(committed_at)
        self._open = True
        self._before = 0
        if self._commit_at < self._delivered:
            self._skip = sys.maxsize
        else:
            self._skip = self._begun_changes if self._commit_at == self._begun else 0

    def _part(self, message: bytes) -> Transaction | None:
        """Count the message's changes; return those at hand if they are enough for a part."""
        changes = self._changes
        if self._skip:
            skipped = min(self._skip, len(changes))
            del changes[:skipped]
            self._skip -= skipped
            self._before += skipped
            if not changes:
                return None
        self._size += len(message)
        if len(changes) < PART_CHANGES and self._size < PART_BYTES:
            return None
        return self._taken(self._commit_at, self._moment, last=False)

    def _taken(self, position: int, moment: datetime, *, last: bool) -> Transaction:
        taken = Transaction(position, moment, tuple(self._changes), last, self._before, self._size)
        self._before += len(taken.changes)
        self._changes = []
        self._size = 0
        return taken

    def _commit(self, message: bytes) -> Transaction:
        if not self._open:
            raise ProtocolError("PostgreSQL committed a transaction that it had not begun.")
        _flags, _commit_lsn, end_lsn, committed_at = _COMMIT.unpack_from(message, 1)
        self._open = False
        return self._taken(end_lsn, _moment(committed_at), last=True)

    def _codec(self, oid: int) -> _Codec:
        codec = self._codecs.get(oid)
        if codec is None:
            raise ProtocolError(f"PostgreSQL sent a change of the table with oid {oid} before describing it.")
        if not self._open:
            raise ProtocolError("PostgreSQL sent a change outside a transaction.")
        return codec

    def _inserted(self, message: bytes) -> bool:
        """Take an INSERT the fast way, if it is as it should be."""
        codec = self._codec(_UINT32.unpack_from(message, 1)[0])
        if message[5] != _NEW or message[_INSERTED_ROW : _INSERTED_ROW + 2] != codec.count:
            return False
        record = codec.encode(message, _INSERTED_ROW + 2)
        if record is None:
            return False
        self._changes.append(
            Change(codec.relation, "INSERT", record, None, partial(codec.row, message), None)
        )
        return True

    def _row_change(self, kind: int, message: bytes) -> None:
        codec = self._codec(_UINT32.unpack_from(message, 1)[0])
        relation = codec.relation
        count = len(relation.columns)
        marker, position = message[5], 6
        old: Row | None = None
        new: Row | None = None
        old_marker = marker
        if marker in (_OLD, _KEY):
            old, position = _parse_row(message, position, count)
            if kind == _UPDATE:
                marker, position = message[position], position + 1
        if kind != _DELETE:
            if marker != _NEW:
                raise ProtocolError(f"PostgreSQL sent a change without its new row: {message[:40]!r}.")
            new, position = _parse_row(message, position, count)
        if (
            position != len(message)
            or (kind == _DELETE) != (new is None)
            or (kind == _INSERT and old is not None)
        ):
            raise ProtocolError(f"PostgreSQL sent a change of the wrong shape: {message[:40]!r}.")
        if kind == _INSERT and new is not None:
            self._changes.append(Change(relation, "INSERT", codec.record(new), None, new, None))
        elif kind == _UPDATE and new is not None:
            self._changes.append(_update(codec, old, new, full=old_marker == _OLD))
        elif old is not None:
            record = codec.record(old) if old_marker == _OLD else codec.identity_record(old)
            self._changes.append(Change(relation, "DELETE", None, record, None, old))
        else:
            raise ProtocolError(f"PostgreSQL sent a deletion without the old row: {message[:40]!r}.")

    def _truncate(self, message: bytes) -> None:
        count = _UINT32.unpack_from(message, 1)[0]
        for index in range(count):
            relation = self._codec(_UINT32.unpack_from(message, 6 + 4 * index)[0]).relation
            self._changes.append(Change(relation, "TRUNCATE", None, None, None, None))


def _moment(committed_at: int) -> datetime:
    try:
        return timestamp(committed_at)
    except OverflowError as error:
        raise ProtocolError("PostgreSQL sent a commit time out of range.") from error


def _update(codec: _Codec, old: Row | None, new: Row, *, full: bool) -> Change:
    """Make an UPDATE: an untouched large value comes from the old row if that was sent whole, an unsent old key from
    the new row (pgoutput sends the old key only when it changed, Realtime always has it).
    """  # noqa: D205 - one sentence
    if old is not None and full:
        if UNCHANGED in new:
            new = tuple(was if now is UNCHANGED else now for now, was in zip(new, old, strict=True))
        return Change(codec.relation, "UPDATE", codec.record(new), codec.record(old), new, old)
    if old is None:
        old = codec.identity_of(new)
    return Change(codec.relation, "UPDATE", codec.record(new), codec.identity_record(old), new, old)


def _parse_row(message: bytes, position: int, expected: int) -> tuple[Row, int]:
    """Read one row's values; return them and the position behind."""
    count = (message[position] << 8) | message[position + 1]
    if count != expected:
        raise ProtocolError(f"PostgreSQL sent a row of {count} columns for a table of {expected}.")
    position += 2
    values: list[Value] = []
    for _ in range(count):
        kind = message[position]
        if kind == _TEXT:
            start = position + 5
            position = start + _UINT32.unpack_from(message, position + 1)[0]
            values.append(message[start:position].decode())
        elif kind == _NULL:
            position += 1
            values.append(None)
        elif kind == _TOASTED:
            position += 1
            values.append(UNCHANGED)
        else:
            raise ProtocolError(
                f"PostgreSQL sent a value of the unknown kind {message[position : position + 1]!r}."
            )
    if position > len(message):
        raise ProtocolError("PostgreSQL sent a row that is cut short.")
    return tuple(values), position


def _parse_relation(message: bytes) -> RelationMessage:
    oid = _UINT32.unpack_from(message, 1)[0]
    schema, position = _string(message, 5)
    table, position = _string(message, position)
    identity = _IDENTITIES.get(message[position])
    if identity is None:
        raise ProtocolError(f"The table {table} has an unknown replica identity.")
    count = (message[position + 1] << 8) | message[position + 2]
    position += 3
    columns = []
    for _ in range(count):
        is_identity = bool(message[position] & 1)
        name, position = _string(message, position + 1)
        type_oid, _modifier = _COLUMN_TAIL.unpack_from(message, position)
        position += _COLUMN_TAIL.size
        columns.append(RelationColumn(name, type_oid, is_identity))
    return RelationMessage(oid, schema, table, identity, tuple(columns))


def _string(message: bytes, position: int) -> tuple[str, int]:
    end = message.find(b"\0", position)
    if end < 0:
        raise ProtocolError("A name in a replication message does not end.")
    return message[position:end].decode(), end + 1
