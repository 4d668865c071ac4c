"""The Docker of another machine as a socket of this one, so that whoever speaks to Docker here speaks to it there.

The socket is in a directory that only this user can enter, and there for as long as somebody needs it. Each connection to it
goes on through the SSH connection: by SSH's forwarding of Unix sockets, or, where that is switched off, through
``docker system dial-stdio``. The rights are those of the user that logged in.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import asyncssh

from collectors.docker_connection import Connect, connect_to
from collectors.ssh.connection import Connection
from collectors.ssh.docker_api import DIAL, SOCKET, NoDocker, docker_of
from collectors.ssh.errors import SshError

_CHUNK = 1 << 16
_OPEN_SECONDS = 10.0
_BROKEN = (OSError, asyncssh.Error, SshError, TimeoutError)


@contextlib.asynccontextmanager
async def docker_socket(connected: Callable[[], Awaitable[Connection]]) -> AsyncIterator[Connect]:
    """Give what connects to a device's Docker, for the length of the block.

    ``connected`` gives the SSH connection, anew when it broke: asked for each connection, so that whoever tries again
    after an interruption gets through. Raises SshError when the device, and NoDocker when its Docker, does not answer.
    """
    dial = await _way(await connected())
    with tempfile.TemporaryDirectory(prefix="crossfade-") as directory:  # for its owner alone
        path = Path(directory) / "docker.sock"
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            # The end below is this task's, and not told on: up to Python 3.11 asyncio logs a cancelled one as an error.
            with contextlib.suppress(asyncio.CancelledError):
                await _serve(connected, reader, writer, dial=dial)

        server = await asyncio.start_unix_server(serve, path)
        try:
            yield partial(connect_to, f"unix://{path}")
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)


async def _way(connection: Connection) -> bool:
    """Tell whether Docker is to be dialled, not forwarded to. Raises NoDocker, for the reason of the first way."""
    failures: list[NoDocker] = []
    for dial in (False, True):
        async with docker_of(connection, dial=dial) as docker:
            try:
                await docker.containers()
            except NoDocker as error:
                failures.append(error)
            else:
                return dial
    raise failures[0]


async def _serve(
    connected: Callable[[], Awaitable[Connection]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    dial: bool,
) -> None:
    """Carry one connection until either end closes it; one that cannot be opened there is closed here."""
    try:
        async with asyncio.timeout(_OPEN_SECONDS):
            far_reader, far_writer = await _open(await connected(), dial=dial)
    except _BROKEN:
        writer.close()
        return
    there = asyncio.ensure_future(_copy(reader, far_writer))  # both are ended below
    back = asyncio.ensure_future(_copy(far_reader, writer))
    try:
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        there.cancel()
        back.cancel()
        far_writer.channel.abort()
        writer.close()
        await asyncio.wait({there, back})


async def _open(
    connection: Connection, *, dial: bool
) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
    if dial:
        process = await connection.create_process(DIAL, encoding=None)
        return process.stdout, process.stdin
    return await connection.open_unix_connection(SOCKET, encoding=None)


async def _copy(
    reader: asyncio.StreamReader | asyncssh.SSHReader[bytes],
    writer: asyncio.StreamWriter | asyncssh.SSHWriter[bytes],
) -> None:
    with contextlib.suppress(*_BROKEN):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
