"""What an agent may run: parameters fill holes, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.commands import CommandState, InvalidParameters, Offer, Parameter

OFFER = Offer(
    ("systemctl", "restart", "shop@{instance}.service", "--lines={lines}"),
    {"instance": Parameter(choices=("a", "b")), "lines": Parameter(minimum=1, maximum=500, default="10")},
    "restart the shop",
    30.0,
)


def test_values_fill_their_holes_and_defaults_the_others() -> None:
    assert OFFER.arguments({"instance": "a"}) == ["systemctl", "restart", "shop@a.service", "--lines=10"]
    assert OFFER.arguments({"instance": "b", "lines": 7})[-2:] == ["shop@b.service", "--lines=7"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidParameters) as raised:
        OFFER.arguments({"lines": "many", "force": "yes"})
    assert raised.value.mistakes == (
        ("force", "is not a parameter of it"),
        ("instance", "is missing"),
        ("lines", "must be a whole number"),
    )


@pytest.mark.parametrize(
    ("parameter", "value", "detail"),
    [
        (Parameter(choices=("a", "b")), "c", "must be one of a, b"),
        (Parameter(minimum=1, maximum=5), "6", "must be from 1 to 5"),
        (Parameter(maximum=5), "6", "must be at most 5"),
        (Parameter(minimum=1), "0", "must be from 1"),
        (Parameter(minimum=1), "1e3", "must be a whole number"),
        (Parameter(minimum=1), "٣", "must be a whole number"),
        (Parameter(pattern="[a-z]+"), "Ab", "must be of the form [a-z]+"),
        (Parameter(pattern="[a-z]+"), "ab\n", "holds characters that are not printable"),
        (Parameter(pattern=".*"), "-rf", "must not begin with a dash, which programs take for an option"),
        (Parameter(pattern=".*", max_characters=3), "abcd", "has more than 3 characters"),
        (Parameter(pattern=".*"), "a\0b", "holds characters that are not printable"),
    ],
)
def test_a_value_that_is_not_taken_is_told_why(parameter: Parameter, value: str, detail: str) -> None:
    assert parameter.mistake(value) == detail


@pytest.mark.parametrize("value", [True, 1.5, None, ["a"], {"a": 1}])
def test_only_text_and_whole_numbers_are_values(value: object) -> None:
    with pytest.raises(InvalidParameters):
        OFFER.checked({"instance": value})


@given(value=st.text(max_size=50))
def test_whatever_a_value_is_it_stays_within_its_argument(value: str) -> None:
    offer = Offer(("echo", "a{x}b", "{x}", "tail"), {"x": Parameter(pattern="(?s).*")})
    try:
        made = offer.arguments({"x": value})
    except InvalidParameters:
        return
    assert made == ["echo", f"a{value}b", value, "tail"]


def test_a_value_that_looks_like_a_hole_is_not_filled_again() -> None:
    parameters = {"x": Parameter(pattern=".*"), "y": Parameter(pattern=".*")}
    assert Offer(("p", "{x}{y}"), parameters).arguments({"x": "{y}", "y": "1"}) == ["p", "{y}1"]


def test_what_an_agent_registers_is_read_back_without_what_it_runs() -> None:
    told = OFFER.to_json()
    assert "run" not in told
    again = Offer.from_json(told)
    assert (again.parameters, again.timeout_seconds, again.run) == (OFFER.parameters, 30.0, ())


def test_a_pattern_from_another_machine_is_not_run_here() -> None:
    evil = Offer(("p", "{x}"), {"x": Parameter(pattern="(a+)+b")})
    told = evil.to_json()
    assert told["parameters"]["x"]["pattern"] == "(a+)+b", "people are shown it"
    assert Offer.from_json(told).checked({"x": "a" * 40}) == {"x": "a" * 40}


def test_states_that_are_final() -> None:
    open_ = {each for each in CommandState if not each.final}
    assert open_ == {CommandState.QUEUED, CommandState.TAKEN, CommandState.RUNNING}
