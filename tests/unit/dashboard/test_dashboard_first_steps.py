"""First steps: when they are shown, and that their commands exist."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
import typer.main
from click import Command, Group

from crossfade import push
from crossfade.cli.app import app
from dashboard import reports
from dashboard.applications import Application
from dashboard.hub import Frame
from dashboard.model import Connection, HostView, State
from dashboard.place import Place
from dashboard.views import first_steps
from monitoring.flags.model import Flags

EMPTY = Frame(1, "viewer-1", Connection(), State(), reports.rollout(Flags(), None, "viewer-1"))
ALONE = replace(EMPTY, state=State(hosts={"box-1": HostView("box-1")}))
PLACES = [Place(), Place(" --data-dir /srv/x", "CROSSFADE_DATA_DIR=/srv/x "), Place(hosted=True)]


def test_they_are_for_who_has_next_to_nothing() -> None:
    assert first_steps.wanted(EMPTY)
    assert "nothing has arrived yet" in first_steps.title(EMPTY)
    assert first_steps.wanted(ALONE)
    assert "nothing but this machine" in first_steps.title(ALONE)
    hosts = {"a": HostView("a"), "b": HostView("b")}
    assert not first_steps.wanted(replace(EMPTY, state=State(hosts=hosts)))
    shop = replace(ALONE.state, applications={"shop": Application("shop")})
    assert not first_steps.wanted(replace(EMPTY, state=shop))


def test_each_is_there_with_what_has_been_done() -> None:
    found = first_steps.steps(ALONE, Place(), rollout=True)
    assert [(step.title, step.done) for step in found] == [
        ("Add a device", False),
        ("Push from an application", False),
        ("Add users", False),
        ("Start a rollout", True),
    ]
    assert first_steps.steps(EMPTY, Place(), rollout=False)[0].title == "Watch this machine"


@pytest.mark.parametrize("place", PLACES)
def test_every_command_is_one_of_ours_and_parses(place: Place) -> None:
    for step in first_steps.steps(EMPTY, place, rollout=False):
        words = shlex.split(step.command)
        if words[0].startswith("CROSSFADE_DATA_DIR="):
            words = words[1:]
        if words[0] == "python":
            compile(words[2], "step", "exec")
            assert "push.application" in words[2]
            assert callable(push.application)
            continue
        assert words[0] == "crossfade"
        assert (place.option.strip() or "crossfade") in step.command
        command, rest = _found(typer.main.get_command(app), words[1:])
        command.make_context(words[1], list(rest), resilient_parsing=False)


def _found(command: Command, words: list[str]) -> tuple[Command, list[str]]:
    while isinstance(command, Group):
        command, words = command.commands[words[0]], words[1:]
    return command, words
