# ruff: noqa: S608 - statements are built here, from quoted names of the schema cache and numbered parameters only
"""Builds the one SQL statement that answers a request.

Pure: a `Request` and the `SchemaCache` in, SQL with parameters only out. Every statement returns one row, the
columns of `OUTCOME_COLUMNS`; the body is made by PostgreSQL and passed on as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from embedded.rest import errors
from embedded.rest.conditions import is_filter, parse_filter
from embedded.rest.filters import Parameters, Source, columns_named
from embedded.rest.model import Window
from embedded.rest.schema import Column, TypeName, quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedded.rest.model import Condition, Payload, Request
    from embedded.rest.schema import Function, Relation, SchemaCache

OUTCOME_COLUMNS: Final = ("total", "rows", "body", "inserted", "response_headers", "response_status")

_ROWS: Final = "pgrst_source"
_ROWS_ALIAS: Final = '"pgrst_source"'
# How many rows of an upsert were new: counted up for each row offered, down again for each one merged
# (settings are the only place a single statement can count in that also works for partitioned tables).
_INSERTED: Final = "nullif(pg_catalog.current_setting('pgrst.inserted', true), '')::int4"
_COUNT: Final = (
    f"pg_catalog.set_config('pgrst.inserted', (coalesce({_INSERTED}, 0) {{step}})::text, true) IS NOT NULL"
)
# PostgREST's CSV: the names of the first row, then each row's text form without its parentheses. As bytes, like JSON.
_CSV: Final = (
    "pg_catalog.convert_to(coalesce((pg_catalog.array_agg((SELECT pg_catalog.string_agg(_k, ',')"
    " FROM pg_catalog.json_object_keys(pg_catalog.row_to_json(_t)) _k)))[1], '') || E'\\n' ||"
    " coalesce(pg_catalog.string_agg(pg_catalog.substr(_t::text, 2, pg_catalog.length(_t::text) - 2), E'\\n'), ''),"
    " 'UTF8')"
)


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL, the values of its parameters, and whether it may run in a read-only transaction."""

    sql: str
    parameters: tuple[object, ...]
    read_only: bool


def build_statement(request: Request, cache: SchemaCache, *, max_rows: int | None = None) -> Statement:
    """Return the statement for a request.

    `max_rows` bounds what one answer may have. Raises `SchemaMiss` when a name is not in the cache, and
    `RestError` for what PostgREST refuses.
    """
    parameters = Parameters()
    if request.is_function:
        return _call(request, cache, parameters, max_rows)
    relation = cache.relation(request.schema, request.name)
    match request.method:
        case "GET" | "HEAD":
            sql = _read(request, relation, cache, parameters, max_rows)
        case "POST":
            sql = _mutation(request, relation, cache, parameters, _insert(request, relation, parameters))
        case "PATCH":
            sql = _mutation(
                request, relation, cache, parameters, _update(request, relation, cache, parameters)
            )
        case "DELETE":
            sql = _mutation(
                request, relation, cache, parameters, _delete(request, relation, cache, parameters)
            )
    return Statement(sql, tuple(parameters.values), read_only=request.method in {"GET", "HEAD"})


# -- the outcome -----------------------------------------------------------------------------------


def _outcome(
    *, rows: str, body: str, total: str = "NULL", inserted: str = "NULL", count: str = "pg_catalog.count(*)"
) -> str:
    """Return the last SELECT; `rows` is the FROM item called `_t`."""
    return (
        f"SELECT {total}::int8, {count}::int8, {body}, {inserted}::int8,"
        " nullif(pg_catalog.current_setting('response.headers', true), ''),"
        f" nullif(pg_catalog.current_setting('response.status', true), '') FROM {rows} _t"
    )


def _body(request: Request) -> str:
    if request.method == "HEAD":
        return "NULL::json"
    return _rows(request, single=request.media.single)


def _rows(request: Request, *, single: bool) -> str:
    """Return the expression that makes the body of the rows `_t`."""
    return _CSV if request.media.csv else _form(request, _aggregate("_t", single=single))


def _aggregate(rows: str, *, single: bool) -> str:
    if single:
        return f"coalesce(pg_catalog.json_agg({rows})->0, 'null'::json)"
    return f"coalesce(pg_catalog.json_agg({rows}), '[]'::json)"


