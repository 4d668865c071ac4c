"""The replication client on a real PostgreSQL."""

import asyncio
import contextlib
import os
import signal
import statistics
import time

import asyncpg
import pytest
import uvloop

from embedded.errors import ProtocolError, ServerError
from embedded.wal.client import WalClient
from embedded.wal.model import UNCHANGED

# what the real Realtime (v2.129.8) sent for the same statements; libxml is not in the wheel, so no xml column
TYPES_TABLE = """
create table types_t (id bigint primary key, c_int2 int2, c_int4 int4, c_int8 int8, c_numeric numeric,
  c_numeric2 numeric(12,4), c_float4 float4, c_float8 float8, c_text text, c_varchar varchar(20), c_char char(5),
  c_bool bool, c_json json, c_jsonb jsonb, c_timestamptz timestamptz, c_timestamp timestamp, c_date date, c_time time,
  c_timetz timetz, c_interval interval, c_uuid uuid, c_text_arr text[], c_int_arr int[], c_bytea bytea, c_inet inet,
  c_cidr cidr, c_point point, c_int4range int4range, c_tsvector tsvector, c_money money, c_bit bit(4), c_oid oid);
create type mood as enum ('sad','ok','happy');
create type pair as (a int, b text);
create domain posint as int check (value > 0);
create table types_u (id bigint primary key, c_enum mood, c_enum_arr mood[], c_comp pair, c_dom posint,
  c_gen text generated always as ('g' || id::text) stored, c_2d int[][], c_jsonb_arr jsonb[]);
alter publication supabase_realtime add table types_t, types_u;
"""
TYPES_ROW = r"""
insert into types_t values (9007199254740993,-32768,2147483647,9223372036854775807,12345678901234567890.123456789,1.5,
  1.5,0.1,E'quote " back \\ nl \n tab \t uni \u00e9 \U0001F600','vc','ch',true,
  '{"b": 1,  "a":[1,2,{"x":null}], "b":2}','{"b": 1,  "a":[1,2,{"x":null}], "big": 12345678901234567890, "f": 1.50}',
  '2024-05-06 07:08:09.123456+02','2024-05-06 07:08:09.123456','2024-05-06','07:08:09.5','07:08:09+02',
  '1 year 2 mons 3 days 04:05:06.789','A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',array['a','b,c','d"e',null,''],
  array[1,2,null],'\xdeadbeef','192.168.0.1/24','10.0.0.0/8','(1,2)','[1,10)','a fat cat','12.34',B'1010',4294967295)
"""
TYPES_RECORD = (
    '{"id": 9007199254740993, "c_bit": "1010", "c_oid": "4294967295", "c_bool": true, "c_char": "ch   ", '
    '"c_cidr": "10.0.0.0/8", "c_date": "2024-05-06", "c_inet": "192.168.0.1/24", "c_int2": -32768, '
    '"c_int4": 2147483647, "c_int8": 9223372036854775807, "c_json": {"a": [1, 2, {"x": null}], "b": 2}, '
    '"c_text": "quote \\" back \\\\ nl \\n tab \\t uni é 😀", "c_time": "07:08:09.5", '
    '"c_uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "c_bytea": "deadbeef", '
    '"c_jsonb": {"a": [1, 2, {"x": null}], "b": 1, "f": 1.50, "big": 12345678901234567890}, "c_money": "$12.34", '
    '"c_point": "(1,2)", "c_float4": 1.5, "c_float8": 0.1, "c_timetz": "07:08:09+02", "c_int_arr": [1, 2, null], '
    '"c_numeric": 12345678901234567890.123456789, "c_varchar": "vc", '
    '"c_interval": "1 year 2 mons 3 days 04:05:06.789", "c_numeric2": 1.5000, '
    '"c_text_arr": ["a", "b,c", "d\\"e", null, ""], "c_tsvector": "\'a\' \'cat\' \'fat\'", '
    '"c_int4range": "[1,10)", "c_timestamp": "2024-05-06T07:08:09.123456", '
    '"c_timestamptz": "2024-05-06T05:08:09.123456+00:00"}'
)


@pytest.fixture
async def connection(postgres):
    connection = await asyncpg.connect(postgres.dsn())
    yield connection
    await connection.close()


