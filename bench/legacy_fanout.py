"""Fan-out of the legacy server: events to many clients, per second of the server's CPU.

    python bench/legacy_fanout.py [--quick] [--clients 1000] [--size 600]

The server is its own process and fed as in life: through /link, by frames that are acknowledged. Its figure holds reading the
link, keeping the ring and writing the message, too. Beside it in the same run: node's `ws`, python-socketio, and a bare
write() loop sending frames of the same size. Every row is made `--rounds` times, in turn; the median is shown, with the range.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rig import HERE, Child, Receivers, child, install_ws, node_ws, receivers, sent_by, write_loop
from websockets.asyncio.client import ClientConnection, connect

from legacy_ws.protocol import dashboard, link
from monitoring.events import Event, StreamId, uuid7

TOKEN = "bench"  # noqa: S105 - of a server that lives for a minute
STREAM = StreamId("web-1/system")
_IN_FLIGHT = 4
"""Frames that are not acknowledged yet: as many rounds as node's `ws` has in flight."""


def event(seq: int, size: int) -> Event:
    """Return an event whose message has a size."""
    at = datetime.now(UTC)
    one = Event(uuid7(int(at.timestamp() * 1000), seq), STREAM, 1, seq, "metric_collected", at, {"note": ""})
    short = size - len(dashboard.write_event(one, at))
    return dataclasses.replace(one, payload={"note": "x" * max(0, short)})


