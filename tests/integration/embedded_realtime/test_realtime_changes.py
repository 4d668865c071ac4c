"""postgres_changes over the wire: bindings, filters, rights, errors, in both protocol versions."""

import json

import pytest

ANY = {"event": "*", "schema": "public", "table": "todos"}


@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
async def test_the_recorded_life_of_a_row(stack, vsn):
    client = await stack.client(vsn)
    (number,) = await client.subscribe("realtime:todos-star", ANY)
    sql = await stack.sql()
    await sql.execute("insert into public.todos(id,details,user_id) values (1001,'first',null)")
    text = await client.raw()
    stamp = (
        json.loads(text)[4]["data"]["commit_timestamp"]
        if vsn == "2.0.0"
        else (json.loads(text)["payload"]["data"]["commit_timestamp"])
    )
    data = (
        '{"table":"todos","type":"INSERT","record":{"id": 1001, "details": "first", "user_id": null},'
        '"columns":[{"name": "id", "type": "int8"}, {"name": "details", "type": "text"}, '
        '{"name": "user_id", "type": "uuid"}],"errors":null,"schema":"public",'
        f'"commit_timestamp":"{stamp}"}}'
    )
    if vsn == "2.0.0":
        expected = f'[null,null,"realtime:todos-star","postgres_changes",{{"data":{data},"ids":[{number}]}}]'
    else:
        expected = (
            f'{{"ref":null,"event":"postgres_changes","payload":{{"data":{data},"ids":[{number}]}},'
            '"topic":"realtime:todos-star"}'
        )
    assert text == expected
    assert len(stamp) == len("2026-11-20T23:45:46.784Z")
    await sql.execute("update public.todos set details='second' where id=1001")
    _, data, _ = await client.change()
    assert list(data) == [
        "table",
        "type",
        "record",
        "columns",
        "errors",
        "schema",
        "commit_timestamp",
        "old_record",
    ]
    assert (data["record"]["details"], data["old_record"]) == ("second", {"id": 1001})
    await sql.execute("delete from public.todos")
    _, data, _ = await client.change()
    assert list(data) == ["table", "type", "columns", "errors", "schema", "commit_timestamp", "old_record"]
    assert data["old_record"] == {"id": 1001}


async def test_several_bindings_are_listed_in_reverse(stack):
    client = await stack.client()
    insert = {"event": "INSERT", "schema": "public", "table": "todos"}
    filtered = {"event": "UPDATE", "schema": "public", "table": "todos_full", "filter": "details=eq.second"}
    ids = await client.subscribe(
        "realtime:multi",
        insert,
        ANY,
        {"event": "*", "schema": "public"},
        {"event": "*", "schema": "*"},
        filtered,
        insert,
    )
    assert ids[0] == ids[5]
    sql = await stack.sql()
    await sql.execute("insert into public.todos(id) values (1)")
    assert (await client.change())[2] == [ids[5], ids[3], ids[2], ids[1], ids[0]]
    await sql.execute("update public.todos set details='x'")
    assert (await client.change())[2] == [ids[3], ids[2], ids[1]]
    await sql.execute("insert into public.todos_full(id, details) values (1, 'first')")
    assert (await client.change())[2] == [ids[3], ids[2]]
    await sql.execute("update public.todos_full set details='second'")
    _, data, seen = await client.change()
    assert seen == [ids[4], ids[3], ids[2]]
    assert data["old_record"] == {"id": 1, "details": "first", "user_id": None}
    await sql.execute("insert into other.things values (1, 'o')")
    assert (await client.change())[2] == [ids[3]]


FILTERS = {
    "id=eq.2001": {2001},
    "id=neq.2001": {2002, 2003, 2004},
    "id=lt.2002": {2001},
    "id=lte.2002": {2001, 2002},
    "id=gt.2002": {2003, 2004},
    "id=gte.2002": {2002, 2003, 2004},
    "id=in.(2001,2003)": {2001, 2003},
    'id=eq."2001"': {2001},
    "id=eq.02001": {2001},
    "id=not.eq.2001": {2002, 2003, 2004},
    "id=gt.2001,id=lt.2003": {2002},
    "details=eq.b": {2002},
    "details=neq.b": {2001, 2003},
    "details=in.(a,c)": {2001, 2003},
    "details=like.a%": {2001},
    "details=ilike.A%": {2001},
    "details=not.ilike.A%": {2002, 2003},
    "details=is.null": {2004},
    "details=not.is.null": {2001, 2002, 2003},
    "details=match.^a": {2001},
    "details=match.^(a|b)$": {2001, 2002},
    "details=imatch.^A": {2001},
    "details=isdistinct.a": {2002, 2003, 2004},
    "details=eq.": set(),
    "user_id=eq.11111111-1111-1111-1111-111111111111": {2001},
    "user_id=eq.{11111111-1111-1111-1111-111111111111}": {2001},
}


