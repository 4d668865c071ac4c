"""Exports: files with what the server retains, written aside, served by it, and bounded in number."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import orjson

from legacy_ws.errors import ExportFailed
from legacy_ws.protocol.dialect import Exported
from monitoring.events import Event, to_json

PATH = "/exports/"
_KEPT = 20
_NAME = re.compile(r"events-[0-9TZ]+-[0-9a-f]{32}\.jsonl\Z")


class ExportDesk:
    """Writes exports into a directory and reads them back. A name cannot be guessed: it has 128 random bits."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._one_at_a_time = asyncio.Lock()

    async def write(self, events: Sequence[Event], at: datetime) -> Exported:
        """Write events, one JSON object a line, and return where they are served; raises ExportFailed."""
        if self._directory is None:
            raise ExportFailed("this server keeps no exports; start it with --export-dir")
        name = f"events-{at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(16)}.jsonl"
        async with self._one_at_a_time:
            try:
                size = await asyncio.to_thread(_write, self._directory, name, events)
            except OSError as error:
                raise ExportFailed(f"the file cannot be written: {error.strerror or error}") from error
        return Exported(name, PATH + name, len(events), size)

    async def read(self, path: str) -> bytes | None:
        """Return the file that is served at a path; None when there is none."""
        name = path.removeprefix(PATH)
        if self._directory is None or not _NAME.match(name):
            return None
        try:
            return await asyncio.to_thread((self._directory / name).read_bytes)
        except OSError:
            return None


def _write(directory: Path, name: str, events: Sequence[Event]) -> int:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        for event in events:
            file.write(orjson.dumps(to_json(event), option=orjson.OPT_APPEND_NEWLINE))
        size = file.tell()
    files = sorted(one for one in directory.iterdir() if _NAME.match(one.name))
    for old in files[:-_KEPT]:
        old.unlink(missing_ok=True)
    return size
