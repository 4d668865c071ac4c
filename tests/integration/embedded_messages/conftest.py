"""The whole gateway over a real PostgreSQL, policies on `realtime.messages`, and clients of both versions."""

import asyncio
import contextlib
import itertools
import json
import time

import asyncpg
import httpx
import pytest
import websockets
from aiohttp import web

from embedded import keys as key_store
from embedded.gateway import GatewayOptions, create_app
from embedded.postgres import Postgres
from tests.fakes.phoenix_client import PhoenixClient

USER_1 = "11111111-1111-1111-1111-111111111111"
USER_2 = "22222222-2222-2222-2222-222222222222"

POLICIES = """
create policy rooms_read on realtime.messages for select to authenticated using (realtime.topic() like 'room-%');
create policy rooms_write on realtime.messages for insert to authenticated with check (realtime.topic() like 'room-%');
create policy deaf_read on realtime.messages for select to authenticated using (realtime.topic() like 'read-only-%');
create policy talk_read on realtime.messages for select to authenticated
  using (realtime.topic() like 'talk-%' and extension = 'broadcast');
create policy talk_write on realtime.messages for insert to authenticated
  with check (realtime.topic() like 'talk-%' and extension = 'broadcast');
create policy show_read on realtime.messages for select to authenticated
  using (realtime.topic() like 'show-%' and extension = 'presence');
create policy own on realtime.messages for select to authenticated
  using (realtime.topic() = 'user:' || auth.uid()::text);
create policy broken on realtime.messages for select to authenticated
  using (case when realtime.topic() = 'broken' then 1 / (length(topic) - 6) > 0 end);
create table public.bc_todos (id bigint primary key, details text);
create function public.bc_todos_changes() returns trigger language plpgsql security definer as $$
begin
  perform realtime.broadcast_changes('room-changes', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
  return null;
end $$;
create trigger bc after insert or update or delete on public.bc_todos
  for each row execute function public.bc_todos_changes();
"""
_numbers = itertools.count(1)


async def until(condition, seconds=10.0, what="the condition"):
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not become true within {seconds} s"
        await asyncio.sleep(0.01)


class Channels(PhoenixClient):
    """A raw client."""

    receive = PhoenixClient.frame

    async def join(self, topic, token=None, *, private=True, presence=False, **broadcast):
        """Join `topic`, without prefix, and return the reply's payload."""
        config = {
            "broadcast": broadcast,
            "presence": {"key": "", "enabled": presence},
            "postgres_changes": [],
            "private": private,
        }
        payload = {"config": config} if token is None else {"config": config, "access_token": token}
        await self.send(f"realtime:{topic}", "phx_join", payload)
        reply = await self.receive()
        assert reply[3] == "phx_reply", reply
        return reply[4]

    async def joined(self, topic, token=None, **options):
        reply = await self.join(topic, token, **options)
        assert reply == {"status": "ok", "response": {"postgres_changes": []}}

    async def message(self):
        """Return topic, event, meta, payload of the next broadcast, whatever frame it came in."""
        frame = await self.raw()
        if isinstance(frame, bytes):
            return kind_4(frame)
        frame = json.loads(frame)
        topic, event, payload = (
            (frame["topic"], frame["event"], frame["payload"]) if isinstance(frame, dict) else frame[2:]
        )
        assert event == "broadcast", frame
        return topic, payload["event"], payload.get("meta"), payload["payload"]

    async def answered(self, topic, event, payload):
        """Send, and return whether there is an answer before that to a heartbeat."""
        ref = await self.send(topic, event, payload)
        beat = await self.send("phoenix", "heartbeat", {})
        answers = [(await self.receive())[1]]
        if answers != [beat]:
            answers.append((await self.receive())[1])
        assert answers[-1] == beat
        return answers[0] == ref


def kind_4(frame):
    """Return topic, event, meta, payload of a binary user broadcast."""
    kind, topic, event, meta, encoding = frame[:5]
    assert kind == 4, frame
    sizes = itertools.accumulate((5, topic, event, meta))
    starts = list(sizes)
    parts = [frame[a:b] for a, b in itertools.pairwise(starts)]
    payload = frame[starts[-1] :]
    return (
        parts[0].decode(),
        parts[1].decode(),
        json.loads(parts[2]) if parts[2] else None,
        json.loads(payload) if encoding == 1 else payload,
    )


class Project:
    """A running gateway and its database."""

    def __init__(self, port, keys, postgres, database):
        self.port = port
        self.keys = keys
        self.postgres = postgres
        self.database = database
        self._open = contextlib.AsyncExitStack()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def live(self):
        """Wait for the replication stream: what is committed before the first slot exists is nobody's."""
        async with httpx.AsyncClient(base_url=self.url) as http, asyncio.timeout(30):
            while (await http.get("/health")).status_code != 200:
                await asyncio.sleep(0.01)

    def token(self, role="authenticated", seconds=3600.0, **claims):
        return key_store.sign({"role": role, "exp": time.time() + seconds, **claims}, self.keys.jwt_secret)

    async def client(self, vsn="2.0.0"):
        address = f"ws://127.0.0.1:{self.port}/realtime/v1/websocket?apikey={self.keys.anon_key}&vsn={vsn}"
        return Channels(await self._open.enter_async_context(websockets.connect(address)), vsn)

    async def sql(self):
        connection = await asyncpg.connect(self.postgres.dsn(database=self.database))
        self._open.push_async_callback(connection.close, timeout=5)
        return connection

    async def aclose(self):
        await self._open.aclose()


@pytest.fixture(scope="session")
def messages_cluster(tmp_path_factory):
    postgres = Postgres(tmp_path_factory.mktemp("messages"), port=0, durable=False)
    postgres.start()
    yield postgres
    postgres.remove()


@contextlib.asynccontextmanager
async def database(postgres):
    """A database with the policies, made from the project's one and dropped with its slots."""
    name = f"messages_{next(_numbers)}"
    async with _connected(postgres.dsn(database="template1")) as admin:
        await admin.execute(f"create database {name} template postgres")
    try:
        yield name
    finally:
        async with _connected(postgres.dsn(database="template1")) as admin, asyncio.timeout(10):
            while await admin.fetchval(
                "select count(*) from pg_replication_slots where database = $1 and active", name
            ):
                await asyncio.sleep(0.01)
            await admin.execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1",
                name,
            )
            await admin.execute(f"drop database {name} with (force)")


@contextlib.asynccontextmanager
async def serving(postgres, name, **options):
    keys = key_store.generate()
    where = {"pg_socket_dir": postgres.socket_dir, "pg_port": postgres.port, "database": name}
    app = create_app(GatewayOptions(keys=keys, **where, **options))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    project = Project(runner.addresses[0][1], keys, postgres, name)
    try:
        await project.live()
        yield project
    finally:
        await project.aclose()
        await runner.cleanup()


@pytest.fixture
async def project(messages_cluster):
    async with database(messages_cluster) as name:
        async with _connected(messages_cluster.dsn(database=name)) as connection:
            await connection.execute(POLICIES)
        async with serving(messages_cluster, name) as running:
            yield running


@contextlib.asynccontextmanager
async def _connected(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()
