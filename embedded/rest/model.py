"""The frozen model of a REST request: what was asked, before the database's schema is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Method = Literal["GET", "HEAD", "POST", "PATCH", "DELETE"]
Quantifier = Literal["any", "all"]


@dataclass(frozen=True, slots=True)
class JsonStep:
    """One `->key`, `->>key` or `->0` of a path into a JSON column."""

    key: str | int
    as_text: bool


@dataclass(frozen=True, slots=True)
class Field:
    """A column, and the path into it when it holds JSON."""

    name: str
    path: tuple[JsonStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Star:
    """All columns."""


@dataclass(frozen=True, slots=True)
class SelectColumn:
    """`alias:field::cast` of a select list."""

    field: Field
    alias: str | None = None
    cast: str | None = None


SelectItem: TypeAlias = Star | SelectColumn


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on one field.

    `value` is the operand as the URL has it, unquoted; for `in` and for quantified operators `values` holds
    the list. `language` belongs to the full text operators only.
    """

    field: Field
    operator: str
    value: str = ""
    values: tuple[str, ...] = ()
    negated: bool = False
    quantifier: Quantifier | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Logic:
    """`and(...)` or `or(...)` of conditions."""

    operator: Literal["and", "or"]
    children: tuple[Condition, ...]
    negated: bool = False


Condition: TypeAlias = Filter | Logic


@dataclass(frozen=True, slots=True)
class OrderTerm:
    """`field.desc.nullslast`; None leaves PostgreSQL's default."""

    field: Field
    direction: Literal["asc", "desc"] | None = None
    nulls: Literal["first", "last"] | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows of the result are wanted; `limit` None means all."""

    offset: int = 0
    limit: int | None = None

    @property
    def whole(self) -> bool:
        """True when the window leaves nothing out."""
        return self.offset == 0 and self.limit is None


@dataclass(frozen=True, slots=True)
class Preferences:
    """The `Prefer` header; None where it says nothing."""

    returning: Literal["representation", "minimal", "headers-only"] | None = None
    count: Literal["exact", "planned", "estimated"] | None = None
    resolution: Literal["merge-duplicates", "ignore-duplicates"] | None = None
    missing: Literal["default", "null"] | None = None
    handling: Literal["strict", "lenient"] | None = None
    max_affected: int | None = None

    def applied(self) -> str:
        """Return the `Preference-Applied` header, empty when no preference was honoured."""
        parts = [
            ("resolution", self.resolution),
            ("missing", self.missing),
            ("return", self.returning),
            ("count", self.count),
            ("handling", self.handling),
            ("max-affected", self.max_affected if self.handling == "strict" else None),
        ]
        return ", ".join(f"{name}={value}" for name, value in parts if value is not None)


@dataclass(frozen=True, slots=True)
class Media:
    """The form of the answer: an array of rows, one row as an object, or CSV with a line of names."""

    single: bool = False
    strip_nulls: bool = False
    vendor: bool = False
    csv: bool = False

    @property
    def content_type(self) -> str:
        """Return the Content-Type of a successful answer."""
        if self.csv:
            return "text/csv; charset=utf-8"
        if not (self.single or self.vendor):
            return "application/json; charset=utf-8"
        suffix = ";nulls=stripped" if self.strip_nulls else ""
        return f"application/vnd.pgrst.{'object' if self.single else 'array'}+json{suffix}; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Payload:
    """A JSON body: its bytes, passed on untouched, and which keys it has.

    `rows` is the number of objects; `raw` is a JSON array for tables and an object for functions. For a
    function, a body that is no object has `keys` None and can only go to a single unnamed parameter.
    """

    raw: bytes
    keys: tuple[str, ...] | None
    rows: int = 1


@dataclass(frozen=True, slots=True)
class Request:
    """Everything a request says, parsed and not yet resolved against the schema."""

    method: Method
    schema: str
    name: str
    is_function: bool = False
    select: tuple[SelectItem, ...] = (Star(),)
    conditions: tuple[Condition, ...] = ()
    order: tuple[OrderTerm, ...] = ()
    window: Window = Window()
    arguments: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] = ()
    preferences: Preferences = Preferences()
    media: Media = Media()
    payload: Payload | None = None
