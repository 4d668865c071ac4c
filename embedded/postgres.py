"""One PostgreSQL cluster of the embedded Supabase: made, described to a supervisor, waited for.

The programs come out of a wheel, everything else is ours: initdb's options, the user it runs as, where its files are.
As an ordinary user all of it stays in the data directory; see postgres_location for root.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import asyncpg
import psutil

from embedded import keys
from embedded.errors import (
    AlreadyRunning,
    DataDirectoryUnusable,
    NotReady,
    OldBackendsRunning,
    PostgresError,
    WrongMajorVersion,
)
from embedded.locking import held
from embedded.ports import free_port
from embedded.postgres_cluster import ENVIRONMENT, Builder, unusable
from embedded.postgres_diagnosis import diagnose
from embedded.postgres_install import Install, install_for
from embedded.postgres_location import SYSTEM_DIR, Location, cache_dir, clear_leftovers, locate, settle
from embedded.postgres_user import SystemUser, owner_of, unprivileged_user

if TYPE_CHECKING:
    from typing import IO

_POLL_SECONDS = 0.02
_FAST_STOP_SECONDS = 10.0
_IMMEDIATE_STOP_SECONDS = 5.0
_START_SECONDS = 30.0


class Postgres:
    """A cluster in ``data_dir``, listening on ``host``:``port`` (with password) and on a unix socket (without).

    ``port`` 0 takes a free one, to be read from the attribute. ``durable=False`` is for tests: no fsync, and as root
    leftovers of such clusters are removed. ``prepare`` before anything else; then either a supervisor runs ``argv()``
    in the foreground as user ``run_as()``, or a test calls ``start`` and ``stop``. ``system_dir`` and ``templates``
    move what is otherwise below /var/lib/crossfade and in the user's (as root: the system's) cache.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 54322,
        durable: bool = True,
        system_dir: Path = SYSTEM_DIR,
        templates: Path | None = None,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.host = host
        self.port = port or free_port(host)
        self.durable = durable
        self._system_dir = system_dir
        self._templates = templates
        self._located: Location | None = None
        self._prepared: tuple[SystemUser | None, Install] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    # ---- making it ----

    def prepare(self) -> None:
        """Make the cluster, or check and update the existing one; blocks for up to two seconds. Idempotent.

        Raises PostgresError: DataDirectoryUnusable, DiskFull, WrongMajorVersion, NoSystemUser, BinariesMissing,
        InitialisationFailed; AlreadyRunning and OldBackendsRunning only if something had to be changed.
        """
        user = unprivileged_user()
        location = self._location()
        if user is not None:
            user = owner_of(location.pgdata) or user
        install = install_for(user, self._system_dir)
        try:
            settle(location, self.data_dir, user, durable=self.durable)
            if user is not None and not self.durable:
                clear_leftovers(self._system_dir)
            password = keys.load_or_create(self.data_dir / "supabase").db_password
            builder = Builder(install, user, self._templates or cache_dir(user))
            with held(location.root / ".prepare.lock"):
                if location.pgdata.exists():
                    _check(location.pgdata, install, user)
                    builder.bring_up_to_date(location.pgdata, password)
                else:
                    builder.create(location.pgdata, password, durable=self.durable)
        except OSError as error:
            raise unusable(location.pgdata, error) from error
        self._prepared = (user, install)

    def _location(self) -> Location:
        """Where the cluster is; before ``prepare`` as well, for processes that only connect to it."""
        if self._located is None:
            self._located = locate(self.data_dir, self.port, unprivileged_user(), self._system_dir)
        return self._located

    def _ready(self) -> tuple[SystemUser | None, Install]:
        if self._prepared is None:
            raise PostgresError("Postgres.prepare() has to be called before the cluster can be run.")
        return self._prepared

    # ---- what a supervisor needs ----

    def argv(self) -> list[str]:
        """The command that runs PostgreSQL in the foreground, logging to standard error.

        SIGINT stops it at once but cleanly, SIGQUIT without a checkpoint; SIGTERM would wait for clients to leave.
        """
        location = self._location()
        _user, install = self._ready()
        quoted_socket_dir = '"' + str(location.socket_dir).replace('"', '""') + '"'
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": quoted_socket_dir,
            "unix_socket_permissions": "0700",
            "fsync": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [install.program("postgres"), "-D", str(location.pgdata), *options]

    def environment(self) -> dict[str, str]:
        """The whole environment to run ``argv()`` with."""
        return dict(ENVIRONMENT)

    def run_as(self) -> str | None:
        """The system user to run ``argv()`` as (with its own group and no others); None for ourselves."""
        user, _install = self._ready()
        return None if user is None else user.name

    def diagnose(self, log: str) -> PostgresError:
        """Return the error for a ``postgres`` that ended, from what it wrote to standard error."""
        return diagnose(log, pgdata=self._location().pgdata, host=self.host, port=self.port)

    def wait_for_old_backends(self, timeout_seconds: float = 10.0) -> None:
        """Block until no process of a killed postmaster uses the cluster any more; call before starting it again.

        Idle ones end within milliseconds. One still busy after half of the time gets SIGQUIT: nobody waits for its
        answer any more. Raises OldBackendsRunning after ``timeout_seconds``; AlreadyRunning if the postmaster lives.
        """
        pgdata = self._location().pgdata
        started = time.monotonic()
        warned = False
        while processes := _processes_of(pgdata):
            _refuse_living_postmaster(pgdata, processes)
            waited = time.monotonic() - started
            if waited > timeout_seconds:
                raise OldBackendsRunning(pgdata, tuple(process.pid for process in processes))
            if waited > timeout_seconds / 2 and not warned:
                warned = True
                _signal_all(processes, signal.SIGQUIT)
            time.sleep(_POLL_SECONDS)

    # ---- connecting ----

    @property
    def pgdata(self) -> Path:
        """PostgreSQL's data directory."""
        return self._location().pgdata

    @property
    def socket_dir(self) -> Path:
        """The directory (mode 0700) of the unix socket; whoever can enter it needs no password."""
        return self._location().socket_dir

    def dsn(self, user: str = "postgres", database: str = "postgres") -> str:
        """The connection string over the unix socket, without a password."""
        return f"postgresql://{quote(user)}@/{quote(database)}?host={quote(str(self.socket_dir))}&port={self.port}"

    def url(self, user: str = "postgres", database: str = "postgres") -> str:
        """The connection string over TCP, with the password; for the roles postgres and authenticator."""
        password = keys.load_or_create(self.data_dir / "supabase").db_password
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{quote(user)}:{quote(password)}@{host}:{self.port}/{quote(database)}"

    async def wait_ready(self, timeout: float = _START_SECONDS) -> None:  # noqa: ASYNC109 - the contract's name
        """Return as soon as a connection succeeds. Raises NotReady after ``timeout`` seconds, or what start() would."""
        last = "no attempt was made"
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._raise_if_ended()
                    try:
                        connection = await asyncpg.connect(self.dsn(), timeout=timeout)
                    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                        last = str(error) or type(error).__name__
                        await asyncio.sleep(_POLL_SECONDS)
                    else:
                        await connection.close()
                        return
        except TimeoutError:
            raise NotReady(timeout, last) from None

    # ---- for tests: our own child process ----

    def start(self) -> None:
        """Run PostgreSQL as a child of this process and return once it accepts connections; prepares first.

        Raises PostgresError.
        """
        if self.pid is not None:
            raise AlreadyRunning(self.pgdata, self.pid)
        self.stop()  # forgets one that ended by itself
        self.prepare()
        self.wait_for_old_backends()
        location = self._location()
        user, _install = self._ready()
        self._log = (self.data_dir / "supabase" / "postgres.log").open("w+b")
        self._process = subprocess.Popen(  # noqa: S603 - PostgreSQL's own program
            self.argv(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd="/",
            env=self.environment(),
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else [],
            start_new_session=True,  # a terminal's Ctrl-C is for us to pass on
        )
        deadline = time.monotonic() + _START_SECONDS
        try:
            while not _accepts(location.pgdata, self._process.pid):
                self._raise_if_ended()
                if time.monotonic() > deadline:
                    raise NotReady(_START_SECONDS, "still starting")
                time.sleep(_POLL_SECONDS / 2)
        except PostgresError:
            self.stop()
            raise

    def _raise_if_ended(self) -> None:
        if self._process is None or self._process.poll() is None or self._log is None:
            return
        self._log.seek(0)
        raise self.diagnose(self._log.read().decode("utf-8", "replace"))

    @property
    def pid(self) -> int | None:
        """The postmaster started by ``start``, while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def stop(self) -> None:
        """Stop what ``start`` started: cleanly, after 10 s without a checkpoint. Nothing to do is fine."""
        process, self._process = self._process, None
        log, self._log = self._log, None
        if process is not None:
            _stop(process)
        if log is not None:
            log.close()

    def remove(self) -> None:
        """Stop, and delete the cluster wherever it is (the data directory itself stays). For tests."""
        self.stop()
        location, self._located = self._location(), None
        shutil.rmtree(location.pgdata, ignore_errors=True)
        shutil.rmtree(location.socket_dir, ignore_errors=True)
        if location.root != self.data_dir / "supabase":
            shutil.rmtree(location.root, ignore_errors=True)
        (self.data_dir / "supabase" / "location.json").unlink(missing_ok=True)
        self._prepared = None


def _check(pgdata: Path, install: Install, user: SystemUser | None) -> None:
    """Refuse an existing directory that this PostgreSQL cannot run."""
    owner = pgdata.stat().st_uid
    expected = os.geteuid() if user is None else user.uid
    if owner != expected:
        advice = "Run as the user who made it, or choose another data directory"
        raise DataDirectoryUnusable(pgdata, f"it belongs to the user with id {owner}, not {expected}", advice)
    try:
        major = (pgdata / "PG_VERSION").read_text("ascii").strip()
    except FileNotFoundError:
        raise DataDirectoryUnusable(pgdata, "it is not a PostgreSQL cluster") from None
    if major != install.major:
        raise WrongMajorVersion(pgdata, major, install.major)


def _accepts(pgdata: Path, pid: int) -> bool:
    """Whether this postmaster says that it is ready, which it writes into its pid file; the file may be an older one's."""
    try:
        lines = (pgdata / "postmaster.pid").read_text("utf-8").splitlines()
    except OSError:
        return False
    return lines[:1] == [str(pid)] and lines[-1].strip() == "ready"


def _processes_of(pgdata: Path) -> list[psutil.Process]:
    """The PostgreSQL processes of this cluster: all of them have it as their working directory."""
    found = []
    wanted = os.path.realpath(pgdata)
    for process in psutil.process_iter(["name"]):
        if not (process.info["name"] or "").startswith("postgres"):
            continue
        try:
            if process.cwd() == wanted and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue  # ended meanwhile, or another user's, then not of this cluster
    return found


def _refuse_living_postmaster(pgdata: Path, processes: list[psutil.Process]) -> None:
    """Raise AlreadyRunning if one of the processes is the parent of another, or the only one is nobody's orphan."""
    try:
        pid = int((pgdata / "postmaster.pid").read_text("utf-8").splitlines()[0])
    except (OSError, ValueError, IndexError):
        return
    if any(process.pid == pid for process in processes):
        raise AlreadyRunning(pgdata, pid)


def _signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.Error:
            continue  # ended meanwhile


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGINT, _FAST_STOP_SECONDS), (signal.SIGQUIT, _IMMEDIATE_STOP_SECONDS)):
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
    if process.poll() is None:
        process.kill()
        process.wait()
