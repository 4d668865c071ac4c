"""PostgreSQL checks: connections, locks, replication, slow queries, size, each by one statement.

A statement that the server refuses (a right that is missing, an extension that is not there) leaves its part null and
says why under ``unavailable``: a capability, not an error. Reading all needs ``pg_monitor``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import asyncpg

from collectors.checks.config import PostgresCheck
from collectors.checks.result import Result
from monitoring.device_status import Outcome

_CONNECTIONS = """
select (select setting::int from pg_settings where name = 'max_connections') as limit,
       count(*) as used,
       count(*) filter (where state = 'active') as active,
       count(*) filter (where state = 'idle') as idle,
       count(*) filter (where state like 'idle in transaction%') as idle_in_transaction,
       count(*) filter (where wait_event_type = 'Lock') as waiting_for_lock,
       extract(epoch from max(now() - xact_start) filter (where state <> 'idle'))::float8 as longest_transaction_seconds
from pg_stat_activity where backend_type = 'client backend'
"""
_LOCKS = """
select count(*) as held, count(*) filter (where not granted) as waiting,
       extract(epoch from max(now() - waitstart))::float8 as longest_wait_seconds,
       (select deadlocks from pg_stat_database where datname = current_database()) as deadlocks
from pg_locks
"""
_REPLICATION = """
select pg_is_in_recovery() as replica,
       case when pg_is_in_recovery() then
         case when pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() then 0.0
              else extract(epoch from now() - pg_last_xact_replay_timestamp())::float8 end
       end as lag_seconds
"""
_REPLICAS = """
select application_name as name, state,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::int8 as lag_bytes,
       extract(epoch from replay_lag)::float8 as lag_seconds
from pg_stat_replication order by 1
"""
_SLOTS = """
select slot_name as name, active, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 as retained_bytes
from pg_replication_slots order by 1
"""
_SIZE = "select pg_database_size(current_database()) as database_bytes"
_STATEMENTS_WHERE = """
select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
where e.extname = 'pg_stat_statements'
"""
_STATEMENTS = """
select left(regexp_replace(query, '\\s+', ' ', 'g'), 200) as query, calls,
       round(mean_exec_time::numeric, 3)::float8 as mean_ms, round(total_exec_time::numeric, 3)::float8 as total_ms, rows
from {schema}.pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database())
order by mean_exec_time desc limit $1
"""
_NO_EXTENSION = "the extension pg_stat_statements is not in this database"
_SETTINGS = {"application_name": "crossfade-check", "default_transaction_read_only": "on"}


class PostgresProbe:
    """Asks one database, over a connection of its own each time."""

    def __init__(self, check: PostgresCheck) -> None:
        self._check = check

    async def __call__(self) -> Result:
        """Ask once. Never raises for what the database does."""
        check = self._check
        began = time.perf_counter()
        connection: Any = None
        try:
            async with asyncio.timeout(check.timeout_seconds):
                connection = await asyncpg.connect(check.postgres, server_settings=_SETTINGS)
                connected = time.perf_counter() - began
                details = await self._read(connection)
                latency = time.perf_counter() - began
        except TimeoutError:
            return Result(Outcome.SILENT, f"no answer within {check.timeout_seconds:g} s")
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return Result(Outcome.REFUSED, f"it refuses: {error}")
        except ConnectionRefusedError:
            return Result(Outcome.REFUSED, "the connection is refused; nothing listens there")
        except OSError as error:
            return Result(Outcome.SILENT, f"it cannot be reached: {error.strerror or error}")
        finally:
            if connection is not None:
                connection.terminate()  # what it was asked is answered, or it does not answer
        details["connect_ms"] = round(connected * 1000, 2)
        outcome, reason = graded(details, check, latency)
        return Result(outcome, reason, latency, details)

    async def _read(self, connection: Any) -> dict[str, Any]:
        unavailable: dict[str, str] = {}

        async def rows(what: str, statement: str, *arguments: object) -> list[dict[str, Any]] | None:
            try:
                return [dict(row) for row in await connection.fetch(statement, *arguments)]
            except asyncpg.PostgresError as error:
                unavailable[what] = str(error)
                return None

        async def row(what: str, statement: str) -> dict[str, Any] | None:
            found = await rows(what, statement)
            return found[0] if found else None

        replication = await row("replication", _REPLICATION)
        primary = replication is not None and not replication["replica"]
        size = await row("size", _SIZE)
        details: dict[str, Any] = {
            "version": connection.get_settings().server_version,
            "connections": await row("connections", _CONNECTIONS),
            "locks": await row("locks", _LOCKS),
            "replication": {
                **replication,
                # only a primary can say how far its replicas are
                "replicas": await rows("replicas", _REPLICAS) if primary else None,
                "slots": await rows("slots", _SLOTS) if primary else None,
            }
            if replication
            else None,
            "size_bytes": size["database_bytes"] if size else None,
            "slow_queries": None,
        }
        if self._check.slow_queries:
            schema = await connection.fetchval(_STATEMENTS_WHERE)
            if schema is None:
                unavailable["slow_queries"] = _NO_EXTENSION
            else:
                statement = _STATEMENTS.format(schema=schema)
                details["slow_queries"] = await rows("slow_queries", statement, self._check.slow_queries)
        return {**details, "unavailable": unavailable}


def graded(details: Mapping[str, Any], check: PostgresCheck, latency: float) -> tuple[Outcome, str]:
    """Return how a database that answers is: whole, or partial with the reason."""
    connections, replication = details["connections"], details["replication"]
    if connections is not None and connections["limit"]:
        percent = 100 * connections["used"] / connections["limit"]
        if percent > check.connections_percent:
            said = f"{connections['used']} of {connections['limit']} connections are in use"
            return Outcome.PARTIAL, said
    if replication is not None:
        behind = [("it", replication["lag_seconds"])]
        behind += [(replica["name"], replica["lag_seconds"]) for replica in replication["replicas"] or ()]
        for name, seconds in behind:
            if seconds is not None and seconds > check.replication_lag:
                return Outcome.PARTIAL, f"{name} is {seconds:.0f} s behind its primary"
    if check.slow is not None and latency > check.slow:
        return Outcome.PARTIAL, f"it answers after {latency:.2f} s, slower than {check.slow:g} s"
    return Outcome.WHOLE, "it answers"
