"""Container logs from a real Docker to a client that knows the seed's JSON: complete and single, whatever happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from adapters.legacy_link import LegacyLink
from adapters.spool import Spool
from collectors.docker import DockerCollector
from collectors.docker_connection import Connect, from_environment
from collectors.docker_logs import MOST_FOLLOWED, DockerLogs
from collectors.pace import Pace
from collectors.schedule import Schedule
from legacy_ws.server import LegacyServer
from monitoring.events import stream_id
from monitoring.logs import LogsUnavailable

pytestmark = pytest.mark.docker

COUNTER = (
    "i=$(cat /n 2>/dev/null || echo 0); while :; do i=$((i+1)); echo $i >/n; echo out $i; echo err $i >&2; "
    "/bin/busybox usleep 3000; done"
)
"""Counts on both streams, and goes on counting when it is started again."""


class Reader:
    """A page that follows one container's log."""

    def __init__(self, socket: Any, container: str) -> None:
        self.container = container
        self.lines: list[str] = []
        self.marks: list[str] = []
        self.errors: list[str] = []
        self._socket = socket

    async def read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            match message["type"]:
                case "log_snapshot" | "new_logs" if message["container"] == self.container:
                    for line in message["logs"]:
                        said = line.partition(" ")[2]
                        (self.marks if said.startswith("--- ") else self.lines).append(said)
                case "error":
                    self.errors.append(message["error"])

    def marked(self, mark: str) -> int:
        return sum(one.startswith(f"--- container {mark}: ") for one in self.marks)

    def of(self, stream: str) -> list[str]:
        return [line for line in self.lines if line.startswith(stream)]


async def until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"{what}: not within {seconds} s")


@asynccontextmanager
async def collecting(
    directory: Path, server: LegacyServer, connect_docker: Connect = from_environment, epoch: int = 1
) -> AsyncIterator[DockerLogs]:
    """Run a collector, its spool and its link, as ``crossfade.collect`` wires them."""
    with Spool.open(directory / "spool.db") as spool:
        stream = stream_id("web-1", "containers")
        spool.open_stream(stream, epoch, None, datetime.now(UTC))
        collector = DockerCollector("web-1", connect=connect_docker, retry_seconds=0.2)
        logs = DockerLogs("web-1", connect_docker, collector.known)
        link = LegacyLink(spool, server.link_url, "secret", logs={"web-1": logs}, random=lambda: 0.1)
        schedule = Schedule(collector, spool.append, Pace(2.0))
        tasks = [
            asyncio.create_task(collector.watch(spool.append)),
            asyncio.create_task(schedule.run()),
            asyncio.create_task(link.run()),
        ]
        try:
            yield logs
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await collector.close()


@pytest.fixture
async def server() -> AsyncIterator[LegacyServer]:
    async with LegacyServer(token="secret", port=0) as one:
        yield one


@asynccontextmanager
async def page(server: LegacyServer, container: str, lines: int = 100) -> AsyncIterator[Reader]:
    """Connect until the container is known, and follow its log."""
    async with connect(server.url_of("/ws/containers"), proxy=None, close_timeout=1) as socket:
        names: set[str] = set()
        async with asyncio.timeout(30):
            while container not in names:
                message = json.loads(await socket.recv())
                names |= {each["name"] for each in message.get("containers", ())}
                names |= {each["name"] for each in message.get("changes", ())}
        reader = Reader(socket, container)
        reading = asyncio.create_task(reader.read())
        await socket.send(json.dumps({"type": "subscribe_logs", "container": container, "lines": lines}))
        try:
            yield reader
        finally:
            reading.cancel()
            await asyncio.wait({reading})


def whole(reader: Reader, stream: str, truth: list[str]) -> bool:
    """Whether the page has the end of a finished log; then it must have all of it from its first line, once."""
    told, said = reader.of(stream), [line for line in truth if line.startswith(stream)]
    if not told or not said or told[-1] != said[-1]:
        return False
    assert told == said[said.index(told[0]) :]
    return True


async def test_a_log_is_complete_and_single_over_restarts_and_recreation(
    tmp_path: Path, server: LegacyServer, containers: Any
) -> None:
    name = await asyncio.to_thread(containers.run, "sh", "-c", COUNTER)
    async with collecting(tmp_path, server) as logs, page(server, name) as reader:
        await until(lambda: len(reader.lines) > 100, "the first lines")
        for command in ("restart -t 0", "kill", "start", "stop -t 0", "start"):
            lines, stops = len(reader.lines), reader.marked("stopped")
            await asyncio.to_thread(containers.command, *command.split(), name)
            if command in {"kill", "stop -t 0"}:
                await until(lambda stops=stops: reader.marked("stopped") > stops, f"the mark of {command}")
            else:
                await until(lambda lines=lines: len(reader.lines) > lines + 50, f"lines after {command}")
        stops = reader.marked("stopped")
        await asyncio.to_thread(containers.command, "kill", name)
        truth = await asyncio.to_thread(containers.logs, name)
        for stream in ("out", "err"):
            await until(lambda stream=stream: whole(reader, stream, truth), f"the end of {stream}")
        await until(lambda: reader.marked("stopped") > stops, "the last stop")
        assert reader.marked("restarted") == 3
        assert reader.marked("stopped") in {3, 4}, "who looks in the middle of a restart sees a stop, too"

        had = len(reader.lines)
        await asyncio.to_thread(containers.command, "rm", "-f", name)
        await asyncio.to_thread(containers.run, "sh", "-c", COUNTER, name=name)
        await until(lambda: len(reader.lines) > had + 100, "lines of the successor")
        await asyncio.to_thread(containers.command, "kill", name)
        truth = await asyncio.to_thread(containers.logs, name)
        reader.lines = reader.lines[had:]
        for stream in ("out", "err"):
            await until(lambda stream=stream: whole(reader, stream, truth), f"the end of its {stream}")
            assert reader.of(stream)[0] == f"{stream} 1"
        assert reader.marked("recreated") == 1
        assert logs.followed == 1
        assert reader.errors == []


