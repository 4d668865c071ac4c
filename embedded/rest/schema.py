"""The schema cache: which relations, columns, functions and types the exposed schemas have.

Pure: `CATALOG_QUERY` is run by the shell with (exposed schemas, extra search path), and `build_cache` turns
the JSON document it returns into the cache. Statements only ever name what is in here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from embedded.rest import errors

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

# Views count as relations; partitions do not, as in PostgREST. An identity column's default is its sequence.
CATALOG_QUERY: Final = """
with types as (
  select t.oid, n.nspname as schema, t.typname as name, t.typcategory = 'A' and t.typelem <> 0 as is_array,
         coalesce(b.typname, t.typname) as base, t.typtype, t.typrelid
    from pg_catalog.pg_type t
    join pg_catalog.pg_namespace n on n.oid = t.typnamespace
    left join pg_catalog.pg_type b on b.oid = t.typbasetype
), attributes as (
  select a.attrelid as relation,
         json_agg(json_build_object(
           'name', a.attname, 'schema', t.schema, 'type', t.name, 'base', t.base, 'array', t.is_array,
           'default', case
             when a.attgenerated <> '' then null
             when a.attidentity <> '' then format('pg_catalog.nextval(%L)', pg_catalog.pg_get_serial_sequence(
               format('%I.%I', n.nspname, c.relname), a.attname))
             else pg_catalog.pg_get_expr(d.adbin, d.adrelid) end
         ) order by a.attnum) as columns
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_class c on c.oid = a.attrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join types t on t.oid = a.atttypid
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
   where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'f', 'c')
     and n.nspname = any($1::text[] || $2::text[])
   group by a.attrelid
), relations as (
  select json_build_object(
           'schema', n.nspname, 'name', c.relname, 'columns', coalesce(a.columns, '[]'),
           'primary_key', coalesce((
             select json_agg(k.attname order by array_position(i.indkey::int2[], k.attnum))
               from pg_catalog.pg_index i
               join pg_catalog.pg_attribute k on k.attrelid = i.indrelid and k.attnum = any(i.indkey::int2[])
              where i.indrelid = c.oid and i.indisprimary), '[]')) as relation
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join attributes a on a.relation = c.oid
   where n.nspname = any($1::text[]) and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
), functions as (
  select json_build_object(
           'schema', n.nspname, 'name', p.proname, 'volatility', p.provolatile, 'set', p.proretset,
           'void', r.name = 'void' and r.schema = 'pg_catalog',
           'composite', r.typtype = 'c' or r.name = 'record' or coalesce(p.proargmodes::text[] && '{t,b,o}', false),
           'defaults', p.pronargdefaults,
           'columns', case when r.typtype = 'c' then a.columns end,
           'arguments', coalesce((
             select json_agg(json_build_object(
                      'name', coalesce(p.proargnames[x.position], ''), 'mode', coalesce(p.proargmodes[x.position], 'i'),
                      'schema', t.schema, 'type', t.name, 'base', t.base, 'array', t.is_array)
                      order by x.position)
               from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) with ordinality x (type, position)
               join types t on t.oid = x.type), '[]')) as function
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    join types r on r.oid = p.prorettype
    left join attributes a on a.relation = r.typrelid
   where n.nspname = any($1::text[]) and p.prokind = 'f' and r.name not in ('trigger', 'event_trigger', 'internal')
)
select json_build_object(
  'relations', (select coalesce(json_agg(relation), '[]') from relations),
  'functions', (select coalesce(json_agg(function), '[]') from functions),
  'types', (select coalesce(json_agg(json_build_array(schema, name)), '[]') from types
             where not is_array and typtype in ('b', 'd', 'e', 'r', 'm')
               and schema = any('{pg_catalog}'::text[] || $1::text[] || $2::text[])),
  'role_settings', (select coalesce(json_object_agg(role, settings), '{}') from (
    select r.rolname as role, json_object_agg(split_part(x, '=', 1), substr(x, strpos(x, '=') + 1)) as settings
      from pg_catalog.pg_roles r, unnest(r.rolconfig) x
      join pg_catalog.pg_settings s on s.name = split_part(x, '=', 1) and s.context = 'user'
     where s.name not in ('role', 'search_path')
     group by r.rolname) y))
