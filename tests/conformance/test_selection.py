"""For any table, rows, filters, grants and roles, a subscriber is sent exactly what SQL with the same filter and role selects.

Inserted and updated rows are those that the role selects; of deleted ones, which cannot be looked up any more, those whose
identity the filter matches, for whoever asks. Columns are those that the role may read.
"""

import itertools
import json
import time
from dataclasses import dataclass, field

import websockets
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from embedded import keys
from tests.conformance.transcript import SECRET

ALICE = "11111111-1111-1111-1111-111111111111"
BOB = "22222222-2222-2222-2222-222222222222"
_numbers = itertools.count(1)

ORDERED = ("eq", "neq", "lt", "lte", "gt", "gte", "isdistinct", "in")
PATTERNS = ("like", "ilike", "match", "imatch")
SQL = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "isdistinct": "is distinct from",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
}

short_text = st.text(alphabet="abAB ,()\"\\%_éß\U0001f600.'", max_size=6)
patterns = st.text(alphabet="abAB%_ é", max_size=5)
regexes = st.sampled_from(("a", "^a", "a$", "a.*b", "^$", "[ab]+", "b|A", "(a,b)?", ".", "ß"))


def short(alphabet, size):
    return st.text(alphabet=alphabet, max_size=size)


def sampled(*values):
    return st.sampled_from(values)


@dataclass(frozen=True)
class Kind:
    """A column type: how SQL writes it, values as text, and the operators it has."""

    sql: str
    values: st.SearchStrategy
    operators: tuple = ORDERED
    literals: st.SearchStrategy | None = None
    """What filters compare with, if not the values: a literal may be longer than the column."""