async def test_nothing_is_read_while_nobody_listens(
    tmp_path: Path, server: LegacyServer, containers: Any
) -> None:
    name = await asyncio.to_thread(containers.run, "sh", "-c", COUNTER)
    async with collecting(tmp_path, server) as logs:
        async with page(server, name, lines=5) as one, page(server, name, lines=7) as other:
            await until(lambda: one.lines and other.lines, "both snapshots")
            assert logs.followed == 1
        await until(lambda: logs.followed == 0, "the end of the reading")
        async with page(server, name, lines=0) as again:
            await until(lambda: again.lines, "new lines")


async def test_a_log_goes_on_over_a_restart_of_the_collector_and_a_cut_way_to_docker(
    tmp_path: Path, server: LegacyServer, containers: Any, way: Any
) -> None:
    name = await asyncio.to_thread(containers.run, "sh", "-c", COUNTER)
    async with (
        page_after(tmp_path, server, name, way) as reader,
        collecting(tmp_path, server, way.connect, 2),
    ):
        before = len(reader.lines)
        await until(lambda: len(reader.lines) > before + 50, "lines after the collector's restart")
        await way.cut(close=False)
        before = len(reader.lines)
        await until(lambda: len(reader.lines) > before + 50, "lines after the cut")
        await way.cut(close=True)
        await asyncio.to_thread(containers.command, "restart", "-t", "0", name)
        await way.open()
        before = len(reader.lines)
        await until(lambda: len(reader.lines) > before + 50, "lines after Docker was away")
        await asyncio.to_thread(containers.command, "kill", name)
        truth = await asyncio.to_thread(containers.logs, name)
        for stream in ("out", "err"):
            await until(lambda stream=stream: whole(reader, stream, truth), f"the end of {stream}")
        assert reader.errors == []


@asynccontextmanager
async def page_after(directory: Path, server: LegacyServer, name: str, way: Any) -> AsyncIterator[Reader]:
    """A page that has followed a log for a while, whose collector has just been ended."""
    async with collecting(directory, server, way.connect):
        opened = page(server, name, lines=0)
        reader = await opened.__aenter__()
        await until(lambda: len(reader.lines) > 50, "the first lines")
    try:
        yield reader
    finally:
        await opened.__aexit__(None, None, None)


async def test_long_lines_odd_bytes_and_a_terminal_are_read(containers: Any) -> None:
    collector = DockerCollector("web-1")
    watching = asyncio.create_task(collector.watch(lambda _: None))
    try:
        await until(lambda: collector.available, "the connection")
        logs = DockerLogs("web-1", from_environment, collector.known)
        script = (
            "printf 'x%.0s' $(/bin/busybox seq 40000); echo; echo; printf 'a\\000b\\377\\n'; printf '10%%\\r20%%\\n'; "
            "printf 'no end'"
        )
        for options in ((), ("-t",)):
            name = await asyncio.to_thread(containers.run, "sh", "-c", script, options=options)
            await asyncio.to_thread(containers.command, "wait", name)
            told = [line async for line in _lines(logs, name, 100)]
            assert [len(told[0]), *told[1:]] == [40000, "", "a\ufffdb\ufffd", "10%\r20%", "no end"]
    finally:
        watching.cancel()
        await asyncio.wait({watching})


async def _lines(logs: DockerLogs, name: str, count: int) -> AsyncIterator[str]:
    batches = logs.follow("web-1", name, count)
    for line in await anext(batches):
        yield line.text
    await batches.aclose()


async def test_what_cannot_be_followed_is_said(containers: Any) -> None:
    collector = DockerCollector("web-1")
    logs = DockerLogs("web-1", from_environment, collector.known)
    collector.known.went("there is no socket")
    with pytest.raises(LogsUnavailable, match="does not answer: there is no socket"):
        await anext(logs.follow("web-1", "a", 1))
    watching = asyncio.create_task(collector.watch(lambda _: None))
    try:
        await until(lambda: collector.available, "the connection")
        with pytest.raises(LogsUnavailable, match="has no container 'nobody'"):
            await anext(logs.follow("web-1", "nobody", 1))
        with pytest.raises(LogsUnavailable, match="watches web-1, not web-2"):
            await anext(logs.follow("web-2", "nobody", 1))
        mute = await asyncio.to_thread(containers.run, "sleep", "1000", options=("--log-driver", "none"))
        with pytest.raises(LogsUnavailable, match="does not support reading"):
            await anext(logs.follow("web-1", mute, 1))
        name = await asyncio.to_thread(containers.run, "sleep", "1000")
        many = [logs.follow("web-1", name, 1) for _ in range(MOST_FOLLOWED)]
        for each in many:
            await anext(each)
        with pytest.raises(LogsUnavailable, match=f"{MOST_FOLLOWED} logs of web-1 are followed already"):
            await anext(logs.follow("web-1", name, 1))
        for each in many:
            await each.aclose()
        assert logs.followed == 0
    finally:
        watching.cancel()
        await asyncio.wait({watching})
