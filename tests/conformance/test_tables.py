"""Tables that are not plain: partitions, other replica identities, large values, truncation, wildcards."""

import asyncio
import json

import pytest
import websockets


class Watcher:
    """A subscriber of everything a binding gives, as service_role unless told."""

    def __init__(self, socket, served):
        self._socket = socket
        self._served = served
        self._marks = 0

    async def join(self, topic, binding, **claims):
        token = self._served.token(**claims) if claims else self._served.token()
        payload = {"config": {"postgres_changes": [binding]}, "access_token": token}
        await self._socket.send(json.dumps(["1", "1", topic, "phx_join", payload]))
        reply, told = json.loads(await self._socket.recv()), json.loads(await self._socket.recv())
        assert reply[4]["status"] == "ok"
        return told[4]["message"]

    async def changes(self):
        """Return topic, type, record and old record of all that came up to now."""
        self._marks += 1
        await self._served.database.execute("insert into public.todos (id) values ($1)", self._marks)
        found = []
        while True:
            async with asyncio.timeout(10):
                _, _, topic, event, payload = json.loads(await self._socket.recv())
            assert event == "postgres_changes"
            data = payload["data"]
            if topic == "realtime:mark":
                if data["record"]["id"] == self._marks:
                    return found
                continue
            found.append((data["table"], data["type"], data.get("record"), data.get("old_record")))


@pytest.fixture
async def watcher(served):
    address = f"ws://127.0.0.1:{served.port}/socket/websocket?vsn=2.0.0&apikey={served.token()}"
    async with websockets.connect(address, compression=None) as socket:
        result = Watcher(socket, served)
        await result.join("realtime:mark", {"schema": "public", "table": "todos"})
        yield result


async def test_a_partition_s_changes_carry_its_own_name(served, watcher):
    """The recordings' publication does not publish via the root, and so it is by the leaf that they are bound."""
    await watcher.join("realtime:leaf", {"schema": "public", "table": "part1"})
    await served.database.execute("insert into public.part values (1, 1, 'a')")
    await served.database.execute("update public.part set v = 'b'")
    await served.database.execute("delete from public.part")
    assert await watcher.changes() == [
        ("part1", "INSERT", {"id": 1, "k": 1, "v": "a"}, None),
        ("part1", "UPDATE", {"id": 1, "k": 1, "v": "b"}, {"id": 1, "k": 1}),
        ("part1", "DELETE", None, {"id": 1, "k": 1}),
    ]


async def test_a_row_that_moves_to_another_partition_is_deleted_and_inserted(served, watcher):
    await served.database.execute("create table public.part2 partition of public.part for values in (2)")
    await watcher.join("realtime:leaves", {"schema": "public", "table": "part_"})
    await served.database.execute("insert into public.part values (1, 1, 'a')")
    await served.database.execute("update public.part set k = 2")
    assert await watcher.changes() == [
        ("part1", "INSERT", {"id": 1, "k": 1, "v": "a"}, None),
        ("part1", "DELETE", None, {"id": 1, "k": 1}),
        ("part2", "INSERT", {"id": 1, "k": 2, "v": "a"}, None),
    ]


async def test_truncation_is_not_told_and_what_follows_is(served, watcher):
    await watcher.join("realtime:a", {"schema": "public", "table": "todos_full"})
    await served.database.execute("insert into public.todos_full (id) values (1)")
    await served.database.execute("truncate public.todos_full")
    await served.database.execute("insert into public.todos_full (id) values (1)")
    row = {"id": 1, "details": None, "user_id": None}
    assert await watcher.changes() == [("todos_full", "INSERT", row, None)] * 2


async def test_an_identity_by_another_index_gives_its_columns(served, watcher):
    await served.database.execute(
        "create table public.coded (id int primary key, code text not null unique, v text);"
        "alter table public.coded replica identity using index coded_code_key;"
        "alter publication supabase_realtime add table public.coded"
    )
    await watcher.join("realtime:a", {"schema": "public", "table": "coded"})
    await watcher.join("realtime:b", {"schema": "public", "table": "coded", "filter": "code=eq.x"})
    await served.database.execute("insert into public.coded values (1, 'x', 'a')")
    await served.database.execute("delete from public.coded")
    inserted = ("coded", "INSERT", {"id": 1, "v": "a", "code": "x"}, None)
    deleted = ("coded", "DELETE", None, {"code": "x"})
    came = await watcher.changes()  # the order across channels is not fixed
    assert [came.count(inserted), came.count(deleted), len(came)] == [2, 2, 4]


