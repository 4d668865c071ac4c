"""What the replication stream does not say about a table: queries to ask the catalog, and their answers as types."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from embedded.errors import ProtocolError
from embedded.wal.types import BUILTIN_TYPES, PgType, unknown_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_TYPES_SQL = """
with recursive needed (oid) as (
  select unnest('{{{oids}}}'::oid[])
  union
  select part.oid
  from needed
  join pg_catalog.pg_type t on t.oid = needed.oid
  cross join lateral (
    select t.typelem where t.typelem <> 0
    union all
    select t.typbasetype where t.typtype = 'd'
    union all
    select a.atttypid from pg_catalog.pg_attribute a
    where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
  ) part (oid)
)
select t.oid, t.typname, t.typdelim,
  case when t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc then t.typelem else 0 end,
  case when t.typtype = 'd' then t.typbasetype else 0 end,
  case when t.typtype = 'c' then (
    select coalesce(json_agg(json_build_array(a.attname, a.atttypid::bigint) order by a.attnum), '[]'::json)
    from pg_catalog.pg_attribute a
    where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
  ) end
from needed
join pg_catalog.pg_type t on t.oid = needed.oid
"""

_KEY_SQL = """
select a.attname
from pg_catalog.pg_index i
join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
where i.indrelid = {oid} and i.indisprimary
"""


def types_query(oids: Iterable[int]) -> str:
    """The query for these types and all that they are made of; its rows go to ``parse_types``."""
    return _TYPES_SQL.format(oids=",".join(str(int(oid)) for oid in oids))


def primary_key_query(relation_oid: int) -> str:
    """The query for the names of a table's primary key columns."""
    return _KEY_SQL.format(oid=int(relation_oid))


def parse_types(rows: Sequence[Sequence[str | None]]) -> dict[int, PgType]:
    """Return the types that ``types_query`` found, by oid, each complete with its parts. Raises ProtocolError."""
    try:
        by_oid = {int(row[0] or 0): row for row in rows}
        found: dict[int, PgType] = {}
        for oid in by_oid:
            _resolve(oid, by_oid, found, frozenset())
    except (ValueError, IndexError, TypeError) as error:
        raise ProtocolError(f"The catalog's description of a type cannot be understood: {error}") from error
    return found


def _resolve(
    oid: int, rows: dict[int, Sequence[str | None]], found: dict[int, PgType], above: frozenset[int]
) -> PgType:
    known = BUILTIN_TYPES.get(oid) or found.get(oid)
    if known is not None:
        return known
    row = rows.get(oid)
    if (
        row is None or oid in above
    ):  # dropped meanwhile; a type cannot contain itself, but a guess costs nothing
        return unknown_type(oid)
    inner = above | {oid}
    name, delimiter, element_oid, base_oid = row[1] or "", row[2] or ",", int(row[3] or 0), int(row[4] or 0)
    fields = None
    if row[5] is not None:
        fields = tuple(
            (str(name), _resolve(int(part), rows, found, inner)) for name, part in json.loads(row[5])
        )
    found[oid] = PgType(
        oid,
        name,
        delimiter=delimiter,
        element=_resolve(element_oid, rows, found, inner) if element_oid else None,
        base=_resolve(base_oid, rows, found, inner) if base_oid else None,
        fields=fields,
    )
    return found[oid]
