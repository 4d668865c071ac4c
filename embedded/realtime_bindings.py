"""Checks what a join subscribes to against the database: tables, columns, filters and their literals.

What is wrong is said in the real server's words, which come from a trigger there: BadSubscription has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from embedded.phoenix import filters, matching
from embedded.phoenix.errors import BadSubscription
from embedded.phoenix.filters import Filter
from embedded.phoenix.matching import ColumnType, Condition
from embedded.realtime_faults import raise_if_transient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedded.phoenix.bindings import Binding

Compiler = Callable[[Filter, ColumnType], Condition]

_UNABLE: Final = "Unable to subscribe to changes with given parameters. "


_PUBLISHED: Final = """
select p.schemaname::text, p.tablename::text,
  (select json_agg(json_build_object(
      'name', a.attname, 'type', t.typname, 'sql', format_type(a.atttypid, -1),  -- a literal longer than char(n) must not be cut to match
      'plain', t.typtype in ('b', 'e'), 'enum', t.typtype = 'e',
      'bytewise', case
        when a.attcollation = 0 then true
        when a.attcollation = 100 then (
          select d.datlocprovider = 'b'
            or (d.datlocprovider = 'c' and d.datcollate in ('C', 'POSIX', 'C.UTF-8', 'C.utf8'))
          from pg_database d where d.datname = current_database())
        else o.collname in ('C', 'POSIX', 'C.UTF-8', 'C.utf8', 'ucs_basic', 'pg_c_utf8') end,
      'deterministic', coalesce(o.collisdeterministic, true),
      'readable', has_column_privilege($2::name, c.oid, a.attnum, 'SELECT')
    ) order by a.attnum)::text
   from pg_attribute a
   join pg_type t on t.oid = a.atttypid
   left join pg_collation o on o.oid = a.attcollation
   where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
from pg_publication_tables p
join pg_namespace n on n.nspname = p.schemaname
join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
where p.pubname = $1 and exists (
  select from unnest($3::text[], $4::text[]) w(s, t)
  where p.schemaname::text like w.s and p.tablename::text like w.t)
"""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A binding that was checked against the database.

    `conditions` are compiled for each table it covered by name; tables made later match only without filters.
    """

    binding: Binding
    conditions: dict[tuple[str, str], tuple[Condition, ...]]


async def resolve(
    connection: Any, publication: str, wanted: Sequence[Binding], role: str, compiler: Compiler
) -> tuple[Resolved, ...]:
    """Return the bindings of one join, checked as the role may see the tables.

    Raises BadSubscription if any of them cannot be, and asyncpg's errors of a server that may answer in a moment.
    """
    schemas = [binding.schema for binding in wanted]
    tables = [binding.table for binding in wanted]
    try:
        rows = await connection.fetch(_PUBLISHED, publication, role, schemas, tables)
    except asyncpg.PostgresError as error:
        raise_if_transient(error)
        raise _exception(wanted[0], error) from error
    found = [(schema, table, json.loads(columns)) for schema, table, columns in rows]
    return tuple([await _resolve(connection, binding, found, compiler) for binding in wanted])


async def _resolve(
    connection: Any,
    binding: Binding,
    found: list[tuple[str, str, list[dict[str, Any]]]],
    compiler: Compiler,
) -> Resolved:
    covered = [entry for entry in found if binding.covers(entry[0], entry[1])]
    if not covered:
        raise BadSubscription(
            f"{_UNABLE}Please check Realtime is enabled for the given connect parameters: {binding.described()}"
        )
    conditions: dict[tuple[str, str], tuple[Condition, ...]] = {}
    for schema, table, columns in covered:
        types = {column["name"]: _column_type(column) for column in columns if column["readable"]}
        try:
            checked = [await _check(connection, wanted, types) for wanted in binding.filters]
            _check_select(binding, types)
        except _Invalid as error:
            raise _exception(binding, error) from error
        except asyncpg.PostgresError as error:
            raise_if_transient(error)
            raise _exception(binding, error) from error
        conditions[schema, table] = tuple(compiler(wanted, types[wanted.column]) for wanted in checked)
    return Resolved(binding, conditions)


def _check_select(binding: Binding, types: dict[str, ColumnType]) -> None:
    for name in binding.select or ():
        if name not in types:
            raise _Invalid(f"invalid column for select {name}")


class _Invalid(Exception):  # noqa: N818  # internal, stands for the P0001 that the real server's trigger raises
    sqlstate = "P0001"


def _exception(binding: Binding, error: _Invalid | asyncpg.PostgresError) -> BadSubscription:
    name = "raise_exception" if isinstance(error, _Invalid) else _condition_name(error)
    return BadSubscription(
        f"{_UNABLE}An exception happened so please check your connect parameters: {binding.described()}. "
        f"Exception: ERROR {error.sqlstate} ({name}) {error}"
    )


def _condition_name(error: asyncpg.PostgresError) -> str:
    """Return PostgreSQL's condition name; asyncpg names its classes after them."""
    words = re.findall(r"[A-Z][a-z0-9]*", type(error).__name__.removesuffix("Error"))
    return "_".join(words).lower()


def _column_type(column: dict[str, Any]) -> ColumnType:
    return ColumnType(
        name=column["type"],
        sql=column["sql"],
        plain=column["plain"],
        enum=column["enum"],
        bytewise=column["bytewise"],
        deterministic=column["deterministic"],
    )


async def _check(connection: Any, wanted: Filter, types: dict[str, ColumnType]) -> Filter:
    """Return the filter with canonical literals; raises _Invalid or what PostgreSQL says about a literal."""
    column = types.get(wanted.column)
    if column is None:
        raise _Invalid(f"invalid column for filter {wanted.column}")
    match wanted.operator:
        case "is":
            literal = wanted.values[0].lower()
            if literal not in ("null", "true", "false", "unknown"):
                raise _Invalid("invalid value for is filter: must be null, true, false, or unknown")
            if literal != "null" and column.name != "bool":
                raise _Invalid(f"is {literal} filter requires a boolean column, got {column.sql}")
            return wanted
        case "like" | "ilike" | "match" | "imatch":
            if not column.text_compatible:
                raise _Invalid(
                    f"operator {wanted.operator} requires a text-compatible column type, got {column.sql}"
                )
            if wanted.operator in ("match", "imatch"):
                await _check_regex(connection, wanted)
            return wanted
        case "in" if len(wanted.values) > filters.MAX_IN_VALUES:
            raise _Invalid(f"too many values for `in` filter. Maximum {filters.MAX_IN_VALUES}")
        case _:
            values = wanted.values
            if not all(matching.is_canonical(column, value) for value in values):
                values = tuple(
                    await connection.fetchval(
                        f"select array(select (v::{column.sql})::text"  # noqa: S608  # format_type's spelling
                        " from unnest($1::text[]) with ordinality u(v, n)"
                        " order by n)",
                        list(values),
                    )
                )
            return filters.Filter(wanted.column, wanted.operator, values, wanted.negated)


async def _check_regex(connection: Any, wanted: Filter) -> None:
    try:
        await connection.fetchval("select '' ~ $1", wanted.values[0])
    except asyncpg.InvalidRegularExpressionError as error:
        raise _Invalid(f"invalid regular expression for {wanted.operator} filter: {error}") from error