KINDS = (
    Kind("int2", st.integers(-5, 5).map(str)),
    Kind("int4", sampled("0", "1", "-1", "2147483647", "-2147483648", "7", "10", "9")),
    Kind("int8", sampled("0", "9007199254740993", "9007199254740992", "-3", "10", "9")),
    Kind("numeric", sampled("0", "1.0", "1", "1.50", "NaN", "-2", "12345678901234567890.5", "10", "9")),
    Kind(
        "numeric(6,2)", sampled("0", "1", "1.5", "99.99", "-3"), literals=sampled("1", "1.501", "1.5", "1e6")
    ),
    Kind("float4", sampled("0", "-0", "1.5", "NaN", "Infinity", "-Infinity", "0.1")),
    Kind("float8", sampled("0", "0.1", "1e300", "NaN", "-Infinity", "2", "10")),
    Kind("text", short_text, (*ORDERED, *PATTERNS)),
    Kind('text collate "C"', short_text, (*ORDERED, *PATTERNS)),
    Kind("varchar(4)", short("abA é", 4), (*ORDERED, *PATTERNS), short("abA é", 6)),
    Kind("char(4)", short("abA ", 4), (*ORDERED, *PATTERNS), short("abA ", 6)),
    Kind("bool", sampled("true", "false"), ("eq", "neq", "isdistinct", "is")),
    Kind(
        "date", sampled("2024-05-06", "2024-05-07", "infinity", "-infinity", "0044-03-15 BC", "10000-01-01")
    ),
    Kind(
        "timestamp",
        sampled("2024-05-06 07:08:09", "2024-05-06 07:08:09.5", "infinity", "0044-03-15 00:00:00 BC"),
    ),
    Kind(
        "timestamptz", sampled("2024-05-06 07:08:09+00", "2024-05-06 09:08:09+02", "2023-01-01 00:00:00+00")
    ),
    Kind("time", sampled("07:08:09", "07:08:09.5", "23:59:59", "24:00:00")),
    Kind("interval", sampled("1 day", "24:00:00", "1 mon", "30 days", "-00:00:01")),
    Kind("uuid", sampled(ALICE, BOB, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
    Kind("bytea", sampled("\\x", "\\x00", "\\x00ff", "\\xff")),
    Kind("inet", sampled("10.0.0.1", "10.0.0.0/8", "::1", "9.255.0.1")),
    Kind("money", sampled("1", "10", "-2.50", "9")),
    Kind("bit(4)", sampled("1010", "0000", "1111")),
    Kind("jsonb", sampled('{"a": 1}', '{"a":1.0}', "[1,2]", "null", '"x"')),
    Kind("text[]", sampled("{}", "{a}", "{a,b}", '{"a b",NULL}'), ("eq", "neq", "lt", "gt", "isdistinct")),
    Kind("public.mood", sampled("sad", "ok", "happy")),
    Kind("public.posint", sampled("1", "2", "10", "9")),
)

KEY = Kind("int8", st.integers(0, 7).map(str))
"""The primary key, `id`: the only column that a deletion can be filtered by on default identity."""

POLICIES = {
    "no row security": "",
    "none": "alter table {t} enable row level security;",
    "own": "alter table {t} enable row level security;"
    "create policy own_{n} on {t} for select to authenticated using (auth.uid() = owner);",
    "own or unowned, anybody even": "alter table {t} enable row level security;"
    "create policy own_{n} on {t} for select to authenticated using ((select auth.uid()) = owner);"
    "create policy free_{n} on {t} for select to anon, authenticated using (owner is null or id % 2 = 0);",
    "restricted by a claim": "alter table {t} enable row level security;"
    "create policy all_{n} on {t} for select using (true);"
    "create policy level_{n} on {t} as restrictive for select to authenticated"
    " using (id % 3 <= coalesce((auth.jwt() ->> 'level')::int, 0));",
    "a column set": "alter table {t} enable row level security;"
    "create policy set_{n} on {t} for select using (c0 is not null);",
}

READERS = {
    "anon": {"role": "anon"},
    "alice": {"role": "authenticated", "sub": ALICE},
    "bob": {"role": "authenticated", "sub": BOB, "level": 1},
    "service": {"role": "service_role"},
}


@dataclass
class Condition:
    column: str
    kind: Kind
    operator: str
    values: list
    negated: bool

    @property
    def text(self):
        """As a subscription writes it."""
        operator = f"not.{self.operator}" if self.negated else self.operator
        if self.operator == "in":
            return f"{self.column}={operator}.({','.join(map(quoted, self.values))})"
        return f"{self.column}={operator}.{quoted(self.values[0])}"

    @property
    def sql(self):
        """As SQL writes it."""
        value = literal(self.values[0]) if self.values else ""
        match self.operator:
            case "is":
                expression = f"{self.column} is {self.values[0]}"
            case "in":
                listed = ", ".join(map(literal, self.values))
                expression = f"{self.column} in ({listed})"
            case _:
                expression = f"{self.column} {SQL[self.operator]} {value}"
        return f"not ({expression})" if self.negated else f"({expression})"


def quoted(value):
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def literal(value):
    doubled = value.replace("'", "''")
    return f"'{doubled}'"


@dataclass
class Case:
    kinds: list
    policy: str
    full_identity: bool
    rows: list
    updated: list
    subscribers: list = field(default_factory=list)
    """Pairs of a reader and its conditions."""
    granted: dict = field(default_factory=dict)
    """The columns that a role may read, if not all."""

    @property
    def columns(self):
        return ("id", "owner", *(f"c{index}" for index in range(len(self.kinds))))

    @property
    def row_security(self):
        return bool(POLICIES[self.policy])

    def readable(self, reader):
        """Return the columns that a reader may see, in their order."""
        return [
            name for name in self.columns if name in self.granted.get(READERS[reader]["role"], self.columns)
        ]

    def forbidden(self, reader, wanted):
        """Return the columns that are filtered by and may not be read."""
        return [condition.column for condition in wanted if condition.column not in self.readable(reader)]

    def shown(self, reader, change):
        """Return the columns of the new and of the old row that a reader is sent; None for no such row."""
        readable = self.readable(reader)
        key = [name for name in readable if name == "id"]
        match change:
            case "INSERT":
                return readable, None
            case "UPDATE":
                return readable, readable if self.full_identity else key
            case "DELETE":
                return None, readable if self.full_identity and not self.row_security else key


@st.composite
def conditions(draw, kinds):
    position = draw(st.integers(-1, len(kinds) - 1))
    kind, column = (KEY, "id") if position < 0 else (kinds[position], f"c{position}")
    operator = draw(st.sampled_from((*kind.operators, "is")))
    literals = kind.values if kind.literals is None else kind.literals
    match operator:
        case "is":
            choices = ("null", "true", "false", "unknown") if kind.sql == "bool" else ("null",)
            values = [draw(st.sampled_from(choices))]
        case "in":
            values = draw(st.lists(literals, min_size=1, max_size=3))
        case "like" | "ilike":
            values = [draw(patterns)]
        case "match" | "imatch":
            values = [draw(regexes)]
        case _:
            values = [draw(literals)]
    return Condition(column, kind, operator, values, draw(st.booleans()))


@st.composite
def cases(draw):
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    row = st.tuples(
        st.sampled_from((ALICE, BOB, None)), *(st.one_of(st.none(), kind.values) for kind in kinds)
    )
    rows = draw(st.lists(row, min_size=1, max_size=6))
    updated = [draw(row) for _ in rows]
    subscribers = draw(
        st.lists(
            st.tuples(st.sampled_from(sorted(READERS)), st.lists(conditions(kinds), max_size=2)),
            min_size=1,
            max_size=5,
        )
    )
    names = ("owner", *(f"c{index}" for index in range(len(kinds))))
    # a role that may not read the key is told of an error instead of a row: now and then
    some = st.tuples(st.sampled_from(("id", "id", "id", "owner")), st.sets(st.sampled_from(names))).map(
        lambda drawn: frozenset((drawn[0], *drawn[1]))
    )
    granted = draw(st.dictionaries(st.sampled_from(("anon", "authenticated")), some, max_size=2))
    policy, full_identity = draw(st.sampled_from(sorted(POLICIES))), draw(st.booleans())
    return Case(kinds, policy, full_identity, rows, updated, subscribers, granted)


async def received(socket, marker):
    """Return what came before the marker's row, in order: the topic and the data of each change."""
    changes = []
    while True:
        _, _, topic, event, payload = json.loads(await socket.recv())
        assert event == "postgres_changes", payload
        if topic == "realtime:marker":
            if payload["data"]["record"]["id"] == marker:
                return changes
        else:
            changes.append((topic, payload["data"]))


async def join(socket, topic, binding, token, forbidden=()):
    payload = {"config": {"postgres_changes": [binding]}, "access_token": token}
    await socket.send(json.dumps(["1", "1", topic, "phx_join", payload]))
    reply = json.loads(await socket.recv())
    assert reply[4]["status"] == "ok"
    told = json.loads(await socket.recv())
    if forbidden:
        assert told[4]["status"] == "error"
        assert any(f"invalid column for filter {name}" in told[4]["message"] for name in forbidden), told
    else:
        assert told[4]["message"] == "Subscribed to PostgreSQL", told


def granting(case, table):
    """Return the statements that leave the roles what they may read."""
    return "".join(
        f"revoke all on {table} from {role}; grant select ({', '.join(sorted(names))}) on {table} to {role};"
        for role, names in case.granted.items()
    )


async def deleted(database, table, case, wanted):
    """Return the keys of the rows that are to be deleted and that the filter matches, whoever asks."""
    if not case.full_identity and any(condition.column != "id" for condition in wanted):
        return []  # of a deleted row nothing but its key is known
    where = " and ".join(condition.sql for condition in wanted) or "true"
    return [row["id"] for row in await database.fetch(f"select id from {table} where {where} order by id")]  # noqa: S608  # ours


async def selected(database, table, claims, wanted):
    """Return the keys that the role with these claims selects."""
    where = " and ".join(condition.sql for condition in wanted) or "true"
    async with database.transaction():
        await database.execute("select set_config('request.jwt.claims', $1, true)", json.dumps(claims))
        await database.execute(f"set local role {claims['role']}")
        rows = await database.fetch(f"select id from {table} where {where} order by id")  # noqa: S608  # ours
    return [row["id"] for row in rows]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(case=cases())
async def test_a_subscriber_is_sent_what_sql_selects(served, case):
    database, number = served.database, next(_numbers)
    table = f"public.chosen_{number}"
    columns = ", ".join(f"c{index} {kind.sql}" for index, kind in enumerate(case.kinds))
    await database.execute(
        f"create table {table} (id bigint primary key, owner uuid, {columns});"
        + POLICIES[case.policy].format(t=table, n=number)
        + (f"alter table {table} replica identity full;" if case.full_identity else "")
        + granting(case, table)
        + f"alter publication supabase_realtime add table {table};"
    )
    tokens = {
        name: keys.sign({**claims, "exp": int(time.time()) + 600}, SECRET) for name, claims in READERS.items()
    }
    address = f"ws://127.0.0.1:{served.port}/socket/websocket?vsn=2.0.0&apikey={tokens['service']}"
    async with websockets.connect(address, compression=None) as socket:
        await join(socket, "realtime:marker", {"schema": "public", "table": "todos"}, tokens["service"])
        for index, (reader, wanted) in enumerate(case.subscribers):
            binding = {"event": "*", "schema": "public", "table": f"chosen_{number}"}
            if wanted:
                binding["filter"] = ",".join(condition.text for condition in wanted)
                note(f"{reader}: {binding['filter']}")
            await join(socket, f"realtime:{index}", binding, tokens[reader], case.forbidden(reader, wanted))

        async with database.transaction():
            for key, values in enumerate(case.rows, 1):
                listed = ", ".join("null" if value is None else literal(value) for value in values)
                await database.execute(f"insert into {table} values ({key}, {listed})")  # noqa: S608  # ours
        await check(socket, served, table, case, "INSERT")

        async with database.transaction():
            for key, values in enumerate(case.updated, 1):
                names = ("owner", *(f"c{index}" for index in range(len(case.kinds))))
                changed = ", ".join(
                    f"{name} = {'null' if value is None else literal(value)}"
                    for name, value in zip(names, values, strict=True)
                )
                await database.execute(f"update {table} set {changed} where id = {key}")  # noqa: S608  # ours
        await check(socket, served, table, case, "UPDATE")

        expected = [await deleted(database, table, case, wanted) for _, wanted in case.subscribers]
        async with database.transaction():
            for key in range(1, len(case.rows) + 1):
                await database.execute(f"delete from {table} where id = {key}")  # noqa: S608  # ours
        await check(socket, served, table, case, "DELETE", expected)
    await database.execute(f"drop table {table}")


async def check(socket, served, table, case, change, keys=None):
    """Compare what came since the last check with what SQL selects now, or with `keys` for each subscriber."""
    marker = next(_numbers)
    await served.database.execute("insert into public.todos (id) values ($1)", marker)
    changes = await received(socket, marker)
    for index, (reader, wanted) in enumerate(case.subscribers):
        got = [data for topic, data in changes if topic == f"realtime:{index}"]
        about = (change, reader, case.policy, case.granted, case.full_identity)
        assert {data["type"] for data in got} <= {change}, about
        if case.forbidden(reader, wanted):
            assert got == [], about  # its subscription was refused
        elif change != "DELETE" and "id" not in case.readable(reader):
            # whatever it filters by and whatever its policies show, as the real server does
            assert [data["errors"] for data in got] == [["Error 401: Unauthorized"]] * len(case.rows), about
            assert all(data["record"] == {} and data["columns"] == [] for data in got), about
        else:
            expected = (
                keys[index] if keys else await selected(served.database, table, READERS[reader], wanted)
            )
            rows = [data.get("record", data.get("old_record")) for data in got]
            readable = case.readable(reader)
            assert [row.get("id") for row in rows] == [
                key if "id" in readable else None for key in expected
            ], about
            for data in got:
                assert data["errors"] is None, about
                assert [column["name"] for column in data["columns"]] == readable, about
                told = tuple(data.get(name) for name in ("record", "old_record"))
                shown = tuple(None if row is None else set(row) for row in told)
                assert shown == tuple(
                    None if row is None else set(row) for row in case.shown(reader, change)
                ), about