"""

# The names SQL has beside those in pg_type (PostgreSQL manual, table 8.1).
_TYPE_ALIASES: Final[Mapping[str, str]] = {
    "bigint": "int8",
    "bit varying": "varbit",
    "boolean": "bool",
    "char": "bpchar",
    "character": "bpchar",
    "character varying": "varchar",
    "decimal": "numeric",
    "double precision": "float8",
    "float": "float8",
    "int": "int4",
    "integer": "int4",
    "real": "float4",
    "smallint": "int2",
    "time with time zone": "timetz",
    "time without time zone": "time",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
}


def quote(name: str) -> str:
    """Return an SQL identifier that means exactly `name`."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class TypeName:
    """A type, by its schema and name in pg_type; `base` is what a domain is made of, else empty."""

    schema: str
    name: str
    base: str = ""
    is_array: bool = False

    @property
    def sql(self) -> str:
        """Return the type as SQL, without length or precision."""
        return f"{quote(self.schema)}.{quote(self.name)}"

    @property
    def is_json(self) -> bool:
        """True for json, jsonb and domains over them."""
        return (self.base or self.name) in {"json", "jsonb"}


TEXT: Final = TypeName("pg_catalog", "text")
JSON: Final = TypeName("pg_catalog", "json")
JSONB: Final = TypeName("pg_catalog", "jsonb")


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `default` is the expression that fills it, as PostgreSQL prints it, or None."""

    name: str
    type: TypeName
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view; `columns` are in the table's order."""

    schema: str
    name: str
    columns: Mapping[str, Column]
    primary_key: tuple[str, ...] = ()

    @property
    def sql(self) -> str:
        """Return the qualified name as SQL."""
        return f"{quote(self.schema)}.{quote(self.name)}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """An input parameter of a function; `name` is empty for an unnamed one."""

    name: str
    type: TypeName
    required: bool = True
    variadic: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """One overload of a function; `columns` are those of the rows it returns, when they are known."""

    schema: str
    name: str
    parameters: tuple[Parameter, ...]
    returns: Literal["void", "scalar", "composite"]
    is_set: bool = False
    volatile: bool = True
    columns: Mapping[str, Column] = field(default_factory=dict)

    @property
    def sql(self) -> str:
        """Return the qualified name as SQL."""
        return f"{quote(self.schema)}.{quote(self.name)}"

    @property
    def signature(self) -> str:
        """Return the function as PostgREST shows it to people."""
        inputs = ", ".join(f"{item.name} => {item.type.name}" for item in self.parameters)
        return f"{self.schema}.{self.name}({inputs})"

    @property
    def takes_whole_body(self) -> bool:
        """True when the one parameter is unnamed and JSON: it gets the body as it is."""
        return len(self.parameters) == 1 and not self.parameters[0].name and self.parameters[0].type.is_json


@dataclass(frozen=True, slots=True)
class SchemaCache:
    """What the exposed schemas have, keyed by (schema, name).

    `role_settings` are those of `alter role ... set`, which a role taken on inside a transaction does not get by
    itself (a statement_timeout, for example).
    """

    relations: Mapping[tuple[str, str], Relation]
    functions: Mapping[tuple[str, str], tuple[Function, ...]]
    types: Mapping[str, TypeName]
    role_settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def relation(self, schema: str, name: str) -> Relation:
        """Return a relation, or raise `SchemaMiss` (PGRST205)."""
        found = self.relations.get((schema, name))
        if found is None:
            known = [other for where, other in self.relations if where == schema]
            raise errors.no_table(schema, name, known)
        return found

    def type_named(self, name: str) -> TypeName:
        """Return the type a cast names, or raise `SchemaMiss` (42704); `name[]` is an array."""
        plain = " ".join(name.split())
        is_array = plain.endswith("[]")
        wanted = plain.removesuffix("[]").strip()
        wanted = _TYPE_ALIASES.get(wanted.lower(), wanted)
        found = self.types.get(wanted) or self.types.get(wanted.lower())
        if found is None:
            raise errors.no_type(name)
        return TypeName(found.schema, f"_{found.name}", is_array=True) if is_array else found

    def function(
        self, schema: str, name: str, given: Sequence[str], maybe_filters: Collection[str] = ()
    ) -> Function:
        """Return the overload that takes arguments of these names.

        All that are required must be given and none may be left over, but for `maybe_filters`, which can also
        be conditions on the result. Raises `SchemaMiss` (PGRST202) for none, PGRST203 when several fit as well.
        """
        overloads = self.functions.get((schema, name), ())
        names = frozenset(given)
        fitting: list[tuple[int, Function]] = []
        for function in overloads:
            known = {item.name for item in function.parameters if item.name}
            required = {item.name for item in function.parameters if item.required}
            if required <= names and names - known <= frozenset(maybe_filters):
                fitting.append((len(known & names), function))
        if not fitting:
            known_names = {other for where, other in self.functions if where == schema}
            raise errors.no_function(schema, name, sorted(names - frozenset(maybe_filters)), known_names)
        most = max(count for count, _ in fitting)
        best = [function for count, function in fitting if count == most]
        if len(best) > 1:
            raise errors.ambiguous_function(function.signature for function in best)
        return best[0]

    def whole_body_function(self, schema: str, name: str) -> Function | None:
        """Return the overload with a single unnamed JSON parameter, if there is one."""
        overloads = self.functions.get((schema, name), ())
        return next((function for function in overloads if function.takes_whole_body), None)


EMPTY_CACHE: Final = SchemaCache({}, {}, {})


def build_cache(document: Mapping[str, Any], search_path: Sequence[str]) -> SchemaCache:
    """Return the cache for a document of `CATALOG_QUERY`; of two types with one name, `search_path` decides."""
    relations: dict[tuple[str, str], Relation] = {}
    for item in document["relations"]:
        relation = Relation(
            item["schema"], item["name"], _columns(item["columns"]), tuple(item["primary_key"])
        )
        relations[relation.schema, relation.name] = relation
    functions: dict[tuple[str, str], tuple[Function, ...]] = {}
    for item in document["functions"]:
        function = _function(item)
        key = (function.schema, function.name)
        functions[key] = (*functions.get(key, ()), function)
    rank = {schema: position for position, schema in enumerate(("pg_catalog", *search_path))}
    names: list[tuple[str, str]] = [(schema, name) for schema, name in document["types"]]
    names.sort(
        key=lambda pair: -rank.get(pair[0], len(rank))
    )  # the first of the path is written last, and stays
    return SchemaCache(
        relations,
        functions,
        {name: TypeName(schema, name) for schema, name in names},
        document["role_settings"],
    )


def _columns(items: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    return {item["name"]: Column(item["name"], _type(item), item.get("default")) for item in items}


def _type(item: Mapping[str, Any]) -> TypeName:
    base = "" if item["base"] == item["type"] else item["base"]
    return TypeName(item["schema"], item["type"], base, item["array"])


def _function(item: Mapping[str, Any]) -> Function:
    inputs = [argument for argument in item["arguments"] if argument["mode"] in {"i", "b", "v"}]
    outputs = [argument for argument in item["arguments"] if argument["mode"] in {"o", "b", "t"}]
    first_optional = len(inputs) - item["defaults"]
    return Function(
        schema=item["schema"],
        name=item["name"],
        parameters=tuple(
            Parameter(
                argument["name"],
                _type(argument),
                # a variadic parameter may be left out when called by position, not when called by name
                required=position < first_optional,
                variadic=argument["mode"] == "v",
            )
            for position, argument in enumerate(inputs)
        ),
        returns="void" if item["void"] else "composite" if item["composite"] else "scalar",
        is_set=item["set"],
        volatile=item["volatility"] == "v",
        columns=_columns(item["columns"] if item["columns"] is not None else outputs),
    )
