"""Fixtures for every test: whatever a test starts is ended, and what a machine lacks is said."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from embedded.keys import Keys, load_or_create, sign
from embedded.postgres import Postgres
from tests.control_process import ControlProcess
from tests.e2e.installation import Installation
from tests.migrated_postgres import migrated_postgres
from tests.query_process import QueryProcess

ROOT = Path(__file__).parent.parent

# A shared machine is now and then slow; how long an example takes is not what these tests are about.
# Whoever works on Crossfade searches further with each run; CI judges a change by the same examples each time.
hypothesis.settings.register_profile("crossfade", deadline=None)
hypothesis.settings.register_profile(
    "crossfade-ci", deadline=None, derandomize=True, database=None, print_blob=True
)
hypothesis.settings.load_profile("crossfade-ci" if os.environ.get("CI") else "crossfade")


@dataclass
class EmbeddedSupabase:
    """A running embedded Supabase with the migrations applied."""

    postgres: Postgres
    keys: Keys
    url: str
    gateway: subprocess.Popen[str]

    def token(self, role: str = "viewer", seconds: float = 3600) -> str:
        """Return the access token of a signed-in user with a role in Crossfade."""
        claims = {
            "role": "authenticated",
            "sub": "00000000-0000-4000-8000-000000000001",
            "exp": int(time.time() + seconds),
            "app_metadata": {"crossfade_role": role},
        }
        return sign(claims, self.keys.jwt_secret)


def start_gateway(postgres: Postgres, port: int = 0) -> tuple[subprocess.Popen[str], str]:
    """Start the Realtime and REST endpoint as a process of its own; returns it and its URL."""
    command = [
        *(sys.executable, "-m", "embedded.gateway", "--port", str(port)),
        *("--keys", str(postgres.data_dir / "supabase")),
        *("--pg-socket-dir", str(postgres.socket_dir), "--pg-port", str(postgres.port)),
    ]
    with (postgres.data_dir / "gateway.log").open("a") as log:
        gateway = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
    assert gateway.stdout is not None
    line = gateway.stdout.readline()
    assert line.startswith("listening on "), f"the gateway did not start: {line!r}"
    return gateway, line.removeprefix("listening on ").strip()


@pytest.fixture(scope="session")
def embedded_supabase(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedSupabase]:
    """One embedded Supabase for a whole test process; tests keep apart by the names of their devices."""
    with migrated_postgres(tmp_path_factory.mktemp("supabase")) as postgres:
        gateway, url = start_gateway(postgres)
        try:
            yield EmbeddedSupabase(postgres, load_or_create(postgres.data_dir / "supabase"), url, gateway)
        finally:
            gateway.terminate()
            gateway.wait(10)
            if gateway.stdout is not None:
                gateway.stdout.close()


@pytest.fixture(scope="session")
def query_process(
    embedded_supabase: EmbeddedSupabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[QueryProcess]:
    """The query service over the embedded Supabase; whoever ends it starts it again."""
    flags = tmp_path_factory.mktemp("flags") / "flags.yaml"
    flags.write_text((ROOT / "flags.yaml").read_text())
    postgres = embedded_supabase.postgres
    started = QueryProcess(postgres.data_dir, postgres.dsn("authenticator"), flags)
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def control_process(embedded_supabase: EmbeddedSupabase) -> Iterator[ControlProcess]:
    """The control service over the embedded Supabase; whoever ends it starts it again."""
    postgres = embedded_supabase.postgres
    started = ControlProcess(postgres.data_dir, postgres.dsn("authenticator"))
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with everything but the dashboard and Docker."""
    made = Installation(tmp_path_factory.mktemp("installation"))
    try:
        made.start("--without", "dashboard", "--no-docker", "--with", "control")
        yield made
    finally:
        made.remove()
