"""The data directory: where everything of one installation lives, and the errors of a directory that cannot be used.

::

    supabase/          keys, the cluster            legacy/link.token   the collector's secret for the legacy server
                                                    legacy/stream.token, legacy/exports/
    spool.db           the owner's spool            query-spool.db      what applications pushed
    alerts.db          state of the alerts        alerts-spool.db    alerts on their way
    bridge.db          what another's server told  control-spool.db    what happens to commands
    agents/NAME/       an agent's journal of what it has under way
    rollout/           journal.jsonl, and who changed the flags
    run/               locks, state.json, parity.json, rollout.json, good flags, what clients see
    logs/<part>.log    what each part said
"""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from crossfade.errors import DataDirError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT = Path(".crossfade")
"""The data directory of commands that name none."""

_ROOM_BYTES = 1 << 20
"""What has to be free for a start to make sense."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """Names of everything below one data directory; ``root`` is absolute."""

    root: Path

    @classmethod
    def of(cls, path: Path) -> DataDir:
        """Return the data directory at a path, made absolute; nothing is created."""
        return cls(path.expanduser().absolute())

    @property
    def option(self) -> str:
        """What a command line needs to mean this directory, with a space before it; empty for the default one."""
        return "" if self == DataDir.of(DEFAULT) else f" --data-dir {shlex.quote(str(self.root))}"

    @property
    def supabase(self) -> Path:
        """Keys and cluster of the embedded Supabase."""
        return self.root / "supabase"

    @property
    def cluster(self) -> Path:
        """Where the embedded PostgreSQL keeps its data (it may put it elsewhere, and says where)."""
        return self.supabase / "pgdata"

    @property
    def keys(self) -> Path:
        """Keys of the embedded Supabase, for its owner only."""
        return self.supabase / "keys.json"

    @property
    def spool(self) -> Path:
        """The owner's spool."""
        return self.root / "spool.db"

    @property
    def query_spool(self) -> Path:
        """The spool of what applications pushed to the query service."""
        return self.root / "query-spool.db"

    @property
    def control_spool(self) -> Path:
        """The spool of what happens to commands."""
        return self.root / "control-spool.db"

    @property
    def agents(self) -> Path:
        """The journals of agents that run here: a directory each."""
        return self.root / "agents"

    @property
    def bridge_spool(self) -> Path:
        """The spool of what another's server tells."""
        return self.root / "bridge.db"

    @property
    def bridge(self) -> Path:
        """What the bridge says of itself."""
        return self.run / "bridge.json"

    @property
    def link_token(self) -> Path:
        """The secret of the collector's link to the legacy server."""
        return self.root / "legacy" / "link.token"

    @property
    def stream_token(self) -> Path:
        """The bearer token of the legacy server's ``/ws/stream``."""
        return self.root / "legacy" / "stream.token"

    @property
    def exports(self) -> Path:
        """Where the legacy server writes its exports."""
        return self.root / "legacy" / "exports"

    @property
    def run(self) -> Path:
        """Locks and state of what runs now."""
        return self.root / "run"

    @property
    def lock(self) -> Path:
        """The file that the running supervisor has locked; holds its pid."""
        return self.run / "up.lock"

    @property
    def state(self) -> Path:
        """The supervisor's state."""
        return self.run / "state.json"

    @property
    def parity(self) -> Path:
        """The live comparison's newest result."""
        return self.run / "parity.json"

    @property
    def parity_state(self) -> Path:
        """Where the live comparison stood, and what it had learnt: it goes on there after a restart."""
        return self.root / "validation" / "continuous.json"

    @property
    def validation_runs(self) -> Path:
        """The reports of comparisons: one JSON file a run."""
        return self.root / "validation" / "runs"

    @property
    def moves(self) -> Path:
        """The record of moves: one JSON line for each decision."""
        return self.run / "moves.jsonl"

    @property
    def checks(self) -> Path:
        """What is checked, when the settings name no other file."""
        return self.root / "checks.yaml"

    @property
    def good_checks(self) -> Path:
        """The last good text of the file of checks."""
        return self.run / "checks.good.yaml"

    @property
    def conditions(self) -> Path:
        """What is known of the status of devices and checks."""
        return self.run / "conditions.json"

    @property
    def rollout(self) -> Path:
        """What the rollout controller says of itself."""
        return self.run / "rollout.json"

    @property
    def rollout_journal(self) -> Path:
        """The journal of the rollout: how far clients may go."""
        return self.root / "rollout" / "journal.jsonl"

    @property
    def rollout_checkpoint(self) -> Path:
        """What the controller has seen since its last decision."""
        return self.root / "rollout" / "checkpoint.json"

    @property
    def flag_audit(self) -> Path:
        """Who changed the flags: one JSON line for each change."""
        return self.root / "rollout" / "flags.jsonl"

    @property
    def client_reports(self) -> Path:
        """What the clients of each process see: one file a process."""
        return self.run / "clients"

    @property
    def alerts_store(self) -> Path:
        """What is pending, told and silenced, and where in the stream that was."""
        return self.root / "alerts.db"

    @property
    def alerts_spool(self) -> Path:
        """The spool of alerts."""
        return self.root / "alerts-spool.db"

    @property
    def alerts_status(self) -> Path:
        """What the alerting process says of itself."""
        return self.run / "alerts.json"

    def good_alerts(self, rules: Path) -> Path:
        """Return where the last good text of a rule file is kept."""
        return self.run / f"alerts.good.{hashlib.sha256(os.fsencode(rules)).hexdigest()[:12]}.yaml"

    def good_flags(self, flags: Path) -> Path:
        """Return where the last good text of a flag file is kept; one each, since commands may name another file."""
        return self.run / f"flags.good.{hashlib.sha256(os.fsencode(flags)).hexdigest()[:12]}.yaml"

    @property
    def client_id(self) -> Path:
        """The stable client id of commands of this directory."""
        return self.root / "client.id"

    @property
    def logs(self) -> Path:
        """One log file per part."""
        return self.root / "logs"

    def log(self, part: str) -> Path:
        """Return a part's log file."""
        return self.logs / f"{part}.log"

    def create(self) -> None:
        """Make the directories that are missing, for their owner only, and prove that they can be written.

        Raises DataDirError. Directories that exist, and every parent, keep their permissions.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for directory in (
                self.supabase,
                self.run,
                self.logs,
                self.link_token.parent,
                self.rollout_journal.parent,
                self.client_reports,
            ):
                directory.mkdir(mode=0o700, exist_ok=True)
            # A file of some size shows a full disk and a read-only mount now, not in the middle of the work.
            with tempfile.TemporaryFile(dir=self.run) as probe:
                probe.write(b"\0" * _ROOM_BYTES)
                probe.flush()
        except OSError as error:
            raise unusable(self.root, error) from error


def unusable(path: Path, error: OSError) -> DataDirError:
    """Return the error that says what is wrong with a data directory, and what to do."""
    other = "choose another with --data-dir"
    table = {
        errno.EACCES: ("no permission to write", f"run as its owner or {other}"),
        errno.EPERM: ("no permission to write", f"run as its owner or {other}"),
        errno.EROFS: ("the file system is read-only", other),
        errno.ENOSPC: ("the disk is full", f"free some space or {other}"),
        errno.EDQUOT: ("the disk quota is used up", f"free some space or {other}"),
        errno.ENOTDIR: ("something on the way to it is a file", other),
        errno.EEXIST: ("it, or something in it that should be a directory, is a file", other),
        errno.ENAMETOOLONG: ("the name is too long", other),
    }
    reason, hint = table.get(error.errno or 0, (error.strerror or str(error), other))
    return DataDirError(path, reason, hint)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step, so that a reader sees the old or the new one. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None when there is none that can be read."""
    try:
        value = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