async def test_a_large_value_left_alone_is_missing_and_filters_on_others_go_on(served, watcher):
    await served.database.execute("alter table public.big alter body set storage external")
    await watcher.join("realtime:a", {"schema": "public", "table": "big", "filter": "small=eq.s2"})
    await served.database.execute("insert into public.big values (1, 's', repeat('x', 9000))")
    await served.database.execute("update public.big set small = 's2'")
    assert await watcher.changes() == [("big", "UPDATE", {"id": 1, "small": "s2"}, {"id": 1})]


async def test_a_large_value_left_alone_comes_from_the_old_row_when_that_is_full(served, watcher):
    await served.database.execute("alter table public.big_full alter body set storage external")
    await watcher.join("realtime:a", {"schema": "public", "table": "big_full", "filter": "body=like.x%"})
    await served.database.execute("insert into public.big_full values (1, 's', repeat('x', 9000))")
    await served.database.execute("update public.big_full set small = 's2'")
    (_, _, first, _), (_, _, second, old) = await watcher.changes()
    assert (first["small"], second["small"], old["small"]) == ("s", "s2", "s")
    assert second["body"] == old["body"] == "x" * 9000


async def test_a_column_that_is_added_is_sent_from_then_on(served, watcher):
    await watcher.join("realtime:a", {"schema": "public", "table": "compk"})
    await served.database.execute("insert into public.compk values (1, 'b', 'v')")
    await served.database.execute("alter table public.compk add w int default 7")
    await served.database.execute("insert into public.compk values (2, 'b', 'v')")
    assert [row for _, _, row, _ in await watcher.changes()] == [
        {"a": 1, "b": "b", "v": "v"},
        {"a": 2, "b": "b", "v": "v", "w": 7},
    ]


async def test_a_revoked_right_shows_with_the_next_change(served, watcher):
    await watcher.join("realtime:a", {"schema": "public", "table": "compk"}, role="anon")
    await served.database.execute("insert into public.compk values (1, 'b', 'v')")
    assert [row for _, _, row, _ in await watcher.changes()] == [{"a": 1, "b": "b", "v": "v"}]
    await served.database.execute("revoke select on public.compk from anon")
    await served.database.execute("insert into public.compk values (2, 'b', 'v')")
    assert [row for _, _, row, _ in await watcher.changes()] == [{}]


async def test_names_with_spaces_and_commas_can_be_filtered_on(served, watcher):
    binding = {"schema": "public", "table": "Weird Table", "filter": "Id x=eq.2"}
    await watcher.join("realtime:a", binding)
    await served.database.execute("""insert into public."Weird Table" values (1, 'a'), (2, 'b')""")
    assert await watcher.changes() == [("Weird Table", "INSERT", {"Id x": 2, "Col,umn": "b"}, None)]


async def test_a_table_made_after_the_join_is_covered_by_a_wildcard(served, watcher):
    await watcher.join("realtime:a", {"schema": "other", "table": "*"})
    await served.database.execute(
        "create table other.later (id int primary key); grant select on other.later to service_role;"
        "alter publication supabase_realtime add table other.later"
    )
    await served.database.execute("insert into other.later values (1)")
    assert await watcher.changes() == [("later", "INSERT", {"id": 1}, None)]


async def test_a_policy_on_a_large_value_left_alone_decides_as_sql_does(served, watcher):
    await served.database.execute(
        "alter table public.big alter body set storage external;"
        "alter table public.big enable row level security;"
        "create policy by_body on public.big for select to anon using (body like 'x%')"
    )
    await watcher.join("realtime:a", {"schema": "public", "table": "big"}, role="anon")
    await served.database.execute("insert into public.big values (1, 's', repeat('x', 9000))")
    await served.database.execute("update public.big set small = 's2'")
    assert [(kind, row["small"]) for _, kind, row, _ in await watcher.changes()] == [
        ("INSERT", "s"),
        ("UPDATE", "s2"),
    ]


async def test_a_filter_on_a_large_value_left_alone_decides_as_sql_does(served, watcher):
    await served.database.execute("alter table public.big alter body set storage external")
    await watcher.join("realtime:a", {"schema": "public", "table": "big", "filter": "body=like.x%"})
    await served.database.execute(
        "insert into public.big values (1, 's', repeat('x', 9000)), (2, 's', repeat('y', 9000))"
    )
    await served.database.execute("update public.big set small = 's2'")
    first, second = await watcher.changes()
    assert (first[1], first[2]["id"]) == ("INSERT", 1)
    assert second == ("big", "UPDATE", {"id": 1, "small": "s2"}, {"id": 1})
