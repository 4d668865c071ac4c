"""Whatever a client sends, the server and the other clients go on."""

import asyncio
import itertools
import json
import re
import socket
import threading

import pytest
import websockets
import websockets.sync.client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.embedded_channels.conftest import serving

TOPIC = "realtime:shared"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
topics = st.sampled_from(["phoenix", TOPIC, "realtime:", "realtime:a:b:c", "x"]) | json_values
events = (
    st.sampled_from(["phx_join", "phx_leave", "heartbeat", "broadcast", "presence", "access_token", "bogus"])
    | json_values
)
configs = st.fixed_dictionaries(
    {},
    optional={
        "broadcast": st.fixed_dictionaries(
            {}, optional={"self": json_values, "ack": json_values, "replay": json_values}
        )
        | json_values,
        "presence": st.fixed_dictionaries({}, optional={"key": json_values, "enabled": st.just(True)})
        | json_values,
        "private": json_values,
        "postgres_changes": st.lists(json_values, max_size=2) | json_values,
    },
)
payloads = (
    json_values
    | st.fixed_dictionaries({"config": configs})
    | st.fixed_dictionaries({"event": st.sampled_from(["track", "untrack"]), "payload": json_values})
    | st.fixed_dictionaries({"access_token": json_values})
)
messages = st.tuples(json_values, json_values, topics, events, payloads)
fields = st.binary(max_size=20) | st.sampled_from([b"1", TOPIC.encode(), b"broadcast", b"phx_join"])


@st.composite
def binary_frames(draw):
    kind = draw(st.sampled_from([0, 3, 4]) | st.integers(0, 255))
    listed = draw(st.lists(fields, min_size=3, max_size=6))
    sizes = [len(field) if draw(st.booleans()) else draw(st.integers(0, 255)) for field in listed]
    return bytes([kind, *sizes, draw(st.integers(0, 2))]) + b"".join(listed) + draw(st.binary(max_size=30))


sendable = (
    messages.map(lambda m: json.dumps(list(m)))
    | messages.map(
        lambda m: json.dumps(dict(zip(["join_ref", "ref", "topic", "event", "payload"], m, strict=True)))
    )
    | st.text(max_size=80)
    | binary_frames()
    | st.binary(max_size=80)
)


class Background:
    """The server in a thread of its own, so that Hypothesis, which is not asynchronous, can talk to it."""

    def __init__(self, tmp_path):
        self._tmp_path = tmp_path
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self):
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        async with serving(self._tmp_path) as self.rooms:
            self._ready.set()
            await self._stop.wait()

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


@pytest.fixture(scope="module")
def background(tmp_path_factory):
    with Background(tmp_path_factory.mktemp("garbage")) as running:
        yield running


@pytest.fixture(scope="module", params=["1.0.0", "2.0.0"])
def bystander(background, request):
    """A client in the shared room that must survive everything."""
    with websockets.sync.client.connect(background.rooms.url(request.param), max_size=None) as client:
        client.vsn = request.param
        say(client, TOPIC, "phx_join", {"config": {"presence": {"enabled": True, "key": "bystander"}}}, "1")
        yield client


def say(client, topic, event, payload, ref):
    frame = ["1", ref, topic, event, payload]
    names = ["join_ref", "ref", "topic", "event", "payload"]
    client.send(json.dumps(frame if client.vsn == "2.0.0" else dict(zip(names, frame, strict=True))))


def still_served(client, mark):
    """Read everything up to the answer of a heartbeat; each text frame has to be the JSON of a message."""
    say(client, "phoenix", "heartbeat", {}, mark)
    while True:
        data = client.recv(timeout=10)
        if isinstance(data, bytes):
            assert data[0] in (2, 4)
            continue
        frame = json.loads(data)
        if client.vsn == "2.0.0":
            assert len(frame) == 5
            topic, ref = frame[2], frame[1]
        else:
            assert list(frame) == ["ref", "event", "payload", "topic"]
            topic, ref = frame["topic"], frame["ref"]
        if topic == "phoenix" and ref == mark:
            return


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vsn=st.sampled_from(["1.0.0", "2.0.0"]), sent=st.lists(sendable, max_size=8))
def test_frames_of_any_kind(background, bystander, vsn, sent):
    with websockets.sync.client.connect(background.rooms.url(vsn), max_size=None) as client:
        client.vsn = vsn
        say(client, TOPIC, "phx_join", {"config": {"broadcast": {"self": True, "ack": True}}}, "1")
        for data in sent:
            client.send(data)
        still_served(client, "garbage-done")
    still_served(bystander, "bystander-lives")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), upgraded=st.booleans())
def test_bytes_of_any_kind(background, bystander, data, upgraded):
    """Below the frames: bytes instead of HTTP, or instead of WebSocket frames."""
    with socket.create_connection(("127.0.0.1", background.rooms.port), timeout=10) as raw:
        if upgraded:
            path = background.rooms.url().partition(str(background.rooms.port))[2]
            raw.sendall(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert b"101" in raw.recv(4096)
        raw.sendall(data)
    still_served(bystander, "bystander-lives")


conversations = st.lists(messages | binary_frames(), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=conversations, data=st.data())
def test_any_chunking_gives_the_same_answers(background, sent, data):
    """A conversation in one piece, and in WebSocket fragments and TCP segments of any size."""
    mark = json.dumps([None, "done", "phoenix", "heartbeat", {}])
    payloads = [each if isinstance(each, bytes) else json.dumps(list(each)) for each in [*sent, mark]]
    payloads[-1] = mark
    whole = b"".join(frame for each in payloads for frame in client_frames(each, []))
    cuts = st.lists(st.integers(0, 200), max_size=3)
    pieces = b"".join(frame for each in payloads for frame in client_frames(each, data.draw(cuts)))
    places = sorted(data.draw(st.lists(st.integers(0, len(pieces)), max_size=8)))
    segments = [pieces[begin:end] for begin, end in zip([0, *places], [*places, len(pieces)], strict=True)]
    assert answers(background, segments) == answers(background, [whole])


def client_frames(payload, cuts):
    """Return a message as masked frames, cut at these places; the mask is zeros."""
    first = 0x2 if isinstance(payload, bytes) else 0x1
    content = payload if isinstance(payload, bytes) else payload.encode()
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    for number, (begin, end) in enumerate(itertools.pairwise(places)):
        last = number == len(places) - 2
        part = content[begin:end]
        size = bytes((0x80 | len(part),)) if len(part) < 126 else bytes((0x80 | 126,)) + len(part).to_bytes(2)
        yield bytes(((0x80 if last else 0) | (first if number == 0 else 0),)) + size + bytes(4) + part


def answers(background, segments):
    """Return what a new connection is answered, up to the mark, without what differs from run to run."""
    with socket.create_connection(("127.0.0.1", background.rooms.port), timeout=10) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        path = background.rooms.url().partition(str(background.rooms.port))[2]
        raw.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += raw.recv(1)
        assert head.startswith(b"HTTP/1.1 101")
        for segment in segments:
            raw.sendall(segment)
        received = b""
        while b'"done","phoenix"' not in received:
            part = raw.recv(65536)
            assert part, received
            received += part
    return re.sub(rb'"phx_ref":"[^"]*"|[0-9a-f]{8}-[0-9a-f-]{27}', b"-", received)
