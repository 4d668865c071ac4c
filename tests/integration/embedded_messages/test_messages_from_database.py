"""Broadcast from SQL: what arrives, in which form, to whom and in which order; the recorded conversations' facts."""

import asyncio
import json
import uuid

import asyncpg
import pytest

from embedded.postgres import Postgres
from embedded.postgres_cluster import STATE_FILE
from tests.integration.embedded_messages.conftest import USER_1, database, kind_4, serving


async def rooms(project, topic="room-1"):
    """Return clients of the private room in both versions, and of the public one of the same name."""
    token = project.token(sub=USER_1)
    two, one, public = await project.client(), await project.client("1.0.0"), await project.client()
    await two.joined(topic, token)
    await one.joined(topic, token)
    await public.joined(topic, private=False)
    return two, one, public


async def test_a_message_reaches_both_versions_of_the_protocol(project):
    two, one, public = await rooms(project)
    sql = await project.sql()
    await sql.execute("select realtime.send('{\"hello\":\"private\"}', 'ev1', 'room-1')")
    frame = await two.raw()
    topic, event, meta, payload = kind_4(frame)
    assert (topic, event, payload["hello"]) == ("realtime:room-1", "ev1", "private")
    uuid.UUID(meta["id"])
    text = await one.raw()
    inner = f'{{"id": "{meta["id"]}", "hello": "private"}}'
    payload = f'{{"event":"ev1","meta":{{"id":"{meta["id"]}"}},"payload":{inner},"type":"broadcast"}}'
    assert text == f'{{"ref":null,"event":"broadcast","payload":{payload},"topic":"realtime:room-1"}}'
    await public.silent()


async def test_public_messages_and_those_of_the_private_room_are_apart(project):
    two, _, public = await rooms(project)
    sql = await project.sql()
    await sql.execute('select realtime.send(\'{"id":"mine","x":[1,{"y":null}]}\', \'ev\', \'room-1\', false)')
    _, _, meta, payload = await public.message()
    assert payload == {"id": "mine", "x": [1, {"y": None}]}
    assert meta["id"] != "mine"
    await two.silent()


async def test_what_is_not_a_message_is_not_sent(project):
    two, _, _ = await rooms(project)
    sql = await project.sql()
    warnings = []
    sql.add_log_listener(lambda _, message: warnings.append(message.message))
    for arguments in ("'[1,2]'::jsonb, 'arr'", "null::jsonb, 'nul'", "'{\"a\":1}'::jsonb, null"):
        await sql.execute(f"select realtime.send({arguments}, 'room-1')")
    async with asyncio.timeout(5):
        while len(warnings) < 1:
            await asyncio.sleep(0.01)
    assert warnings == ['WarnSendingBroadcastMessage: path element at position 1 is not an integer: "id"']
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("select realtime.send('{\"rolled\":\"back\"}', 'ev', 'room-1')")
    await transaction.rollback()
    await sql.execute("select realtime.send('{}', 'last', 'room-1')")
    assert (await two.message())[1] == "last"


async def test_binary_payloads_reach_only_the_new_version(project):
    two, one, _ = await rooms(project)
    sql = await project.sql()
    await sql.execute(r"select realtime.send_binary('\x0001ff', 'evbin', 'room-1')")
    _, event, meta, payload = await two.message()
    assert (event, payload) == ("evbin", b"\x00\x01\xff")
    uuid.UUID(meta["id"])
    await one.silent()


async def test_any_insert_is_broadcast_and_updates_are_not(project):
    two, _, _ = await rooms(project)
    sql = await project.sql()
    insert = (
        "insert into realtime.messages(topic, extension, payload, event, private)"
        " values ('room-1', $1, '{\"direct\":1}', 'evd', true)"
    )
    await sql.execute(insert, "broadcast")
    await sql.execute("update realtime.messages set updated_at = now()")
    await sql.execute(insert, "presence")
    for _ in range(2):
        topic, event, _, payload = await two.message()
        assert (topic, event, payload) == ("realtime:room-1", "evd", {"direct": 1})
    await two.silent()


async def test_messages_come_in_the_order_of_commits_and_within_a_transaction_as_sent(project):
    two, _, _ = await rooms(project)
    first, second = await project.sql(), await project.sql()
    early, late = first.transaction(), second.transaction()
    await early.start()
    await late.start()
    send = "select realtime.send(jsonb_build_object('n', $1::int), 'ev', 'room-1')"
    await first.execute(send, 1)
    await second.execute(send, 2)
    await first.execute(send, 3)
    await late.commit()
    await early.commit()
    assert [(await two.message())[3]["n"] for _ in range(3)] == [2, 1, 3]


async def test_a_trigger_tells_of_changes(project):
    two, _, _ = await rooms(project, "room-changes")
    sql = await project.sql()
    await sql.execute("insert into public.bc_todos values (1, 'one')")
    await sql.execute("update public.bc_todos set details = 'two'")
    await sql.execute("delete from public.bc_todos")
    old, new = {"id": 1, "details": "one"}, {"id": 1, "details": "two"}
    for event, record, old_record in (("INSERT", old, None), ("UPDATE", new, old), ("DELETE", None, new)):
        topic, told, meta, payload = await two.message()
        assert (topic, told) == ("realtime:room-changes", event)
        assert payload == {
            "id": meta["id"],
            "table": "bc_todos",
            "schema": "public",
            "operation": event,
            "record": record,
            "old_record": old_record,
        }


