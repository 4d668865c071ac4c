"""What suite C does, and of suite B what the official Python client can: it speaks version 1 of the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from postgrest.exceptions import APIError
from realtime import AsyncRealtimeClient, RealtimeSubscribeStates

from tests.outside.conftest import PASSWORD, Project, new_email, python_client, until

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg
    from realtime import AsyncRealtimeChannel

    from supabase import AsyncClient

# supabase itself passes its HTTP options to postgrest in the form that postgrest has deprecated
pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*' parameter is deprecated:DeprecationWarning"),
    # and realtime asks websockets for the code of a lost connection in a way that websockets has deprecated
    pytest.mark.filterwarnings("ignore:ConnectionClosed:DeprecationWarning"),
]


async def subscribed(channel: AsyncRealtimeChannel, *, ready: bool = False) -> None:
    """Subscribe; with `ready` wait until the server says that changes flow."""
    state: asyncio.Future[tuple[Any, Any]] = asyncio.get_running_loop().create_future()
    told: list[Any] = []
    channel.on_system(told.append)

    def on_state(status: RealtimeSubscribeStates, error: Exception | None) -> None:
        if not state.done():
            state.set_result((status, error))

    await channel.subscribe(on_state)
    async with asyncio.timeout(10):
        status, error = await state
    assert status == RealtimeSubscribeStates.SUBSCRIBED, (status, error)
    if ready:
        await until(lambda: told, "the system message")
        assert told[0].status == "ok", told


def listen(channel: AsyncRealtimeChannel, table: str, chosen: str, callback: Callable[[Any], None]) -> None:
    channel.on_postgres_changes("INSERT", schema="public", table=table, filter=chosen, callback=callback)


async def sign_up(client: AsyncClient) -> str:
    answer = await client.auth.sign_up({"email": new_email(), "password": PASSWORD})
    assert answer.session is not None
    await client.realtime.set_auth(answer.session.access_token)
    return answer.session.user.id


# -- connections ------------------------------------------------------------------------------------------------


async def test_connecting_again_and_again(project: Project) -> None:
    client = AsyncRealtimeClient(project.realtime_url, project.keys.anon_key)
    for _ in range(3):
        await client.connect()
        assert client.is_connected
    await client.close()
    assert not client.is_connected


async def test_a_lost_connection_is_made_again_and_joined(project: Project) -> None:
    client = AsyncRealtimeClient(project.realtime_url, project.keys.anon_key, initial_backoff=0.05)
    got: list[Any] = []
    channel = client.channel("away", {"config": {"broadcast": {"self": True, "ack": False}}})
    channel.on_broadcast("note", got.append)
    await subscribed(channel)
    before = client._ws_connection
    assert before is not None
    before.transport.abort()
    await until(lambda: client._ws_connection is not before and channel.is_joined, "joining again")
    await channel.send_broadcast("note", {"n": 1})
    await until(lambda: got, "the message")
    assert got[0]["payload"] == {"n": 1}
    await client.close()


async def test_a_wrong_key_is_not_let_in(project: Project) -> None:
    client = AsyncRealtimeClient(project.realtime_url, "not.a.key", max_retries=1)
    with pytest.raises(Exception, match="HTTP 401"):
        await client.connect()


# -- broadcast and presence ---------------------------------------------------------------------------------------


async def test_broadcasts_to_oneself_and_others(project: Project, client: AsyncClient) -> None:
    got: dict[str, list[Any]] = {"self": [], "other": []}
    own = client.channel("py-room", {"config": {"broadcast": {"self": True, "ack": True}}})
    own.on_broadcast("note", got["self"].append)
    async with python_client(project) as other:
        channel = other.channel("py-room")
        channel.on_broadcast("note", got["other"].append)
        await subscribed(own)
        await subscribed(channel)
        for n in range(3):
            await own.send_broadcast("note", {"n": n, "text": "größer"})
        await own.send_broadcast("unheard", {})
        await until(lambda: all(len(into) == 3 for into in got.values()), "three messages for both")
    for messages in got.values():
        assert [message["payload"] for message in messages] == [{"n": n, "text": "größer"} for n in range(3)]
        assert {message["event"] for message in messages} == {"note"}


async def test_a_burst_reaches_five_clients_whole_and_in_order(project: Project, client: AsyncClient) -> None:
    numbers = list(range(200))
    got: list[list[int]] = [[] for _ in range(5)]

    def collect(into: list[int]) -> Callable[[Any], None]:
        return lambda message: into.append(message["payload"]["n"])

    async with contextlib.AsyncExitStack() as clients:
        for into in got:
            channel = (await clients.enter_async_context(python_client(project))).channel("py-burst")
            channel.on_broadcast("n", collect(into))
            await subscribed(channel)
        sender = client.channel("py-burst", {"config": {"broadcast": {"ack": True, "self": False}}})
        await subscribed(sender)
        for n in numbers:
            await sender.send_broadcast("n", {"n": n})
        await until(lambda: all(len(into) == len(numbers) for into in got), "the last message at everybody")
    assert got == [numbers] * 5


async def test_broadcasting_over_http(project: Project, client: AsyncClient) -> None:
    got: list[Any] = []
    channel = client.channel("py-posted")
    channel.on_broadcast("note", got.append)
    await subscribed(channel)
    async with python_client(project) as other:
        await other.channel("py-posted").http_send("note", {"n": 1})
        await until(lambda: got, "the message")
    assert got[0]["payload"]["n"] == 1


async def test_presence(project: Project, client: AsyncClient) -> None:
    joined: list[Any] = []
    left: list[Any] = []
    synced: list[bool] = []
    ada = client.channel("py-presence", {"config": {"presence": {"key": "ada", "enabled": True}}})
    ada.on_presence_join(lambda key, _, new: joined.append((key, new[0]["status"])))
    ada.on_presence_leave(lambda key, _, old: left.append((key, old[0]["status"])))
    ada.on_presence_sync(lambda: synced.append(True))
    await subscribed(ada)
    await until(lambda: synced, "the first state")
    assert ada.presence_state() == {}
    await ada.track({"status": "online"})
    await until(lambda: joined == [("ada", "online")], "one's own arrival")
    async with python_client(project) as other:
        bob = other.channel("py-presence", {"config": {"presence": {"key": "bob", "enabled": True}}})
        seen: list[bool] = []
        bob.on_presence_sync(lambda: seen.append(True))
        await subscribed(bob)
        await until(lambda: "ada" in bob.presence_state(), "the state of who was there before")
        await bob.track({"status": "here"})
        await until(lambda: ("bob", "here") in joined, "bob's arrival")
        assert set(ada.presence_state()) == {"ada", "bob"}
        await bob.untrack()
        await until(lambda: left == [("bob", "here")], "bob's departure")
    assert set(ada.presence_state()) == {"ada"}


async def test_ten_members_agree(project: Project) -> None:
    async with contextlib.AsyncExitStack() as clients:
        members: list[AsyncRealtimeChannel] = []
        for n in range(10):
            made = await clients.enter_async_context(python_client(project))
            member = made.channel("py-ten", {"config": {"presence": {"key": f"m{n}", "enabled": True}}})
            member.on_presence_sync(lambda: None)
            await subscribed(member)
            members.append(member)
        await asyncio.gather(*(member.track({"n": n}) for n, member in enumerate(members)))
        everybody = {f"m{n}" for n in range(10)}
        await until(
            lambda: all(set(member.presence_state()) == everybody for member in members),
            "everybody seeing all",
        )
        await members[0].unsubscribe()
        await until(
            lambda: all(set(member.presence_state()) == everybody - {"m0"} for member in members[1:]),
            "everybody seeing the departure",
        )
        assert [state["n"] for state in members[1].presence_state()["m7"]] == [7]


# -- postgres_changes -------------------------------------------------------------------------------------------------


async def test_changes_of_rows_under_row_level_security(client: AsyncClient) -> None:
    await sign_up(client)
    got: dict[str, list[Any]] = {"*": [], "INSERT": [], "UPDATE": [], "DELETE": []}
    channel = client.channel("py-todos")
    for event, into in got.items():
        channel.on_postgres_changes(event, schema="public", table="todos", callback=into.append)
    await subscribed(channel, ready=True)
    todos = client.table("todos")
    row = (await todos.insert({"description": "Test todo", "is_completed": False}).execute()).data[0]
    await todos.update({"description": "Updated", "is_completed": True}).eq("id", row["id"]).execute()
    await todos.delete().eq("id", row["id"]).execute()

    def mine(event: str) -> list[dict[str, Any]]:
        changes = [message["data"] for message in got[event]]
        return [
            data
            for data in changes
            if row["id"] in (data.get("record", {}).get("id"), data.get("old_record", {}).get("id"))
        ]

    await until(lambda: len(mine("*")) == 3, "all three changes")
    assert [data["type"] for data in mine("*")] == ["INSERT", "UPDATE", "DELETE"]
    assert mine("INSERT")[0]["record"] == row
    assert mine("UPDATE")[0]["record"]["description"] == "Updated"
    assert mine("UPDATE")[0]["old_record"] == {"id": row["id"]}
    assert mine("DELETE")[0]["old_record"] == {"id": row["id"]}


async def test_changes_of_two_tables_on_one_channel(client: AsyncClient) -> None:
    await sign_up(client)
    got: dict[str, list[Any]] = {"todos": [], "messages": []}
    title = f"title {time.monotonic_ns()}"
    channel = client.channel("py-two")
    listen(channel, "todos", f"description=eq.{title}", got["todos"].append)
    listen(channel, "messages", f"title=eq.{title}", got["messages"].append)
    await subscribed(channel, ready=True)
    await client.table("todos").insert({"description": title}).execute()
    await client.table("messages").insert({"title": title, "message": "more than ten characters"}).execute()
    with pytest.raises(APIError) as caught:
        await client.table("messages").insert({"title": title, "message": "short"}).execute()
    assert caught.value.code == "23514"
    await until(lambda: all(got.values()), "a row of each")
    assert [len(rows) for rows in got.values()] == [1, 1]
    assert got["todos"][0]["data"]["table"] == "todos"


async def test_each_kind_of_change_with_a_filter_of_its_own(client: AsyncClient) -> None:
    await sign_up(client)
    table = client.table("pg_changes")
    value = f"iud-{time.monotonic_ns()}"
    made = (await table.insert([{"value": name} for name in ("u", "d", "o")]).execute()).data
    updated, deleted, other = (row["id"] for row in made)
    got: list[tuple[str, int]] = []
    channel = client.channel("py-iud")
    wanted = {"INSERT": f"value=eq.{value}", "UPDATE": f"id=eq.{updated}", "DELETE": f"id=eq.{deleted}"}

    def collect(message: Any) -> None:
        data = message["data"]
        got.append((data["type"], (data["old_record"] if data["type"] == "DELETE" else data["record"])["id"]))

    for event, chosen in wanted.items():
        channel.on_postgres_changes(
            event, schema="public", table="pg_changes", filter=chosen, callback=collect
        )  # type: ignore[arg-type]
    await subscribed(channel, ready=True)
    await table.delete().eq("id", other).execute()
    answers = await asyncio.gather(
        table.insert({"value": value}).execute(),
        table.update({"amount": 1}).eq("id", updated).execute(),
        table.delete().eq("id", deleted).execute(),
    )
    await until(lambda: len(got) == 3, "all three changes")
    assert set(got) == {("INSERT", answers[0].data[0]["id"]), ("UPDATE", updated), ("DELETE", deleted)}


async def test_a_stranger_sees_no_rows_but_deletions(project: Project, client: AsyncClient) -> None:
    got: list[Any] = []
    channel = client.channel("py-stranger")
    channel.on_postgres_changes("*", schema="public", table="todos", callback=got.append)
    await subscribed(channel, ready=True)
    async with python_client(project) as owner:
        await sign_up(owner)
        row = (await owner.table("todos").insert({"description": "private"}).execute()).data[0]
        await owner.table("todos").delete().eq("id", row["id"]).execute()

    def deleted() -> bool:
        return any(message["data"].get("old_record") == {"id": row["id"]} for message in got)

    await until(deleted, "the deletion")
    assert not [message for message in got if message["data"]["type"] != "DELETE"]


async def test_every_filter(client: AsyncClient, sql: asyncpg.Connection) -> None:
    await sign_up(client)
    mark = f"f{time.monotonic_ns()}"
    wanted = {
        f"value=eq.{mark}-a": "a",
        f"value=like.{mark}%,amount=neq.1": "bcz",
        f"value=like.{mark}%,amount=lt.2": "a",
        f"value=like.{mark}%,amount=gte.2": "bcz",
        f"value=in.({mark}-a,{mark}-c)": "ac",
        f"value=ilike.{mark.upper()}%": "abcz",
        f"value=match.^{mark}-[ab]$": "ab",
        f"value=like.{mark}%,flag=is.null": "cz",
        f"value=like.{mark}%,flag=eq.true": "a",
        f"value=like.{mark}%,flag=isdistinct.true": "bcz",
        f"value=not.in.({mark}-a,{mark}-b),value=like.{mark}%": "cz",
    }
    got = dict.fromkeys(wanted, "")
    channel = client.channel("py-filters")

    def collect(chosen: str) -> Any:
        def collected(message: Any) -> None:
            got[chosen] += message["data"]["record"]["value"][-1]

        return collected

    for chosen in wanted:
        listen(channel, "pg_changes", chosen, collect(chosen))
    await subscribed(channel, ready=True)
    rows = [("a", 1, True), ("b", 2, False), ("c", 3, None), ("z", 4, None)]
    for letter, amount, flag in rows:
        await sql.execute(
            "insert into pg_changes (value, amount, flag) values ($1, $2, $3)",
            f"{mark}-{letter}",
            amount,
            flag,
        )
    await until(lambda: all(got[f].endswith(wanted[f][-1]) for f in wanted), "the last row of each")
    assert got == wanted


# -- private channels, the database's own messages --------------------------------------------------------------------


async def test_private_channels_ask_the_policies(
    project: Project, client: AsyncClient, sql: asyncpg.Connection
) -> None:
    await sign_up(client)
    got: list[Any] = []
    channel = client.channel(
        "topic:py", {"config": {"private": True, "broadcast": {"ack": True, "self": True}}}
    )
    channel.on_broadcast("note", got.append)
    await subscribed(channel)
    await channel.send_broadcast("note", {"n": 1})
    await until(lambda: got, "one's own message")
    await sql.execute("select realtime.send('{\"n\": 2}', 'note', 'topic:py', true)")
    await sql.execute("select realtime.send('{\"n\": 3}', 'note', 'topic:py', false)")
    await sql.execute("select realtime.send('{\"n\": 4}', 'note', 'topic:py', true)")
    await until(lambda: len(got) == 3, "the database's messages")
    assert [message["payload"]["n"] for message in got] == [1, 2, 4]
    async with python_client(project) as stranger:
        refused = stranger.channel("topic:py", {"config": {"private": True}})
        with pytest.raises(
            AssertionError, match="You do not have permissions to read from this Channel topic: topic:py"
        ):
            await subscribed(refused)


async def test_replay(client: AsyncClient, sql: asyncpg.Connection) -> None:
    await sign_up(client)
    for n in range(3):
        await sql.execute(
            "select realtime.send(jsonb_build_object('n', $1::int), 'note', 'topic:replay', true)", n
        )
    got: list[Any] = []
    replay = {"since": int((time.time() - 60) * 1000), "limit": 2}
    channel = client.channel("topic:replay", {"config": {"private": True, "broadcast": {"replay": replay}}})  # type: ignore[typeddict-item]
    channel.on_broadcast("note", got.append)
    await subscribed(channel)
    await until(lambda: len(got) == 2, "the replayed messages")
    assert [(message["payload"]["n"], message["meta"]["replayed"]) for message in got] == [
        (1, True),
        (2, True),
    ]


async def test_nothing_of_before_since_is_replayed(client: AsyncClient, sql: asyncpg.Connection) -> None:
    await sign_up(client)
    send = "select realtime.send(jsonb_build_object('n', $1::int), 'note', 'topic:since', true)"
    await sql.execute(send, 1)
    since = await sql.fetchval("select ceil(extract(epoch from clock_timestamp()) * 1000 + 1)::bigint")
    await until(lambda: time.time() * 1000 > since, "a later moment")
    await sql.execute(send, 2)
    got: list[Any] = []
    replay = {"since": since, "limit": 25}
    channel = client.channel("topic:since", {"config": {"private": True, "broadcast": {"replay": replay}}})  # type: ignore[typeddict-item]
    channel.on_broadcast("note", got.append)
    await subscribed(channel)
    await until(lambda: got, "the message of after it")
    assert [message["payload"]["n"] for message in got] == [2]


async def test_triggers_tell_of_changes(client: AsyncClient, sql: asyncpg.Connection) -> None:
    await sign_up(client)
    got: list[Any] = []
    channel = client.channel("topic:py-row", {"config": {"private": True}})
    for event in ("INSERT", "UPDATE", "DELETE"):
        channel.on_broadcast(event, got.append)
    await subscribed(channel)
    row_id = await sql.fetchval("insert into broadcast_changes (value) values ('py-row') returning id")
    await sql.execute("update broadcast_changes set value = 'py-row' where id = $1", row_id)
    await sql.execute("delete from broadcast_changes where id = $1", row_id)
    await until(lambda: len(got) == 3, "all three changes")
    row = {"id": row_id, "value": "py-row"}
    told = [(p["operation"], p["record"], p["old_record"]) for p in (message["payload"] for message in got)]
    assert told == [("INSERT", row, None), ("UPDATE", row, row), ("DELETE", None, row)]
    assert (got[0]["payload"]["schema"], got[0]["payload"]["table"]) == ("public", "broadcast_changes")


async def test_bytes_from_sql(client: AsyncClient, sql: asyncpg.Connection) -> None:
    """The official Python client speaks version 1, which has no frame for bytes: it is spared them and lives on."""
    got: list[Any] = []
    channel = client.channel("py-bytes")
    channel.on_broadcast("bytes", got.append)
    channel.on_broadcast("note", got.append)
    await subscribed(channel)
    await sql.execute("select say_bytes('py-bytes', 'bytes', '00ff10')")
    await sql.execute("select say('py-bytes', 'note', '{\"n\": 1}')")
    await until(lambda: got, "the message behind the bytes")
    assert [(message["event"], message["payload"]["n"]) for message in got] == [("note", 1)]
