"""The Realtime server without its database: rooms, broadcast and presence need none."""

import contextlib
import dataclasses
import time

import pytest
import websockets
from aiohttp import web

from embedded import keys as key_store
from embedded.habits import Habits
from embedded.phoenix.limits import Limits
from embedded.realtime import RealtimeServer
from embedded.realtime_broadcast import NoHistory, ServiceRoleOnly
from tests.fakes.phoenix_client import PhoenixClient


class Peer(PhoenixClient):
    """A raw client of one version."""

    async def receive(self, seconds=10.0):
        """Return topic, event and payload of the next text frame."""
        return tuple((await self.frame(seconds))[2:])

    async def join(self, topic="realtime:room", /, *, key=None, private=False, token=None, **broadcast):
        """Join, with presence if a key is given, and return the reply's payload."""
        config = {
            "broadcast": broadcast,
            "presence": {"key": key or "", "enabled": key is not None},
            "private": private,
        }
        payload = {"config": config} if token is None else {"config": config, "access_token": token}
        await self.send(topic, "phx_join", payload)
        _, event, reply = await self.receive()
        assert event == "phx_reply", event
        return reply

    async def broadcast(self, topic, event, payload):
        return await self.send(
            topic, "broadcast", {"type": "broadcast", "event": event, "payload": payload}, join_ref="1"
        )

    async def track(self, payload, topic="realtime:room"):
        return await self.send(topic, "presence", {"type": "presence", "event": "track", "payload": payload})

    async def push(self, topic, event, data, *, is_json=True, ref="9"):
        """Send a binary frame of kind 3."""
        fields = [field.encode() for field in ("1", ref, topic, event, "")]
        await self.socket.send(bytes((3, *map(len, fields), is_json)) + b"".join(fields) + data)


@dataclasses.dataclass
class Rooms:
    """A running server and where it is."""

    server: RealtimeServer
    port: int
    keys: key_store.Keys
    open: contextlib.AsyncExitStack

    def token(self, role="authenticated", **claims):
        return key_store.sign({"role": role, "exp": time.time() + 600, **claims}, self.keys.jwt_secret)

    def url(self, vsn="2.0.0"):
        return f"ws://127.0.0.1:{self.port}/realtime/v1/websocket?apikey={self.keys.anon_key}&vsn={vsn}"

    async def peer(self, vsn="2.0.0"):
        socket = await self.open.enter_async_context(websockets.connect(self.url(vsn), max_size=None))
        return Peer(socket, vsn)


@contextlib.asynccontextmanager
async def serving(tmp_path, limits=None, **options):
    keys = key_store.generate()
    server = RealtimeServer(
        keys=keys,
        dsn="postgresql://nobody@127.0.0.1:1/none",
        socket_dir=tmp_path,
        port=1,
        habits=Habits(limits=limits or Limits()),
        **{"policies": ServiceRoleOnly(), "history": NoHistory(), **options},
    )
    application = web.Application()
    application.router.add_get("/realtime/v1/websocket", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with contextlib.AsyncExitStack() as clients:
        try:
            yield Rooms(server, runner.addresses[0][1], keys, clients)
        finally:
            await clients.aclose()
            await server.close()
            await runner.cleanup()


@pytest.fixture
def serve(tmp_path):
    """Return a context manager that runs a server with options of the test's own."""
    return lambda **options: serving(tmp_path, **options)


@pytest.fixture
async def rooms(tmp_path):
    async with serving(tmp_path) as running:
        yield running
