"""Who sees which rows and columns, as recorded; and what tokens change about it."""

import asyncio
import time

USER_1 = "11111111-1111-1111-1111-111111111111"
USER_2 = "22222222-2222-2222-2222-222222222222"


async def four(stack, table):
    """Return clients of anon, two users and the service, all on one table."""
    tokens = {
        "anon": stack.keys.anon_key,
        "user1": stack.token(sub=USER_1),
        "user2": stack.token(sub=USER_2),
        "service": stack.keys.service_role_key,
    }
    clients = {}
    for name, token in tokens.items():
        clients[name] = await stack.client()
        await clients[name].subscribe("realtime:rls", {"schema": "public", "table": table}, token=token)
    return clients


async def seen(clients, what):
    """Return by client what the next changes were, until each client is silent."""
    result = {}
    for name, client in clients.items():
        ref = await client.send("phoenix", "heartbeat", {})
        result[name] = []
        while (frame := await client.receive())[1] != ref:
            result[name].append(what(frame[4]["data"]))
    return result


async def test_rows_go_to_those_whose_policy_shows_them(stack):
    clients = await four(stack, "rls_todos")
    sql = await stack.sql()
    await sql.execute(
        "insert into public.rls_todos values (1,'u1',$1),(2,'u2',$2),(3,'none',null)", USER_1, USER_2
    )
    await stack.caught_up(sql)
    assert await seen(clients, lambda data: data["record"]["id"]) == {
        "anon": [], "user1": [1], "user2": [2], "service": [1, 2, 3],
    }  # fmt: skip
    await sql.execute("update public.rls_todos set user_id=$1 where id=1", USER_2)
    await stack.caught_up(sql)
    assert await seen(clients, lambda data: (data["type"], data["old_record"])) == {
        "anon": [], "user1": [], "user2": [("UPDATE", {"id": 1})], "service": [("UPDATE", {"id": 1})],
    }  # fmt: skip
    await sql.execute("delete from public.rls_todos where id = 2")
    await stack.caught_up(sql)
    everybody = [("DELETE", {"id": 2})]
    assert await seen(clients, lambda data: (data["type"], data["old_record"])) == dict.fromkeys(
        clients, everybody
    )


async def test_deletes_under_row_security_tell_the_key_only(stack):
    clients = await four(stack, "rls_full")
    sql = await stack.sql()
    await sql.execute("insert into public.rls_full values (1,'u1',$1)", USER_1)
    await sql.execute("update public.rls_full set user_id=$1", USER_2)
    await sql.execute("delete from public.rls_full")
    await stack.caught_up(sql)
    got = await seen(clients, lambda data: (data["type"], data.get("old_record")))
    deletion = ("DELETE", {"id": 1})
    assert got["anon"] == [deletion]
    # the policy is asked of the row as it was written, though it has changed hands and is gone by now
    assert got["user1"] == [("INSERT", None), deletion]
    before = {"id": 1, "details": "u1", "user_id": USER_1}
    assert got["user2"] == [("UPDATE", before), deletion]


async def test_rows_are_delivered_though_their_commit_is_not_visible_yet(stack):
    """The stream has a commit when it is flushed; other transactions see it a moment later."""
    client = await stack.client()
    token = stack.token(app_metadata={"crossfade_role": "viewer"})
    await client.subscribe("realtime:x", {"schema": "public", "table": "feed"}, token=token)
    owner = await stack.client()
    await owner.subscribe(
        "realtime:y", {"schema": "public", "table": "rls_todos"}, token=stack.token(sub=USER_1)
    )
    sql = await stack.sql()
    for number in range(300):
        await sql.execute("insert into public.feed values ('web-1/system', 1, $1, '{}')", number)
        await sql.execute("insert into public.rls_todos values ($1, 'x', $2)", number, USER_1)
    assert [(await client.change())[1]["record"]["seq"] for _ in range(300)] == list(range(300))
    assert [(await owner.change())[1]["record"]["id"] for _ in range(300)] == list(range(300))


async def test_policies_may_look_at_other_tables_and_at_their_own(stack):
    sql = await stack.sql()
    await sql.execute(
        """create table public.members (team int, member uuid); grant select on public.members to authenticated;
        create table public."Team Notes" (id int primary key, team int, "at" numeric(6, 2));
        alter table public."Team Notes" enable row level security;
        create policy a on public."Team Notes" for select to authenticated using (
          exists (select from public.members m where m.team = "Team Notes".team and m.member = auth.uid()));
        create policy b on public."Team Notes" for all to public using (team = 9);
        create policy c on public."Team Notes" as restrictive for select using ("at" > 1);
        create policy d on public."Team Notes" for insert to authenticated with check (true);
        alter publication supabase_realtime add table public."Team Notes";"""
    )
    await sql.execute("insert into public.members values (1, $1)", USER_1)
    client = await stack.client()
    notes = {"schema": "public", "table": "Team Notes"}
    await client.subscribe("realtime:x", notes, token=stack.token(sub=USER_1))
    await sql.execute(
        """insert into public."Team Notes" values (1, 1, 1.5), (2, 2, 1.5), (3, 9, 1.5), (4, 1, 0.5), (5, 1, null)"""
    )
    assert [(await client.change())[1]["record"]["id"] for _ in range(2)] == [1, 3]
    await client.silent()
    await sql.execute('drop policy c on public."Team Notes"')
    await sql.execute('insert into public."Team Notes" values (6, 1, 0.5)')
    assert (await client.change())[1]["record"]["id"] == 6


