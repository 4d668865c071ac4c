"""What a token lets somebody do, checked where it is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters import flag_audit, flag_file
from adapters.move_log import MoveLog, read
from crossfade.operating import Operating
from crossfade.paths import DataDir
from crossfade.settings import Settings
from crossfade.wiring import Role, Wiring, access_token
from embedded.keys import load_or_create
from monitoring.control import ActionFailed, Command
from monitoring.flags.loading import load
from monitoring.service import Backend, Moved

FLAGS = (Path(__file__).parents[3] / "flags.yaml").read_text()
NOW = datetime(2026, 11, 26, 8, tzinfo=UTC)
Token = Callable[..., str]


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    path = tmp_path / "flags.yaml"
    path.write_text(FLAGS)
    return path


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    made = DataDir.of(tmp_path / ".crossfade")
    for each in (made.run, made.supabase):
        each.mkdir(parents=True)
    return made


@pytest.fixture
def operating(data: DataDir, flags: Path) -> Operating:
    return Operating(Wiring(data, Settings(flags=flags)))


@pytest.fixture
def token(data: DataDir) -> Token:
    secret = load_or_create(data.supabase).jwt_secret
    return lambda role=Role.OPERATOR, seconds=60.0: access_token(
        secret, "ann", role, now=time.time(), seconds=seconds
    )


def test_a_token_says_who_somebody_is_and_what_they_may(operating: Operating, token: Token) -> None:
    assert operating.sign_in(token()).name == "ann"
    assert operating.sign_in(token()).writes
    assert not operating.sign_in(token(Role.VIEWER)).writes


@pytest.mark.parametrize("wrong", ["", "x", "a.b.c"])
def test_what_is_no_token_is_refused(operating: Operating, token: Token, wrong: str) -> None:
    token()  # the installation's secret exists
    with pytest.raises(ActionFailed):
        operating.sign_in(wrong)


def test_a_token_that_has_expired_acts_no_more(operating: Operating, token: Token, flags: Path) -> None:
    with pytest.raises(ActionFailed, match="expired"):
        operating.set_flag(token(seconds=-5), "kill", "true", "")
    assert flags.read_text() == FLAGS


def test_another_installations_token_is_refused(operating: Operating, token: Token, tmp_path: Path) -> None:
    token()
    (tmp_path / "other").mkdir()
    other = load_or_create(tmp_path / "other").jwt_secret
    with pytest.raises(ActionFailed, match="not valid here"):
        operating.sign_in(access_token(other, "eve", Role.ADMIN, now=time.time(), seconds=60))


def test_a_viewer_changes_nothing(operating: Operating, token: Token, flags: Path, data: DataDir) -> None:
    with pytest.raises(ActionFailed, match="may only read"):
        operating.set_flag(token(Role.VIEWER), "live.percent", "100", "")
    with pytest.raises(ActionFailed, match="may only read"):
        operating.command(token(Role.VIEWER), Command.STOP, "box", "api")
    assert flags.read_text() == FLAGS
    assert not list(flag_audit.read(data.flag_audit))


def test_an_operators_change_is_recorded_under_their_name(
    operating: Operating, token: Token, flags: Path, data: DataDir
) -> None:
    assert operating.set_flag(token(), "live.percent", "25", "canary")
    assert load(flag_file.read(flags)).percent == "25"
    (entry,) = flag_audit.read(data.flag_audit)
    assert (entry["who"], entry["why"]) == ("ann", "canary")
    flags.write_text("live: [")  # what is broken next leaves this change in force
    assert operating._wiring.flags().refresh().percent == "25"


def test_what_cannot_be_meant_changes_nothing(operating: Operating, token: Token, flags: Path) -> None:
    with pytest.raises(ActionFailed, match="percent"):
        operating.set_flag(token(), "live.percent", "120", "")
    with pytest.raises(ActionFailed, match="not known"):
        operating.plan("speed", "11")
    flags.write_text("live: [")
    with pytest.raises(ActionFailed, match="correct it first"):
        operating.set_flag(token(), "live.percent", "20", "")


def test_without_the_registry_another_machines_containers_are_not_commanded(
    operating: Operating, token: Token
) -> None:
    assert not operating.controls("far-away")
    with pytest.raises(ActionFailed, match="is crossfade up running here"):
        operating.command(token(), Command.STOP, "far-away", "api")


def test_the_newest_moves_are_read_from_the_end(operating: Operating, data: DataDir) -> None:
    assert operating.moves(3) == []
    moves = MoveLog(data.moves, max_bytes=2_000)
    for number in range(40):
        moved = Moved(Backend.LEGACY, Backend.SUPABASE, f"move {number}", NOW, 0.5, 0)
        moves.record(f"c-{number}", moved)
    with data.moves.open("a") as file:
        file.write('{"cut short')
    assert data.moves.with_name(data.moves.name + ".1").exists(), "some stand in the file that was set aside"
    assert [record["client"] for record in operating.moves(12)] == [f"c-{n}" for n in range(39, 27, -1)]
    kept = [record["client"] for record in read(data.moves)]
    assert [record["client"] for record in operating.moves(1000)] == kept[::-1]
