"""Where a cluster and its unix socket live.

Both are below ``<data_dir>/supabase`` unless that cannot be: as root, PostgreSQL's user may not be able to reach the
data directory, and a unix socket's path is limited to 107 bytes. What is elsewhere is noted in
``<data_dir>/supabase/location.json``, so that every process, now and after a restart, finds the same place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedded.errors import DataDirectoryUnusable
from embedded.postgres_user import reachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedded.postgres_user import SystemUser

SYSTEM_DIR = Path("/var/lib/crossfade")
SYSTEM_CACHE_DIR = Path("/var/cache/crossfade")
NOTE_FILE = "location.json"
ORIGIN_FILE = "origin.json"
_SOCKET_PATH_BYTES = 107  # sun_path of Linux without its final zero byte


@dataclass(frozen=True, slots=True)
class Location:
    """The directory that holds ``pgdata``, and the directory of the unix socket."""

    root: Path
    socket_dir: Path

    @property
    def pgdata(self) -> Path:
        """PostgreSQL's data directory."""
        return self.root / "pgdata"


def locate(data_dir: Path, port: int, user: SystemUser | None, system_dir: Path = SYSTEM_DIR) -> Location:
    """Return where the cluster of ``data_dir`` is, or is to be made. Changes nothing. Raises DataDirectoryUnusable."""
    home = data_dir / "supabase"
    noted = _read_note(home / NOTE_FILE)
    if noted is not None:
        root = Path(noted.get("cluster") or home)
        socket_dir = Path(noted.get("socket_dir") or root / "socket")
        if fits(socket_dir, port):
            return Location(root, socket_dir)
        return Location(root, _short_socket_dir(root, user))
    if user is None or _exists(home / "pgdata") or reachable(home, user):
        root = home  # as root, an existing cluster of another user is run as that user
    else:
        # random, so that a data directory made anew at the same path does not find the old one's tables
        digest = hashlib.sha256(f"{home}{secrets.token_hex(16)}".encode()).hexdigest()
        root = system_dir / "clusters" / digest[:16]
    socket_dir = root / "socket"
    return Location(root, socket_dir if fits(socket_dir, port) else _short_socket_dir(root, user))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def fits(socket_dir: Path, port: int) -> bool:
    """Whether a socket in the directory has a path the kernel takes, and that a connection string can carry."""
    path = os.fsencode(socket_dir / f".s.PGSQL.{port}")
    return len(path) <= _SOCKET_PATH_BYTES and b"," not in path


def _short_socket_dir(root: Path, user: SystemUser | None) -> Path:
    digest = hashlib.sha256(str(root).encode()).hexdigest()[:12]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if user is None and runtime and Path(runtime).is_dir():
        return Path(runtime) / f"crossfade-{digest}"
    return Path(tempfile.gettempdir()) / f"crossfade-{digest}"


def _read_note(path: Path) -> Mapping[str, str] | None:
    try:
        note = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DataDirectoryUnusable(path, f"it cannot be read ({error})", "Restore it") from error
    if not isinstance(note, dict):
        raise DataDirectoryUnusable(path, "it is not a JSON object", "Restore it")
    return {str(key): value for key, value in note.items() if isinstance(value, str)}


def settle(location: Location, data_dir: Path, user: SystemUser | None, *, durable: bool) -> None:
    """Make the directories, and write down what is not below ``data_dir``. Idempotent. Raises OSError and PostgresError."""
    home = data_dir / "supabase"
    home.mkdir(parents=True, exist_ok=True)
    location.root.mkdir(mode=0o755, parents=True, exist_ok=True)
    elsewhere = {}
    if location.root != home:
        elsewhere["cluster"] = str(location.root)
        _write_json(location.root / ORIGIN_FILE, {"data_dir": str(data_dir), "durable": str(durable)})
    if location.socket_dir != location.root / "socket":
        elsewhere["socket_dir"] = str(location.socket_dir)
    if elsewhere:
        _write_json(home / NOTE_FILE, elsewhere)
    _private(location.socket_dir, user)


def clear_leftovers(system_dir: Path) -> None:
    """Delete the clusters of tests that are over: not durable, their data directory gone, and not running."""
    for origin in system_dir.glob(f"clusters/*/{ORIGIN_FILE}"):
        try:
            noted = _read_note(origin) or {}
        except DataDirectoryUnusable:
            continue
        over = noted.get("durable") == "False" and not Path(noted.get("data_dir", "/")).exists()
        if over and not (origin.parent / "pgdata" / "postmaster.pid").exists():
            shutil.rmtree(origin.parent, ignore_errors=True)


def _write_json(path: Path, value: Mapping[str, str]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value) + "\n", "utf-8")
    temporary.replace(path)


def _private(directory: Path, user: SystemUser | None) -> None:
    """Make a directory of mode 0700 that belongs to PostgreSQL's user; refuse one that somebody else put there."""
    owner = os.geteuid() if user is None else user.uid
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    status = directory.lstat()
    if user is not None and stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
        # Ours still: made here, or by another process of ours that has not come to this line yet.
        os.chown(directory, user.uid, user.gid, follow_symlinks=False)
        status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or stat.S_IMODE(status.st_mode) & 0o077:
        advice = "Remove it, or point TMPDIR to a directory of your own"
        raise DataDirectoryUnusable(
            directory, "it must be a directory of mode 0700 of PostgreSQL's user", advice
        )


def cache_dir(user: SystemUser | None) -> Path:
    """Where templates are kept: the user's cache, or as root the system's."""
    if user is not None:
        return SYSTEM_CACHE_DIR
    configured = os.environ.get("XDG_CACHE_HOME", "")
    if configured.startswith("/"):
        return Path(configured) / "crossfade"
    return Path("~").expanduser() / ".cache" / "crossfade"