@dataclasses.dataclass(slots=True)
class Fed:
    """The legacy server with its clients and the link that feeds it."""

    process: psutil.Process
    listening: Receivers
    socket: ClientConnection
    clients: int
    seq: int = 0

    async def burst(self, events: int, size: int, at_once: int) -> float:
        """Send events in frames of `at_once`; return messages per CPU second of the server."""
        frames = []
        for _ in range(events // at_once):
            batch = tuple(event(self.seq + n, size) for n in range(1, at_once + 1))
            self.seq += at_once
            frames.append(link.encode(link.Events(self.seq, batch)))
        await self.listening.expect(events * self.clients)
        before = cpu(self.process)
        waiting: deque[None] = deque()
        for frame in frames:
            await self.socket.send(frame, text=True)
            waiting.append(None)
            if len(waiting) >= _IN_FLIGHT:
                await self._acknowledged()
                waiting.popleft()
        for _ in waiting:
            await self._acknowledged()
        await self.listening.result()
        return events * self.clients / (cpu(self.process) - before)

    async def one_by_one(self, events: int, size: int) -> float:
        """Send each event when everybody has received the one before: nothing can share a write."""
        before = cpu(self.process)
        for _ in range(events):
            self.seq += 1
            frame = link.encode(link.Events(self.seq, (event(self.seq, size),)))
            await self.listening.expect(self.clients)
            await self.socket.send(frame, text=True)
            await self._acknowledged()
            await self.listening.result()
        return events * self.clients / (cpu(self.process) - before)

    async def _acknowledged(self) -> None:
        answer = json.loads(await self.socket.recv())
        assert answer["type"] == "ack", answer


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextlib.asynccontextmanager
async def legacy(directory: Path, clients: int) -> AsyncIterator[Fed]:
    (directory / "token").write_text(TOKEN)
    argv = [sys.executable, "-m", "legacy_ws", "--port", "0", "--token-file", str(directory / "token")]
    process = await asyncio.create_subprocess_exec(*argv, cwd=HERE.parent, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        line = (await process.stderr.readline()).decode()
        port = int(line.rpartition("port=")[2].split()[0])
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"ws://127.0.0.1:{port}/link"
        async with (
            receivers(directory, port, clients, "/ws", (), 1) as listening,
            connect(url, additional_headers=headers, proxy=None, compression=None, max_size=None) as socket,
        ):
            await socket.recv()
            yield Fed(psutil.Process(process.pid), listening, socket, clients)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


def install_socketio(directory: Path) -> Path | None:
    """Install python-socketio and return where, or None with the reason printed."""
    target = directory / "socketio"
    command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(target), "python-socketio>=5,<6"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"pip could not install python-socketio, its row is left out: {done.stderr.strip()[-200:]}")
        return None
    return target


@contextlib.asynccontextmanager
async def socketio(directory: Path, installed: Path, clients: int) -> AsyncIterator[tuple[Child, Receivers]]:
    async with child(sys.executable, HERE / "socketio_peer.py", installed) as program:
        port = int(await program.line())
        path = "/socket.io/?EIO=4&transport=websocket"
        async with receivers(directory, port, clients, path, ["40"] * clients, 2) as listening:
            yield program, listening


async def emitted(peer: tuple[Child, Receivers], messages: int, size: int, clients: int) -> float:
    """Have python-socketio emit and return messages per CPU second of its own."""
    program, listening = peer
    await listening.expect(messages * clients)
    before = cpu(program.usage)
    program.tell(f"{messages} {size}")
    await program.line()
    await listening.result()
    return messages * clients / (cpu(program.usage) - before)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a fifth of the messages, one round")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--size", type=int, default=600, help="bytes of a message")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    clients, size = options.clients, options.size
    events = (80_000 if options.quick else 400_000) // clients // 100 * 100 or 100
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="cf-bench-") as name:
        directory = Path(name)
        installed, sio = install_ws(directory), install_socketio(directory)
        for _ in range(1 if options.quick else options.rounds):
            await _legacy_rows(rows, directory, clients, events, size)
            if installed is not None:
                async with node_ws(directory, installed, clients) as peer:
                    await sent_by(peer, f"{events // 10} {size}", events // 10 * clients)
                    sent = await sent_by(peer, f"{events} {size}", events * clients)
                    seconds = 0.0
                    for _ in range(events // 2):
                        seconds += clients / (await sent_by(peer, f"1 {size}", clients)).per_cpu_second
                    rows.setdefault("node ws, one write an event", []).append(events // 2 * clients / seconds)
                rows.setdefault("node ws", []).append(sent.per_cpu_second)
            if sio is not None:
                few = max(events // 20, 5)
                async with socketio(directory, sio, clients) as peer:
                    await emitted(peer, 2, size, clients)
                    rows.setdefault("python-socketio", []).append(await emitted(peer, few, size, clients))
            async with write_loop(directory, clients) as peer:
                sent = await sent_by(peer, f"{events} {size} 1", events * clients)
            rows.setdefault("write() loop, one a write", []).append(sent.per_cpu_second)
    _print(rows, clients, size)


async def _legacy_rows(
    rows: dict[str, list[float]], directory: Path, clients: int, events: int, size: int
) -> None:
    async with legacy(directory, clients) as fed:
        await fed.burst(events // 10, size, 1)
        cases: tuple[tuple[str, Callable[[], Awaitable[float]]], ...] = (
            ("legacy server, one write an event", lambda: fed.one_by_one(events // 2, size)),
            ("legacy server, one event a frame", lambda: fed.burst(events, size, 1)),
            ("legacy server, 100 events a frame", lambda: fed.burst(events, size, 100)),
        )
        for case, measure in cases:
            rows.setdefault(case, []).append(await measure())


def _print(rows: dict[str, list[float]], clients: int, size: int) -> None:
    node = statistics.median(rows["node ws"]) if "node ws" in rows else None
    print(
        f"{clients} clients, messages of {size} bytes: messages per CPU second of the server, median (range)"
    )
    for name, figures in rows.items():
        middle = statistics.median(figures)
        times = f"{middle / node:>7.2f} x node ws" if node else ""
        span = f"({min(figures) / 1e3:.0f}k-{max(figures) / 1e3:.0f}k)"
        print(f"{name:<36}{middle / 1e3:>8.0f}k  {span:<16}{times}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
