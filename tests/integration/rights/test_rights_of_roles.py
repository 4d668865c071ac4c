"""What each role may do with each of our tables and functions, in a real PostgreSQL, with a row in every table.

A table or function that is not named here fails a test: whoever adds one says who may read it.
"""

# ruff: noqa: S608 - what is put into statements is named here, or by the catalogue
from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg
import pytest

from tests.conftest import EmbeddedSupabase

SUBJECT = "00000000-0000-4000-8000-000000000001"


def claims(role: str, crossfade_role: Any = None, **more: Any) -> dict[str, Any]:
    said = {"role": role, "sub": SUBJECT, **more}
    return said if crossfade_role is None else said | {"app_metadata": {"crossfade_role": crossfade_role}}


WHO: Mapping[str, dict[str, Any]] = {
    "anon": claims("anon"),
    "anon who says he is an admin": claims("anon", "admin"),
    "signed in, no role": claims("authenticated"),
    "a role written by the user himself": claims("authenticated", user_metadata={"crossfade_role": "admin"}),
    "an unknown role": claims("authenticated", "superuser"),
    "a role that is no text": claims("authenticated", ["admin"]),
    "viewer": claims("authenticated", "viewer"),
    "operator": claims("authenticated", "operator"),
    "admin": claims("authenticated", "admin"),
    "service_role": claims("service_role"),
}
READERS = frozenset({"viewer", "operator", "admin"})

FOR_READERS = frozenset(
    {
        "cf_agents", "cf_alert_silences", "cf_alerts", "cf_commands", "cf_connections_latest",
        "cf_containers_latest", "cf_delivery", "cf_devices", "cf_devices_latest", "cf_events",
        "cf_flags_audit", "cf_levels", "cf_metrics", "cf_paths", "cf_project_members", "cf_projects",
        "cf_publishers", "cf_requests_latest", "cf_rollout_journal", "cf_rollup_pending", "cf_rollups",
        "cf_samples", "cf_semaphores_latest", "cf_sessions_latest", "cf_status_changes", "cf_storage",
        "cf_stream_heads", "cf_stream_latest", "cf_validation_runs",
    }
)  # fmt: skip
FOR_OPERATORS = frozenset({"cf_audit", "cf_validation_findings"})
FOR_NOBODY = frozenset(
    {
        "cf_api_keys", "cf_device_interest", "cf_leases", "cf_log_interest", "cf_outbox",
    }
)  # fmt: skip
"""And partitions: they are read through their table, whose policy they do not have."""

OPERATORS_MAY = {"cf_projects": {"insert"}, "cf_project_members": {"insert", "delete"}}
"""Tables that operators write, too, and how; columns of projects that they may update are not asked for here."""

SECRET_COLUMNS = ("username", "key_file", "passphrase_from", "password_from", "agent", "jump", "host_key")

FOR_ALL_FUNCTIONS = frozenset(
    {
        "cf_availability", "cf_bin", "cf_caller", "cf_caller_name", "cf_check_intervals",
        "cf_delivery_state", "cf_event_json", "cf_event_rates", "cf_events_after", "cf_fields",
        "cf_find_events", "cf_heads", "cf_is_operator", "cf_is_reader", "cf_leaves", "cf_level_for",
        "cf_may_control", "cf_overview", "cf_percentiles", "cf_points", "cf_positions_back", "cf_project_json",
        "cf_rates", "cf_role", "cf_selects", "cf_series", "cf_snapshot", "cf_top", "cf_watched",
    }
)  # fmt: skip
"""They run with the caller's rights, so that the tables' policies are what counts."""
FOR_SIGNED_IN_FUNCTIONS = frozenset(
    {
        "cf_audit_begin", "cf_audit_end", "cf_cancel_command", "cf_container_up", "cf_create_key",
        "cf_end_logs", "cf_follow_logs", "cf_list_keys", "cf_poll_commands", "cf_register_agent",
        "cf_report_command", "cf_revoke_key", "cf_status_up", "cf_submit_command", "cf_watch_devices",
    }
)  # fmt: skip
"""They ask for the role themselves."""