async def test_filters_choose_the_rows_that_were_recorded(stack):
    client = await stack.client()
    for text in FILTERS:
        await client.subscribe(f"realtime:{text}", ANY | {"filter": text})
    sql = await stack.sql()
    await sql.execute(
        "insert into public.todos(id,details,user_id) values (2001,'a','11111111-1111-1111-1111-111111111111'),"
        "(2002,'b',null),(2003,'c','22222222-2222-2222-2222-222222222222'),(2004,null,null)"
    )
    received = {text: set() for text in FILTERS}
    for _ in range(sum(map(len, FILTERS.values()))):
        topic, data, _ = await client.change()
        received[topic.removeprefix("realtime:")].add(data["record"]["id"])
    assert received == FILTERS
    await client.silent()


async def test_filters_of_other_types(stack):
    client = await stack.client()
    wanted = {
        "n=eq.1.50": {1},
        "n=gt.9": {2, 3},
        "f=lt.1e3": {1},
        "b=is.true": {1},
        "b=not.is.true": {2, 3},
        "at=gte.2024-05-06T07:08:09+02:00": {1, 2},
        'j=eq.{"a": 1.0}': {1},
    }  # fmt: skip
    for text in wanted:
        await client.subscribe(f"realtime:{text}", {"schema": "public", "table": "typed", "filter": text})
    sql = await stack.sql()
    await sql.execute(
        """insert into public.typed(id, n, f, b, at, j) values
        (1, 1.5, 999.5, true, '2024-05-06 05:08:09+00', '{"a": 1}'), (2, 'NaN', 'Infinity', false, 'infinity', '{}'),
        (3, 10, 1000, null, '2024-05-06 05:08:08.999999+00', null)"""
    )
    received = {text: set() for text in wanted}
    for _ in range(sum(map(len, wanted.values()))):
        topic, data, _ = await client.change()
        received[topic.removeprefix("realtime:")].add(data["record"]["id"])
    assert received == wanted


async def test_deletes_are_filtered_on_their_identity(stack):
    client = await stack.client()
    by_key = await client.subscribe("realtime:key", ANY | {"filter": "id=eq.1"})
    await client.subscribe("realtime:other", ANY | {"filter": "details=is.null"})
    full = await client.subscribe("realtime:full", ANY | {"table": "todos_full", "filter": "details=eq.x"})
    sql = await stack.sql()
    await sql.execute("insert into public.todos(id, details) values (1, 'x')")
    assert (await client.change())[2] == by_key
    await sql.execute("delete from public.todos")
    assert (await client.change())[2] == by_key
    await sql.execute("insert into public.todos_full(id, details) values (1, 'x')")
    assert (await client.change())[2] == full
    await sql.execute("delete from public.todos_full")
    assert (await client.change())[2] == full
    await client.silent()


UNABLE = "Unable to subscribe to changes with given parameters. "
CHECK = UNABLE + "Please check Realtime is enabled for the given connect parameters: "
EXCEPTION = UNABLE + "An exception happened so please check your connect parameters: "


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"event": "*", "schema": "public", "table": "nosuchtable"},
         CHECK + "[event: *, schema: public, table: nosuchtable, filters: [], select: nil]"),
        ({"event": "*", "schema": "public", "table": "notpub"},
         CHECK + "[event: *, schema: public, table: notpub, filters: [], select: nil]"),
        ({"event": "*", "schema": "public", "table": "TODOS"},
         CHECK + "[event: *, schema: public, table: TODOS, filters: [], select: nil]"),
        ({"event": "*", "schema": "public", "table": "", "filter": "id=eq.1"},
         CHECK + '[event: *, schema: public, table: , filters: [{"id", "eq", "1", false}], select: nil]'),
        (ANY | {"filter": "nocol=eq.1"},
         EXCEPTION + '[event: *, schema: public, table: todos, filters: [{"nocol", "eq", "1", false}], select: nil]. '
         "Exception: ERROR P0001 (raise_exception) invalid column for filter nocol"),
        (ANY | {"filter": "id=eq.abc"},
         EXCEPTION + '[event: *, schema: public, table: todos, filters: [{"id", "eq", "abc", false}], select: nil]. '
         'Exception: ERROR 22P02 (invalid_text_representation) invalid input syntax for type bigint: "abc"'),
        (ANY | {"filter": "details=match.["},
         EXCEPTION + '[event: *, schema: public, table: todos, filters: [{"details", "match", "[", false}], select: nil]. '
         "Exception: ERROR P0001 (raise_exception) invalid regular expression for match filter: "
         "invalid regular expression: brackets [] not balanced"),
        (ANY | {"select": ["nocol"]},
         EXCEPTION + '[event: *, schema: public, table: todos, filters: [], select: ["nocol"]]. '
         "Exception: ERROR P0001 (raise_exception) invalid column for select nocol"),
        (ANY | {"table": "colgrant", "filter": "secret=eq.x"},
         EXCEPTION + '[event: *, schema: public, table: colgrant, filters: [{"secret", "eq", "x", false}], select: nil]. '
         "Exception: ERROR P0001 (raise_exception) invalid column for filter secret"),
        (ANY | {"filter": "id=foo.1"}, 'Error parsing `filter` params: ["foo", "1"]'),
    ],
)  # fmt: skip
async def test_bad_bindings_join_and_are_told(stack, entry, message):
    client = await stack.client()
    reply, told = await client.join("realtime:bad", [ANY, entry])
    assert reply["status"] == "ok"
    assert len(reply["response"]["postgres_changes"]) == 2
    assert told == message
    sql = await stack.sql()
    await sql.execute("insert into public.todos(id) values (1)")
    await stack.caught_up(sql)
    await client.silent()  # one bad binding makes all of the join dead


