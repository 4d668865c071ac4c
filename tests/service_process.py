"""A service of ours as a process of its own, over the embedded Supabase of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from embedded.ports import free_port
from tests.e2e.installation import clean_environment

ROOT = Path(__file__).parent.parent


class ServiceProcess:
    """Started ready; can be killed and started again on the same port."""

    def __init__(self, part: str, data_dir: Path, dsn: str, *options: str, **environment: str) -> None:
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = data_dir
        self.log = data_dir / f"{part}-{self.port}.log"
        self._part = part
        self._options = options
        self._environment = clean_environment(DATABASE_URL=dsn, **environment)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [
            *(sys.executable, "-m", f"crossfade.{self._part}", "--data-dir", str(self.data_dir)),
            *("--port", str(self.port), *self._options),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, cwd=ROOT, env=self._environment)
        deadline = time.monotonic() + 120
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"{self._part} does not listen"
            try:
                assert httpx.get(f"{self.url}/health", timeout=5).status_code == 200
            except httpx.TransportError:
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """End it with kill -9."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """End it as its supervisor does; returns its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)
