"""Devices that misbehave, each in its way: what is told of them, and that they harm no other."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from collectors.judge import device_judge
from collectors.pace import Pace
from collectors.schedule import Scheduler
from collectors.ssh.breaker import DeviceBreaker
from collectors.ssh.collector import DrivesCollector, SystemCollector
from collectors.ssh.containers import ContainersCollector
from collectors.ssh.errors import (
    AccessRefused,
    Garbled,
    HostKeyChanged,
    HostKeyUnknown,
    Resting,
    TooSlow,
    Unreachable,
)
from collectors.ssh.session import Session
from monitoring.device_status import Outcome
from monitoring.devices import Device
from monitoring.events import Draft, Kind, device_of
from tests.fakes.ssh_devices import FIXTURES, FakeDevice, Habit

Make = Callable[..., Any]


@pytest.fixture
async def make_device(tmp_path: Path) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def make(habit: Habit = Habit.WELL, **options: Any) -> FakeDevice:
            device = FakeDevice(tmp_path, habit, **options)
            await device.start()
            stack.push_async_callback(device.stop)
            return device

        yield make


@pytest.fixture
async def open_session() -> AsyncIterator[Callable[..., Session]]:
    made: list[Session] = []

    def open_(device: FakeDevice, cycle_seconds: float = 5.0, **fields: Any) -> Session:
        made.append(
            Session(
                device.device("odd", **fields),
                cycle_seconds=cycle_seconds,
                breaker=DeviceBreaker(threshold=100),
            )
        )
        return made[-1]

    yield open_
    for session in made:
        await session.close()


async def test_a_well_device_tells_rates(make_device: Make, open_session: Make) -> None:
    device = await make_device()
    collector = SystemCollector(open_session(device))
    await collector.collect()
    await asyncio.sleep(0.1)  # what is measured is an interval
    (told,) = await collector.collect()
    assert told.payload["cpu_usage"] is not None
    assert told.payload["networks"][0]["rx_bytes_per_second"] > 0
    assert told.payload["hostname"] == "web-1"


async def test_a_device_that_lets_in_and_never_answers_is_given_up_and_let_go(
    make_device: Make, open_session: Make
) -> None:
    device = await make_device(Habit.HANGING)
    session = open_session(device, cycle_seconds=0.5)
    with pytest.raises(TooSlow) as slow:
        await SystemCollector(session).collect()
    assert slow.value.outcome is Outcome.SILENT
    assert not session.state.connected
    device.habit = Habit.WELL
    assert await SystemCollector(session).collect()


async def test_a_device_that_takes_connections_and_says_nothing(
    make_device: Make, open_session: Make
) -> None:
    device = await make_device(Habit.SILENT)
    with pytest.raises((TooSlow, Unreachable)) as silent:
        await SystemCollector(open_session(device, cycle_seconds=0.5)).collect()
    assert silent.value.outcome is Outcome.SILENT


async def test_a_device_that_tells_garbage(make_device: Make, open_session: Make) -> None:
    device = await make_device(Habit.LYING)
    session = open_session(device)
    with pytest.raises(Garbled, match="nothing that it says is a Linux system's") as lying:
        await SystemCollector(session).collect()
    assert lying.value.outcome is Outcome.PARTIAL
    (drives,) = await DrivesCollector(session).collect()
    assert drives.payload["available"] is False


async def test_a_device_whose_answer_has_no_end(make_device: Make, open_session: Make) -> None:
    device = await make_device(Habit.RAVING)
    with pytest.raises(Garbled, match="more than 8 MiB came back"):
        await SystemCollector(open_session(device, cycle_seconds=30)).collect()


async def test_a_device_without_a_shell(make_device: Make, open_session: Make) -> None:
    device = await make_device(Habit.NO_SHELL)
    with pytest.raises(Garbled, match="its shell does not run our script; it said: Unknown command"):
        await SystemCollector(open_session(device)).collect()


async def test_a_connection_that_breaks_in_the_middle_of_an_answer(
    make_device: Make, open_session: Make
) -> None:
    device = await make_device(Habit.CUTTING)
    session = open_session(device)
    with pytest.raises(Unreachable):
        await SystemCollector(session).collect()
    device.habit = Habit.WELL
    assert await SystemCollector(session).collect()


async def test_one_command_that_cannot_be_read_is_asked_again_and_then_left_out(
    make_device: Make, open_session: Make
) -> None:
    device = await make_device()
    device.overrides["memory"] = "MemTotal: none of your business\n"
    (told,) = await SystemCollector(open_session(device)).collect()
    assert device.asked == 2
    assert told.payload["memory"] is None
    assert told.payload["memory_usage"] is None
    assert "it said: MemTotal: none of your business" in told.payload["unavailable"]["memory"]
    assert told.payload["load"] is not None


async def test_answers_that_hold_are_not_asked_for_again(make_device: Make, open_session: Make) -> None:
    device = await make_device()
    collector = SystemCollector(open_session(device))
    await collector.collect()
    device.overrides["identity"] = "hostname=another\n"
    (told,) = await collector.collect()
    assert told.payload["os"]["hostname"] == "web-1", "for an hour it is known who that is"


async def test_a_restart_is_told_and_is_a_new_baseline(make_device: Make, open_session: Make) -> None:
    device = await make_device()
    collector = SystemCollector(open_session(device))
    await collector.collect()
    device.boot()
    restarted, told = await collector.collect()
    assert restarted.kind == Kind.DEVICE_RESTARTED
    assert restarted.payload["uptime_seconds"] < restarted.payload["previous_uptime_seconds"]
    assert told.payload["cpu_usage"] is None
    assert told.payload["networks"][0]["rx_bytes_per_second"] is None


async def test_a_sleeping_drive_keeps_its_last_values(make_device: Make, open_session: Make) -> None:
    device = await make_device()
    session = open_session(device, drive_interval=1)
    collector = DrivesCollector(session)
    (told,) = await collector.collect()
    assert told.payload["drives"][0]["asleep"] is False
    device.overrides["smart"] = (FIXTURES / "smartctl-standby.json").read_text()
    session._held.clear()  # five minutes later
    (told,) = await collector.collect()
    (drive,) = told.payload["drives"]
    assert (drive["asleep"], drive["temperature_celsius"]) == (True, 32)


async def test_a_device_without_docker_says_so_once(make_device: Make, open_session: Make) -> None:
    device = await make_device()
    collector = ContainersCollector(open_session(device))
    (told,) = await collector.collect()
    assert told.payload["available"] is False
    assert told.payload["reason"].startswith("no Docker answers at /var/run/docker.sock")
    assert await collector.collect() == []


async def test_containers_are_told_with_their_figures(make_device: Make, open_session: Make) -> None:
    device = await make_device()
    device.containers = 9
    collector = ContainersCollector(open_session(device))
    await collector.collect()
    (told,) = await collector.collect()
    assert [each["name"] for each in told.payload["containers"]] == [f"app-{number}" for number in range(9)]
    assert {each["cpu_percent"] for each in told.payload["containers"]} == {10.0}
    assert {each["memory_used_bytes"] for each in told.payload["containers"]} == {63 << 20}
    device.containers = 8
    changed, _ = await collector.collect()
    assert (changed.kind, changed.payload["current"]) == (Kind.CONTAINER_STATUS_CHANGED, None)


async def test_a_docker_that_goes_away_while_it_is_asked_is_said_and_the_device_is_well(
    make_device: Make, open_session: Make
) -> None:
    device = await make_device()
    device.containers = 3
    session = open_session(device)
    collector = ContainersCollector(session)
    await collector.collect()
    device.habit = Habit.CUTTING
    (told,) = await collector.collect()
    assert told.payload["available"] is False
    assert (session.state.connections, session.state.failures) == (1, 0)


async def test_a_password_lets_in_and_is_never_given_to_a_stranger(
    make_device: Make, open_session: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD_PASSWORD", "correct horse")
    device = await make_device(password="correct horse")
    assert await SystemCollector(open_session(device, password_from="env:ODD_PASSWORD")).collect()
    device.passwords.clear()
    with pytest.raises(HostKeyUnknown):
        await SystemCollector(open_session(device, password_from="env:ODD_PASSWORD", host_key=None)).collect()
    await device.stop()
    device.new_host_key()
    key = device.host_key
    device.new_host_key()
    await device.start()
    with pytest.raises(HostKeyChanged):
        await SystemCollector(open_session(device, password_from="env:ODD_PASSWORD", host_key=key)).collect()
    assert device.passwords == []
    monkeypatch.setenv("ODD_PASSWORD", "wrong")
    with pytest.raises(AccessRefused, match="lets nobody in with the password") as refused:
        await SystemCollector(open_session(device, password_from="env:ODD_PASSWORD")).collect()
    assert "wrong" not in str(refused.value)


async def test_a_device_that_fails_is_left_alone_for_a_while(make_device: Make) -> None:
    device = await make_device()
    await device.stop()
    session = Session(device.device("odd"), breaker=DeviceBreaker(threshold=2, first_seconds=60))
    collector = SystemCollector(session)
    for _ in range(2):
        with pytest.raises(Unreachable):
            await collector.collect()
    await device.start()
    with pytest.raises(Resting, match=r"Connect call failed|refused") as resting:
        await collector.collect()
    assert resting.value.outcome is Outcome.SILENT
    assert 0 < resting.value.retry_seconds <= 60
    assert device.asked == 0


async def test_whoever_finds_a_failing_device_being_tried_does_not_wait(make_device: Make) -> None:
    """Three collectors of a device that hangs would hold three places that others need."""
    device = await make_device(Habit.HANGING)
    session = Session(device.device("odd"), cycle_seconds=1.0, breaker=DeviceBreaker(threshold=100))
    with pytest.raises(TooSlow):
        await SystemCollector(session).collect()
    trying = asyncio.ensure_future(SystemCollector(session).collect())
    async with asyncio.timeout(5):
        while not session._turn.locked():
            await asyncio.sleep(0)
    with pytest.raises(Resting):
        await DrivesCollector(session).collect()
    with pytest.raises(TooSlow):
        await trying


WELL_SECONDS = 3.0
"""Between two readings of a well device, which take some hundredths: a machine busy with other tests keeps to it, too."""
ODD_SECONDS = 1.0


class Fleet:
    """Devices that are read as the collecting process reads them, each at its interval, ten at once."""

    def __init__(self, well: Mapping[str, Device], odd: Mapping[str, Device]) -> None:
        self.told: list[Draft] = []
        self.read: Counter[str] = Counter()
        self._scheduler = Scheduler(self._publish, limit=10, ready=self._ready)
        for name, device in {**well, **odd}.items():
            seconds = WELL_SECONDS if name in well else ODD_SECONDS
            session = Session(
                device,
                cycle_seconds=0.8 * seconds,
                breaker=DeviceBreaker(first_seconds=0.2, cap_seconds=0.5),
            )
            self._scheduler.add(
                SystemCollector(session), Pace(seconds), judge=device_judge(name, {}), remote=True
            )
        self.schedules = self._scheduler.schedules

    def _publish(self, drafts: Sequence[Draft]) -> None:
        self.told.extend(drafts)
        self.read.update(device_of(draft.stream) for draft in drafts if draft.kind == Kind.METRIC_COLLECTED)

    async def _ready(self, _: object) -> None:
        """Every stream is open."""

    def kinds(self, name: str) -> list[str]:
        return [draft.kind for draft in self.told if device_of(draft.stream) == name]

    def status(self, name: str) -> str | None:
        changes = (each for each in reversed(self.told) if each.kind == Kind.DEVICE_STATUS_CHANGED)
        return next((each.payload["new_status"] for each in changes if device_of(each.stream) == name), None)

    async def until(self, what: str, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(60):
                while not condition():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(
                f"not within 60 s: {what}; {[(each.collector.name, each.ticks) for each in self.schedules]}"
            )

    async def until_status(self, name: str, status: str) -> None:
        await self.until(f"{name} is {status}", lambda: self.status(name) == status)

    async def __aenter__(self) -> Self:
        self._running = asyncio.ensure_future(self._scheduler.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.wait({self._running})
        await self._scheduler.close("the test is over")


async def test_devices_that_misbehave_harm_no_other(make_device: Make) -> None:
    """Twelve well devices and six others over ten places: each well one is read ten times, and never fails."""
    well = [await make_device() for _ in range(12)]
    hanging, lying, cutting = [
        await make_device(habit) for habit in (Habit.HANGING, Habit.LYING, Habit.CUTTING)
    ]
    changed, vanishing, rebooting = [await make_device() for _ in range(3)]
    healthy = {f"well-{number}": device.device(f"well-{number}") for number, device in enumerate(well)}
    others = {
        "hanging": hanging.device("hanging"),
        "lying": lying.device("lying"),
        "cutting": cutting.device("cutting"),
        "changed": changed.device("changed", host_key=vanishing.host_key),
        "vanishing": vanishing.device("vanishing"),
        "rebooting": rebooting.device("rebooting"),
    }
    async with Fleet(healthy, others) as fleet:
        await fleet.until("they were read once", lambda: {"vanishing", "rebooting"} <= fleet.read.keys())
        await vanishing.stop()
        await rebooting.stop()
        await fleet.until_status("rebooting", "unreachable")
        rebooting.boot()
        await rebooting.start()
        await fleet.until_status("rebooting", "up")
        for name in ("hanging", "vanishing", "cutting"):
            await fleet.until_status(name, "unreachable")
        await fleet.until_status("changed", "down")
        await fleet.until_status("lying", "degraded")
        await fleet.until("each was read ten times", lambda: all(fleet.read[name] >= 10 for name in healthy))
    for schedule in fleet.schedules:
        if device_of(next(iter(schedule.streams))) in healthy:
            assert (schedule.ticks.failed, schedule.ticks.timed_out) == (0, 0), schedule.ticks
    assert {fleet.status(name) for name in healthy} == {"unknown"}, "up until the end"
    assert fleet.kinds("rebooting").count(Kind.DEVICE_RESTARTED) == 1