async def test_misused_triggers_say_so(project):
    sql = await project.sql()
    call = "select realtime.broadcast_changes('t', 'e', $1, 'a', 'b', row(1), null, $2)"
    for operation, level, says in (
        ("TRUNCATE", "ROW", "Unexpected operation type: TRUNCATE"),
        ("INSERT", "STATEMENT", "function can only be triggered for each row, not for each statement"),
    ):
        with pytest.raises(asyncpg.RaiseError) as caught:
            await sql.execute(call, operation, level)
        assert str(caught.value) == f"Failed to process the row: {says}"


async def test_a_large_message_and_names_that_do_not_fit_a_binary_frame(project):
    two, one, _ = await rooms(project)
    sql = await project.sql()
    await sql.execute("select realtime.send(jsonb_build_object('x', repeat('y', 100000)), 'big', 'room-1')")
    for client in (two, one):
        assert len((await client.message())[3]["x"]) == 100_000
    event = "e" * 300
    await sql.execute("select realtime.send('{}', $1, 'room-1')", event)
    for client in (two, one):
        assert (await client.message())[1] == event


async def test_the_client_is_told_when_messages_flow(project):
    client = await project.client()
    await client.joined("room-1", project.token(sub=USER_1), replication_ready=True)
    frame = await client.receive()
    assert frame[3:] == [
        "system",
        {
            "message": "Replication connection established",
            "status": "ok",
            "extension": "system",
            "channel": "room-1",
        },
    ]


async def test_a_role_without_permission_cannot_send_from_sql(project):
    """realtime.send runs with the rights of its caller: the policies count, and what they refuse is a warning."""
    two, _, _ = await rooms(project)
    sql = await project.sql()
    await sql.execute("set role anon")
    await sql.execute("select realtime.send('{}', 'forged', 'room-1')")
    await sql.execute("set role authenticated")
    await sql.execute("select realtime.send('{}', 'allowed', 'room-1')")
    await sql.execute("reset role")
    assert (await two.message())[1] == "allowed"


async def test_days_are_made_ahead_and_old_ones_dropped(project):
    sql = await project.sql()
    days = (
        "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'realtime.messages'::regclass order by 1"
    )
    # Those of the day on which the cluster was made, which may have been yesterday.
    made_before = {row[0] for row in await sql.fetch(days)}
    await sql.execute("set role supabase_realtime_admin")
    for day, following in (("2020-01-01", "2020-01-02"), ("2020-01-02", "2020-01-03")):
        await sql.execute(
            f"create table realtime.messages_{day.replace('-', '_')} partition of realtime.messages"
            f" for values from ('{day}') to ('{following}')"
        )
    await sql.execute("reset role")
    await sql.execute("select realtime.maintain_messages()")
    rows = await sql.fetch(days)
    wanted = await sql.fetch(
        "select 'messages_' || to_char((now() at time zone 'utc')::date + n, 'YYYY_MM_DD')"
        " from generate_series(-1, 3) n"
    )
    assert [row[0] for row in rows] == sorted(made_before | {row[0] for row in wanted})


async def test_a_database_from_before_is_brought_up_to_date_by_the_gateway(messages_cluster):
    async with database(messages_cluster) as name:
        connection = await asyncpg.connect(messages_cluster.dsn(database=name))
        await connection.execute(
            "drop publication supabase_realtime_messages_publication; drop table realtime.messages;"
            " drop function realtime.maintain_messages, realtime.send, realtime.send_binary,"
            " realtime.broadcast_changes"
        )
        await connection.close()
        async with serving(messages_cluster, name) as project:
            client = await project.client()
            await client.joined("hall", private=False)
            sql = await project.sql()
            await sql.execute("select realtime.send('{}', 'new', 'hall', false)")
            assert (await client.message())[1] == "new"


async def test_a_cluster_from_before_is_brought_up_to_date_when_it_is_prepared(tmp_path):
    """Its messages are ordinary tables, although single-user mode made them: the stream has them."""
    postgres = Postgres(tmp_path, port=0, durable=False)
    postgres.start()
    try:
        connection = await asyncpg.connect(postgres.dsn())
        await connection.execute(
            "drop publication supabase_realtime_messages_publication; drop table realtime.messages"
        )
        await connection.close()
        postgres.stop()
        state = postgres.pgdata / STATE_FILE
        state.write_text(json.dumps({**json.loads(state.read_text()), "bootstrap": "an older one"}))
        postgres.start()
        async with serving(postgres, "postgres") as project:
            client = await project.client()
            await client.joined("hall", private=False)
            sql = await project.sql()
            await sql.execute("select realtime.send('{}', 'new', 'hall', false)")
            assert (await client.message())[1] == "new"
    finally:
        postgres.remove()


async def test_a_partition_that_is_missing_is_made_at_the_first_private_join(project):
    sql = await project.sql()
    await sql.execute(
        "do $$ declare day regclass; begin"
        " for day in select inhrelid::regclass from pg_inherits"
        "  where inhparent = 'realtime.messages'::regclass loop"
        "  execute format('drop table %s', day); end loop; end $$"
    )
    client = await project.client()
    await client.joined("room-1", project.token(sub=USER_1))
    await sql.execute("select realtime.send('{}', 'after', 'room-1')")
    assert (await client.message())[1] == "after"


async def test_a_transaction_of_many_messages_arrives_whole_and_in_order(project):
    """More than a client's buffer holds: who reads is waited for."""
    client, other = await project.client(), await project.client("1.0.0")
    for each in (client, other):
        await each.joined("hall", private=False)
    sql = await project.sql()
    insert = (
        "select realtime.send(jsonb_build_object('n', n, 'x', repeat('x', 4000)), 'ev', 'hall', false)"
        " from generate_series(1, 6000) n"
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sql.execute(insert))
        for each in (client, other):
            tasks.create_task(_expect(each, range(1, 6001)))


async def _expect(client, numbers):
    for number in numbers:
        assert (await client.message())[3]["n"] == number
