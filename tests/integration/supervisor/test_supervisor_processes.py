"""The supervisor with small real children: restarts, order, ends, and no orphans."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from crossfade.addresses import Listener, require_free
from crossfade.errors import CrossfadeError, PartFailed, PortTaken
from crossfade.supervisor import probes
from crossfade.supervisor.model import RestartPolicy, State
from crossfade.supervisor.process import Command
from crossfade.supervisor.supervisor import Service, Spec, Step, Supervisor
from embedded.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

LISTENER = """
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
while True:
    server.accept()[0].close()
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""
SLEEPER = "import time; print('here', flush=True); time.sleep(600)"
FAST = RestartPolicy(first_seconds=0.01, longest_seconds=0.05, loop_after=3)


async def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def at_once() -> str:
    return ""


def service(name: str, code: str, *arguments: object, **options: object) -> Service:
    settings: dict[str, object] = {"probe": at_once, "stop_seconds": 5.0, **options}
    argv = [sys.executable, "-c", code, *map(str, arguments)]
    return Service(name, lambda: Command(argv), **settings)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def running(logs: Path, *specs: Spec, policy: RestartPolicy | None = None) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(specs, logs=logs, policy=policy)
    task = asyncio.ensure_future(supervisor.run())
    try:
        yield supervisor
    finally:
        supervisor.stop()
        async with asyncio.timeout(20):
            await task


def state(supervisor: Supervisor, index: int = 0) -> State:
    return supervisor.views[index].part.state


def pid_of(supervisor: Supervisor, index: int = 0) -> int:
    pid = supervisor.views[index].part.pid
    assert pid is not None
    return pid


