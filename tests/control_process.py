"""The control service as a process of its own, over the embedded Supabase of the tests, and agents that it has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.installation import clean_environment
from tests.service_process import ServiceProcess


class ControlProcess(ServiceProcess):
    """On a machine that it calls ``this-host``."""

    def __init__(self, data_dir: Path, dsn: str, *options: str, **environment: str) -> None:
        super().__init__("control", data_dir, dsn, "--device", "this-host", *options, **environment)


class AgentProcess:
    """``crossfade agent`` as a process of its own; can be killed and started again with the same journal."""

    def __init__(
        self, directory: Path, name: str, control: str, token: str, offers: str, query: str | None = None
    ) -> None:
        self.name = name
        self._directory = directory
        self._control = control
        self._query = query
        self._token = token
        (directory / "agent.yaml").write_text(offers)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def log(self) -> Path:
        return self._directory / "agent.log"

    def start(self) -> None:
        """Start it; it registers by itself."""
        command = [
            *(sys.executable, "-m", "crossfade", "agent", "--name", self.name, "--control", self._control),
            *("--data-dir", str(self._directory / "data")),
            *(("--query", self._query) if self._query else ()),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stderr=log,
                cwd=self._directory,
                env=clean_environment(CROSSFADE_ACCESS_TOKEN=self._token),
            )

    def kill(self) -> None:
        """End it with kill -9."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """End it as a supervisor does; returns its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)
