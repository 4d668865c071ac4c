"""What the clients of each process see: a pair of files a process, replaced every two seconds.

``NAME.json`` says who is connected, who serves each, and what disturbed it: the rollout reads it. ``NAME.seen`` has the
counts and digests of what each was handed, which the comparison checks. A pair that is not renewed is of a process that
has ended. Processes on other machines send theirs to the query service, which keeps it here (`ReportStore`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import tempfile
import time
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

import orjson

from monitoring.seen import shared_digests
from monitoring.witness import BLOCK_SECONDS, Witness

EVERY_SECONDS = 2.0
STALE_SECONDS = 10.0
MAX_HANDED = 500
"""Of more clients of one process counts and digests are not reported."""
MAX_PROCESSES = 64
"""Of one user on other machines."""


class ClientReports:
    """The file of this process. ``run`` keeps it; whoever runs it ends it."""

    def __init__(
        self,
        directory: Path,
        *,
        every_seconds: float = EVERY_SECONDS,
        block_seconds: float = BLOCK_SECONDS,
    ) -> None:
        self._path = directory / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
        self._every_seconds = every_seconds
        self._block_seconds = block_seconds
        self._witnesses: set[Witness] = set()
        self._digest = shared_digests()

    def witness(self, client: str) -> Witness:
        """Return a new client's witness, reported until it is left out."""
        made = Witness(client, time.monotonic, block_seconds=self._block_seconds, digest=self._digest)
        self._witnesses.add(made)
        return made

    def leave(self, witness: Witness) -> None:
        """Report a client no more."""
        self._witnesses.discard(witness)

    async def run(self) -> NoReturn:
        """Write the file until cancelled, and remove it then."""
        try:
            while True:
                await asyncio.sleep(self._every_seconds)
                self.write()
        finally:
            for suffix in (".json", ".seen"):
                self._path.with_suffix(suffix).unlink(missing_ok=True)

    def write(self) -> None:
        """Write the files now. A place that cannot be written costs the clients nothing: then they are not counted."""
        _put(self._path, *made(self._witnesses))


def made(witnesses: Collection[Witness]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the clients of a process report: their figures, and what they were handed."""
    for witness in witnesses:
        witness.close_block()
    clients = {witness.client: witness.to_json() for witness in witnesses}
    handed = itertools.islice(witnesses, MAX_HANDED)
    return clients, {witness.client: witness.sees() for witness in handed}


class ReportStore:
    """Keeps the reports of processes on other machines; each has a name, and each owner so many at most."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, owner: str, process: str, clients: Mapping[str, Any], sees: Mapping[str, Any]) -> bool:
        """Keep one report in place of the process's last; False when the owner has too many processes."""
        whose = hashlib.sha256(owner.encode()).hexdigest()[:12]
        path = self._directory / f"elsewhere-{whose}-{process}.json"
        if not path.exists() and len([*self._directory.glob(f"elsewhere-{whose}-*.json")]) >= MAX_PROCESSES:
            return False
        _put(path, clients, sees)
        return True


def _put(path: Path, clients: Mapping[str, Any], sees: Mapping[str, Any]) -> None:
    at = time.time()
    for suffix, said in ((".json", clients), (".seen", sees)):
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
            with os.fdopen(handle, "wb") as file:
                file.write(orjson.dumps({"at": at, "clients": said}))
            Path(name).replace(path.with_suffix(suffix))


def read(directory: Path, *, now: float | None = None) -> Mapping[str, Mapping[str, Any]]:
    """Return the clients of each process that lives: file name -> client -> figures. Others' old files are removed."""
    return _read(directory, ".json", time.time() if now is None else now)


def read_seen(directory: Path, *, now: float | None = None) -> Mapping[str, Mapping[str, Any]]:
    """Return what the clients of each process that lives were handed: file name -> client -> subscription -> report."""
    return _read(directory, ".seen", time.time() if now is None else now)


def _read(directory: Path, suffix: str, moment: float) -> Mapping[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for path in directory.glob(f"*{suffix}"):
        try:
            report = orjson.loads(path.read_bytes())
            age, clients = moment - float(report["at"]), report["clients"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # replaced or removed in this moment, or of another version
        if -STALE_SECONDS <= age <= STALE_SECONDS and isinstance(clients, dict):
            found[path.name] = clients
        elif age > STALE_SECONDS:
            with contextlib.suppress(OSError):
                path.unlink()
    return found


def connected(directory: Path) -> frozenset[str]:
    """Return the ids of all clients that are connected now."""
    return frozenset(client for clients in read(directory).values() for client in clients)