async def test_every_type_is_what_the_real_realtime_sends(postgres, connection, follow):
    await connection.execute(TYPES_TABLE)
    async with follow(postgres) as follower:
        await connection.execute(TYPES_ROW)
        await connection.execute(
            "insert into types_u values (1,'happy',array['sad','ok']::mood[],row(1,'x'),5,default,'{{1,2},{3,4}}',"
            """array['{"a":1}','2']::jsonb[])"""
        )
        first, second = await follower.wait_for(2)
    assert first.record.decode() == TYPES_RECORD
    assert second.record.decode() == (
        '{"id": 1, "c_2d": [[1, 2], [3, 4]], "c_dom": 5, "c_gen": "g1", "c_comp": {"a": 1, "b": "x"}, '
        '"c_enum": "happy", "c_enum_arr": ["sad", "ok"], "c_jsonb_arr": [{"a": 1}, 2]}'
    )
    assert [column.type_name for column in second.relation.columns] == [
        "int8", "mood", "_mood", "pair", "posint", "text", "_int4", "_jsonb",
    ]  # fmt: skip


async def test_our_json_equals_to_jsonb(postgres, connection, follow):
    """What is not measured is compared with PostgreSQL's own to_jsonb of the same row."""
    await connection.execute(
        """
        create type inner_t as (f float8, at timestamptz, tags text[]);
        create table wide (id int primary key, "Ünï" text, r inner_t, rs inner_t[], j json, n numeric[], f8 float8,
          b bool[], ts timestamp[], ranges int4range[], "q""uote" text, big float8, small float8, t time[]);
        alter publication supabase_realtime add table wide;
        """
    )
    async with follow(postgres) as follower:
        await connection.execute(
            """
            insert into wide values (1, E'\\x01\\b/', row('NaN', '2020-01-01 00:00:00.5+00', array['a,b', null, '"', '']),
              array[row(1e21, 'infinity', '{}')::inner_t, null, row(null, null, null)::inner_t],
              '{"z": [1.0, 2e3, -0.0, 1e-3], "aa": "\\u00e9", "a": {}}', '{1.10,NaN,-3}', 1e-7, '{t,f,null}',
              array['2020-01-01 00:00:00'::timestamp, '-infinity'], array['[1,2)'::int4range, 'empty'], 'x',
              1.7976931348623157e308, 5e-324, array['01:02:03'::time]);
            """
        )
        (change,) = await follower.wait_for(1)
    expected = await connection.fetchval("select to_jsonb(w)::text from wide w")
    assert change.record.decode() == expected


async def test_insert_update_delete_and_truncate_in_commit_order(postgres, connection, follow):
    await connection.execute(
        """
        create table todos (id int primary key, v text); create table todos_full (id int primary key, v text);
        alter table todos_full replica identity full;
        alter publication supabase_realtime add table todos, todos_full;
        """
    )
    async with follow(postgres) as follower:
        await connection.execute(
            """
            begin; insert into todos values (1, 'a'), (2, 'b'); update todos set v = 'c' where id = 1;
            update todos set id = 3 where id = 2; delete from todos where id = 1; commit;
            begin; insert into todos values (99, 'never'); rollback;
            insert into todos_full values (1, 'a');
            """
        )
        await connection.execute("update todos_full set v = 'b'")
        await connection.execute("delete from todos_full")
        await connection.execute("truncate todos")
        changes = await follower.wait_for(9)
    seen = [(change.type, change.record, change.old_record) for change in changes]
    assert seen == [
        ("INSERT", b'{"v": "a", "id": 1}', None),
        ("INSERT", b'{"v": "b", "id": 2}', None),
        ("UPDATE", b'{"v": "c", "id": 1}', b'{"id": 1}'),
        ("UPDATE", b'{"v": "b", "id": 3}', b'{"id": 2}'),
        ("DELETE", None, b'{"id": 1}'),
        ("INSERT", b'{"v": "a", "id": 1}', None),
        ("UPDATE", b'{"v": "b", "id": 1}', b'{"v": "a", "id": 1}'),
        ("DELETE", None, b'{"v": "b", "id": 1}'),
        ("TRUNCATE", None, None),
    ]
    full = changes[5].relation
    assert [(column.name, column.is_key, column.is_identity) for column in full.columns] == [
        ("id", True, True),
        ("v", False, True),
    ]
    positions = [transaction.commit_lsn for transaction in follower.transactions]
    assert positions == sorted(set(positions))


