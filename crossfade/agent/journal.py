"""What the agent has begun and how it ended, on its disk: one small file a command, until the service has been told.

A file is written before the command is started, so that an agent that was killed knows at its next start what it had under
way; and once more before its end is reported, so that an end that could not be reported yet is not lost.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from crossfade.agent.running import Ended
from crossfade.errors import CrossfadeError
from monitoring.commands import CommandState


@dataclass(frozen=True, slots=True)
class Entry:
    """One command of the journal; ``ended`` is None when the agent was killed while it ran."""

    command: UUID
    instance: UUID
    ended: Ended | None


class JournalUnusable(CrossfadeError):  # noqa: N818 - named for what it is
    """The journal cannot be written, so nothing may be begun."""


class Journal:
    """The journal of one agent, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def begin(self, command: UUID, instance: UUID) -> None:
        """Write down that a command is about to be started; raises JournalUnusable."""
        self._write(command, {"instance": str(instance)})

    def end(self, command: UUID, instance: UUID, ended: Ended) -> None:
        """Write down how a command ended; raises JournalUnusable."""
        told = {
            "state": str(ended.state),
            "message": ended.message,
            "exit_code": ended.exit_code,
            "output": ended.output,
        }
        self._write(command, {"instance": str(instance), "ended": told})

    def forget(self, command: UUID) -> None:
        """Remove a command whose end the service knows."""
        with contextlib.suppress(OSError):
            self._path(command).unlink()

    def entries(self) -> Iterator[Entry]:
        """Return what was left, the oldest first; what cannot be read is passed over."""
        for path in sorted(self._directory.glob("*.json"), key=lambda each: each.stat().st_mtime):
            try:
                told: dict[str, Any] = orjson.loads(path.read_bytes())
                ended = told.get("ended")
                yield Entry(
                    UUID(path.stem),
                    UUID(told["instance"]),
                    None
                    if ended is None
                    else Ended(
                        CommandState(ended["state"]), ended["message"], ended["exit_code"], ended["output"]
                    ),
                )
            except (OSError, ValueError, KeyError, TypeError):
                continue

    def _path(self, command: UUID) -> Path:
        return self._directory / f"{command}.json"

    def _write(self, command: UUID, told: dict[str, Any]) -> None:
        path = self._path(command)
        draft = path.with_suffix(".new")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(orjson.dumps(told))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise JournalUnusable(
                f"the agent's journal in {self._directory} cannot be written: {error.strerror or error}; nothing is begun"
            ) from error