def _form(request: Request, body: str) -> str:
    return f"pg_catalog.json_strip_nulls({body})" if request.media.strip_nulls else body


def _window(window: Window, parameters: Parameters, max_rows: int | None) -> str:
    limit = window.limit
    if max_rows is not None:
        limit = max_rows if limit is None else min(limit, max_rows)
    sql = "" if limit is None else f" LIMIT {parameters.add(limit, 'int8')}"
    return f"{sql} OFFSET {parameters.add(window.offset, 'int8')}" if window.offset else sql


# -- tables ------------------------------------------------------------------------------------------


def _table_source(relation: Relation, cache: SchemaCache, parameters: Parameters) -> Source:
    return Source(relation.sql, relation.name, relation.columns, parameters, cache)


def _read(
    request: Request, relation: Relation, cache: SchemaCache, parameters: Parameters, max_rows: int | None
) -> str:
    source = _table_source(relation, cache, parameters)
    columns = source.select_list(request.select)
    where = source.where(request.conditions)
    order = source.order_by(request.order)
    window = _window(request.window, parameters, max_rows)
    total = "NULL"
    if request.preferences.count is not None:  # an exact count serves all three kinds
        total = f"(SELECT pg_catalog.count(*) FROM {relation.sql}{where})"
    rows = f"(SELECT {columns} FROM {relation.sql}{where}{order}{window})"
    return _outcome(rows=rows, body=_body(request), total=total)


def _mutation(
    request: Request, relation: Relation, cache: SchemaCache, parameters: Parameters, mutation: str
) -> str:
    """Return the statement around INSERT, UPDATE or DELETE: what it touched, and how it is shown."""
    shown = request.preferences.returning == "representation"
    if not shown:
        returning, rows, body = "1", f"(SELECT FROM {_ROWS})", "NULL::json"
    else:
        needed = columns_named(request.select, request.order)
        table = _table_source(relation, cache, parameters)
        if needed is None:
            returning = f"{relation.sql}.*"
        else:
            names = [quote(table.column(name).name) for name in needed]
            returning = ", ".join(f"{relation.sql}.{name}" for name in names) or "1"
        result = Source(_ROWS_ALIAS, relation.name, relation.columns, parameters, cache)
        columns = result.select_list(request.select)
        order = result.order_by(request.order)
        window = _window(request.window, parameters, None)
        rows, body = f"(SELECT {columns} FROM {_ROWS}{order}{window})", _body(request)
    last = _outcome(
        rows=rows,
        body=body,
        total=f"(SELECT pg_catalog.count(*) FROM {_ROWS})",
        inserted=_INSERTED if request.preferences.resolution == "merge-duplicates" else "NULL",
    )
    return f"WITH {_ROWS} AS ({mutation} RETURNING {returning}) {last}"


def _payload_columns(request: Request, relation: Relation) -> tuple[Column, ...]:
    payload = _payload_of(request)
    names = request.columns if request.columns is not None else payload.keys or ()
    columns: dict[str, Column] = {}
    for name in names:
        if name not in relation.columns:
            raise errors.no_payload_column(relation.name, name)
        columns[name] = relation.columns[name]
    return tuple(columns.values())


def _payload_of(request: Request) -> Payload:
    if request.payload is None:
        raise errors.bad_body("Empty or invalid json")
    return request.payload


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(quote(column.name) for column in columns)


def _definitions(columns: Sequence[tuple[str, TypeName]]) -> str:
    return ", ".join(f"{quote(name)} {type_.sql}" for name, type_ in columns)


