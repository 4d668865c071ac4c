"""An installation of Crossfade, driven through the installed command and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

CROSSFADE = str(Path(sys.executable).with_name("crossfade"))
ROOT = Path(__file__).parent.parent.parent


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without anybody's settings for Crossfade."""
    ours = ("CROSSFADE_", "SUPABASE_", "DATABASE_URL")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200", **more}


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Poll a condition; fails with its name when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


@dataclass
class Installation:
    """A data directory with `crossfade up` running on it, on free ports."""

    directory: Path
    environment: dict[str, str] = field(default_factory=clean_environment)
    process: subprocess.Popen[str] | None = None

    def start(self, *options: str, seconds: float = 120) -> None:
        """Run `crossfade up` and wait until `crossfade status` says that all is healthy."""
        ports = [
            word
            for part in ("supabase", "database", "query", "control", "legacy", "dashboard")
            for word in (f"--port-{part}", "0")
        ]
        with (self.directory / "up.log").open("w") as log:
            self.process = subprocess.Popen(
                [CROSSFADE, "up", "--interval", "0.5", "--device", "e2e", *ports, *options],
                cwd=self.directory, env=self.environment, stdout=log, stderr=log, text=True,
            )  # fmt: skip
        wait_until("crossfade up is healthy", self.healthy, seconds)

    def healthy(self) -> bool:
        """Ask `crossfade status`."""
        assert self.process is not None
        assert self.process.poll() is None, f"crossfade up ended: {self.log}"
        return self.run("status").returncode == 0

    @property
    def log(self) -> str:
        """What `crossfade up` has said."""
        return (self.directory / "up.log").read_text()

    def run(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [CROSSFADE, *words], cwd=self.directory, env=self.environment, timeout=seconds,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Run a command in the background; it may print a mebibyte before somebody reads it."""
        return subprocess.Popen(
            [CROSSFADE, *words], cwd=self.directory, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pipesize=1 << 20,
        )  # fmt: skip

    def part(self, name: str) -> dict[str, Any]:
        """Return the supervisor's state of a part."""
        state = json.loads((self.directory / ".crossfade/run/state.json").read_text())
        found: dict[str, Any] = next(part for part in state["parts"] if part["name"] == name)
        return found

    def kill(self, name: str) -> None:
        """Kill -9 a part, and wait until it is back and everything is healthy."""
        before = self.part(name)["pid"]
        os.kill(before, signal.SIGKILL)
        wait_until(f"{name} is back", lambda: self.part(name)["pid"] not in {None, before})
        wait_until(f"all is healthy after kill -9 of {name}", self.healthy, 60)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End `crossfade up`; returns its exit code. Fails when it leaves a process behind."""
        assert self.process is not None
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        code = self.process.wait(40)
        _, alive = psutil.wait_procs(family, timeout=5)
        assert not alive, f"left behind: {alive}"
        return code

    def remove(self) -> None:
        """End what runs, and remove the database that root keeps outside of the data directory."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        elsewhere = self.directory / ".crossfade/supabase/location.json"
        if elsewhere.exists():
            shutil.rmtree(json.loads(elsewhere.read_text())["cluster"])


def finish(process: subprocess.Popen[str], seconds: float = 60.0) -> tuple[str, str]:
    """Wait for the end of a process; return the rest of what it writes.

    Unlike ``communicate``, which reads past what ``readline`` has read ahead and so loses it.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    with process, ThreadPoolExecutor(2) as pool:
        rest = [pool.submit(each.read) for each in (process.stdout, process.stderr)]
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        out, err = (each.result() for each in rest)
    return out, err


def events(output: str) -> list[dict[str, Any]]:
    """Read what `crossfade watch` printed."""
    return [json.loads(line) for line in output.splitlines()]
