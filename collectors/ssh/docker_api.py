"""The Docker API of another machine, through the SSH connection that is there already.

The daemon's socket is reached by SSH's own forwarding of Unix sockets (OpenSSH has it since 6.7), or, where that is
switched off, through ``docker system dial-stdio``: both are streams of bytes, over which httpcore speaks HTTP. The rights are
those of the user that logged in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import asyncssh
import httpcore
import orjson

from collectors.ssh.connection import Connection
from collectors.ssh.text import words

SOCKET = "/var/run/docker.sock"
DIAL = "exec docker system dial-stdio"
_PARALLEL = 4
"""Streams at once: a server allows ten sessions a connection, and the daemon should not feel it."""
_REQUEST_SECONDS = 5.0
_LARGEST_ANSWER = 8 << 20


class NoDocker(Exception):  # noqa: N818 - named for what it is
    """Nobody answers as Docker there, or not to this user; the message says why."""


class NotFound(Exception):  # noqa: N818 - see above
    """The container was removed meanwhile."""


class _Stream(httpcore.AsyncNetworkStream):
    """A channel of an SSH connection, as httpcore wants it."""

    def __init__(self, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout("no answer in time") from error
        except (OSError, asyncssh.Error) as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError as error:
            raise httpcore.WriteTimeout("nothing is taken") from error
        except (OSError, asyncssh.Error) as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        self._writer.channel.abort()

    def get_extra_info(self, info: str) -> Any:
        # "is_readable" asks whether an idle connection was closed; one of ours lives for one round of questions.
        return self._reader.at_eof() if info == "is_readable" else None


class _Forwarding(httpcore.AsyncNetworkBackend):
    """Opens streams to the daemon's socket."""

    def __init__(self, connection: Connection, *, dial: bool) -> None:
        self._connection = connection
        self._dial = dial

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - no socket of ours
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                if self._dial:
                    process = await self._connection.create_process(DIAL, encoding=None)
                    return _Stream(process.stdout, process.stdin)
                return _Stream(*await self._connection.open_unix_connection(path, encoding=None))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("no answer in time") from error
        except (OSError, asyncssh.Error) as error:
            raise httpcore.ConnectError(str(error)) from error

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Docker:
    """Questions to one daemon. ``docker_of`` makes one."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def containers(self) -> list[Any]:
        """Return the answer of ``GET /containers/json``. Raises NoDocker."""
        try:
            listed = await self._get("/containers/json?all=1")
        except NotFound as error:
            raise NoDocker("what answers there knows of no containers") from error
        if not isinstance(listed, list):
            raise NoDocker("it answers with something else than a list of containers")
        return listed

    async def inspect(self, container_id: str) -> Any:
        """Return what is known of one container. Raises NotFound, NoDocker."""
        return await self._get(f"/containers/{container_id}/json")

    async def stats(self, container_id: str) -> Any:
        """Return one container's counters, at once and without an earlier sample. Raises NotFound, NoDocker."""
        return await self._get(f"/containers/{container_id}/stats?stream=0&one-shot=1")

    async def _get(self, path: str) -> Any:
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), _REQUEST_SECONDS)
        try:
            async with self._pool.stream(
                "GET",
                f"http://docker{path}",
                headers={"Host": "docker"},
                extensions={"timeout": timeouts},
            ) as response:
                body = bytearray()
                async for chunk in response.aiter_stream():
                    body += chunk
                    if len(body) > _LARGEST_ANSWER:
                        raise NoDocker(f"an answer has more than {_LARGEST_ANSWER >> 20} MiB")
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise NoDocker(words(str(error)) or type(error).__name__) from error
        if response.status in {404, 409}:
            raise NotFound(path)
        try:
            answer = orjson.loads(body.replace(b"\\u0000", b""))  # NUL, which jsonb does not take
        except orjson.JSONDecodeError as error:
            raise NoDocker(f"it answers {path} with something else than JSON") from error
        if response.status != 200:  # noqa: PLR2004 - OK
            said = answer.get("message") if isinstance(answer, dict) else None
            raise NoDocker(f"it answers with status {response.status}: {words(said) or 'without a reason'}")
        return answer


@contextlib.asynccontextmanager
async def docker_of(connection: Connection, *, dial: bool = False) -> AsyncIterator[Docker]:
    """Give a way to ask a device's Docker for the length of the block; the first question says whether there is one."""
    async with httpcore.AsyncConnectionPool(
        uds=SOCKET,
        max_connections=_PARALLEL,
        network_backend=_Forwarding(connection, dial=dial),
    ) as pool:
        yield Docker(pool)
