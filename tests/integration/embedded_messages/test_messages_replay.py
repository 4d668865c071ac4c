"""Replay: what of the past a private channel gets at its join."""

import time

import pytest

from tests.integration.embedded_messages.conftest import USER_1


async def sent(project, count, topic="room-1"):
    sql = await project.sql()
    for number in range(count):
        await sql.execute("select realtime.send(jsonb_build_object('n', $1::int), 'rp', $2)", number, topic)
    return await sql.fetch(
        "select id::text, (payload ->> 'n')::int n,"
        " floor(extract(epoch from inserted_at at time zone 'utc') * 1000)::bigint ms"
        " from realtime.messages where topic = $1 order by inserted_at, ctid",
        topic,
    )


@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
async def test_the_newest_come_oldest_first_after_the_reply(project, vsn):
    rows = await sent(project, 4)
    client = await project.client(vsn)
    since = int(time.time() * 1000) - 60_000
    await client.joined("room-1", project.token(sub=USER_1), replay={"since": since, "limit": 3})
    for row in rows[1:]:
        frame = await client.receive()
        assert frame[3:] == [
            "broadcast",
            {
                "event": "rp",
                "meta": {"id": row["id"], "replayed": True},
                "payload": {"id": row["id"], "n": row["n"]},
                "type": "broadcast",
            },
        ]
        assert frame[0] == ("1" if vsn == "2.0.0" else None)
    await client.silent()


async def test_what_was_before_stays_out(project):
    rows = await sent(project, 3)
    client = await project.client()
    since = rows[1]["ms"]
    await client.joined("room-1", project.token(sub=USER_1), replay={"since": since})
    numbers = [(await client.receive())[4]["payload"]["n"] for row in rows if row["ms"] >= since]
    assert numbers == [row["n"] for row in rows if row["ms"] >= since]
    await client.silent()


async def test_at_most_25_and_nothing_of_other_rooms(project):
    await sent(project, 3, "room-2")
    await sent(project, 30)
    client = await project.client()
    await client.joined("room-1", project.token(sub=USER_1), replay={"since": 0, "limit": 1000})
    assert [(await client.receive())[4]["payload"]["n"] for _ in range(25)] == list(range(5, 30))
    await client.silent()


async def test_a_message_is_replayed_or_live_never_both(project):
    """Messages that are sent while the client joins come once."""
    sql = await project.sql()
    client = await project.client()
    for number in range(20):
        await sql.execute("select realtime.send(jsonb_build_object('n', $1::int), 'rp', 'room-1')", number)
        topic_ref = {"since": 0, "limit": 25}
        await client.joined("room-1", project.token(sub=USER_1), replay=topic_ref)
        seen = [(await client.receive())[4]["payload"]["n"] for _ in range(number + 1)]
        assert seen == list(range(number + 1))
        await client.silent()
        await client.send("realtime:room-1", "phx_leave", {})
        assert [(await client.receive())[3] for _ in range(2)] == ["phx_reply", "phx_close"]


@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
async def test_bytes_are_replayed_to_whom_has_frames_for_them(project, vsn):
    sql = await project.sql()
    await sql.execute("select realtime.send('{\"n\": 1}', 'rp', 'room-1')")
    await sql.execute("select realtime.send_binary('\\x00ff10', 'rp', 'room-1')")
    await sql.execute("select realtime.send('{\"n\": 2}', 'rp', 'room-1')")
    bytes_id = await sql.fetchval(
        "select id::text from realtime.messages where topic = 'room-1' and binary_payload is not null"
    )
    client = await project.client(vsn)
    await client.joined("room-1", project.token(sub=USER_1), replay={"since": 0})
    got = [await client.message() for _ in range(2 if vsn == "1.0.0" else 3)]
    if vsn == "2.0.0":
        assert got.pop(1) == ("realtime:room-1", "rp", {"id": bytes_id, "replayed": True}, b"\x00\xff\x10")
    assert [payload["n"] for _, _, _, payload in got] == [1, 2]
    await client.silent()


@pytest.mark.parametrize(
    ("topic", "private", "replay", "reason"),
    [
        ("room-1", True, {"since": "x"}, "Replay params are not valid"),
        ("room-1", True, {}, "Replay params are not valid"),
        ("room-1", False, {"since": 1}, "Replay is not allowed for public channels"),
    ],
)
async def test_bad_wishes_refuse_the_join(project, topic, private, replay, reason):
    client = await project.client()
    reply = await client.join(topic, project.token(sub=USER_1), private=private, replay=replay)
    assert reply == {"status": "error", "response": {"reason": f"UnableToReplayMessages: {reason}"}}


@pytest.mark.parametrize("since", [-(10**17), 10**17])
async def test_times_beyond_all_calendars(project, since):
    await sent(project, 1)
    client = await project.client()
    reply = await client.join("room-1", project.token(sub=USER_1), replay={"since": since})
    assert reply["status"] == "ok"