async def test_a_part_is_ready_when_its_address_answers_and_its_words_are_in_its_log(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    part = service("echo", LISTENER, port, probe=probes.tcp("127.0.0.1", port))
    async with running(tmp_path, part) as supervisor:
        await eventually(lambda: supervisor.all_ready)
        await eventually(lambda: supervisor.views[0].last_line == "listening")
        assert (tmp_path / "echo.log").read_text() == "listening\n"
        assert os.getsid(pid_of(supervisor)) == pid_of(supervisor)
    assert state(supervisor) is State.STOPPED


async def test_a_part_killed_with_sigkill_comes_back_on_the_same_port(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    part = service("echo", LISTENER, port, probe=probes.tcp("127.0.0.1", port))
    async with running(tmp_path, part, policy=FAST) as supervisor:
        await eventually(lambda: supervisor.all_ready)
        first = pid_of(supervisor)
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: supervisor.views[0].part.restarts == 1 and supervisor.all_ready)
        assert pid_of(supervisor) != first
        assert supervisor.views[0].part.reason.startswith("killed by SIGKILL")


async def test_a_crash_loop_is_named_with_the_last_words_and_goes_on_being_tried(tmp_path: Path) -> None:
    part = service("bad", "import sys; sys.exit('no configuration')", probe=probes.tcp("127.0.0.1", 1))
    async with running(tmp_path, part, policy=FAST) as supervisor:
        await eventually(lambda: supervisor.views[0].part.crash_loop)
        told = supervisor.views[0].part.describe()
        assert told.startswith("crash loop, ended")
        assert told.endswith("in a row: exit status 1; no configuration")
        seen = supervisor.views[0].part.restarts
        await eventually(lambda: supervisor.views[0].part.restarts > seen)


async def test_an_essential_part_that_never_starts_ends_everything_and_says_why(tmp_path: Path) -> None:
    bad = service(
        "base", "import sys; sys.exit('disk full')", essential=True, probe=probes.tcp("127.0.0.1", 1)
    )
    other = service("other", SLEEPER, after=("base",))
    alone = service("alone", SLEEPER)
    supervisor = Supervisor([bad, other, alone], logs=tmp_path, policy=FAST)
    async with asyncio.timeout(20):
        with pytest.raises(PartFailed, match=r"base: crash loop.*disk full; see .*base\.log"):
            await supervisor.run()
    assert [state(supervisor, index) for index in range(3)] == [State.FAILED, State.STOPPED, State.STOPPED]


async def test_an_essential_part_that_cannot_be_prepared_fails_at_once(tmp_path: Path) -> None:
    async def prepare() -> None:
        raise CrossfadeError("the directory is read-only")

    supervisor = Supervisor([service("base", SLEEPER, essential=True, prepare=prepare)], logs=tmp_path)
    with pytest.raises(PartFailed, match="base: the directory is read-only"):
        await supervisor.run()


async def test_a_step_runs_between_its_predecessor_and_its_successor(tmp_path: Path) -> None:
    order: list[str] = []
    port = free_port("127.0.0.1")

    async def apply() -> str:
        order.append("step")
        assert state(supervisor) is State.READY
        return "2 applied"

    async def note() -> None:
        order.append("last")

    supervisor = Supervisor(
        [
            service("first", LISTENER, port, probe=probes.tcp("127.0.0.1", port)),
            Step("step", apply, after=("first",)),
            service("last", SLEEPER, after=("step",), prepare=note),
        ],
        logs=tmp_path,
    )
    task = asyncio.ensure_future(supervisor.run())
    await eventually(lambda: supervisor.all_ready)
    supervisor.stop()
    await task
    assert order == ["step", "last"]
    assert supervisor.views[1].part.detail == "2 applied"


async def test_a_failed_step_stops_what_runs(tmp_path: Path) -> None:
    async def apply() -> str:
        raise RuntimeError("migration 3, line 4:\nsyntax error")

    specs: list[Spec] = [service("first", SLEEPER), Step("step", apply, after=("first",))]
    supervisor = Supervisor(specs, logs=tmp_path)
    with pytest.raises(PartFailed, match="step: migration 3, line 4: syntax error"):
        await supervisor.run()
    assert state(supervisor) is State.STOPPED


async def test_parts_stop_in_reverse_order(tmp_path: Path) -> None:
    ended: list[str] = []
    specs = [
        service("one", SLEEPER),
        service("two", SLEEPER, after=("one",)),
        service("three", SLEEPER, after=("two",)),
    ]
    supervisor = Supervisor(
        specs,
        logs=tmp_path,
        on_change=lambda part: ended.append(part.name) if part.state is State.STOPPED else None,
    )
    task = asyncio.ensure_future(supervisor.run())
    await eventually(lambda: supervisor.all_ready)
    pids = [pid_of(supervisor, index) for index in range(3)]
    supervisor.stop()
    await task
    assert ended == ["three", "two", "one"]
    assert not any(alive(pid) for pid in pids)


async def test_a_part_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    async with running(tmp_path, service("deaf", STUBBORN, stop_seconds=0.1)) as supervisor:
        await eventually(lambda: supervisor.views[0].last_line == "deaf")
        pid = pid_of(supervisor)
    assert not alive(pid)


async def test_a_second_stop_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    async with running(tmp_path, service("deaf", STUBBORN, stop_seconds=600.0)) as supervisor:
        await eventually(lambda: supervisor.views[0].last_line == "deaf")
        supervisor.stop()
    assert state(supervisor) is State.STOPPED


async def test_children_of_a_killed_part_do_not_outlive_it(tmp_path: Path) -> None:
    code = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
    async with running(tmp_path, service("parent", code)) as supervisor:
        await eventually(
            lambda: supervisor.views[0].last_line.isdecimal() and alive(int(supervisor.views[0].last_line))
        )
        grandchild = int(supervisor.views[0].last_line)
        os.kill(pid_of(supervisor), signal.SIGKILL)
        await eventually(lambda: not alive(grandchild))


async def test_cancelling_the_supervisor_leaves_no_process(tmp_path: Path) -> None:
    supervisor = Supervisor(
        [service("one", STUBBORN), service("two", SLEEPER, after=("one",))], logs=tmp_path
    )
    task = asyncio.ensure_future(supervisor.run())
    await eventually(lambda: supervisor.all_ready)
    pids = [pid_of(supervisor, index) for index in range(2)]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(alive(pid) for pid in pids)


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    part = Service("ghost", lambda: Command(["/nonexistent/program"]), probes.tcp("127.0.0.1", 1))
    async with running(tmp_path, part, policy=FAST) as supervisor:
        await eventually(lambda: supervisor.views[0].part.failures > 0)
        assert "cannot run /nonexistent/program" in supervisor.views[0].part.reason


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent death signal")
async def test_no_part_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    code = f"""
import asyncio, pathlib, sys
from crossfade.supervisor import probes
from crossfade.supervisor.process import Command
from crossfade.supervisor.supervisor import Service, Supervisor
argv = [sys.executable, "-c", {LISTENER!r}, "{port}"]
part = Service("echo", lambda: Command(argv), probes.tcp("127.0.0.1", {port}))
async def main():
    supervisor = Supervisor([part], logs=pathlib.Path(sys.argv[1]))
    running = asyncio.ensure_future(supervisor.run())
    await supervisor.wait_ready()
    print(supervisor.views[0].part.pid, flush=True)
    await running
asyncio.run(main())
"""
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert killed.stdout is not None
    async with asyncio.timeout(20):
        child = int(await killed.stdout.readline())
        assert alive(child)
        killed.kill()
        await killed.wait()
    await eventually(lambda: not alive(child))
    require_free(Listener("echo", "127.0.0.1", port, "--port"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_part_runs_as_another_user_from_a_directory_only_root_can_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    nobody = pwd.getpwnam("nobody")
    part = Service("who", lambda: Command(["sleep", "600"], user="nobody"), at_once)
    async with running(tmp_path, part) as supervisor:
        await eventually(
            lambda: supervisor.all_ready and psutil.Process(pid_of(supervisor)).name() == "sleep"
        )
        assert psutil.Process(pid_of(supervisor)).uids().real == nobody.pw_uid


async def test_a_taken_port_is_named_with_its_owner_and_the_option_that_moves_it() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            require_free(Listener("legacy", "127.0.0.1", port, "--port-legacy"))
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert f"pid {os.getpid()} " in str(caught.value)
    assert "--port-legacy PORT" in str(caught.value)


async def test_a_step_that_hangs_does_not_keep_anything_from_stopping(tmp_path: Path) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang() -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    parts = [
        service("first", SLEEPER),
        Step("step", hang, after=("first",)),
        service("last", SLEEPER, after=("step",)),
    ]
    supervisor = Supervisor(parts, logs=tmp_path)
    task = asyncio.ensure_future(supervisor.run())
    async with asyncio.timeout(20):
        await begun.wait()
        pid = pid_of(supervisor)
        supervisor.stop()
        await task
    assert ended.is_set()
    assert not alive(pid)
    assert [state(supervisor, index) for index in range(3)] == [State.STOPPED] * 3


async def test_a_preparation_that_hangs_does_not_keep_anything_from_stopping(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    supervisor = Supervisor([service("part", SLEEPER, prepare=hang)], logs=tmp_path)
    task = asyncio.ensure_future(supervisor.run())
    async with asyncio.timeout(20):
        await begun.wait()
        supervisor.stop()
        await task
    assert state(supervisor) is State.STOPPED
