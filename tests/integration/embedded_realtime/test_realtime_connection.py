"""The handshake, the life of a connection, and PostgreSQL going away."""

import asyncio
import json
import time

import aiohttp
import jwt
import pytest
import websockets

TODOS = {"event": "*", "schema": "public", "table": "todos"}


async def refusal(stack, query="", headers=None):
    """Return status and body of a handshake."""
    async with aiohttp.ClientSession() as session:
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        url = stack.url.replace("ws:", "http:") + query
        async with session.get(url, headers=upgrade | (headers or {})) as response:
            return response.status, await response.text()


def error(text):
    return 401, json.dumps({"error": text}, separators=(",", ":"))


async def test_refusals(stack):
    keys = stack.keys
    for vsn in ("3.0.0", "2.1.0", "1.5.0", "abc"):
        assert await refusal(stack, f"?apikey={keys.anon_key}&vsn={vsn}") == (403, "")
    assert await refusal(stack, "?vsn=1.0.0") == error("API key is missing")
    assert await refusal(stack, "?vsn=1.0.0", {"apikey": keys.anon_key}) == error("API key is missing")
    for bad in ("", "garbage", "sb_publishable_unknown"):
        assert await refusal(stack, f"?apikey={bad}") == error("The token provided is not a valid JWT")
    forged = keys.anon_key[:-4] + ("AAAA" if keys.anon_key[-4:] != "AAAA" else "BBBB")
    assert await refusal(stack, f"?apikey={forged}") == error("Failed to validate JWT signature")
    expired = stack.token("anon", seconds=-5)
    assert await refusal(stack, f"?apikey={expired}") == error("Token has expired")
    for claims in ({"exp": time.time() + 60}, {"role": "anon"}):
        token = jwt.encode(claims, keys.jwt_secret, algorithm="HS256")
        assert await refusal(stack, f"?apikey={token}") == error(
            "Fields `role` and `exp` are required in JWT"
        )
    unsigned = jwt.encode({"role": "anon", "exp": time.time() + 60}, None, algorithm="none")
    assert await refusal(stack, f"?apikey={unsigned}") == error(
        "Failed to generate JWT signer, check your JWT secret or JWKS configuration"
    )


async def test_keys_of_the_new_kind(stack):
    for key in (stack.keys.publishable_key, stack.keys.secret_key):
        client = await stack.client(apikey=key)
        await client.subscribe("realtime:x", {"schema": "public", "table": "rls_todos"}, token=key)
    sql = await stack.sql()
    await sql.execute("insert into public.rls_todos values (1, 'x', null)")
    assert (await client.change())[1]["record"]["id"] == 1  # the secret key is the service role


async def test_the_key_in_a_header_and_no_version(stack):
    headers = {"x-api-key": stack.keys.anon_key}
    async with websockets.connect(
        stack.url.replace("realtime/v1", "socket"), additional_headers=headers
    ) as socket:
        await socket.send('{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}')
        assert await socket.recv() == (
            '{"ref":null,"event":"phx_reply","payload":{"status":"ok","response":{}},"topic":"phoenix"}'
        )
        assert socket.protocol.extensions == []


async def test_malformed_frames_are_ignored(stack):
    for vsn in ("1.0.0", "2.0.0"):
        client = await stack.client(vsn)
        for frame in ("not json", "{}", "[]", "null", "", b"\x00\x01\x02", b""):
            await client.socket.send(frame)
        await client.silent()


async def test_a_frame_that_is_too_large_closes_with_1009(stack):
    client = await stack.client()
    # the header says it; the rest would only meet a closed socket, whose reset can overtake the close frame
    client.socket.transport.write(b"\x81\xff" + (5_000_001).to_bytes(8) + bytes(4) + b"x" * 100)
    with pytest.raises(websockets.ConnectionClosed) as closed:
        await client.socket.recv()
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("stack", [{"idle_seconds": 1.2}], indirect=True)
async def test_an_idle_connection_is_closed_with_1000(stack):
    client = await stack.client()
    for _ in range(4):
        await asyncio.sleep(0.35)  # together longer than the idle time, each well below it
        await (await client.socket.ping())  # pings keep it
    with pytest.raises(websockets.ConnectionClosed) as closed:
        await client.receive(5)
    assert closed.value.rcvd.code == 1000


@pytest.mark.parametrize("stack", [{"buffer_limit_bytes": 100_000}], indirect=True)
async def test_a_client_that_does_not_read_is_dropped(stack, caplog):
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port, limit=1024)
    slow = await stack.client()
    writer.close()
    await slow.subscribe("realtime:x", {"schema": "public", "table": "big"})
    healthy = await stack.client()
    await healthy.subscribe("realtime:x", {"schema": "public", "table": "todos"})
    slow.socket.transport.pause_reading()
    sql = await stack.sql()
    for number in range(40):
        await sql.execute("insert into public.big values ($1, 's', repeat('x', 900000))", number)
        if stack.server.health()["slow_clients_dropped"]:
            break
    deadline = time.monotonic() + 5
    while not stack.server.health()["slow_clients_dropped"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert "reads too slowly" in caplog.text
    await sql.execute("insert into public.todos(id) values (1)")
    assert (await healthy.change())[1]["record"]["id"] == 1
    slow.socket.transport.resume_reading()
    assert reader is not None


async def test_a_client_that_does_not_read_holds_up_no_shutdown(stack):
    idle = await stack.client()
    await idle.subscribe("realtime:x", {"schema": "public", "table": "big"})
    idle.socket.transport.pause_reading()
    sql = await stack.sql()
    for number in range(14):  # more than sockets hold, less than it is dropped for
        await sql.execute("insert into public.big values ($1, 's', repeat('x', 900000))", number)
    await stack.caught_up(sql)
    assert not stack.server.health()["slow_clients_dropped"]
    await asyncio.wait_for(stack.server.close(), 30)


async def test_a_plain_request_is_refused(stack):
    async with aiohttp.ClientSession() as session:
        url = stack.url.replace("ws:", "http:") + f"?apikey={stack.keys.anon_key}"
        async with session.get(url) as response:
            assert response.status == 400
