"""Follows a publication: a permanent slot, the stream decoded, reconnects, a lost slot said and replaced."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from embedded.errors import ConnectionLost, ProtocolError, ServerError, SlotLost
from embedded.wal.catalog import parse_types, primary_key_query, types_query
from embedded.wal.connection import Connection
from embedded.wal.messages import Keepalive, lsn_text, parse_lsn
from embedded.wal.model import Transaction
from embedded.wal.pgoutput import Decoder, RelationMessage, complete
from embedded.wal.types import BUILTIN_TYPES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from embedded.wal.model import Relation

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0
_SETUP_SECONDS: Final = 60.0  # creating a slot waits for the transactions that are open
_SLOT_QUERY: Final = (
    # older versions have no invalidation_reason
    "SELECT plugin, database, wal_status, to_jsonb(slot) ->> 'invalidation_reason', confirmed_flush_lsn "
    "FROM pg_replication_slots slot WHERE slot_name = "
)
_UNDEFINED_OBJECT: Final = "42704"
_PASSING: Final = frozenset(
    {
        "55006",  # object_in_use: the walsender of our previous connection has not noticed yet
        "53300",  # too_many_connections
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now: starting, or in recovery
    }
)

_log = logging.getLogger(__name__)


class WalClient:
    """Delivers the committed changes of ``publication``, each once, in commit order, over PostgreSQL's unix socket.

    Those of ``more_publications`` come in the same stream, so that their order among each other is kept.

    The replication slot ``slot`` is made if absent and stays: what was not acknowledged comes again after a restart of
    this process. While ``transactions`` is iterated the client reconnects by itself, for ever, and goes on where it
    was. ``on_live`` is told when the stream goes up (True) and down (False); ``on_slot_lost`` when the slot had been
    invalidated, so that changes were missed; without it a warning is logged.
    """

    def __init__(
        self,
        socket_dir: Path,
        port: int,
        *,
        database: str = "postgres",
        user: str = "postgres",
        publication: str = "supabase_realtime",
        more_publications: Sequence[str] = (),
        slot: str = "supabase_realtime_embedded",
        status_seconds: float = 1.0,
        on_live: Callable[[bool], None] | None = None,
        on_slot_lost: Callable[[SlotLost], None] | None = None,
    ) -> None:
        self._socket_dir = socket_dir
        self._port = port
        self._database = database
        self._user = user
        self._publications = (publication, *more_publications)
        self._slot = slot
        self._status_seconds = status_seconds
        self._on_live = on_live
        self._on_slot_lost = on_slot_lost
        self._stream: Connection | None = None
        self._catalog: Connection | None = None
        self._live = asyncio.Event()
        self._delivered = 0
        self._acknowledged = 0
        self._begun = (0, 0)
        """Where the transaction commits that was delivered in part, and how many of its changes were."""
        self._streamed = False
        """Whether the stream was ever up: then a slot that is absent was dropped, and changes with it."""

    @property
    def live(self) -> bool:
        """Whether the stream is up: whatever commits from now on is on its way to us."""
        return self._live.is_set()

    async def wait_live(self) -> None:
        """Return as soon as the stream is up; somebody else must be iterating ``transactions``."""
        await self._live.wait()

    def acknowledge(self, lsn: int) -> None:
        """Say that everything up to a transaction's ``commit_lsn`` was dealt with, so that PostgreSQL may forget it.

        Of a transaction in parts that is the last part's. Reported within a second. Without it the slot keeps WAL until it is invalidated.
        """
        self._acknowledged = max(self._acknowledged, lsn)
        if self._stream is not None:
            self._stream.flushed = self._acknowledged

    async def transactions(self) -> AsyncIterator[Transaction]:
        """Yield the transactions that changed published tables. Iterate once at a time, inside contextlib.aclosing.

        Never ends by itself. Raises ServerError for what waiting does not mend (no such publication, wal_level too
        low), ProtocolError when PostgreSQL sends what cannot be read. A large transaction comes in parts; when the
        connection breaks in between, the rest of it follows as soon as there is a new one.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                self._stream = await self._open_stream()
                decoder = Decoder(self._delivered, *self._begun)
                self._streamed = True
                self._set_live(live=True)
                while True:
                    for transaction in await self._read(self._stream, decoder):
                        pause = _FIRST_PAUSE_SECONDS
                        if transaction.last:
                            self._delivered = transaction.commit_lsn
                        else:
                            self._begun = (
                                transaction.commit_lsn,
                                transaction.before + len(transaction.changes),
                            )
                        yield transaction
            except (ConnectionLost, ServerError) as error:
                if isinstance(error, ServerError) and error.sqlstate not in _PASSING:
                    raise
                _log.info("%s Trying again.", error)
            finally:
                self._disconnect()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    # ---- one connection ----

    async def _read(self, stream: Connection, decoder: Decoder) -> list[Transaction]:
        """Wait for messages and return what they complete that was not delivered before."""
        completed: list[Transaction] = []
        for message in await stream.receive():
            if isinstance(message, Keepalive):
                if decoder.idle and not completed:
                    self._pass_over(message.wal_end)
                if message.reply_requested:
                    stream.send_status()
                continue
            event = decoder.decode(message.data)
            if isinstance(event, RelationMessage):
                decoder.define(await self._describe(event))
            elif isinstance(event, Transaction) and not (event.last and event.commit_lsn <= self._delivered):
                if event.changes or event.before:
                    completed.append(event)
                elif not completed:
                    self._pass_over(event.commit_lsn)
        return completed

    def _pass_over(self, lsn: int) -> None:
        """Acknowledge WAL without anything for us, unless something before it still waits to be acknowledged.

        Otherwise a quiet table would keep all the WAL of a busy one, and PostgreSQL's shutdown would wait for us.
        """
        if self._acknowledged >= self._delivered:
            self.acknowledge(lsn)

    async def _open_stream(self) -> Connection:
        stream = await self._connect(replication=True)
        try:
            async with asyncio.timeout(_SETUP_SECONDS):
                await self._require_publication(stream)
                await self._ensure_slot(stream)
                names = ",".join(map(_list_item, self._publications))
                options = f"proto_version '1', publication_names '{names}'"
                start = f"{_identifier(self._slot)} LOGICAL {lsn_text(self._acknowledged)}"
                stream.flushed = self._acknowledged
                await stream.start_stream(f"START_REPLICATION SLOT {start} ({options})")
        except TimeoutError:
            stream.close()
            raise ConnectionLost(
                f"The replication slot {self._slot} could not be opened within {_SETUP_SECONDS:g} s; "
                "a transaction may have been open all that time."
            ) from None
        except BaseException:
            stream.close()
            raise
        return stream

    async def _connect(self, *, replication: bool) -> Connection:
        return await Connection.open(
            self._socket_dir,
            self._port,
            user=self._user,
            database=self._database,
            replication=replication,
            status_seconds=self._status_seconds,
        )

    async def _require_publication(self, connection: Connection) -> None:
        for name in self._publications:
            found = await connection.query(f"SELECT FROM pg_publication WHERE pubname = {_literal(name)}")
            if not found:
                message = f'publication "{name}" does not exist in database "{self._database}"'
                raise ServerError(_UNDEFINED_OBJECT, message, "Create it, or run embedded/bootstrap.sql.")

    async def _ensure_slot(self, connection: Connection) -> None:
        """Make the slot if it is absent, and replace it, saying so, if it was invalidated or dropped behind our back."""
        rows = await connection.query(_SLOT_QUERY + _literal(self._slot))
        lost: SlotLost | None = None
        if rows:
            plugin, database, wal_status, reason, confirmed = rows[0]
            if plugin != "pgoutput" or database != self._database:
                raise ProtocolError(
                    f"The replication slot {self._slot} belongs to plugin {plugin} in database {database}; "
                    "drop it or choose another name."
                )
            if wal_status != "lost" and reason is None:
                return
            lost = SlotLost(self._slot, reason or "wal_removed", parse_lsn(confirmed) if confirmed else None)
            await connection.query(f"DROP_REPLICATION_SLOT {_identifier(self._slot)}")
        if lost is not None or self._streamed:
            # said before there is a new one, which waits for the transactions that are open, and said once
            self._streamed = False
            self._say_lost(lost or SlotLost(self._slot, "dropped", None))
        await connection.query(
            f"CREATE_REPLICATION_SLOT {_identifier(self._slot)} LOGICAL pgoutput (SNAPSHOT 'nothing')"
        )
        # A new slot begins now; positions of an old one, or of another cluster that was here, mean nothing to it.
        self._delivered = self._acknowledged = 0
        self._begun = (0, 0)

    def _say_lost(self, lost: SlotLost) -> None:
        if self._on_slot_lost is not None:
            self._on_slot_lost(lost)
        else:
            _log.warning("%s", lost)

    async def _describe(self, message: RelationMessage) -> Relation:
        """Complete a table's description from the catalog, as it is now (a dropped table keeps what is known)."""
        unknown = {column.type_oid for column in message.columns} - BUILTIN_TYPES.keys()
        if not unknown and message.replica_identity == "default":
            return complete(message, BUILTIN_TYPES, None)
        if self._catalog is None:
            self._catalog = await self._connect(replication=False)
        types = parse_types(await self._catalog.query(types_query(unknown))) if unknown else {}
        key = await self._catalog.query(primary_key_query(message.oid))
        return complete(message, types, [row[0] for row in key if row[0] is not None])

    def _set_live(self, *, live: bool) -> None:
        if live == self._live.is_set():
            return
        if live:
            self._live.set()
        else:
            self._live.clear()
        if self._on_live is not None:
            self._on_live(live)

    def _disconnect(self) -> None:
        for connection in (self._stream, self._catalog):
            if connection is not None:
                connection.close()
        self._stream = self._catalog = None
        self._set_live(live=False)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _list_item(name: str) -> str:
    """An identifier inside a string literal, as publication_names takes it."""
    return _identifier(name).replace("'", "''")
