"""The unprivileged system user that PostgreSQL runs as when we are root, and what that user can reach.

PostgreSQL refuses to run as root. We create a user of our own and never touch the permissions of a directory that is
not ours: what the user cannot reach is put where it can (see embedded.postgres_layout).
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import NoSystemUser

USER_NAME = "crossfade-postgres"
_FALLBACK = "nobody"
_USERADD_SECONDS = 20
_BUSY = frozenset({1, 10})
"""useradd's exit codes when the password or the group file cannot be changed, by far mostly because another one does."""
_BUSY_SECONDS = 5.0
_BUSY_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class SystemUser:
    """A user by name and ids; belongs to its own group only."""

    name: str
    uid: int
    gid: int


def _lookup(name: str) -> SystemUser | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def unprivileged_user() -> SystemUser | None:
    """Return the user for PostgreSQL, created if need be; None when we are not root and stay who we are.

    Without useradd it is ``nobody``. Raises NoSystemUser.
    """
    if os.geteuid() != 0:
        return None
    reason, busy, deadline = "", True, time.monotonic() + _BUSY_SECONDS
    while (user := _lookup(USER_NAME)) is None and busy and time.monotonic() < deadline:
        # two that start at once must not end up as two users: whose useradd found the files locked looks again
        if reason:
            time.sleep(_BUSY_PAUSE_SECONDS)
        reason, busy = _create()
    user = user or _lookup(_FALLBACK)
    if user is None or user.uid == 0:
        raise NoSystemUser(USER_NAME, reason)
    return user


def _create() -> tuple[str, bool]:
    """Try to create the user; return what went wrong, or an empty string, and whether to look again in a moment."""
    program = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        return "useradd is not installed", False
    shell = shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin") or "/bin/false"
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", shell]
    try:
        done = subprocess.run(  # noqa: S603 - a program found on the system path, fixed arguments
            [program, *options, USER_NAME],
            capture_output=True,
            text=True,
            timeout=_USERADD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error), False
    return done.stderr.strip(), done.returncode in _BUSY


def can_search(mode: int, owner: int, group: int, user: SystemUser) -> bool:
    """Whether ``user`` may pass through a directory of this mode and ownership (access lists are not looked at)."""
    if owner == user.uid:
        return bool(mode & stat.S_IXUSR)
    if group == user.gid:
        return bool(mode & stat.S_IXGRP)
    return bool(mode & stat.S_IXOTH)


def reachable(directory: Path, user: SystemUser) -> bool:
    """Whether ``user`` may pass through ``directory`` and all that is above it; it need not exist yet."""
    resolved = Path(os.path.realpath(directory))
    for place in (resolved, *resolved.parents):
        try:
            status = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue  # will be made by us, passable; or making it will say what is wrong
        if not can_search(status.st_mode, status.st_uid, status.st_gid, user):
            return False
    return True


def owner_of(path: Path) -> SystemUser | None:
    """Return the user that ``path`` belongs to, unless that is root or nobody we know; None if it does not exist."""
    try:
        entry = pwd.getpwuid(path.stat().st_uid)
    except (OSError, KeyError):
        return None
    return None if entry.pw_uid == 0 else SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid)