async def test_without_a_grant(stack):
    clients = await four(stack, "nogrant")
    sql = await stack.sql()
    await sql.execute("insert into public.nogrant values (1,'x')")
    await sql.execute("update public.nogrant set details='y'")
    await sql.execute("delete from public.nogrant")
    await stack.caught_up(sql)
    got = await seen(clients, lambda data: data)
    assert [data["errors"] for data in got["anon"]] == [["Error 401: Unauthorized"]] * 2 + [None]
    insert, update, delete = got["anon"]
    assert (insert["record"], insert["columns"], insert["commit_timestamp"]) == ({}, [], None)
    assert (update["record"], update["old_record"]) == ({}, {})
    assert (delete["columns"], delete["old_record"]) == ([], {})
    assert [data["errors"] for data in got["user1"]] == [None] * 3


async def test_column_grants(stack):
    clients = await four(stack, "colgrant")
    sql = await stack.sql()
    await sql.execute("insert into public.colgrant values (1,'p','s')")
    await stack.caught_up(sql)
    got = await seen(clients, lambda data: (data["record"], [c["name"] for c in data["columns"]]))
    assert got["anon"] == [({"id": 1, "pub": "p"}, ["id", "pub"])]
    assert got["user1"] == [({"id": 1, "pub": "p", "secret": "s"}, ["id", "pub", "secret"])]


async def test_a_grant_taken_away_shows_at_once(stack):
    client = await stack.client()
    await client.subscribe("realtime:x", {"schema": "public", "table": "todos"})
    sql = await stack.sql()
    await sql.execute("insert into public.todos(id) values (1)")
    assert (await client.change())[1]["errors"] is None
    await sql.execute("revoke all on public.todos from anon")
    await sql.execute("insert into public.todos(id) values (2)")
    assert (await client.change())[1]["errors"] == ["Error 401: Unauthorized"]


async def test_row_security_switched_on_shows_at_once(stack):
    client = await stack.client()
    await client.subscribe("realtime:x", {"schema": "public", "table": "todos"})
    sql = await stack.sql()
    await sql.execute("insert into public.todos(id) values (1)")
    await client.change()
    await sql.execute("alter table public.todos enable row level security")
    await sql.execute("insert into public.todos(id) values (2)")
    await stack.caught_up(sql)
    await client.silent()


async def test_policies_on_claims_alone(stack):
    reader = await stack.client()
    feed = {"schema": "public", "table": "feed", "event": "INSERT"}
    token = stack.token(app_metadata={"crossfade_role": "viewer"})
    await reader.subscribe("realtime:x", feed, token=token)
    stranger = await stack.client()
    await stranger.subscribe("realtime:x", feed, token=stack.token())
    sql = await stack.sql()
    await sql.execute(
        "insert into public.feed select 'web-1/system', 1, n, '{}' from generate_series(1, 500) n"
    )
    for expected in range(1, 501):
        assert (await reader.change())[1]["record"]["seq"] == expected
    await stranger.silent()


async def test_a_new_token_changes_what_is_seen(stack):
    client = await stack.client()
    table = {"schema": "public", "table": "rls_todos"}
    await client.subscribe("realtime:x", table, token=stack.token(sub=USER_1))
    await client.send("realtime:x", "access_token", {"access_token": stack.token(sub=USER_2)}, join_ref="1")
    told = await client.receive()
    assert told[4]["message"] == "Subscribed to PostgreSQL"
    sql = await stack.sql()
    await sql.execute("insert into public.rls_todos values (1,'u1',$1),(2,'u2',$2)", USER_1, USER_2)
    assert (await client.change())[1]["record"]["id"] == 2
    await client.silent()


async def test_a_token_that_runs_out_closes_its_channel(stack):
    client = await stack.client()
    await client.subscribe(
        "realtime:x", {"schema": "public", "table": "todos"}, token=stack.token(seconds=1.0)
    )
    started = time.monotonic()
    told, closed = await client.receive(), await client.receive()
    assert time.monotonic() - started < 3
    assert told[4] == {
        "message": "Token has expired 0 seconds ago", "status": "error", "extension": "system", "channel": "x",
    }  # fmt: skip
    assert closed[3] == "phx_close"
    assert stack.server.health()["subscriptions"] == 0
    await client.silent()


async def test_a_failing_policy_hides_rows_and_nothing_else(stack):
    sql = await stack.sql()
    await sql.execute("create policy broken on public.rls_todos for select to anon using (1 / (id - id) = 1)")
    clients = await four(stack, "rls_todos")
    await sql.execute("insert into public.rls_todos values (1,'u1',$1)", USER_1)
    await stack.caught_up(sql)
    got = await seen(clients, lambda data: data["record"]["id"])
    assert (got["anon"], got["user1"], got["service"]) == ([], [1], [1])


async def test_connections_of_our_own_are_few(stack):
    await asyncio.gather(*(four(stack, "rls_todos") for _ in range(3)))
    sql = await stack.sql()
    count = await sql.fetchval("select count(*) from pg_stat_activity where application_name = 'realtime'")
    assert count <= 4
