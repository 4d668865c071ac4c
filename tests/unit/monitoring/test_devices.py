from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.devices import Device, check_jumps, described, make
from monitoring.devices_file import load_devices
from monitoring.errors import InvalidDevice, InvalidDeviceFile

GOOD = {"name": "web-1", "host": "10.0.0.5", "user": "monitor", "key_file": "~/.ssh/id_ed25519"}


def test_a_device_is_made_of_text_as_of_values() -> None:
    device = make({**GOOD, "port": "2222", "agent": "true", "system_interval": "60"})
    assert device == make({**GOOD, "port": 2222, "agent": True, "system_interval": 60.0})
    assert device.where == "monitor@10.0.0.5:2222"
    assert make(described(device)) == device


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "a/b", "name: "),
        ("host", "-oProxyCommand=x", "host: "),
        ("host", "a b", "host: "),
        ("port", 0, "from 1 to 65535"),
        ("port", "x", "from 1 to 65535"),
        ("user", "", "user: "),
        ("agent", "yes", "neither true nor false"),
        ("drive_interval", 0, "number of seconds"),
        ("system_interval", "nan", "number of seconds"),
        ("description", "two\nlines", "one line"),
        ("colour", "red", "there is no field 'colour'"),
        ("jump", "web-1", "cannot be its own jump host"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_field(field: str, value: object, says: str) -> None:
    with pytest.raises(InvalidDevice, match=says) as refused:
        make({**GOOD, field: value})
    assert refused.value.field == field


def test_a_secret_is_never_taken_and_never_repeated() -> None:
    with pytest.raises(InvalidDevice) as refused:
        make({**GOOD, "password_from": "hunter2"})
    assert "hunter2" not in str(refused.value)
    assert make({**GOOD, "password_from": "env:WEB_1_PASSWORD"}).password_from == "env:WEB_1_PASSWORD"


def test_a_device_needs_a_way_in() -> None:
    with pytest.raises(
        InvalidDevice,
        match=r"no way in: give key_file \(--key-file\), agent \(--agent\) or password_from \(--password-from\)",
    ):
        make({key: value for key, value in GOOD.items() if key != "key_file"})


def test_jump_hosts_must_be_there_and_lead_somewhere() -> None:
    a = Device("a", "h", "u", agent=True, jump="b")
    b = Device("b", "h", "u", agent=True, jump="a")
    with pytest.raises(InvalidDevice, match="not a device"):
        check_jumps({"a": a})
    with pytest.raises(InvalidDevice, match="in a circle"):
        check_jumps({"a": a, "b": b})


FILE = """\
version: 1
devices:
  bastion: {host: bastion.example, user: ops, agent: true, monitoring_enabled: false}
  web-1:
    host: 10.0.0.5
    user: monitor
    key_file: ~/.ssh/id_ed25519
    jump: bastion
    system_interval: 60
"""


def test_a_file_is_read() -> None:
    devices = load_devices(FILE)
    assert list(devices) == ["bastion", "web-1"]
    assert devices["web-1"].jump == "bastion"
    assert devices["web-1"].system_interval == 60
    assert devices["bastion"].monitoring_enabled is False


def test_every_mistake_is_told_with_its_line() -> None:
    text = """\
version: 2
devices:
  web-1:
    host: 10.0.0.5
    user: monitor
    password: hunter2
  web-2:
    host: a b
    user: monitor
    agent: true
  web-3:
    user: monitor
    colour: red
  web-1:
    host: x
    user: y
    agent: true
nonsense: 1
"""
    with pytest.raises(InvalidDeviceFile) as refused:
        load_devices(text)
    told = dict(refused.value.problems)
    assert sorted(told) == [1, 6, 8, 12, 13, 14, 18]
    assert "password_from" in told[6]
    assert "hunter2" not in str(refused.value)
    assert "'a b' is not a host name" in told[8]
    assert "host is missing" in told[12]
    assert "twice, first in line 3" in told[14]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("version: 1\n", "key `devices`"),
        ("version: 1\ndevices:\n  a: [1]\n", "keys and values"),
        ("version: 1\ndevices: {a: {host: h, user: u, agent: true, jump: b}}\n", "'b' is not a device"),
        ("version: 1\ndevices: {a: {host: h, user: u, key_file: ~}}\n", "key_file has no value"),
        ("version: 1\ndevices: {a: &x {host: h, user: u, agent: true}}\n", "anchors"),
        ("a: b: c\n", "line 1: not YAML"),
        ("\t", "not YAML"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidDeviceFile, match=says):
        load_devices(text)


def test_jump_hosts_may_be_of_the_registry() -> None:
    known = {"bastion": Device("bastion", "h", "u", agent=True)}
    text = "version: 1\ndevices: {a: {host: h, user: u, agent: true, jump: bastion}}\n"
    assert load_devices(text, known=known)["a"].jump == "bastion"


@given(st.text(max_size=200) | st.text(alphabet="ab:-{}[]&*!? \n\t'\"|>", max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    for candidate in (text, FILE + text, FILE[: len(text)] + text):
        with contextlib.suppress(InvalidDeviceFile):
            assert all(device.name == name for name, device in load_devices(candidate).items())


def test_the_example_in_the_documentation_is_good() -> None:
    page = (Path(__file__).parents[3] / "docs" / "devices.md").read_text()
    assert load_devices(page.split("```yaml\n")[1].split("```")[0])