@pytest.fixture
async def owner(embedded_supabase: EmbeddedSupabase) -> AsyncIterator[asyncpg.Connection]:
    """The database's owner, in a transaction that comes to nothing."""
    connection = await asyncpg.connect(embedded_supabase.postgres.dsn())
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


async def tables(owner: asyncpg.Connection) -> list[tuple[str, bool]]:
    """Return our tables and views, and whether each is a partition of another."""
    rows = await owner.fetch(
        "select relname, relispartition from pg_class where relnamespace = 'public'::regnamespace"
        " and relkind in ('r', 'p', 'v', 'm', 'f') and relname like 'cf\\_%' order by 1"
    )
    return [tuple(row) for row in rows]


async def fill(owner: asyncpg.Connection, table: str) -> None:
    """Put a row into a table, whatever its constraints: what is in it does not matter here."""
    if table.startswith("cf_rollups"):
        await owner.execute("select public.cf_level_partition(1, now())")
    constraints = await owner.fetch(
        "select conname from pg_constraint where conrelid = $1::regclass and contype in ('c', 'f') and conislocal",
        table,
    )
    for (name,) in constraints:
        await owner.execute(f'alter table public.{table} drop constraint "{name}" cascade')
    await owner.execute("set local session_replication_role = replica")
    columns = await owner.fetch(
        "select attname, format_type(atttypid, null) from pg_attribute where attrelid = $1::regclass and attnum > 0"
        " and not attisdropped and attgenerated = '' and attidentity = '' and attnotnull order by attnum",
        table,
    )
    values = [f"{VALUES.get((table, name)) or VALUES[kind]} :: {kind}" for name, kind in columns]
    names = ", ".join(name for name, _ in columns)
    await owner.execute(
        f"insert into public.{table} ({names}) values ({', '.join(values)}) on conflict do nothing"
    )
    await owner.execute("set local session_replication_role = origin")


VALUES: dict[Any, str] = {
    "text": "'x'", "uuid": f"'{SUBJECT}'", "bigint": "1", "integer": "1", "smallint": "1", "boolean": "false",
    "jsonb": "'{}'", "jsonpath": "'$'", "double precision": "1", "interval": "'1 day'", "timestamp with time zone": "now()", "date": "now()",
    "bytea": "''", "text[]": "'{}'", "bigint[]": "'{}'", "double precision[]": "'{}'", "integer[]": "'{}'",
    "real[]": "'{}'", "smallint[]": "'{}'", "timestamp with time zone[]": "'{}'", "numeric": "1",
}  # fmt: skip


async def become(connection: asyncpg.Connection, who: str) -> None:
    said = WHO[who]
    await connection.execute(f"set local role {said['role']}")
    await connection.execute("select set_config('request.jwt.claims', $1, true)", json.dumps(said))


async def attempt(connection: asyncpg.Connection, statement: str) -> str:
    """Return what a statement came to: ``denied``, or how many rows it saw or touched."""
    try:
        async with connection.transaction():
            if statement.startswith("select"):
                return str(await connection.fetchval(statement))
            return (await connection.execute(statement)).rpartition(" ")[2]
    except asyncpg.InsufficientPrivilegeError:
        return "denied"
    except asyncpg.NotNullViolationError:
        return "let in"


def wanted(who: str, table: str, *, partition: bool) -> str:
    """Return what reading a table that has one row should come to."""
    if who == "service_role":
        return "1"
    if who.startswith("anon") or partition or table in FOR_NOBODY:
        return "denied"
    allowed = READERS - {"viewer"} if table in FOR_OPERATORS else READERS
    return "1" if who in allowed else "0"


def may(who: str, table: str, word: str) -> str:
    """Return what writing to a table that has one row should come to; rows that a policy hides are not there."""
    if word not in OPERATORS_MAY.get(table, ()) or who.startswith("anon"):
        return "denied"
    if who in READERS - {"viewer"}:
        return {"insert": "let in", "delete": "1"}[word]
    return {"insert": "denied", "delete": "0"}[word]


