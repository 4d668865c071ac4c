"""PostgreSQL types as far as their values must become JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Shape = Literal["text", "integer", "number", "bool", "json", "jsonb", "timestamp", "timestamptz", "bytea"]


@dataclass(frozen=True, slots=True)
class PgType:
    """One type; at most one of ``element`` (arrays), ``base`` (domains) and ``fields`` (row types) is set.

    ``shape`` says how values of a plain type become JSON; ``delimiter`` separates the elements of an array of it.
    """

    oid: int
    name: str
    shape: Shape = "text"
    delimiter: str = ","
    element: PgType | None = None
    base: PgType | None = None
    fields: tuple[tuple[str, PgType], ...] | None = None


_SHAPES: dict[int, Shape] = {
    16: "bool",
    17: "bytea",
    20: "integer",
    21: "integer",
    23: "integer",
    700: "number",
    701: "number",
    1700: "number",
    114: "json",
    3802: "jsonb",
    1114: "timestamp",
    1184: "timestamptz",
}

# pg_type.dat of PostgreSQL 18: oid, typname, oid of the array type (0: none)
_BUILTIN: tuple[tuple[int, str, int], ...] = (
    (16, "bool", 1000),
    (17, "bytea", 1001),
    (18, "char", 1002),
    (19, "name", 1003),
    (20, "int8", 1016),
    (21, "int2", 1005),
    (22, "int2vector", 1006),
    (23, "int4", 1007),
    (24, "regproc", 1008),
    (25, "text", 1009),
    (26, "oid", 1028),
    (27, "tid", 1010),
    (28, "xid", 1011),
    (29, "cid", 1012),
    (30, "oidvector", 1013),
    (114, "json", 199),
    (142, "xml", 143),
    (600, "point", 1017),
    (601, "lseg", 1018),
    (602, "path", 1019),
    (603, "box", 1020),
    (604, "polygon", 1027),
    (628, "line", 629),
    (650, "cidr", 651),
    (700, "float4", 1021),
    (701, "float8", 1022),
    (718, "circle", 719),
    (774, "macaddr8", 775),
    (790, "money", 791),
    (829, "macaddr", 1040),
    (869, "inet", 1041),
    (1033, "aclitem", 1034),
    (1042, "bpchar", 1014),
    (1043, "varchar", 1015),
    (1082, "date", 1182),
    (1083, "time", 1183),
    (1114, "timestamp", 1115),
    (1184, "timestamptz", 1185),
    (1186, "interval", 1187),
    (1266, "timetz", 1270),
    (1560, "bit", 1561),
    (1562, "varbit", 1563),
    (1700, "numeric", 1231),
    (2202, "regprocedure", 2207),
    (2203, "regoper", 2208),
    (2204, "regoperator", 2209),
    (2205, "regclass", 2210),
    (2206, "regtype", 2211),
    (2950, "uuid", 2951),
    (2970, "txid_snapshot", 2949),
    (3220, "pg_lsn", 3221),
    (3614, "tsvector", 3643),
    (3615, "tsquery", 3645),
    (3734, "regconfig", 3735),
    (3769, "regdictionary", 3770),
    (3802, "jsonb", 3807),
    (3904, "int4range", 3905),
    (3906, "numrange", 3907),
    (3908, "tsrange", 3909),
    (3910, "tstzrange", 3911),
    (3912, "daterange", 3913),
    (3926, "int8range", 3927),
    (4072, "jsonpath", 4073),
    (4089, "regnamespace", 4090),
    (4096, "regrole", 4097),
    (4191, "regcollation", 4192),
    (4451, "int4multirange", 6150),
    (4532, "nummultirange", 6151),
    (4533, "tsmultirange", 6152),
    (4534, "tstzmultirange", 6153),
    (4535, "datemultirange", 6155),
    (4536, "int8multirange", 6157),
    (5038, "pg_snapshot", 5039),
    (5069, "xid8", 271),
)

_BOX_OID = 603


def _table() -> dict[int, PgType]:
    types: dict[int, PgType] = {}
    for oid, name, array_oid in _BUILTIN:
        delimiter = ";" if oid == _BOX_OID else ","
        plain = PgType(oid, name, shape=_SHAPES.get(oid, "text"), delimiter=delimiter)
        types[oid] = plain
        types[array_oid] = PgType(array_oid, f"_{name}", element=plain)
    return types


BUILTIN_TYPES = _table()
"""The types every database has, by oid."""


def unknown_type(oid: int) -> PgType:
    """Return the stand-in for a type that no longer exists: its values pass as text."""
    return PgType(oid, "unknown")
