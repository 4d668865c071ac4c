"""Making clusters: initdb and bootstrap.sql once into a cached template, a copy of it for each new cluster.

A cluster appears under its name complete or not at all: it is built beside it and renamed. SQL is run by PostgreSQL's
single-user mode, which needs no port, no socket and no event loop.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedded import scram
from embedded.errors import DataDirectoryUnusable, DiskFull, InitialisationFailed, StartFailed
from embedded.locking import held
from embedded.postgres_diagnosis import diagnose

if TYPE_CHECKING:
    from embedded.postgres_install import Install
    from embedded.postgres_user import SystemUser

BOOTSTRAP_FILE = Path(__file__).with_name("bootstrap.sql")
STATE_FILE = "crossfade.json"
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/"}
"""All that PostgreSQL gets: PGPORT and its like must not reach it."""

_PROGRAM_SECONDS = 120
_ERROR_LINE = re.compile(r"\b(?:ERROR|FATAL|PANIC):")
_INITDB_OPTIONS = (
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",  # sorts alike whatever the machine's C library does
    "--auth-local=trust",  # the socket's directory is 0700
    "--auth-host=scram-sha-256",
    "--no-sync",  # synchronised once, at the end
    "--no-instructions",
)
_SETTINGS = {
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_slot_wal_keep_size": "4GB",  # a forgotten slot may not fill the disk
    "password_encryption": "scram-sha-256",
    "wal_writer_delay": "10ms",  # a walsender sends only flushed WAL; matters with synchronous_commit=off
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Any address: which ones are listened on is the user's choice, and all of them ask for the password.
_HBA = """\
# Written by Crossfade. The unix socket is in a directory of mode 0700.
local all         all             trust
local replication all             trust
host  all         all all         scram-sha-256
host  replication all all         scram-sha-256
"""


@dataclass(frozen=True, slots=True)
class Builder:
    """Makes clusters with one installation, as one user, with one cache of templates."""

    install: Install
    user: SystemUser | None
    cache_dir: Path

    def create(self, pgdata: Path, password: str, *, durable: bool) -> None:
        """Make a cluster at ``pgdata``, which must not exist. Raises PostgresError and OSError."""
        partial = self._private_directory(pgdata.parent, f".{pgdata.name}-")
        try:
            template = self._template()
            if template is None:
                self._initialise(partial)
            else:
                self._run(
                    "copying the template", pgdata, ["cp", "-a", f"{template}/.", str(partial)], root=True
                )
            self.set_password(partial, password)
            if durable:
                self._synchronise(partial)
            partial.rename(pgdata)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def bring_up_to_date(self, pgdata: Path, password: str) -> None:
        """Repeat bootstrap.sql if it has changed, and set the password if it is another one now.

        Raises AlreadyRunning when there is something to do while the cluster runs.
        """
        state = _read_state(pgdata)
        if state.get("bootstrap") != bootstrap_digest():
            self._single_user(pgdata, BOOTSTRAP_FILE.read_text("utf-8"))
            self._write_state(pgdata, {**state, "bootstrap": bootstrap_digest()})
        if not scram.matches(password, state.get("password", "")):
            self.set_password(pgdata, password)

    def set_password(self, pgdata: Path, password: str) -> None:
        """Set the password of the superuser and of the gateway's login role, on a stopped cluster."""
        stored = scram.verifier(password)
        roles = ("postgres", "authenticator")
        self._single_user(pgdata, "".join(f"alter role {role} password '{stored}';\n\n" for role in roles))
        self._write_state(pgdata, {**_read_state(pgdata), "password": stored})

    def _template(self) -> Path | None:
        """Return the template, made now if there is none; None when there is nowhere to keep one."""
        owner = "" if self.user is None else f"-{self.user.name}"  # a copy belongs to whom its template does
        template = self.cache_dir / f"postgres-{self.install.version}-{_template_digest()}{owner}"
        try:
            self.cache_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
            if template.is_dir():
                return template
            with held(self.cache_dir / f".{template.name}.lock"):
                if not template.is_dir():
                    self._build_template(template)
        except (OSError, DiskFull):
            return None  # a cache that cannot be written costs a second, not the start
        return template

    def _build_template(self, template: Path) -> None:
        partial = self._private_directory(self.cache_dir, ".partial-")
        try:
            self._initialise(partial)
            self._synchronise(partial)
            partial.rename(template)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _private_directory(self, parent: Path, prefix: str) -> Path:
        """Make an empty directory of mode 0700 that belongs to the user PostgreSQL runs as."""
        made = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        if self.user is not None:
            os.chown(made, self.user.uid, self.user.gid)
        return made

    def _initialise(self, directory: Path) -> None:
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command = [self.install.program("initdb"), "-D", str(directory), *_INITDB_OPTIONS, *settings]
        self._run("initdb", directory, command)
        self._own_text(directory / "pg_hba.conf", _HBA)
        self._single_user(directory, BOOTSTRAP_FILE.read_text("utf-8"))
        self._write_state(directory, {"bootstrap": bootstrap_digest()})

    def _synchronise(self, directory: Path) -> None:
        self._run("fsync", directory, [self.install.program("initdb"), "--sync-only", "-D", str(directory)])

    def _single_user(self, directory: Path, sql: str) -> None:
        """Run SQL on a stopped cluster; a statement ends at a semicolon followed by an empty line."""
        command = [self.install.program("postgres"), "--single", "-j", "-D", str(directory), "postgres"]
        said = self._run("single-user mode", directory, command, text=sql)
        errors = [line for line in said.splitlines() if _ERROR_LINE.search(line)]
        if errors:
            raise InitialisationFailed("SQL in single-user mode", directory, "\n".join(errors))

    def _run(
        self, step: str, directory: Path, command: list[str], *, text: str = "", root: bool = False
    ) -> str:
        """Run a program as the unprivileged user (``root``: as ourselves); return its standard error."""
        user = None if root else self.user
        try:
            done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs and cp, our arguments
                command,
                input=text,
                capture_output=True,
                text=True,
                cwd="/",
                env=ENVIRONMENT,
                user=None if user is None else user.uid,
                group=None if user is None else user.gid,
                extra_groups=None if user is None else [],
                timeout=_PROGRAM_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InitialisationFailed(step, directory, f"no end after {_PROGRAM_SECONDS} s") from error
        if done.returncode == 0:
            return done.stderr
        diagnosed = diagnose(done.stderr, pgdata=directory, host="", port=0)
        if isinstance(diagnosed, StartFailed):
            raise InitialisationFailed(step, directory, done.stderr or f"exit code {done.returncode}")
        raise diagnosed

    def _own_text(self, path: Path, text: str) -> None:
        # The directory belongs to PostgreSQL's user: as root never follow what it may have put there.
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if self.user is not None:
                os.fchown(descriptor, self.user.uid, self.user.gid)

    def _write_state(self, pgdata: Path, state: dict[str, str]) -> None:
        temporary = pgdata / f"{STATE_FILE}.new"
        self._own_text(temporary, json.dumps(state))
        temporary.replace(pgdata / STATE_FILE)


def _read_state(pgdata: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        state = json.loads((pgdata / STATE_FILE).read_text("utf-8"))
        if isinstance(state, dict):
            return {str(key): str(value) for key, value in state.items()}
    return {}  # absent or damaged: everything is set again


def bootstrap_digest() -> str:
    """What changes whenever bootstrap.sql does."""
    return hashlib.sha256(BOOTSTRAP_FILE.read_bytes()).hexdigest()[:16]


def _template_digest() -> str:
    recipe = json.dumps([bootstrap_digest(), _INITDB_OPTIONS, _SETTINGS, _HBA])
    return hashlib.sha256(recipe.encode()).hexdigest()[:16]


def unusable(pgdata: Path, error: OSError) -> DataDirectoryUnusable:
    """Return the error for file trouble below or at ``pgdata``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(pgdata)
    if error.errno == errno.EROFS:
        return DataDirectoryUnusable(pgdata, "its file system is read-only")
    reason = error.strerror or str(error)
    return DataDirectoryUnusable(pgdata, f"{reason} ({error.filename})" if error.filename else reason)
