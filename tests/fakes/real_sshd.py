"""A real sshd for one test: on a free port of the loopback, with keys and a configuration of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from monitoring.devices import Device, make
from tests.fakes.missing_parts import missing


class RealSshd:
    """Lets the user of the tests log in with one key; ended by whoever made it."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") or ""
        if not self._program or shutil.which("ssh-keygen") is None:
            missing("sshd", "apt-get install openssh-server")
        self._directory = directory
        self._options = options
        self.user = getpass.getuser()
        self.key_file = directory / "user"
        self.make_key(self.key_file)
        self.new_host_key()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def make_key(self, path: Path, kind: str = "ed25519") -> None:
        path.unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path)], check=True, timeout=30
        )

    def new_host_key(self, kind: str = "ed25519") -> None:
        """Make another host key; takes effect with the next start."""
        self.make_key(self._directory / "host", kind)

    @property
    def fingerprint(self) -> str:
        """The host key's, as ssh-keygen has it."""
        shown = subprocess.run(
            ["ssh-keygen", "-lf", str(self._directory / "host.pub")],
            check=True,
            capture_output=True,
            text=True,
        )
        return shown.stdout.split()[1]

    def start(self) -> None:
        """Start it and wait until it listens."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it separates privileges
        (self._directory / "authorized").write_text((self._directory / "user.pub").read_text())
        config = self._directory / "sshd_config"
        lines = (
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self._directory / 'host'}",
            f"AuthorizedKeysFile {self._directory / 'authorized'}", f"PidFile {self._directory / 'pid'}",
            "StrictModes no", "UsePAM no", "PasswordAuthentication no", "PermitRootLogin yes", "MaxStartups 200",
            *self._options,
        )  # fmt: skip
        config.write_text("\n".join(lines) + "\n")
        with (self._directory / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-D", "-e", "-f", str(config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, self.log
                assert time.monotonic() < deadline, f"sshd does not listen: {self.log}"
                time.sleep(0.02)
            else:
                return

    @property
    def log(self) -> str:
        return (self._directory / "sshd.log").read_text()

    def stop(self) -> None:
        """End it, and every connection with it, as a machine that goes down does."""
        if self._process is None:
            return
        serving = self._serving()
        self._process.terminate()
        self._process.wait(10)
        _kill(serving)
        self._process = None

    def cut(self) -> int:
        """Break every connection, and go on listening; returns how many processes served them."""
        serving = self._serving()
        _kill(serving)
        return len(serving)

    def _serving(self) -> list[int]:
        """Return the processes that serve connections; some have one more of their own."""
        if self._process is None:
            return []
        try:
            return [each.pid for each in psutil.Process(self._process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @property
    def host_key(self) -> str:
        """The public host key, as the registry has it."""
        return " ".join((self._directory / "host.pub").read_text().split()[:2])

    def device(self, name: str = "real", **fields: Any) -> Device:
        """Return it as a device of the registry."""
        given = {"host": "127.0.0.1", "port": self.port, "user": self.user, "key_file": str(self.key_file)}
        host_key = fields.pop("host_key", None)
        return make({"name": name, **given, **fields}, host_key=host_key)


def _kill(processes: Iterable[int]) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
