"""Debian's own PostgreSQL as a throw-away cluster: the database that is not ours."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded.migrations import execute
from embedded.ports import free_port
from embedded.postgres_cluster import BOOTSTRAP_FILE
from tests.fakes.missing_parts import missing

_ROOT = Path("/usr/lib/postgresql")
_PLAIN = {"fsync": "off", "listen_addresses": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class DebianPostgres:
    """A running cluster that trusts whoever connects."""

    superuser: str
    directory: Path
    port: int

    def url(self, user: str | None = None) -> str:
        """Return the address of its database ``postgres``, over TCP."""
        return f"postgresql://{user or self.superuser}@127.0.0.1:{self.port}/postgres"


@contextlib.contextmanager
def debian_postgres(
    superuser: str = "postgres", settings: Mapping[str, str] | None = None
) -> Iterator[DebianPostgres]:
    """Run a cluster of the newest version that is installed; skips the test where there is none."""
    programs = sorted(_ROOT.glob("*/bin"))
    if not programs or shutil.which("runuser") is None:
        missing("Debian's PostgreSQL", "apt-get install -y postgresql")
    directory = Path(tempfile.mkdtemp(prefix="cf-debian-"))
    become = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if become:
        shutil.chown(directory, "postgres")
    data, port = directory / "data", free_port("127.0.0.1")

    def run(*command: str | Path) -> None:
        subprocess.run(
            [*become, *map(str, command)], check=True, capture_output=True, cwd=directory, timeout=60
        )

    try:
        run(programs[-1] / "initdb", "-D", data, "-A", "trust", "-U", superuser, "-E", "UTF8", "--no-sync")
        given = {**_PLAIN, **(settings or {})}
        options = " ".join(
            [f"-p {port} -k {directory}", *(f"-c {key}={value}" for key, value in given.items())]
        )
        run(programs[-1] / "pg_ctl", "-D", data, "-w", "-l", directory / "log", "-o", options, "start")
        try:
            yield DebianPostgres(superuser, directory, port)
        finally:
            run(programs[-1] / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory)


async def make_supabase(connection: Any) -> None:
    """Make the database what a Supabase project's is; its one option that only the embedded PostgreSQL has left out."""
    text = BOOTSTRAP_FILE.read_text("utf-8")
    if connection.get_server_version().major < 18:
        text = text.replace(" with (publish_generated_columns = stored)", "")
    async with connection.transaction():
        await execute(connection, BOOTSTRAP_FILE, text)
