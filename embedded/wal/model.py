"""What the replication stream is made of, as values: transactions of row changes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from embedded.wal.types import PgType

ChangeType = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
ReplicaIdentity = Literal["default", "nothing", "full", "index"]


class Unchanged(Enum):
    """The type of UNCHANGED alone, so that type checkers can tell it from text and None."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged.UNCHANGED
"""Stands for a large value that an UPDATE did not touch and PostgreSQL therefore did not send."""

Value = str | None | Literal[Unchanged.UNCHANGED]
"""One column's value as PostgreSQL prints it (UTC, ISO dates); None is SQL's NULL."""

Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One published column of a table.

    ``type_name`` is ``pg_type.typname`` (``int4``, ``_text``); ``is_key`` says that it is part of the primary key,
    ``is_identity`` that it is part of the replica identity, so that it is in ``Change.old`` of a DELETE.
    ``type`` describes the type in full.
    """

    name: str
    type_oid: int
    type_name: str
    is_key: bool
    is_identity: bool
    type: PgType


@dataclass(frozen=True, slots=True)
class Relation:
    """A published table as it was when its changes were written; columns in the order of the table.

    The same object is used for all changes until the table is altered.
    """

    oid: int
    schema: str
    table: str
    columns: tuple[Column, ...]
    replica_identity: ReplicaIdentity

    @property
    def key(self) -> tuple[Column, ...]:
        """The primary key's columns in the order of the table; empty without a primary key."""
        return tuple(column for column in self.columns if column.is_key)


class Change:
    """One row's change, or the truncation of one table.

    ``record`` (INSERT, UPDATE) and ``old_record`` (UPDATE, DELETE) are JSON objects in the form Realtime sends: the
    values of ``to_jsonb``, keys in jsonb's order, UTF-8. ``old_record`` has the identity columns only, or the whole
    row under REPLICA IDENTITY FULL. ``new`` and ``old`` are the same rows column by column, as PostgreSQL's text;
    in ``old`` the columns outside the identity are None. Not to be altered.

    ``new`` may be given as a function: most changes are never looked at column by column.
    """

    __slots__ = ("_new", "old", "old_record", "record", "relation", "type")

    def __init__(
        self,
        relation: Relation,
        type: ChangeType,  # noqa: A002 - what the protocol calls it
        record: bytes | None,
        old_record: bytes | None,
        new: Row | Callable[[], Row] | None,
        old: Row | None,
    ) -> None:
        self.relation = relation
        self.type = type
        self.record = record
        self.old_record = old_record
        self._new = new
        self.old = old

    @property
    def new(self) -> Row | None:
        """The row as it is now."""
        row = self._new
        if callable(row):
            row = self._new = row()
        return row

    def __repr__(self) -> str:
        table = f"{self.relation.schema}.{self.relation.table}"
        return f"Change({table}, {self.type}, {self.record!r}, {self.old_record!r})"


@dataclass(frozen=True, slots=True)
class Transaction:
    """A committed transaction, or a part of a large one; only changes of published tables, in the order they were made.

    ``commit_lsn`` is the position just behind the commit: greater for each later transaction, unique, and what
    ``WalClient.acknowledge`` takes. Parts of one transaction follow each other without anything in between; all but
    the ``last`` have the position of the commit itself, which is not for acknowledging.
    """

    commit_lsn: int
    commit_timestamp: datetime
    changes: tuple[Change, ...]
    last: bool = True
    """Whether nothing of the transaction comes after this."""
    before: int = 0
    """How many of its changes came in earlier parts."""
    size: int = 0
    """Bytes of the messages that the changes were made from: about half the memory that they take."""