async def test_unchanged_large_values(postgres, connection, follow):
    await connection.execute(
        """
        create table big (id int primary key, small text, body text); create table big_full (like big including all);
        alter table big alter body set storage external; alter table big_full alter body set storage external;
        alter table big_full replica identity full; alter publication supabase_realtime add table big, big_full;
        """
    )
    async with follow(postgres) as follower:
        for table in ("big", "big_full"):
            await connection.execute(f"insert into {table} values (1, 'a', repeat('x', 9000))")  # noqa: S608 - our names
            await connection.execute(f"update {table} set small = 'b'")  # noqa: S608 - our names
        changes = await follower.wait_for(4)
    assert len(changes[0].record) > 9000
    assert changes[1].record == b'{"id": 1, "small": "b"}'
    assert changes[1].new == ("1", "b", UNCHANGED)
    assert len(changes[3].record) > 9000


async def test_an_altered_table_is_followed(postgres, connection, follow):
    await connection.execute(
        "create table t (id int primary key); alter publication supabase_realtime add table t"
    )
    async with follow(postgres) as follower:
        await connection.execute("insert into t values (1)")
        await connection.execute("alter table t add column v text default 'x'")
        await connection.execute("insert into t values (2)")
        changes = await follower.wait_for(2)
    assert [change.record for change in changes] == [b'{"id": 1}', b'{"v": "x", "id": 2}']


async def test_what_was_not_acknowledged_comes_again_after_a_restart_of_the_client(
    postgres, connection, follow
):
    await connection.execute(
        "create table t (id int primary key); alter publication supabase_realtime add table t"
    )
    async with follow(postgres) as follower:
        await connection.execute("insert into t values (1)")
        await follower.wait_for(1)
        follower.acknowledge = False
        await connection.execute("insert into t values (2)")
        await follower.wait_for(2)
    await connection.execute("insert into t values (3)")
    async with follow(postgres) as follower:
        changes = await follower.wait_for(2)
    assert [change.record for change in changes] == [b'{"id": 2}', b'{"id": 3}']


async def test_nothing_is_lost_or_doubled_when_postgresql_is_killed(postgres, connection, follow):
    await connection.execute(
        "create table t (id int primary key); alter publication supabase_realtime add table t"
    )
    went = []
    async with follow(postgres, on_live=went.append) as follower:
        await connection.execute("insert into t values (1)")
        await follower.wait_for(1)
        pid = postgres.pid
        os.kill(pid, signal.SIGKILL)
        postgres._process.wait()
        await asyncio.to_thread(postgres.wait_for_old_backends)
        await asyncio.to_thread(postgres.start)
        again = await asyncpg.connect(postgres.dsn())
        await again.execute("insert into t values (2)")
        changes = await follower.wait_for(2)
        await again.close()
    assert [change.record for change in changes] == [b'{"id": 1}', b'{"id": 2}']
    assert went[:3] == [True, False, True]


async def test_a_lost_slot_is_said_and_replaced(postgres, connection, follow):
    await connection.execute(
        "create table t (id int primary key); alter publication supabase_realtime add table t"
    )
    async with follow(postgres):
        pass
    await connection.execute("alter system set max_slot_wal_keep_size = '1MB'")
    await connection.execute("select pg_reload_conf()")
    for number in range(4):  # each switch leaves a WAL segment behind
        await connection.execute("insert into t values ($1)", number)
        await connection.execute("select pg_switch_wal()")
    await connection.execute("checkpoint")
    said = []
    async with follow(postgres, on_slot_lost=said.append) as follower:
        await connection.execute("insert into t values (100)")
        changes = await follower.wait_for(1)
    assert [change.record for change in changes] == [b'{"id": 100}']
    assert [lost.reason for lost in said] == ["wal_removed"]
    assert "created anew" in str(said[0])


DROP_SLOT = """
do $$ begin
  loop
    perform pg_terminate_backend(active_pid) from pg_replication_slots where active;
    begin
      perform pg_drop_replication_slot('supabase_realtime_embedded');
      return;
    exception when object_in_use then
    end;
  end loop;
end $$
"""


async def test_a_slot_dropped_behind_an_idle_stream_is_said(postgres, connection, follow):
    said = []
    told = asyncio.Event()

    def lost(error):
        said.append(error)
        told.set()

    async with follow(postgres, on_slot_lost=lost) as follower:
        await connection.execute(DROP_SLOT)
        async with asyncio.timeout(20):
            await told.wait()
            await follower.client.wait_live()
    assert [error.reason for error in said] == ["dropped"]


