"""postgres_changes bindings: what a join asks for, the ids that answer it, and which tables they mean."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final, Literal

import orjson

from embedded.phoenix import elixir, filters
from embedded.phoenix.errors import BadSubscription, JoinRefused

ChangeType = Literal["INSERT", "UPDATE", "DELETE"]

_EVENTS: Final = ("INSERT", "UPDATE", "DELETE")
_ID_RANGE: Final = (1 << 27) - 1  # Erlang's phash2 yields 27 bits; clients keep ids as doubles or ints
_SELECT_ERROR: Final = (
    'Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]'
)


@dataclass(frozen=True)
class Binding:
    """One entry of a join's `postgres_changes`.

    `event` is None for any. `schema` and `table` are LIKE patterns, matched against names as they are, with
    `*` already turned into `%`. `select` is None for all columns.
    """

    id: int
    event: ChangeType | None
    schema: str
    table: str
    filters: tuple[filters.Filter, ...] = ()
    select: tuple[str, ...] | None = None

    @cached_property
    def _names(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        return like_pattern(self.schema), like_pattern(self.table)

    def covers(self, schema: str, table: str) -> bool:
        """Say whether the binding means this table."""
        schemas, tables = self._names
        return bool(schemas.fullmatch(schema) and tables.fullmatch(table))

    def described(self) -> str:
        """Return the parameters as error texts print them."""

        def name(text: str) -> str:
            return "*" if text == "%" else text

        conditions = elixir.inspect([f.described() for f in self.filters])
        select = elixir.inspect(None if self.select is None else list(self.select))
        return (
            f"[event: {self.event or '*'}, schema: {name(self.schema)}, table: {name(self.table)}, "
            f"filters: {conditions}, select: {select}]"
        )


@dataclass(frozen=True, slots=True)
class Requested:
    """What a join asked for: the reply's list, and the bindings, or why there can be none."""

    echo: list[dict[str, Any]]
    bindings: tuple[Binding, ...]
    error: str | None = None


@lru_cache(maxsize=1024)
def like_pattern(pattern: str) -> re.Pattern[str]:
    """Return a LIKE pattern as a regular expression for `fullmatch`; backslash escapes, as PostgreSQL has it."""
    parts: list[str] = []
    chars = iter(pattern)
    for char in chars:
        if char == "%":
            parts.append(".*")
        elif char == "_":
            parts.append(".")
        else:
            parts.append(re.escape(next(chars, "\\") if char == "\\" else char))
    return re.compile("".join(parts), re.DOTALL)


def binding_id(entry: dict[str, Any]) -> int:
    """Return the id of an entry: the same for equal entries on every connection, never zero, 27 bits.

    The real server takes Erlang's phash2 of the map; clients only need it to be stable and truthy.
    """
    canonical = orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)
    number = int.from_bytes(hashlib.blake2b(canonical, digest_size=4).digest())
    return number % _ID_RANGE + 1


def parse(entries: Any) -> Requested:
    """Return what `config.postgres_changes` asks for.

    Anything but a list counts as none, null entries are skipped. An entry that is no object refuses the join
    (JoinRefused). An entry that makes no sense makes every binding of the join dead, with `error` saying why,
    while the reply still lists them all: the real server subscribes in one transaction.
    """
    if entries is None or isinstance(entries, dict):
        entries = []
    if not isinstance(entries, list):
        raise JoinRefused("UnknownErrorOnChannel: no function clause matching in Access.get/3")
    echo: list[dict[str, Any]] = []
    bindings: list[Binding] = []
    error: str | None = None
    for entry in entries:
        if entry is None:
            continue
        if not isinstance(entry, dict):
            printed = elixir.inspect(entry)
            raise JoinRefused(f"UnknownErrorOnChannel: expected a map, got:\n\n    {printed}\n")
        number = binding_id(entry)
        # the real server's maps print with their keys sorted, and `id`, an atom there, first
        echo.append({"id": number} | {key: _sorted(entry[key]) for key in sorted(entry)})
        if error is None:
            try:
                bindings.append(_binding(number, entry))
            except BadSubscription as fault:
                error = str(fault)
    return Requested(echo, () if error is not None else tuple(bindings), error)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def _binding(number: int, entry: dict[str, Any]) -> Binding:
    schema, table, text = entry.get("schema"), entry.get("table"), entry.get("filter")
    named = isinstance(schema, str) and isinstance(table, str)
    conditions: tuple[filters.Filter, ...] = ()
    if "filter" in entry:
        if not (named and isinstance(text, str)):
            raise _no_params(entry)
        conditions = filters.parse(text)
    elif not named and not (
        (isinstance(schema, str) and "table" not in entry)
        or (isinstance(table, str) and "schema" not in entry)
    ):
        raise _no_params(entry)
    event = entry.get("event")
    upper = event.upper() if isinstance(event, str) else None
    select = entry.get("select")
    binding = Binding(
        id=number,
        event=upper if upper in _EVENTS else None,  # type: ignore[arg-type]  # the tuple holds the literals
        schema=_wildcard(schema if isinstance(schema, str) else "public"),
        table=_wildcard(table if isinstance(table, str) else "*"),
        filters=conditions,
        select=None if select is None else _select(select),
    )
    if select is not None and "%" in (binding.schema, binding.table):
        raise BadSubscription(
            "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name."
        )
    return binding


def _wildcard(name: str) -> str:
    return "%" if name == "*" else name


def _select(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise BadSubscription(_SELECT_ERROR)
    return tuple(value)


def _no_params(entry: dict[str, Any]) -> BadSubscription:
    return BadSubscription(
        "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: "
        + elixir.inspect(entry)
    )
