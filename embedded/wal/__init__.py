"""PostgreSQL's logical replication: pure protocol and decoder, and a small asyncio client (embedded.wal.client)."""

from embedded.wal.model import (
    UNCHANGED,
    Change,
    ChangeType,
    Column,
    Relation,
    ReplicaIdentity,
    Row,
    Transaction,
    Unchanged,
    Value,
)

__all__ = [
    "UNCHANGED",
    "Change",
    "ChangeType",
    "Column",
    "Relation",
    "ReplicaIdentity",
    "Row",
    "Transaction",
    "Unchanged",
    "Value",
]
