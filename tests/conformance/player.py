"""Replays a transcript against a server and records its answers in the same form.

What was sent, asked by HTTP or run as SQL is done again in the recorded order. Before each of these steps the player
waits until every connection has received as many frames as it had in the recording; a server that answers less is
waited for only as long as the recording itself was silent, and a little more.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import websockets
from yarl import URL

from tests.conformance.transcript import Line, Present, Transcript, received, sent

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

_MARGIN_SECONDS: Final = 1.5
_LONGEST_SECONDS: Final = 8.0
_QUIET_SECONDS: Final = 0.25
"""How long nothing must come at the end before the recording is taken for complete."""
_BEFORE_HANG_UP_SECONDS: Final = 0.1
_FILLER: Final = "y"
_CUT_AT_LEAST: Final = 100
_ANSWERS: Final = frozenset(("recv", "close", "http_response", "open"))
_STEPS: Final = frozenset(("connect", "send", "sql", "http_request", "hang_up"))

HANG_UPS: Final[Mapping[str, tuple[tuple[float, str], ...]]] = {
    "broadcast_self_ack": (
        (0.647, "tx1-ackFalse-selfFalse"),
        (1.258, "tx2-ackFalse-selfFalse"),
        (1.864, "tx1-ackFalse-selfTrue"),
        (2.480, "tx2-ackFalse-selfTrue"),
        (3.087, "tx1-ackTrue-selfFalse"),
        (3.699, "tx2-ackTrue-selfFalse"),
        (4.306, "tx1-ackTrue-selfTrue"),
    ),
    "broadcast_sizes": ((1.017, "tx100000"), (2.141, "tx2900000"), (3.196, "tx3200000")),
    "presence_two_clients": ((20.2, "A"), (22.7, "B")),
    "unknown_topic_event": ((9.04, "v1"),),
}
"""Connections that the recording client closed, which the recordings do not say: scenario, then time and name."""
ONE_AT_A_TIME: Final = frozenset(("malformed",))
"""Scenarios in which each connection was closed before the next was opened."""


@dataclass(slots=True)
class _Player:
    transcript: Transcript
    port: int
    database: asyncpg.Connection
    http: aiohttp.ClientSession
    tasks: asyncio.TaskGroup
    lines: list[Line] = field(default_factory=list)
    sockets: dict[str, websockets.ClientConnection] = field(default_factory=dict)
    readers: list[asyncio.Task[None]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    started_at: float = field(default_factory=time.time)
    present: Present = field(init=False)

    def __post_init__(self) -> None:
        self.present = Present(self.transcript.started_at)

    async def play(self) -> None:
        """Do all steps, then wait for the silence after the last."""
        expected: Counter[str] = Counter()
        pause = 0.0
        before = 0.0
        for line in _with_hang_ups(self.transcript):
            if line["dir"] in _ANSWERS:
                if line["dir"] in ("recv", "close"):
                    expected[line["conn"]] += 1
                    pause = max(pause, line["t"] - before)
            elif line["dir"] in _STEPS:
                await self._wait(expected, pause)
                pause = 0.0
                await self._step(line)
            before = line["t"]
        await self._wait(expected, pause)
        while await self._something_comes(_QUIET_SECONDS):
            pass
        self._record("end")

    def _record(self, direction: str, **fields: Any) -> None:
        self.lines.append({"t": round(time.time() - self.started_at, 4), "dir": direction, **fields})

    async def _wait(self, expected: Counter[str], pause: float) -> None:
        """Wait for the frames that the recording had by now, as long as they keep coming."""
        patience = min(pause + _MARGIN_SECONDS, _LONGEST_SECONDS)
        while any(self.counts[name] < number for name, number in expected.items()):
            if not await self._something_comes(patience):
                # what did not come is not waited for again
                for name in expected:
                    self.counts[name] = max(self.counts[name], expected[name])
                return

    async def _something_comes(self, seconds: float) -> bool:
        self.news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self.news.wait()
        except TimeoutError:
            return False
        return True

    async def _step(self, line: Line) -> None:
        match line["dir"]:
            case "connect":
                await self._connect(line)
            case "send":
                await self._send(line)
            case "sql":
                await self._sql(line)
            case "http_request":
                await self._request(line)
            case "hang_up":
                # frames that the recording did not have may have been counted for some that are still to come
                while await self._something_comes(_BEFORE_HANG_UP_SECONDS):
                    pass
                await self.sockets.pop(line["conn"]).close()

    def _now(self, line: Line, text: str) -> str:
        return self.present.text(text, t=float(line["t"]), now=time.time())

    async def _connect(self, line: Line) -> None:
        name = line["conn"]
        # the recorded host is sent, for servers that tell tenants by it; the connection goes to ours
        url = self._now(line, line["url"])
        headers = {key: self._now(line, value) for key, value in line["headers"].items()}
        self._record("connect", conn=name, url=line["url"], headers=line["headers"])
        try:
            socket = await websockets.connect(
                url,
                host="127.0.0.1",
                port=self.port,
                additional_headers=headers,
                compression=None,
                ping_interval=None,
                close_timeout=1,
                max_size=None,
                proxy=None,
            )
        except websockets.InvalidStatus as error:
            answer = error.response
            self._record(
                "http_response",
                conn=name,
                status=answer.status_code,
                headers=dict(answer.headers.raw_items()),
                body=bytes(answer.body or b"").decode(),
            )
            return
        self._record("open", conn=name, status=101, headers={})
        self.sockets[name] = socket
        self.readers.append(self.tasks.create_task(self._read(name, socket)))

    async def _read(self, name: str, socket: websockets.ClientConnection) -> None:
        try:
            async for frame in socket:
                self._record("recv", conn=name, **received(frame))
                self._came(name)
        except websockets.ConnectionClosedError:
            pass
        if self.sockets.get(name) is socket:  # not hung up by us
            self._record("close", conn=name, code=socket.close_code, reason=socket.close_reason)
            self._came(name)

    def _came(self, name: str) -> None:
        self.counts[name] += 1
        self.news.set()

    async def _send(self, line: Line) -> None:
        name = line["conn"]
        frame = sent(line)
        if isinstance(frame, str):
            frame = self._now(line, frame)
        kept = {key: value for key, value in line.items() if key not in ("t", "dir")}
        self._record("send", **kept)
        try:
            await self.sockets[name].send(frame)
        except websockets.ConnectionClosed as error:
            self._record("send_error", conn=name, error=repr(error))

    async def _sql(self, line: Line) -> None:
        self._record("sql", sql=line["sql"], args=line["args"])
        if ";" in line["sql"]:
            result: object = await self.database.execute(line["sql"])
        else:
            result = await self.database.fetch(line["sql"], *line["args"])
        self._record("sql_ok", result=str(result)[:300])

    async def _request(self, line: Line) -> None:
        path = self._now(line, line["path"])
        headers = {key: self._now(line, value) for key, value in line["headers"].items()}
        headers.setdefault("connection", "keep-alive")  # as the recording client sent it
        body = _body(line)
        if body is not None:
            headers.setdefault("content-type", "application/json")
        kept = {key: value for key, value in line.items() if key not in ("t", "dir")}
        self._record("http_request", **kept)
        data = None if body is None else io.BytesIO(body)
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.http.request(line["method"], url, headers=headers, data=data) as answer:
            text = await answer.text()
            self._record("http_response", status=answer.status, headers=dict(answer.headers), body=text)


def _body(line: Line) -> bytes | None:
    body = line["body"]
    if body is None:
        return None
    if line.get("truncated"):
        # one long text of the same letter was cut; all that matters is that it is too long
        filler = _FILLER * int(line["length"])
        return json.dumps(body).replace(_FILLER * _CUT_AT_LEAST, filler, 1).encode()
    kind = {key.lower(): value for key, value in line["headers"].items()}.get("content-type")
    if isinstance(body, str):
        # bytes were recorded as hexadecimal digits, text as it was
        return bytes.fromhex(body) if kind not in (None, "application/json") else body.encode()
    return json.dumps(body).encode()


def _with_hang_ups(transcript: Transcript) -> list[Line]:
    ends = list(HANG_UPS.get(transcript.name, ()))
    if transcript.name in ONE_AT_A_TIME:
        opened = [(float(line["t"]), line["conn"]) for line in transcript.lines if line["dir"] == "connect"]
        ends += [(after - 0.0001, name) for (_, name), (after, _) in itertools.pairwise(opened)]
    added = [{"t": t, "dir": "hang_up", "conn": name} for t, name in ends]
    return sorted([*transcript.lines, *added], key=lambda line: float(line["t"]))


async def replay(transcript: Transcript, port: int, database: asyncpg.Connection) -> list[Line]:
    """Return what the server on this port of loopback answers, as the lines of a transcript."""
    async with aiohttp.ClientSession(auto_decompress=True) as http, asyncio.TaskGroup() as tasks:
        player = _Player(transcript, port, database, http, tasks)
        player.lines.append(dict(transcript.lines[0]))
        try:
            await player.play()
        finally:
            sockets, player.sockets = player.sockets, {}
            for socket in sockets.values():
                with contextlib.suppress(websockets.ConnectionClosed):
                    await socket.close()
    return player.lines
