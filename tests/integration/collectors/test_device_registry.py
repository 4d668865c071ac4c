"""The registry in a real database, and the collecting process that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import asyncpg
import httpx
import pytest

from adapters.device_registry import (
    DeviceExists,
    DeviceNeeded,
    DeviceRegistry,
    RegistryUnavailable,
    UnknownDevice,
)
from collectors.schedule import Scheduler
from collectors.ssh.intervals import Intervals
from crossfade.registered import RegisteredDevices
from monitoring.devices import Device
from monitoring.events import Draft, Kind, StreamId
from tests.conftest import EmbeddedSupabase
from tests.fakes.ssh_devices import FakeDevice
from tests.fakes.tcp_proxy import TcpProxy

BASTION = Device("reg-bastion", "10.0.0.1", "ops", agent=True, monitoring_enabled=False)
WEB = Device(
    "reg-web", "10.0.0.2", "ops", 2222, "~/.ssh/id", "env:PASSPHRASE", jump="reg-bastion", drive_interval=60,
    description="the web", host_key="ssh-ed25519 AAAA",
)  # fmt: skip


INTERVAL_SECONDS = 2.0
"""A reading has nine tenths of it, which a busy machine needs."""


@pytest.fixture
async def registry(embedded_supabase: EmbeddedSupabase) -> AsyncIterator[DeviceRegistry]:
    yield DeviceRegistry(embedded_supabase.postgres.dsn())
    connection = await asyncpg.connect(embedded_supabase.postgres.dsn())
    await connection.execute("delete from public.cf_devices")
    await connection.close()


async def test_devices_come_back_as_they_were_put(registry: DeviceRegistry) -> None:
    await registry.add(BASTION)
    await registry.add(WEB)
    assert await registry.devices() == {"reg-bastion": BASTION, "reg-web": WEB}
    changed = replace(WEB, port=22, description=None)
    await registry.put([changed])
    assert (await registry.devices())["reg-web"] == changed
    assert [each.status for each in await registry.listed()] == [None, None]


async def test_what_cannot_be_is_refused_by_name(registry: DeviceRegistry) -> None:
    with pytest.raises(UnknownDevice, match="reg-bastion"):
        await registry.add(WEB)
    await registry.put([WEB, BASTION])
    with pytest.raises(DeviceExists, match="crossfade devices edit reg-web"):
        await registry.add(WEB)
    with pytest.raises(DeviceNeeded):
        await registry.remove("reg-bastion")
    await registry.remove("reg-web")
    with pytest.raises(UnknownDevice):
        await registry.remove("reg-web")


async def test_a_first_host_key_is_stored_once_and_for_the_same_machine(registry: DeviceRegistry) -> None:
    await registry.put([BASTION])
    assert not await registry.store_first_key("reg-bastion", "10.9.9.9", "ssh-ed25519 BBBB")
    assert await registry.store_first_key("reg-bastion", "10.0.0.1", "ssh-ed25519 BBBB")
    assert not await registry.store_first_key("reg-bastion", "10.0.0.1", "ssh-ed25519 CCCC")
    assert (await registry.devices())["reg-bastion"].host_key == "ssh-ed25519 BBBB"


async def test_a_database_that_is_not_there_is_said() -> None:
    with pytest.raises(RegistryUnavailable, match="is crossfade up running here"):
        await DeviceRegistry("postgresql://postgres@127.0.0.1:1/postgres").devices()


async def test_a_database_that_is_stopped_in_the_middle_of_a_question_is_said(
    registry: DeviceRegistry, embedded_supabase: EmbeddedSupabase
) -> None:
    holding, ending = [await asyncpg.connect(embedded_supabase.postgres.dsn()) for _ in range(2)]
    try:
        async with holding.transaction():
            await holding.execute("lock table public.cf_devices in access exclusive mode")
            asking = asyncio.ensure_future(registry.devices())
            async with asyncio.timeout(8):
                while not await ending.fetchval(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                    "where wait_event_type = 'Lock' and query like '%cf_devices d %'"
                ):
                    await asyncio.sleep(0.02)
            with pytest.raises(RegistryUnavailable, match="terminating connection"):
                await asking
    finally:
        await holding.close()
        await ending.close()


async def test_no_secret_gets_into_the_table(embedded_supabase: EmbeddedSupabase) -> None:
    connection = await asyncpg.connect(embedded_supabase.postgres.dsn())
    try:
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(
                "insert into public.cf_devices (device, host, username, password_from) values ('x', 'h', 'u', 'hunter2')"
            )
    finally:
        await connection.close()


async def test_viewers_see_which_devices_there_are_and_not_how_to_get_in(
    registry: DeviceRegistry, embedded_supabase: EmbeddedSupabase
) -> None:
    await registry.put([BASTION, WEB])
    url = f"{embedded_supabase.url}/rest/v1/cf_devices"

    async def ask(columns: str, role: str | None = "viewer", method: str = "GET") -> httpx.Response:
        key = embedded_supabase.keys.anon_key
        token = embedded_supabase.token(role) if role else key
        headers = {"apikey": key, "Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(timeout=10) as client:
            return await client.request(
                method, f"{url}?select={columns}&device=eq.reg-web", headers=headers,
                json={"host": "evil"} if method == "PATCH" else None,
            )  # fmt: skip

    assert (await ask("device,host,monitoring_enabled")).json() == [
        {"device": "reg-web", "host": "10.0.0.2", "monitoring_enabled": True}
    ]
    for column in ("key_file", "password_from", "passphrase_from", "host_key", "username", "*"):
        assert (await ask(column)).status_code in {401, 403}, column
    assert (await ask("device", role="nobody")).json() == []
    assert (await ask("device", role=None)).status_code in {401, 403}
    assert (await ask("device", role="admin", method="PATCH")).status_code in {401, 403}


class Process:
    """The part of the collecting process that reads devices."""

    def __init__(self, registry: DeviceRegistry) -> None:
        self.told: list[Draft] = []
        self.scheduler = Scheduler(self._publish, limit=10, ready=self._ready)
        self.devices = RegisteredDevices(
            registry, self.scheduler, self._publish, own_device="reg-own", remembered={},
            intervals=Intervals(*[INTERVAL_SECONDS] * 3), look_seconds=0.1,
        )  # fmt: skip

    def _publish(self, drafts: Sequence[Draft]) -> None:
        self.told += drafts

    async def _ready(self, _: Iterable[StreamId]) -> None:
        """Every stream is open."""

    def kinds(self, stream: str) -> list[str]:
        return [draft.kind for draft in self.told if draft.stream == stream]

    async def until(self, what: str, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(90):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"not within 90 s: {what}; {[(each.stream, each.kind) for each in self.told[-20:]]}")


@pytest.fixture
async def process(registry: DeviceRegistry) -> AsyncIterator[Process]:
    made = Process(registry)
    tasks = [asyncio.ensure_future(made.scheduler.run()), asyncio.ensure_future(made.devices.run())]
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await made.scheduler.close("the test is over")
    await made.devices.close()


async def test_the_collecting_process_follows_the_registry(
    registry: DeviceRegistry, process: Process, tmp_path: Path
) -> None:
    fake = FakeDevice(tmp_path)
    await fake.start()
    try:
        device = fake.device("reg-fake", host_key=None)
        await registry.add(device)
        for stream, kind in (
            ("reg-fake/system", Kind.METRIC_COLLECTED),
            ("reg-fake/drives", Kind.METRIC_COLLECTED),
            ("reg-fake/containers", Kind.CONTAINERS_COLLECTED),
        ):
            await process.until(
                f"{stream} is read", lambda stream=stream, kind=kind: kind in process.kinds(stream)
            )
        assert Kind.HOST_KEY_STORED in process.kinds("reg-fake/system")
        member = process.devices.members["reg-fake"]
        await process.until(
            "the key is stored, and that is seen",
            lambda: process.devices._fleet._registered["reg-fake"].host_key == fake.host_key,
        )
        assert (await registry.devices())["reg-fake"].host_key == fake.host_key
        assert process.devices.members["reg-fake"] is member, "storing the key is no reason to connect anew"
        state = member.session.state
        assert state.connections <= 1 + state.failures

        # set up anew under the same address: refused, told once, and let in after somebody says so
        await fake.stop()
        fake.new_host_key()
        await fake.start()
        await process.until(
            "the change is told", lambda: Kind.HOST_KEY_CHANGED in process.kinds("reg-fake/system")
        )
        await process.until(
            "it is down",
            lambda: any(
                draft.payload.get("new_status") == "down"
                for draft in process.told
                if draft.stream == "reg-fake/system"
            ),
        )
        assert process.kinds("reg-fake/system").count(Kind.HOST_KEY_CHANGED) == 1
        before = process.kinds("reg-fake/system").count(Kind.METRIC_COLLECTED)
        await registry.put([replace(device, host_key=fake.host_key)])
        await process.until(
            "it is read again", lambda: process.kinds("reg-fake/system").count(Kind.METRIC_COLLECTED) > before
        )

        await registry.remove("reg-fake")
        await process.until("it is let go", lambda: not process.devices.members)
        await process.until(
            "that is told",
            lambda: any(
                (draft.payload.get("new_status"), draft.payload.get("reason"))
                == ("unknown", "it is not monitored any more")
                for draft in process.told
                if draft.stream == "reg-fake/system"
            ),
        )
        await process.until("nobody asks it any more", lambda: process.scheduler.schedules == ())
    finally:
        await fake.stop()


async def test_while_the_database_is_away_the_known_devices_go_on_being_read(
    registry: DeviceRegistry, embedded_supabase: EmbeddedSupabase, tmp_path: Path
) -> None:
    fake = FakeDevice(tmp_path)
    await fake.start()
    postgres = embedded_supabase.postgres
    async with TcpProxy(("127.0.0.1", postgres.port)) as way:
        process = Process(DeviceRegistry(postgres.url().replace(f":{postgres.port}/", f":{way.port}/")))
        tasks = [asyncio.ensure_future(process.scheduler.run()), asyncio.ensure_future(process.devices.run())]
        try:
            await registry.add(fake.device("reg-fake"))
            await process.until("it is read", lambda: "reg-fake" in process.devices.members)
            await way.refuse()
            await process.until("that is said", lambda: process.devices.problem is not None)
            asked = fake.asked
            await process.until("it is read all the same", lambda: fake.asked > asked + 2)
            await registry.remove("reg-fake")
            await way.resume()
            await process.until("the registry is followed again", lambda: not process.devices.members)
            assert process.devices.problem is None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await process.scheduler.close("the test is over")
            await process.devices.close()
            await fake.stop()


async def test_a_registered_device_of_this_machines_name_is_left_out_and_said(
    registry: DeviceRegistry, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    await registry.add(replace(BASTION, name="reg-own", monitoring_enabled=True))
    await process.until("it is said", lambda: "reg-own is this machine" in caplog.text)
    assert process.scheduler.schedules == ()
