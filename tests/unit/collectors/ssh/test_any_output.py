"""Whatever a device prints: no crash, no negative number, nothing that cannot be stored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from collectors.ssh import commands, system
from collectors.ssh.script import Section, split
from collectors.ssh.text import decode
from tests.fakes.leaves import leaves

LINES = st.sampled_from(
    [
        "cpu  1 2 3 4 5 6 7 8 9 10", "cpu0 1 2 3 4", "cpu  -1 x 3 4", "MemTotal: 99 kB", "MemAvailable: 100 kB",
        "MemFree: 5 kB", "SwapTotal: 1 kB", "SwapFree: 7 kB", "0.1 0.2 0.3 1/2 3", "nan inf -1 1/2 3", "1e400 1",
        "123.45 6", "cpu some avg10=1.0 avg60=nan", "io full avg10=101", "/dev/sda1 / ext4 rw 0 0",
        "/dev/sda1 /a\\040b ext4 rw 0 0", "/dev/sda1 10 5 5 50% /", "/dev/sda1 10 - -5 - /a b", "x 1 1 1 1% /",
        "8 0 sda 1 2 3 4 5 6 7 8 9 10 11", "8 0 sda 1 2 99999999999999999999 4 5 6 7 8 9 10 11",
        " eth0: 1 2 3 4 5 6 7 8 9 10", ": 1 2 3 4 5 6 7 8 9", "hostname=\x00\x07", "NAME='x", 'ID="\\"', "{}", '{"smartctl":{}}',
    ]
)  # fmt: skip
OUTPUTS = st.binary(max_size=200).map(decode) | st.lists(LINES, max_size=12).map("\n".join)


def numbers(value: Any) -> Iterator[float]:
    return (each for each in leaves(value) if isinstance(each, int | float) and not isinstance(each, bool))


def readings() -> st.SearchStrategy[system.SystemReading]:
    def read(outputs: dict[str, tuple[int, str]]) -> system.SystemReading:
        sections = {name: Section(status, output) for name, (status, output) in outputs.items()}
        return system.reading_of(
            {each.name: commands.read(each, sections.get(each.name)) for each in commands.SYSTEM}
        )

    names = st.sampled_from([each.name for each in commands.SYSTEM])
    statuses = st.sampled_from([0, 0, 0, 1, 124, 127])
    return st.dictionaries(names, st.tuples(statuses, OUTPUTS)).map(read)


@given(readings(), readings())
def test_any_two_readings_make_a_payload_that_can_be_stored(
    before: system.SystemReading, now: system.SystemReading
) -> None:
    told = system.payload("device", now, before)
    assert orjson.dumps(told)
    assert not any("\0" in each for each in leaves(told) if isinstance(each, str))
    assert all(math.isfinite(number) and number >= 0 for number in numbers(told))


@given(st.binary(max_size=400), st.binary(max_size=100))
def test_any_bytes_can_be_taken_apart(out: bytes, err: bytes) -> None:
    split(decode(out), decode(err), "@cf-x")
    split("@cf-x<a\n" + decode(out), decode(err) + "\n@cf-x>999999\n", "@cf-x")


@given(st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=2), st.integers(1, 100))
def test_a_counter_that_goes_back_never_gives_a_negative_rate(values: list[int], seconds: int) -> None:
    first, second = (
        system.reading_of(
            {
                "uptime": commands.Answer(float(at)),
                "networks": commands.Answer({"eth0": (value, value)}),
            }
        )
        for at, value in zip((1, 1 + seconds), values, strict=True)
    )
    (network,) = system.payload("device", second, first)["networks"]
    rate = network["rx_bytes_per_second"]
    assert rate is None or 0 <= rate <= 10e9
    assert (rate is None) == (values[1] < values[0] or (values[1] - values[0]) / seconds > 10e9)