async def test_too_many_values(stack):
    client = await stack.client()
    text = "id=in.(" + ",".join(map(str, range(101))) + ")"
    _, told = await client.join("realtime:bad", [ANY | {"filter": text}])
    assert told.endswith("ERROR P0001 (raise_exception) too many values for `in` filter. Maximum 100")


async def test_a_role_the_database_does_not_know(stack):
    client = await stack.client(apikey=stack.token("nobody"))
    _, told = await client.join("realtime:x", [ANY])
    assert told.endswith('Exception: ERROR 42704 (undefined_object) role "nobody" does not exist')


async def test_select_limits_the_columns(stack):
    client = await stack.client()
    await client.subscribe("realtime:x", ANY | {"select": ["details"]})
    sql = await stack.sql()
    await sql.execute("insert into public.todos(id, details) values (1, 'x')")
    _, data, _ = await client.change()
    assert data["record"] == {"id": 1, "details": "x"}
    assert [column["name"] for column in data["columns"]] == ["id", "details"]


async def test_no_primary_key(stack):
    client = await stack.client()
    await client.subscribe("realtime:x", {"schema": "public", "table": "nopk"})
    sql = await stack.sql()
    await sql.execute("insert into public.nopk values (1, 'x')")
    _, data, _ = await client.change()
    assert (data["record"], data["columns"], data["commit_timestamp"]) == ({}, [], None)
    assert data["errors"] == ["Error 400: Bad Request, no primary key"]


async def test_too_large(stack):
    client = await stack.client()
    await client.subscribe("realtime:x", {"schema": "public", "table": "big"})
    sql = await stack.sql()
    await sql.execute(
        "insert into public.big values (1, 's', repeat('x', 70000)), (2, 's', repeat('x', 1100000))"
    )
    _, data, _ = await client.change()
    assert (data["errors"], len(data["record"]["body"])) == (None, 70000)
    _, data, _ = await client.change()
    assert (data["errors"], data["record"]) == (["Error 413: Payload Too Large"], {"id": 2, "small": "s"})


async def test_a_rolled_back_transaction_and_a_truncate_are_nothing(stack):
    client = await stack.client()
    await client.subscribe("realtime:x", ANY)
    sql = await stack.sql()
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("insert into public.todos(id) values (1)")
    await transaction.rollback()
    await sql.execute("truncate public.todos")
    await stack.caught_up(sql)
    await client.silent()


async def test_the_old_api(stack):
    client = await stack.client("1.0.0")
    await client.send("realtime:public:todos", "phx_join", {})
    assert (await client.receive())[4]["status"] == "ok"
    assert (await client.receive())[4]["message"] == "Subscribed to PostgreSQL"
    sql = await stack.sql()
    await sql.execute("insert into public.todos(id) values (1)")
    frame = await client.receive()
    assert frame[3] == "INSERT"
    assert frame[4]["record"]["id"] == 1


async def test_leaving_ends_the_changes(stack):
    client = await stack.client()
    await client.subscribe("realtime:x", ANY)
    await client.send("realtime:x", "phx_leave", {}, join_ref="1")
    assert [(await client.receive())[3] for _ in range(2)] == ["phx_reply", "phx_close"]
    sql = await stack.sql()
    await sql.execute("insert into public.todos(id) values (1)")
    await stack.caught_up(sql)
    await client.silent()
    assert stack.server.health()["subscriptions"] == 0


async def test_nothing_committed_after_the_reply_is_lost(stack):
    sql = await stack.sql()
    client = await stack.client()
    for number in range(30):
        await client.send(f"realtime:{number}", "phx_join", {"config": {"postgres_changes": [ANY]}})
        while (await client.receive())[3] != "phx_reply":
            pass
        await sql.execute("insert into public.todos(id) values ($1)", number)
        while True:
            frame = await client.receive()
            if frame[3] == "postgres_changes" and frame[2] == f"realtime:{number}":
                assert frame[4]["data"]["record"]["id"] == number
                break


async def test_a_filter_that_breaks_on_a_value_breaks_for_its_client_only(stack):
    broken, healthy = await stack.client(), await stack.client()
    await broken.subscribe("realtime:x", ANY | {"filter": "details=like.a\\"})
    await healthy.subscribe("realtime:x", ANY)
    sql = await stack.sql()
    await sql.execute("insert into public.todos(id, details) values (1, 'ab')")
    assert (await healthy.change())[1]["record"]["id"] == 1
    await broken.silent()
    assert stack.server.health()["failed_transactions"] == 0
