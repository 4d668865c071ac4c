"""Turns fields, conditions, select lists and orders into SQL over one source of rows.

Pure. Every value becomes a parameter; every identifier is quoted and was found in the schema cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from embedded.rest import errors
from embedded.rest.conditions import FULL_TEXT
from embedded.rest.model import Filter, Logic, SelectColumn, Star
from embedded.rest.schema import JSON, JSONB, TEXT, quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedded.rest.model import Condition, Field, JsonStep, OrderTerm, SelectItem
    from embedded.rest.schema import Column, SchemaCache, TypeName

_COMPARISONS: Final[Mapping[str, str]] = {
    "eq": "=",
    "neq": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "isdistinct": "IS DISTINCT FROM",
    "cs": "@>",
    "cd": "<@",
    "ov": "&&",
    "sl": "<<",
    "sr": ">>",
    "nxr": "&<",
    "nxl": "&>",
    "adj": "-|-",
}
_PATTERNS: Final[Mapping[str, str]] = {"like": "LIKE", "ilike": "ILIKE", "match": "~", "imatch": "~*"}
_IS: Final[Mapping[str, str]] = {
    "null": "NULL",
    "not_null": "NOT NULL",
    "true": "TRUE",
    "false": "FALSE",
    "unknown": "UNKNOWN",
}
_QUERY_FUNCTIONS: Final[Mapping[str, str]] = {
    "fts": "to_tsquery",
    "plfts": "plainto_tsquery",
    "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}


class Parameters:
    """The values of a statement, in the order of their numbers."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: list[object] = []

    def add(self, value: object, type_sql: str) -> str:
        """Return the placeholder of a new parameter, with its type."""
        self.values.append(value)
        return f"${len(self.values)}::{type_sql}"

    def text(self, value: str, type_: TypeName) -> str:
        """Return a parameter that goes over as text and is read by the input function of `type_`."""
        placeholder = self.add(value, "text")
        return placeholder if type_ == TEXT else f"{placeholder}::{type_.sql}"