def _insert(request: Request, relation: Relation, parameters: Parameters) -> str:
    columns = _payload_columns(request, relation)
    payload = _payload_of(request)
    if not columns:
        # every row takes its defaults; an empty array is no row at all
        number = parameters.add(payload.rows, "int8")
        return f"INSERT INTO {relation.sql} SELECT FROM pg_catalog.generate_series(1, {number})"
    names = _names(columns)
    rows = _payload_rows(request, payload, columns, parameters)
    if request.preferences.resolution is None:
        return f"INSERT INTO {relation.sql} ({names}) SELECT {names} FROM {rows}"
    for name in request.on_conflict:
        if name not in relation.columns:
            raise errors.no_column(relation.name, name, relation.columns)
    target = ", ".join(quote(name) for name in request.on_conflict or relation.primary_key)
    if not target:
        return f"INSERT INTO {relation.sql} ({names}) SELECT {names} FROM {rows}"
    if request.preferences.resolution == "ignore-duplicates":
        action = "NOTHING"
        counted = ""
    else:
        assignments = ", ".join(f"{quote(column.name)} = EXCLUDED.{quote(column.name)}" for column in columns)
        action = f"UPDATE SET {assignments} WHERE {_COUNT.format(step='- 1')}"
        counted = f" WHERE {_COUNT.format(step='+ 1')}"
    return (
        f"INSERT INTO {relation.sql} ({names}) SELECT {names} FROM {rows}{counted}"
        f" ON CONFLICT ({target}) DO {action}"
    )


def _payload_rows(
    request: Request, payload: Payload, columns: Sequence[Column], parameters: Parameters
) -> str:
    definitions = _definitions([(column.name, column.type) for column in columns])
    body = parameters.add(payload.raw, "json")
    defaults = [column for column in columns if column.default is not None]
    if request.preferences.missing != "default" or not defaults:
        return f"pg_catalog.json_to_recordset({body}) AS pgrst_body({definitions})"
    pairs = ", ".join(f"{parameters.add(column.name, 'text')}, {column.default}" for column in defaults)
    completed = (
        f"SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object({pairs}) || item)"
        f" FROM pg_catalog.jsonb_array_elements({body}::jsonb) item"
    )
    return f"pg_catalog.jsonb_to_recordset(({completed})) AS pgrst_body({definitions})"


def _where_to_change(
    request: Request, relation: Relation, cache: SchemaCache, parameters: Parameters, command: str
) -> str:
    """Return the WHERE clause of UPDATE or DELETE; without one nothing is changed by mistake."""
    if not request.window.whole:
        raise errors.not_supported(f"limit and offset on {command}")
    if not request.conditions:
        raise errors.missing_where(command)
    return _table_source(relation, cache, parameters).where(request.conditions)


def _update(request: Request, relation: Relation, cache: SchemaCache, parameters: Parameters) -> str:
    columns = _payload_columns(request, relation)
    where = _where_to_change(request, relation, cache, parameters, "UPDATE")
    if not columns:
        # nothing to set, so nothing is changed; UPDATE still asks for the privilege, on no row
        some = quote(next(iter(relation.columns), "ctid"))
        return f"UPDATE {relation.sql} SET {some} = {relation.sql}.{some}{where} AND FALSE"
    definitions = _definitions([(column.name, column.type) for column in columns])
    body = parameters.add(_payload_of(request).raw, "json")
    assignments = ", ".join(f"{quote(column.name)} = pgrst_body.{quote(column.name)}" for column in columns)
    return (
        f"UPDATE {relation.sql} SET {assignments}"
        f" FROM (SELECT {_names(columns)} FROM pg_catalog.json_to_recordset({body}) AS _({definitions}) LIMIT 1)"
        f" pgrst_body{where}"
    )


def _delete(request: Request, relation: Relation, cache: SchemaCache, parameters: Parameters) -> str:
    where = _where_to_change(request, relation, cache, parameters, "DELETE")
    return f"DELETE FROM {relation.sql}{where}"


# -- functions ---------------------------------------------------------------------------------------


def _call(request: Request, cache: SchemaCache, parameters: Parameters, max_rows: int | None) -> Statement:
    if request.payload is not None:
        function, rows = _call_with_body(request, request.payload, cache, parameters)
        conditions: tuple[Condition, ...] = request.conditions
    else:
        function, rows, conditions = _call_with_query(request, cache, parameters)
    read_only = request.method in {"GET", "HEAD"} or not function.volatile
    sql = _shown(request, function, rows, conditions, cache, parameters, max_rows)
    return Statement(sql, tuple(parameters.values), read_only=read_only)