async def test_the_stream_works_under_uvloop(postgres, connection, follow):
    """The transports of uvloop are no asyncio.Transport; the loop here is asyncio's, so that one has its own thread."""
    await connection.execute(
        "create table t (id int primary key); alter publication supabase_realtime add table t"
    )

    async def two_rows():
        async with follow(postgres) as follower:
            sql = await asyncpg.connect(postgres.dsn())
            await sql.execute("insert into t values (1), (2)")
            changes = await follower.wait_for(2)
            await sql.close()
            return [change.record for change in changes]

    assert await asyncio.to_thread(uvloop.run, two_rows()) == [b'{"id": 1}', b'{"id": 2}']


async def test_a_quiet_publication_does_not_hold_wal(postgres, connection, follow):
    await connection.execute("create table other (id int)")
    async with follow(postgres, status_seconds=0.05):
        await connection.execute("insert into other select generate_series(1, 1000)")
        target = await connection.fetchval("select pg_current_wal_flush_lsn()::text")
        async with asyncio.timeout(20):
            while not await connection.fetchval(
                "select confirmed_flush_lsn >= $1::text::pg_lsn from pg_replication_slots", target
            ):
                await asyncio.sleep(0.02)


async def test_a_missing_publication_is_an_error_not_a_wait(postgres):
    client = WalClient(postgres.socket_dir, postgres.port, publication="nope")
    with pytest.raises(ServerError, match=r"publication .nope. does not exist"):
        await anext(client.transactions())


async def test_somebody_elses_slot_is_not_touched(postgres, connection):
    await connection.execute("select pg_create_logical_replication_slot('theirs', 'test_decoding')")
    client = WalClient(postgres.socket_dir, postgres.port, slot="theirs")
    with pytest.raises(ProtocolError, match="belongs to plugin test_decoding"):
        await anext(client.transactions())


async def test_a_change_arrives_within_milliseconds_and_a_large_transaction_whole(
    postgres, connection, follow
):
    await connection.execute(
        "create table t (id int primary key, v text); alter publication supabase_realtime add table t"
    )
    async with follow(postgres) as follower:
        sent_at = []
        for number in range(100):
            sent_at.append(time.perf_counter())
            await connection.execute("insert into t values ($1, 'v')", number)
            await follower.wait_for(number + 1)
        delays = [got - sent for got, sent in zip(follower.arrived_at, sent_at, strict=True)]
        assert (
            statistics.median(delays) < 0.05
        )  # measured 0.0006; the bound only tells streaming from polling
        await connection.execute(
            "insert into t select g, repeat('x', 100) from generate_series(1000, 30999) g"
        )
        await follower.wait_for(30100)
        parts = follower.transactions[100:]
        assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
        assert [part.before for part in parts] == [1024 * number for number in range(len(parts))]


TERMINATE = "select pg_terminate_backend(active_pid) from pg_replication_slots where active"


@pytest.mark.parametrize("acknowledged", [True, False])
async def test_a_connection_that_breaks_in_a_large_transaction_costs_and_doubles_nothing(
    postgres, connection, acknowledged
):
    """The walsender is ended three times in the middle; nothing is read meanwhile, so it cannot be done before."""
    rows = 20_000
    await connection.execute(
        "create table t (id int primary key, v text); alter publication supabase_realtime add table t"
    )
    client = WalClient(postgres.socket_dir, postgres.port)
    ids, broken_at, ends = [], [], []
    async with asyncio.timeout(60), contextlib.aclosing(client.transactions()) as transactions:
        reading = asyncio.ensure_future(anext(transactions))
        await client.wait_live()
        await connection.execute("insert into t values (-1, 'before')")
        await connection.execute(
            "insert into t select g, repeat('x', 900) from generate_series(0, $1::int) g", rows
        )
        await connection.execute("insert into t values (-2, 'after')")
        while not ids or ids[-1] != -2:
            transaction = await reading
            ids += [int(change.new[0]) for change in transaction.changes]
            if transaction.last:
                ends.append(transaction.commit_lsn)
                if acknowledged:
                    client.acknowledge(transaction.commit_lsn)
            due = len(broken_at) < 3 and len(ids) > 3000 * (len(broken_at) + 1)
            if due and await connection.fetchval(
                TERMINATE
            ):  # what is left of the connection before may still be read
                broken_at.append(len(ids))
            reading = asyncio.ensure_future(anext(transactions))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert ids == [-1, *range(rows + 1), -2]
    assert len(broken_at) == len(ends) == 3
    assert ends == sorted(set(ends))
