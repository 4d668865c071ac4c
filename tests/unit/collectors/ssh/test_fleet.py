from __future__ import annotations

from dataclasses import replace

from collectors.ssh.fleet import Fleet
from collectors.ssh.intervals import Intervals
from monitoring.devices import Device

BASTION = Device("bastion", "10.0.0.1", "ops", agent=True, monitoring_enabled=False)
WEB = Device("web", "10.0.0.2", "ops", agent=True, jump="bastion", system_interval=60)
DB = Device("db", "10.0.0.3", "ops", agent=True)


def registry(*devices: Device) -> dict[str, Device]:
    return {device.name: device for device in devices}


def names(members: list) -> list[str]:
    return [member.device.name for member in members]


async def test_devices_come_and_go_with_the_registry() -> None:
    fleet = Fleet()
    assert [names(each) for each in fleet.update(registry(DB))] == [[], ["db"]]
    assert [names(each) for each in fleet.update(registry(DB))] == [[], []]
    assert [names(each) for each in fleet.update(registry(DB, BASTION, WEB))] == [[], ["web"]]
    assert [names(each) for each in fleet.update(registry(BASTION, WEB))] == [["db"], []]
    assert set(fleet.members) == {"web"}


async def test_a_device_has_its_own_intervals_or_those_of_all() -> None:
    fleet = Fleet(intervals=Intervals(containers=1, system=2, drives=3))
    _, (member,) = fleet.update(registry(BASTION, WEB))
    assert {collector.name: pace.interval_seconds for collector, pace in member.collectors} == {
        "web/system": 60, "web/containers": 1, "web/drives": 3,
    }  # fmt: skip


async def test_a_change_of_the_way_connects_anew() -> None:
    fleet = Fleet()
    fleet.update(registry(BASTION, WEB, DB))
    ended, begun = fleet.update(registry(replace(BASTION, port=2222), WEB, DB))
    assert (names(ended), names(begun)) == (["web"], ["web"])
    assert ended[0].session is not begun[0].session


async def test_switching_monitoring_off_ends_it() -> None:
    fleet = Fleet()
    fleet.update(registry(DB))
    ended, begun = fleet.update(registry(replace(DB, monitoring_enabled=False)))
    assert (names(ended), names(begun)) == (["db"], [])


async def test_a_device_whose_jump_host_is_not_there_is_left_out() -> None:
    assert Fleet().update(registry(WEB)) == ([], [])


async def test_a_first_host_key_is_no_change_and_a_forgotten_one_is() -> None:
    fleet = Fleet()
    _, (member,) = fleet.update(registry(DB))
    with_key = replace(DB, host_key="ssh-ed25519 AAAA")
    member.session.device = with_key  # what the session does on its first connection
    assert fleet.update(registry(DB)) == ([], []), "the registry does not have it yet"
    assert fleet.update(registry(with_key)) == ([], [])
    ended, begun = fleet.update(registry(DB))
    assert (names(ended), names(begun)) == (["db"], ["db"]), "somebody had it forgotten"


async def test_a_machine_that_comes_back_is_seen_within_ten_minutes_or_at_its_own_interval() -> None:
    _, (member,) = Fleet().update(registry(DB))
    slowest = {collector.name: pace.interval(failures=100) for collector, pace in member.collectors}
    assert slowest == {"db/system": 600, "db/containers": 240, "db/drives": 3600}