def _call_with_body(
    request: Request, payload: Payload, cache: SchemaCache, parameters: Parameters
) -> tuple[Function, str]:
    """Return the function for a JSON body, and the FROM clause that calls it."""
    try:
        if payload.keys is None:
            raise errors.no_function(request.schema, request.name, (), _names_in(cache, request.schema))
        function = cache.function(request.schema, request.name, payload.keys)
    except errors.SchemaMiss:
        whole = cache.whole_body_function(request.schema, request.name)
        if whole is None:
            raise
        body = parameters.add(payload.raw, "json")
        return whole, _result_of(whole, f"{body}::{whole.parameters[0].type.sql}")
    given = [item for item in function.parameters if item.name and item.name in (payload.keys or ())]
    if not given:
        return function, _result_of(function, "")
    body = parameters.add(payload.raw, "json")
    definitions = _definitions([(item.name, item.type) for item in given])
    arguments = ", ".join(
        f"{'VARIADIC ' if item.variadic else ''}{quote(item.name)} := pgrst_body.{quote(item.name)}"
        for item in given
    )
    source = f"pg_catalog.json_to_record({body}) AS pgrst_body({definitions})"
    return function, f"{source}, LATERAL {_result_of(function, arguments)}"


def _call_with_query(
    request: Request, cache: SchemaCache, parameters: Parameters
) -> tuple[Function, str, tuple[Condition, ...]]:
    """Return the function for query arguments, its FROM clause, and which of them are conditions instead."""
    given: dict[str, list[str]] = {}
    for name, value in request.arguments:
        given.setdefault(name, []).append(value)
    maybe = {name for name, values in given.items() if all(is_filter(value) for value in values)}
    function = cache.function(request.schema, request.name, tuple(given), maybe)
    arguments: list[str] = []
    for item in function.parameters:
        if not item.name or item.name not in given:
            continue
        values = given.pop(item.name)
        if item.variadic:
            array = parameters.add(values, "text[]")
            arguments.append(f"VARIADIC {quote(item.name)} := {array}::{item.type.sql}")
        else:
            arguments.append(f"{quote(item.name)} := {parameters.text(values[-1], item.type)}")
    filters = [parse_filter(name, value) for name, values in given.items() for value in values]
    return function, _result_of(function, ", ".join(arguments)), (*filters, *request.conditions)


def _names_in(cache: SchemaCache, schema: str) -> set[str]:
    return {name for where, name in cache.functions if where == schema}


def _result_of(function: Function, arguments: str) -> str:
    alias = "pgrst_call" if function.returns == "composite" else "pgrst_call(pgrst_scalar)"
    return f"{function.sql}({arguments}) AS {alias}"


def _shown(
    request: Request,
    function: Function,
    call: str,
    conditions: tuple[Condition, ...],
    cache: SchemaCache,
    parameters: Parameters,
    max_rows: int | None,
) -> str:
    """Return the statement around a call: a scalar bare, a row as an object, a set as an array."""
    head = request.method == "HEAD"
    source = f"WITH {_ROWS} AS (SELECT pgrst_call.* FROM {call})"
    if function.returns == "void":
        return f"{source} {_outcome(rows=_ROWS, body='NULL::json')}"
    if function.returns == "scalar":
        value = "_t.pgrst_scalar"
        if request.media.csv:
            raise errors.not_supported("CSV of a function that returns no rows of a table")
        if function.is_set:
            body = _aggregate(value, single=request.media.single)
            rows = f"(SELECT * FROM {_ROWS}{_window(request.window, parameters, max_rows)})"
        else:
            body = f"coalesce(pg_catalog.to_json({value}), 'null'::json)"
            rows = _ROWS
        count = "pg_catalog.count(*)" if function.is_set else "1"
        body = "NULL::json" if head else _form(request, body)
        return f"{source} {_outcome(rows=rows, body=body, count=count, total=_total(request))}"
    result = Source(_ROWS_ALIAS, function.name, _result_columns(function), parameters, cache)
    columns = result.select_list(request.select)
    where = result.where(conditions)
    order = result.order_by(request.order)
    window = _window(request.window, parameters, max_rows if function.is_set else None)
    rows = f"(SELECT {columns} FROM {_ROWS}{where}{order}{window})"
    single = request.media.single or not function.is_set
    body = "NULL::json" if head else _rows(request, single=single)
    return f"{source} {_outcome(rows=rows, body=body, total=_total(request, where))}"


def _total(request: Request, where: str = "") -> str:
    if request.preferences.count is None:
        return "NULL"
    return f"(SELECT pg_catalog.count(*) FROM {_ROWS}{where})"


def _result_columns(function: Function) -> Mapping[str, Column]:
    return function.columns