@pytest.mark.parametrize("who", WHO)
async def test_rows_are_read_by_whom_they_are_for_and_written_by_the_service_alone(
    owner: asyncpg.Connection, who: str
) -> None:
    wrong = []
    for table, partition in await tables(owner):
        assert partition or table in FOR_READERS | FOR_OPERATORS | FOR_NOBODY, f"who may read {table}?"
        async with _undone(owner):
            if not partition and not await owner.fetchval(f"select exists (select from public.{table})"):
                await fill(owner, table)
            key = await owner.fetchval(
                "select attname from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped"
                " and attidentity = '' and attgenerated = ''"
                " order by attnum limit 1",
                table,
            )
            await become(owner, who)
            read = await attempt(
                owner, f"select count(*) from (select {key} from public.{table} limit 1) one"
            )
            if read != wanted(who, table, partition=partition) and not (partition and who == "service_role"):
                wrong.append(f"{table}: read {read}")
            if who == "service_role":
                continue
            for statement in (
                f"insert into public.{table} default values",
                f"update public.{table} set {key} = {key}",
                f"delete from public.{table}",
                f"truncate public.{table}",
            ):
                came_to = await attempt(owner, statement)
                if came_to != may(who, table, statement.partition(" ")[0]):
                    wrong.append(f"{statement}: {came_to}")
    assert wrong == []


class _undone:  # noqa: N801 - reads as a word
    """A savepoint that is always rolled back, with the role that was set in it."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._transaction = connection.transaction()

    async def __aenter__(self) -> None:
        await self._transaction.start()

    async def __aexit__(self, *_: object) -> None:
        await self._transaction.rollback()


@pytest.mark.parametrize("who", [who for who in WHO if who != "service_role"])
async def test_how_to_get_into_a_device_is_for_the_service_alone(owner: asyncpg.Connection, who: str) -> None:
    await become(owner, who)
    for column in SECRET_COLUMNS:
        assert await attempt(owner, f"select {column} from public.cf_devices limit 1") == "denied"
    assert (
        await attempt(owner, "select count(*) from (select * from public.cf_devices) all_columns") == "denied"
    )


async def test_every_table_is_under_row_level_security(owner: asyncpg.Connection) -> None:
    without = await owner.fetch(
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
        " and relname like 'cf\\_%' and not relrowsecurity and not (relispartition and relkind = 'r' and not"
        " has_table_privilege('authenticated', oid, 'select') and not has_table_privilege('anon', oid, 'select'))"
    )
    assert [name for (name,) in without] == []


async def test_functions_are_for_whom_they_are_named_here(owner: asyncpg.Connection) -> None:
    found = await owner.fetch(
        "select proname, bool_or(has_function_privilege('anon', oid, 'execute')),"
        " bool_or(has_function_privilege('authenticated', oid, 'execute')), bool_or(prosecdef)"
        " from pg_proc where pronamespace = 'public'::regnamespace and proname like 'cf\\_%' group by 1"
    )
    assert {name for name, anon, _, _ in found if anon} == FOR_ALL_FUNCTIONS
    assert {
        name for name, _, signed_in, _ in found if signed_in
    } == FOR_ALL_FUNCTIONS | FOR_SIGNED_IN_FUNCTIONS
    assert not FOR_ALL_FUNCTIONS & {name for name, _, _, definer in found if definer}


@pytest.mark.parametrize("who", WHO)
async def test_the_functions_of_clients_show_what_the_tables_would(
    owner: asyncpg.Connection, who: str
) -> None:
    for table in ("cf_stream_heads", "cf_stream_latest", "cf_events"):
        await owner.execute(f"delete from public.{table}")
        await fill(owner, table)
    await become(owner, who)
    seen = "t" if who in READERS or who == "service_role" else "denied" if who.startswith("anon") else "f"
    for statement in (
        "select left((cf_heads() <> '{}')::text, 1)",
        "select left((cf_snapshot() -> 'cursor' <> '{}')::text, 1)",
        "select left((cf_events_after('{}') -> 'heads' <> '{}')::text, 1)",
    ):
        assert await attempt(owner, statement) == seen, statement
    follows = (
        "select left((cf_follow_logs($$" + SUBJECT + "$$, 'd', 'c') ->> 'channel' = 'logs:d/c')::text, 1)"
    )
    assert await attempt(owner, follows) == ("t" if seen == "t" else "denied")
