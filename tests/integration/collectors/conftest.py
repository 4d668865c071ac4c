"""A real Docker daemon with an image that needs no registry, and a way to it that can be cut."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

from collectors.docker_connection import connect_to, from_environment, reason_of


def _missing(what: str, command: str) -> None:
    message = f"{what}; {command}"
    if os.environ.get("CROSSFADE_REQUIRE_ALL") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="module")
def daemon() -> Iterator[docker.APIClient]:
    try:
        client = from_environment()
    except (DockerException, OSError) as error:
        _missing(
            f"no Docker daemon answers: {reason_of(error)}",
            "apt-get install -y docker.io && dockerd --storage-driver=vfs &",
        )
        raise
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(daemon: docker.APIClient) -> Iterator[str]:
    """An image of busybox alone, from this machine."""
    busybox = shutil.which("busybox")
    if busybox is None or b"statically linked" not in _kind(busybox):
        _missing("no static busybox to make an image of", "apt-get install -y busybox-static")
        raise AssertionError
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(os.path.realpath(busybox), "bin/busybox")
        for name in ("sh", "sleep", "true", "cat"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    name = f"crossfade-test-{uuid.uuid4().hex[:8]}"
    daemon.import_image_from_data(packed.getvalue(), repository=name)
    yield name
    daemon.remove_image(name, force=True)


def _kind(program: str) -> bytes:
    """Say what ``file`` would: a dynamic program names its interpreter."""
    content = Path(program).read_bytes()
    return (
        b"dynamic"
        if b"/ld-linux" in content[:4096] or b"/ld-musl" in content[:4096]
        else b"statically linked"
    )


class Containers:
    """Containers of one test, removed at its end."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.made: list[str] = []

    def run(self, *command: str, options: tuple[str, ...] = (), name: str = "") -> str:
        name = name or f"cf-{uuid.uuid4().hex[:8]}"
        self.made.append(name)
        self.command("run", "-d", "--name", name, "--network", "none", *options, self.image, *command)
        return name

    def remove_all(self) -> None:
        for name in self.made:
            with suppress(subprocess.CalledProcessError):
                self.command("rm", "-f", name)

    def command(self, *arguments: str) -> None:
        subprocess.run(["docker", *arguments], check=True, capture_output=True, timeout=60)

    def logs(self, name: str) -> list[str]:
        """Return what Docker itself has of a container's log, stdout first."""
        said = subprocess.run(
            ["docker", "logs", name], check=True, capture_output=True, text=True, timeout=60
        )
        return [*said.stdout.splitlines(), *said.stderr.splitlines()]


@pytest.fixture
def containers(image: str) -> Iterator[Containers]:
    made = Containers(image)
    yield made
    made.remove_all()


class Way:
    """A socket of our own in front of the daemon's, to be cut and mended as a daemon that stops and starts."""

    def __init__(self, path: Path, target: str) -> None:
        self.path = path
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.flows = asyncio.Event()
        """Cleared, nothing comes through and nothing ends, as with a daemon that hangs."""
        self.flows.set()

    def connect(self) -> docker.APIClient:
        return connect_to(f"unix://{self.path}")

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, far_writer))
                group.create_task(self._copy(far_reader, writer))
        finally:
            for one in (writer, far_writer):
                one.close()
                self._writers.discard(one)
            self._tasks.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self.flows.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def cut(self, *, close: bool) -> None:
        """End every connection; with ``close`` refuse new ones, as a stopped daemon does."""
        if close and self._server is not None:
            self._server.close()
            self.path.unlink(missing_ok=True)
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)


@pytest.fixture
async def way(daemon: docker.APIClient, tmp_path: Path) -> AsyncIterator[Way]:
    target = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not target.startswith("unix://"):
        pytest.skip(f"the daemon is at {target}, not at a local socket")
    opened = Way(tmp_path / "d.sock", target.removeprefix("unix://"))
    await opened.open()
    yield opened
    await opened.cut(close=True)