class Source:
    """Rows whose columns can be named: a relation, or what a function or a mutation returned."""

    def __init__(
        self,
        qualifier: str,
        label: str,
        columns: Mapping[str, Column],
        parameters: Parameters,
        cache: SchemaCache,
    ) -> None:
        """`qualifier` is SQL that stands before a column; `label` is the relation's name in messages."""
        self._qualifier = qualifier
        self._label = label
        self._columns = columns
        self._parameters = parameters
        self._cache = cache

    def column(self, name: str) -> Column:
        """Return a column, or raise `SchemaMiss` (42703)."""
        found = self._columns.get(name)
        if found is None:
            raise errors.no_column(self._label, name, self._columns)
        return found

    def field(self, field: Field) -> tuple[str, TypeName]:
        """Return the SQL of a field and its type."""
        column = self.column(field.name)
        sql = f"{self._qualifier}.{quote(column.name)}"
        if not field.path:
            return sql, column.type
        if not column.type.is_json:
            sql, type_ = f"pg_catalog.to_jsonb({sql})", JSONB
        else:
            type_ = JSON if (column.type.base or column.type.name) == "json" else JSONB
        for step in field.path:
            sql += self._step(step)
        return f"({sql})", TEXT if field.path[-1].as_text else type_

    def _step(self, step: JsonStep) -> str:
        arrow = "->>" if step.as_text else "->"
        kind = "int4" if isinstance(step.key, int) else "text"
        return f"{arrow}{self._parameters.add(step.key, kind)}"

    # -- select and order ------------------------------------------------------------------------------

    def select_list(self, items: Sequence[SelectItem]) -> str:
        """Return the list after SELECT; empty for no columns."""
        return ", ".join(self._select_item(item) for item in items)

    def _select_item(self, item: SelectItem) -> str:
        match item:
            case Star():
                return f"{self._qualifier}.*"
            case SelectColumn(field, alias, cast):
                sql, _ = self.field(field)
                if cast is not None:
                    sql = f"CAST({sql} AS {self._cache.type_named(cast).sql})"
                return f"{sql} AS {quote(alias or _name_of(field))}"
            case _ as never:
                assert_never(never)

    def order_by(self, terms: Sequence[OrderTerm]) -> str:
        """Return the ORDER BY clause, or nothing."""
        if not terms:
            return ""
        return " ORDER BY " + ", ".join(self._order_term(term) for term in terms)

    def _order_term(self, term: OrderTerm) -> str:
        sql, _ = self.field(term.field)
        direction = f" {term.direction.upper()}" if term.direction else ""
        nulls = f" NULLS {term.nulls.upper()}" if term.nulls else ""
        return f"{sql}{direction}{nulls}"

    # -- conditions ------------------------------------------------------------------------------------

    def where(self, conditions: Sequence[Condition]) -> str:
        """Return the WHERE clause, or nothing."""
        if not conditions:
            return ""
        return " WHERE " + " AND ".join(self.condition(item) for item in conditions)

    def condition(self, condition: Condition) -> str:
        """Return one condition as SQL."""
        match condition:
            case Logic(operator, children, negated):
                joined = f" {operator.upper()} ".join(self.condition(child) for child in children)
                return f"NOT ({joined})" if negated else f"({joined})"
            case Filter():
                sql = self._filter(condition)
                return f"NOT {sql}" if condition.negated else sql
            case _ as never:
                assert_never(never)

    def _filter(self, condition: Filter) -> str:
        sql, type_ = self.field(condition.field)
        operator = condition.operator
        if operator == "is":
            return f"({sql} IS {_IS[condition.value]})"
        if operator == "in":
            return self._in(sql, type_, condition.values)
        if operator in FULL_TEXT:
            return self._full_text(sql, type_, condition)
        if operator in _PATTERNS:
            value = condition.value.replace("*", "%") if operator.endswith("like") else condition.value
            return f"({sql} {_PATTERNS[operator]} {self._operand(condition, value, TEXT)})"
        return f"({sql} {_COMPARISONS[operator]} {self._operand(condition, condition.value, type_)})"

    def _operand(self, condition: Filter, value: str, type_: TypeName) -> str:
        if condition.quantifier is None:
            return self._parameters.text(value, type_)
        array = self._parameters.add(value, "text")
        return f"{condition.quantifier.upper()}({array}::{type_.sql}[])"

    def _in(self, sql: str, type_: TypeName, values: Sequence[str]) -> str:
        if type_.is_array:  # there is no array of arrays to compare with
            if not values:
                return f"({sql} IS NULL AND FALSE)"
            listed = ", ".join(self._parameters.text(value, type_) for value in values)
            return f"({sql} IN ({listed}))"
        array = self._parameters.add(list(values), "text[]")
        return f"({sql} = ANY({array}::{type_.sql}[]))" if type_ != TEXT else f"({sql} = ANY({array}))"

    def _full_text(self, sql: str, type_: TypeName, condition: Filter) -> str:
        language = ""
        if condition.language:
            language = f"{self._parameters.add(condition.language, 'text')}::pg_catalog.regconfig, "
        document = sql if type_.name == "tsvector" else f"pg_catalog.to_tsvector({language}{sql})"
        query = self._parameters.add(condition.value, "text")
        return f"({document} @@ pg_catalog.{_QUERY_FUNCTIONS[condition.operator]}({language}{query}))"


def columns_named(items: Sequence[SelectItem], terms: Sequence[OrderTerm]) -> tuple[str, ...] | None:
    """Return which columns a select list and an order need, each once; None means all."""
    names: dict[str, None] = {}
    for item in items:
        match item:
            case Star():
                return None
            case SelectColumn(field):
                names[field.name] = None
    for term in terms:
        names[term.field.name] = None
    return tuple(names)


def _name_of(field: Field) -> str:
    """Return the key of a field in the answer: the last key of its path, else the column's name."""
    return next((step.key for step in reversed(field.path) if isinstance(step.key, str)), field.name)
