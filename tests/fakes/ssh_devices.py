"""Devices that are not there: asyncssh servers that answer our script as a machine would, or as none should.

A well one has a clock and counters of its own. What a device does can be changed while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import asyncssh

from monitoring.devices import Device, make

FIXTURES = Path(__file__).parent.parent / "fixtures" / "ssh"
_MARK = re.compile(rb"^cf_m='([^']+)'", re.MULTILINE)
_NAMES = re.compile(rb"^cf_mark '<([a-z-]+)'", re.MULTILINE)


class Habit(StrEnum):
    """What a device does."""

    WELL = "well"
    SILENT = "silent"
    """Takes connections and says nothing."""
    HANGING = "hanging"
    """Lets people in, and never answers."""
    SLOW = "slow"
    """Answers after most of the deadline."""
    LYING = "lying"
    """Answers garbage where figures should be."""
    RAVING = "raving"
    """Answers without an end."""
    CUTTING = "cutting"
    """Breaks the connection in the middle of an answer."""
    NO_SHELL = "no shell"
    """Says that it knows no such command."""


class _Server(asyncssh.SSHServer):
    def __init__(self, device: FakeDevice) -> None:
        self._device = device

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._device.connections.append(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._device.connections = [each for each in self._device.connections if not each.is_closed()]

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return self._device.password is not None

    def unix_connection_requested(self, dest_path: str) -> Any:
        return self._device.docker if self._device.containers else False

    def validate_password(self, username: str, password: str) -> bool:
        self._device.passwords.append(password)
        return password == self._device.password


class FakeDevice:
    """One device; `start` it, and `stop` it."""

    def __init__(self, directory: Path, habit: Habit = Habit.WELL, *, password: str | None = None) -> None:
        self.habit = habit
        self.password = password
        self.passwords: list[str] = []
        self.slow_seconds = 0.2
        self.port = 0
        self.asked = 0
        self.connections: list[asyncssh.SSHServerConnection] = []
        self.containers = 0
        """How many containers its Docker has; 0 is no Docker."""
        self.overrides: dict[str, str] = {}
        """Section -> what it says instead."""
        self._key_file = directory / "client"
        if not self._key_file.exists():
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(str(self._key_file))
            self._key_file.chmod(0o600)
            key.write_public_key(f"{self._key_file}.pub")
        self.new_host_key()
        self._booted = time.monotonic() - 1000.0
        self._server: Any = None

    def new_host_key(self) -> None:
        """Be set up anew, with another host key; takes effect with the next start."""
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")

    @property
    def host_key(self) -> str:
        """The public host key, as the registry has it."""
        return " ".join(self._host_key.export_public_key().decode().split()[:2])

    def boot(self) -> None:
        """Start again: uptime and counters begin anew."""
        self._booted = time.monotonic()

    async def start(self) -> None:
        """Listen; on the same port as before, if there was one."""
        if self.habit is Habit.SILENT:
            self._server = await asyncio.start_server(self._say_nothing, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]
            return
        self._server = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_factory=lambda: _Server(self),
            server_host_keys=[self._host_key],
            authorized_client_keys=f"{self._key_file}.pub",
            process_factory=self._answer,
            encoding=None,
        )
        self.port = self._server.get_port()

    async def _say_nothing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    async def stop(self) -> None:
        """Vanish: nothing listens, and every connection breaks."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for connection in self.connections:
                connection.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await server.wait_closed()

    async def _answer(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        with contextlib.suppress(asyncssh.Error, OSError, asyncio.CancelledError):
            await self._answered(process)

    async def _answered(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        if process.command and "sh -s" not in process.command:
            process.stderr.write(b"sh: docker: not found\n")
            process.exit(127)
            return
        script = await process.stdin.read()
        self.asked += 1
        match self.habit:
            case Habit.HANGING:
                await asyncio.Event().wait()
            case Habit.NO_SHELL:
                process.stdout.write(b"Unknown command: exec sh -s\n")
                process.exit(1)
                return
            case Habit.RAVING:
                while True:
                    process.stdout.write(b"x" * 65536)
                    await process.stdout.drain()
            case Habit.SLOW:
                await asyncio.sleep(self.slow_seconds)
        answer = self._output(script)
        if self.habit is Habit.CUTTING:
            process.stdout.write(answer[: len(answer) // 2])
            await process.stdout.drain()
            process.get_extra_info("connection").abort()
            return
        process.stdout.write(answer)
        process.exit(0)

    async def docker(self, reader: Any, writer: Any) -> None:
        """Answer as a Docker daemon, one request after the other."""
        with contextlib.suppress(asyncssh.Error, OSError, asyncio.IncompleteReadError):
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                body = json.dumps(self._docker_answer(request.split()[1].decode())).encode()
                if self.habit is Habit.CUTTING and b"/stats" in request:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    def _docker_answer(self, path: str) -> Any:
        up = int((time.monotonic() - self._booted) * 1e9)
        if path.startswith("/containers/json"):
            return [
                {
                    "Id": f"{number:012x}{0:052x}",
                    "Names": [f"/app-{number}"],
                    "Image": "app",
                    "State": "running",
                    "Status": "Up",
                }
                for number in range(self.containers)
            ]
        if path.endswith("/json"):
            return {"RestartCount": 0, "State": {"StartedAt": "2026-11-26T00:00:00Z"}}
        return {
            "cpu_stats": {
                "cpu_usage": {"total_usage": up // 10},
                "system_cpu_usage": up * 2,
                "online_cpus": 2,
            },
            "memory_stats": {"usage": 64 << 20, "limit": 512 << 20, "stats": {"inactive_file": 1 << 20}},
            "networks": {"eth0": {"rx_bytes": up // 1000, "tx_bytes": up // 2000}},
        }

    def _output(self, script: bytes) -> bytes:
        mark = _MARK.search(script)
        assert mark is not None, "that is not our script"
        parts = []
        for name in _NAMES.findall(script):
            status, text = self._section(name.decode())
            parts.append(b"\n%s<%s\n%s\n%s>%d\n" % (mark[1], name, text.encode(), mark[1], status))
        return b"".join(parts) + b"\n%s.\n" % mark[1]

    def _section(self, name: str) -> tuple[int, str]:
        if name in self.overrides:
            return 0, self.overrides[name]
        if self.habit is Habit.LYING:
            return 0, f"{name}: -1 nan 0x41 \x00\x1b[31m \u0661\u0662 {{}} " + "9" * 40
        up = time.monotonic() - self._booted
        sections: dict[str, Callable[[], str]] = {
            "uptime": lambda: f"{up:.2f} 0.00\n",
            "cpu": lambda: (
                f"cpu  {int(up * 30)} 0 {int(up * 20)} {int(up * 150)} 0 0 0 0 0 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\n"
            ),
            "networks": lambda: f"  eth0: {int(up * 1000)} 1 0 0 0 0 0 0 {int(up * 500)} 1 0 0 0 0 0 0\n",
            "disk-io": lambda: f"   8 0 sda 1 0 {int(up * 2)} 1 1 0 {int(up * 4)} 1 0 {int(up * 100)} 1\n",
            "smart": (FIXTURES / "smartctl-ata.json").read_text,
        }
        if name in sections:
            return 0, sections[name]()
        return _recorded(name)

    def device(self, name: str, **fields: Any) -> Device:
        """Return it as a device of the registry, with its host key stored unless another is given."""
        key = fields.pop("host_key", self.host_key)
        way = (
            {"password_from": fields["password_from"]}
            if "password_from" in fields
            else {"key_file": str(self._key_file)}
        )
        return make(
            {"name": name, "host": "127.0.0.1", "port": self.port, "user": "monitor", **way, **fields},
            host_key=key,
        )


_SECTION = re.compile(r"@cf-recorded<([a-z-]+)\n(.*?)\n@cf-recorded>(\d+)", re.DOTALL)
_RECORDED: dict[str, tuple[int, str]] = {}


def _recorded(name: str) -> tuple[int, str]:
    if not _RECORDED:
        text = (FIXTURES / "debian-12.txt").read_text()
        _RECORDED.update({found[0]: (int(found[2]), found[1]) for found in _SECTION.findall(text)})
    return _RECORDED.get(name, (127, ""))
