"""Collectors over a real sshd, on this machine: what they tell is what this machine says of itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest

from collectors.collector import Collector
from collectors.ssh.collector import DrivesCollector, SystemCollector
from collectors.ssh.containers import ContainersCollector
from collectors.ssh.errors import (
    AccessRefused,
    CredentialsMissing,
    HostKey,
    HostKeyChanged,
    HostKeyUnknown,
    SshError,
    Unreachable,
)
from collectors.ssh.session import HostKeys, Session
from monitoring.device_status import Outcome
from monitoring.devices import Device
from monitoring.events import Kind
from tests.fakes.real_sshd import RealSshd


class Seen(HostKeys):
    """What was told of host keys."""

    def __init__(self) -> None:
        self.firsts: list[str] = []
        self.changes: list[str] = []

    def first(self, device: Device, key: HostKey) -> None:
        self.firsts.append(key.fingerprint)

    def changed(self, device: Device, error: HostKeyChanged) -> None:
        self.changes.append(error.shown.fingerprint)


@pytest.fixture
def make_sshd(tmp_path: Path) -> Iterator[Callable[..., RealSshd]]:
    made: list[RealSshd] = []

    def make(*options: str) -> RealSshd:
        directory = tmp_path / f"sshd-{len(made)}"
        directory.mkdir()
        made.append(RealSshd(directory, *options))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def sshd(make_sshd: Callable[..., RealSshd]) -> RealSshd:
    return make_sshd()


@asynccontextmanager
async def session(
    device: Device, host_keys: HostKeys | None = None, **options: Any
) -> AsyncIterator[Session]:
    made = Session(device, host_keys=host_keys or Seen(), **options)
    try:
        yield made
    finally:
        await made.close()


async def payload(collector: Collector) -> dict[str, Any]:
    drafts = await collector.collect()
    return dict(drafts[-1].payload)


async def test_what_is_told_is_what_this_machine_says_of_itself(sshd: RealSshd) -> None:
    async with session(sshd.device()) as over:
        collector = SystemCollector(over)
        await collector.collect()
        told = await payload(collector)
        assert over.state.connections == 1
    memory, root = psutil.virtual_memory(), psutil.disk_usage("/")
    assert told["unavailable"].keys() <= {"pressure"}
    assert told["hostname"] == os.uname().nodename
    assert told["cores"] == psutil.cpu_count()
    assert told["memory"]["total_bytes"] == memory.total
    assert told["memory"]["used_bytes"] == pytest.approx(memory.total - memory.available, abs=512 << 20)
    disk = next(disk for disk in told["disks"] if disk["mount"] == "/")
    assert disk["total_bytes"] == root.total
    assert disk["used_bytes"] == pytest.approx(root.used, abs=1 << 30)
    assert told["uptime_seconds"] == pytest.approx(psutil.time.time() - psutil.boot_time(), abs=60)
    assert 0 <= told["cpu_usage"] <= 100
    assert all(each["rx_bytes_per_second"] is not None for each in told["networks"])
    assert all(each["read_bytes_per_second"] is not None for each in told["disk_io"])


async def test_a_first_host_key_is_told_and_from_then_on_demanded(sshd: RealSshd) -> None:
    seen = Seen()
    async with session(sshd.device(), seen) as over:
        await SystemCollector(over).collect()
        assert seen.firsts == [sshd.fingerprint]
        sshd.stop()
        sshd.new_host_key()
        sshd.start()
        for _ in range(2):
            with pytest.raises(HostKeyChanged, match="somebody else answers") as refused:
                await SystemCollector(over).collect()
        assert refused.value.outcome is Outcome.REFUSED
        assert refused.value.shown.fingerprint == sshd.fingerprint
    assert seen.changes == [sshd.fingerprint], "told once"
    assert "Accepted publickey" not in sshd.log.rpartition("terminating")[2], (
        "nothing was tried on the stranger"
    )


async def test_another_kind_of_host_key_is_a_change_too(sshd: RealSshd) -> None:
    seen = Seen()
    async with session(sshd.device(), seen) as over:
        await SystemCollector(over).collect()
        sshd.stop()
        sshd.new_host_key("ecdsa")
        sshd.start()
        with pytest.raises(HostKeyChanged):
            await SystemCollector(over).collect()
    assert seen.changes == [sshd.fingerprint]


async def test_without_anybody_to_tell_an_unknown_host_key_is_refused(sshd: RealSshd) -> None:
    over = Session(sshd.device())
    with pytest.raises(HostKeyUnknown, match=r"was not accepted yet.*crossfade devices test real") as refused:
        await SystemCollector(over).collect()
    assert refused.value.shown.fingerprint == sshd.fingerprint


async def test_a_wrong_key_is_refused_and_said(sshd: RealSshd, tmp_path: Path) -> None:
    other = tmp_path / "other"
    sshd.make_key(other)
    async with session(replace(sshd.device(), key_file=str(other))) as over:
        with pytest.raises(AccessRefused, match="lets nobody in with the key") as refused:
            await SystemCollector(over).collect()
    assert refused.value.outcome is Outcome.REFUSED


async def test_a_key_that_others_can_read_is_not_used(sshd: RealSshd) -> None:
    sshd.key_file.chmod(0o644)
    async with session(sshd.device()) as over:
        with pytest.raises(CredentialsMissing, match="can be read by others; run chmod 600"):
            await SystemCollector(over).collect()


async def test_an_agent_lets_in(sshd: RealSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(10):
            while not socket.exists():
                await asyncio.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        device = replace(sshd.device(agent=True), key_file=None)
        async with session(device) as over:
            with pytest.raises(AccessRefused, match="the agent's keys"):
                await SystemCollector(over).collect()
        subprocess.run(["ssh-add", "-q", str(sshd.key_file)], check=True, timeout=10)
        async with session(device) as over:
            assert (await payload(SystemCollector(over)))["cores"]
    finally:
        agent.terminate()
        agent.wait(10)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    async with session(device) as over:
        with pytest.raises(CredentialsMissing, match="SSH_AUTH_SOCK is not set"):
            await SystemCollector(over).collect()


async def test_a_device_behind_a_jump_host(make_sshd: Callable[..., RealSshd]) -> None:
    """Its server is asked through the other's, and sees that one's address; each host key is verified by itself."""
    bastion, inner = make_sshd(), make_sshd()
    seen = Seen()
    async with (
        session(bastion.device("bastion"), seen) as way,
        session(inner.device("inner"), seen, jump=way) as over,
    ):
        assert (await payload(SystemCollector(over)))["cores"]
        assert seen.firsts == [bastion.fingerprint, inner.fingerprint]
        bastion.stop()
        with pytest.raises(Unreachable):
            await SystemCollector(over).collect()
        bastion.start()
        assert (await payload(SystemCollector(over)))["cores"]


async def test_a_device_that_goes_away_and_comes_back(sshd: RealSshd) -> None:
    async with session(sshd.device()) as over:
        collector = SystemCollector(over)
        await collector.collect()
        sshd.stop()
        with pytest.raises(Unreachable) as gone:
            await collector.collect()
        assert gone.value.outcome is Outcome.SILENT
        sshd.start()
        assert (await payload(collector))["cpu_usage"] is not None
        assert over.state.connections == 2


async def test_a_connection_that_was_lost_between_two_cycles_costs_no_reading(sshd: RealSshd) -> None:
    async with session(sshd.device()) as over:
        collector = SystemCollector(over)
        await collector.collect()
        sshd.stop()
        sshd.start()
        assert (await payload(collector))["cpu_usage"] is not None
        assert (over.state.connections, over.state.failures) == (2, 0)


async def test_drives_are_asked_for_through_the_real_smartctl(sshd: RealSshd) -> None:
    async with session(sshd.device()) as over:
        told = await payload(DrivesCollector(over))
    assert told["available"] or told["reason"] == "smartctl is not installed there (package smartmontools)"
    assert isinstance(told["drives"], list)


@pytest.mark.docker
@pytest.mark.parametrize("way", ["forwarding", "dial-stdio"])
async def test_containers_of_the_device(
    make_sshd: Callable[..., RealSshd], containers: Any, daemon: docker.APIClient, way: str
) -> None:
    """By the forwarding of sockets, and where a server does not allow that by the docker command."""
    sshd = make_sshd(*(() if way == "forwarding" else ("AllowStreamLocalForwarding no",)))
    name = containers.run("sleep", "600")

    changes: list[tuple[str, str]] = []

    async def reading(collector: ContainersCollector) -> dict[str, Any]:
        """Return ours of the next reading that is whole: a daemon or machine that is busy with others may take long."""
        while True:
            with suppress(SshError):
                for draft in await collector.collect():
                    if draft.kind == Kind.CONTAINERS_COLLECTED and draft.payload["available"]:
                        found: dict[str, Any] = next(
                            each for each in draft.payload["containers"] if each["name"] == name
                        )
                        return found
                    if (
                        draft.kind == Kind.CONTAINER_STATUS_CHANGED
                        and draft.payload["container"]["name"] == name
                    ):
                        changes.append(
                            (draft.payload["previous"]["status"], draft.payload["current"]["status"])
                        )
            await asyncio.sleep(0.1)

    async with session(sshd.device()) as over, asyncio.timeout(150):
        collector = ContainersCollector(over, look_again_seconds=0)
        first = await reading(collector)
        assert (first["status"], first["running"]) == ("running", True)
        assert first["cpu_percent"] is None
        second = first
        while second["cpu_percent"] is None or second["restarts"] is None:
            second = await reading(collector)
        assert second["restarts"] == 0
        assert second["memory_used_bytes"] > 0
        await asyncio.to_thread(containers.command, "kill", name)
        while (await reading(collector))["status"] != "exited":
            pass
        assert changes == [("running", "exited")]
        assert over.state.connections <= 1 + over.state.failures
