"""Containers of another machine, over a real sshd and a real Docker: commands, logs, and a connection that breaks."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from adapters.device_registry import DeviceRegistry
from collectors.docker import DockerCollector
from collectors.docker_logs import DockerLogs
from crossfade.controls import control_of
from crossfade.operating import Operating
from crossfade.paths import DataDir
from crossfade.remote import RemoteControl
from crossfade.settings import Settings
from crossfade.wiring import Wiring
from monitoring.control import Command, CommandRefused, EngineAway, NoSuchContainer
from monitoring.devices import Device
from tests.conftest import EmbeddedSupabase
from tests.fakes.real_sshd import RealSshd
from tests.integration.collectors.test_container_logs import COUNTER, until
from tests.integration.collectors.test_docker_control import WELL_BEHAVED

pytestmark = pytest.mark.docker


@pytest.fixture
def sshd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RealSshd]:
    directory = tmp_path / "sshd"
    directory.mkdir()
    made = RealSshd(directory, *getattr(request, "param", ()))
    yield made
    made.stop()


def trusted(sshd: RealSshd, name: str = "real") -> Device:
    """Return the device with its host key stored."""
    return sshd.device(name, host_key=sshd.host_key)


@pytest.mark.parametrize(
    "sshd", [(), ("AllowStreamLocalForwarding no",)], ids=["forwarding", "dial-stdio"], indirect=True
)
async def test_a_command_over_ssh_is_done_when_its_event_came(sshd: RealSshd, containers: Any) -> None:
    control = RemoteControl(trusted(sshd), {})
    name = await asyncio.to_thread(containers.run, "sh", "-c", WELL_BEHAVED)
    assert name in [each.name for each in await control.containers()]
    stopped = await control.command(Command.STOP, name)
    assert (stopped.device, stopped.changed, stopped.status, stopped.exit_code) == ("real", True, "exited", 3)
    assert stopped.at is not None
    again = await control.command(Command.STOP, name)
    assert (again.changed, again.at) == (False, None)
    started = await control.command(Command.START, name)
    assert started.at is not None
    assert started.at > stopped.at
    restarted = await control.command(Command.RESTART, name, grace_seconds=1)
    assert (restarted.changed, restarted.status) == (True, "running")
    assert [line.text for line in await control.logs(name, 1)] == ["begun"]
    with pytest.raises(NoSuchContainer, match="real has no container 'nobody'"):
        await control.command(Command.START, "nobody")


async def test_what_its_docker_refuses_is_said_in_its_words(sshd: RealSshd, containers: Any) -> None:
    name = f"cf-broken-{os.getpid()}"
    containers.made.append(name)
    await asyncio.to_thread(
        containers.command,
        "create",
        "--name",
        name,
        "--network",
        "none",
        containers.image,
        "/no-such-program",
    )
    with pytest.raises(CommandRefused, match="real: cannot start"):
        await RemoteControl(trusted(sshd), {}).command(Command.START, name)


async def test_a_machine_that_does_not_answer_is_said(sshd: RealSshd, tmp_path: Path) -> None:
    device = trusted(sshd)
    sshd.make_key(tmp_path / "other")
    with pytest.raises(EngineAway, match="lets nobody in"):
        await RemoteControl(replace(device, key_file=str(tmp_path / "other")), {}).containers()
    with pytest.raises(EngineAway, match="was not accepted yet"):
        await RemoteControl(replace(device, host_key=None), {}).containers()
    sshd.stop()
    with pytest.raises(EngineAway, match=r"no container engine answers on real: .* cannot be reached"):
        await RemoteControl(device, {}).command(Command.STOP, "any")


async def test_a_log_is_followed_whole_and_single_over_a_restart_and_a_cut_connection(
    sshd: RealSshd, containers: Any
) -> None:
    name = await asyncio.to_thread(containers.run, "sh", "-c", COUNTER)
    lines: list[str] = []
    marks: list[str] = []
    async with RemoteControl(trusted(sshd), {}).docker() as connect:
        collector = DockerCollector("real", connect=connect, retry_seconds=0.2)
        source = DockerLogs("real", connect, collector.known)

        async def read() -> None:
            async for batch in source.follow("real", name, 10):
                for line in batch:
                    (lines if line.mark is None else marks).append(line.text)

        tasks = [asyncio.create_task(collector.watch(lambda _: None)), asyncio.create_task(read())]
        try:
            await until(lambda: len(lines) > 50, "the first lines")
            await asyncio.to_thread(containers.command, "restart", "-t", "0", name)
            await until(lambda: bool(marks), "the restart")
            seen = len(lines)
            await until(lambda: len(lines) > seen + 50, "lines after the restart")
            assert sshd.cut()
            seen = len(lines)
            await until(lambda: len(lines) > seen + 50, "lines after the cut", seconds=60)
            await asyncio.to_thread(containers.command, "kill", name)
            truth = await asyncio.to_thread(containers.logs, name)
            for stream in ("out", "err"):
                said = [line for line in truth if line.startswith(stream)]
                await until(
                    lambda said=said, stream=stream: (
                        [line for line in lines if line.startswith(stream)][-1:] == said[-1:]
                    ),
                    "the last line",
                )
                told = [line for line in lines if line.startswith(stream)]
                assert told == said[said.index(told[0]) :]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await collector.close()


@pytest.fixture
async def registered(embedded_supabase: EmbeddedSupabase, sshd: RealSshd) -> AsyncIterator[str]:
    registry = DeviceRegistry(embedded_supabase.postgres.dsn())
    await registry.put([trusted(sshd, "ctl-real")])
    yield embedded_supabase.postgres.dsn()
    connection = await asyncpg.connect(embedded_supabase.postgres.dsn())
    await connection.execute("delete from public.cf_devices where device = 'ctl-real'")
    await connection.close()


async def test_the_command_and_the_dashboards_port_reach_a_registered_device(
    registered: str, containers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await asyncio.to_thread(containers.run, "sh", "-c", WELL_BEHAVED)

    async def crossfade(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "crossfade", "containers", *words]
        environment = {
            **os.environ,
            "DATABASE_URL": registered,
            "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        }
        return await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=90, check=False, env=environment,
            cwd=Path(__file__).parents[3],
        )  # fmt: skip

    listed = await crossfade("list", "ctl-real", "--format", "json")
    assert {"name": name, "status": "running"}.items() <= next(
        one for one in json.loads(listed.stdout) if one["name"] == name
    ).items(), listed.stderr
    assert listed.stderr == ""
    stopped = await crossfade("stop", f"ctl-real/{name}")
    assert stopped.stderr == ""
    assert re.fullmatch(rf"stop {name} \([0-9a-f]+\): done; exited, exit code 3\n", stopped.stdout), (
        stopped.stderr
    )
    assert (await crossfade("logs", f"ctl-real/{name}", "-n", "1")).stdout.endswith("begun\n")
    refused = await crossfade("stop", f"nowhere/{name}")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "crossfade: there is no device 'nowhere'; see crossfade devices list\n"

    wiring = Wiring(DataDir.of(tmp_path), Settings(database_url=registered))
    operating = Operating(wiring)
    assert await asyncio.to_thread(operating.controls, "ctl-real")
    assert not await asyncio.to_thread(operating.controls, "nowhere")
    started = await (await control_of(wiring, "ctl-real")).command(Command.START, name)
    assert (started.device, started.changed, started.status) == ("ctl-real", True, "running")
