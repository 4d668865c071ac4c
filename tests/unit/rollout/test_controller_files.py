"""The controller over its files, with everything about it missing, dead, lagging, jumping or killed.

Whatever is wrong, no client is routed by accident, and the state says what holds it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from adapters.flag_file import FlagFile
from adapters.rollout_journal import CeilingFile, Journal
from crossfade.paths import DataDir, read_json, write_json
from crossfade.rollout.controller import Controller, Setting
from monitoring.events import format_time
from monitoring.flags.editing import edit
from monitoring.flags.evaluation import compiled
from monitoring.flags.loading import load
from monitoring.flags.stages import Stage
from monitoring.rollout.commands import start
from monitoring.rollout.observations import Decision
from monitoring.rollout.state import Policy
from monitoring.service import Backend

ROOT = Path(__file__).parents[3]
SHIPPED = (ROOT / "flags.yaml").read_text()
POLICY = Policy(
    ladder=(50_000, 100_000),
    min_dwell_seconds=5,
    max_disturbed=0.05,
    hoped_disturbed=0.01,
    no_data_seconds=60,
)
CLIENTS = [f"client-{number}" for number in range(40)]
BEGAN = 1_795_694_400.0


class World:
    """An installation's files, what writes them, and clocks that the test turns."""

    def __init__(
        self, root: Path, passed: int = 0, *, policy: Policy = POLICY, clients: Sequence[str] = CLIENTS
    ) -> None:
        """``passed`` are the seconds since the rollout began."""
        self.data = DataDir.of(root)
        self.data.create()
        self.path = root / "flags.yaml"
        self.path.write_text(edit(SHIPPED, "live.percent", "100"))
        self.wall, self.clock = BEGAN + passed, 100.0 + passed
        self.decided, self.blocks = 50 * passed, 2 * passed
        self.comparison: dict[str, Any] = {}
        self.clients = tuple(clients)
        self.connected: list[str] = list(clients)
        self.silent = False
        """Nobody writes a summary of the comparison."""
        self.gone = False
        """Nobody writes reports of clients."""
        wishes = load(self.path.read_text()).wishes()
        self.journal = Journal(self.data.rollout_journal)
        if not passed:
            self.journal.decide("ana", lambda state: start(state, policy, Stage.SHADOW, wishes))
        self.file = self.flags()
        self.controller = self.started()

    def started(self, kind: type[Controller] = Controller) -> Controller:
        return kind(self.data, self.file, Setting(), None, wall=lambda: self.wall, clock=lambda: self.clock)

    def flags(self) -> FlagFile:
        return FlagFile(self.path, ceiling=CeilingFile(self.data.rollout_journal))

    def report(self) -> None:
        """Write what the comparison and the clients would by now have written; a client is where its flags want it."""
        route = compiled(self.file.refresh())
        self.decided += 50
        self.blocks += 2
        if not self.silent:
            write_json(self.data.parity, {**self.summary(), **self.comparison})
        if self.gone:
            return
        clients = {}
        for client in self.connected:
            decision = route(client)
            figures = {
                "blocks": self.blocks, "disturbed": 0, "events": 20 * self.blocks, "findings": 0, "errors": 0,
            }  # fmt: skip
            clients[client] = {"backend": decision.value, "shadow": None, "note": ""}
            if decision.value is Backend.SUPABASE:
                clients[client]["live"] = figures
            elif decision.shadows:
                clients[client]["shadowed"] = figures
        write_json(self.data.client_reports / "1.json", {"at": self.wall, "clients": clients})

    def summary(self) -> dict[str, Any]:
        side: Mapping[str, Any] = {
            "duplicates": 0,
            "reordered": 0,
            "late": 0,
            "latency": {"p99_seconds": 0.1},
        }
        return {
            "state": "comparing",
            "updated_at": format_time(datetime.fromtimestamp(self.wall, UTC)),
            "live": {"legacy": True, "supabase": True},
            "coverage": 1.0,
            "suspended": False,
            "sides": {"legacy": side, "supabase": side},
            "total": {
                "started_at": format_time(datetime.fromtimestamp(BEGAN, UTC)),
                "decided": self.decided,
                "published": self.decided,
                "counts": {},
            },
        }

    def look(self, times: int = 1, seconds: float = 1.0) -> None:
        for _ in range(times):
            self.wall += seconds
            self.clock += seconds
            self.report()
            self.controller.look(self.file.refresh())

    def look_until(self, action: str) -> None:
        for _ in range(60):
            self.look()
            if self.actions()[-1] == action:
                return
        pytest.fail(f"{action} is not in {self.actions()}: {self.held_by()}")

    def held_by(self) -> str:
        report = read_json(self.data.rollout)
        assert report is not None
        return str(report["cohorts"]["default"]["held_by"])

    def actions(self) -> list[str]:
        return [entry["action"] for entry in self.journal.entries()]

    def served_by_supabase(self) -> int:
        route = compiled(self.file.refresh())
        return sum(route(client).value is Backend.SUPABASE for client in self.clients)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / ".crossfade")


def test_with_everything_in_order_it_goes_to_the_end(world: World) -> None:
    """Else the tests below would prove nothing."""
    world.look(60)
    assert world.actions() == ["start", "rehearse", "rehearse", "rehearsed", "advance", "advance"]
    assert world.served_by_supabase() == len(CLIENTS)
    assert world.held_by() == "as far as the flag file wishes"


def test_a_good_rollout_gets_to_the_end_by_what_start_asks_for_by_itself(tmp_path: Path) -> None:
    """The ladder, the gates and the dwell of nobody who chose any; 300 clients, each a clean block in ten seconds."""
    world = World(tmp_path, policy=Policy(), clients=[f"client-{number}" for number in range(300)])
    went: dict[str, float] = {}
    for _ in range(12 * 60):
        world.blocks += 4  # 6 a minute, with those that `report` adds
        world.look(seconds=60)
        went.setdefault(str(world.file.refresh().ceiling.default), (world.wall - BEGAN) / 60)
        if world.served_by_supabase() == 300:
            break
    assert list(went) == [
        "shadow 1 %", "live 1 %", "live 5 %", "live 10 %", "live 25 %", "live 50 %", "live 100 %",
    ]  # fmt: skip
    assert went["live 1 %"] > 120, "so long the clients of one in a hundred need for 3,742 blocks"
    assert went["live 100 %"] < 12 * 60
    dwells = [later - sooner for sooner, later in pairwise(list(went.values())[2:])]
    assert min(dwells) >= 15
    advances = [entry for entry in world.journal.entries() if entry["action"] == "advance"]
    assert all(gate["answer"] == "PASS" for entry in advances for gate in entry["gates"])


def no_clients(world: World) -> None:
    world.connected = []


def nothing_at_all(world: World) -> None:
    world.silent = world.gone = True


def comparator_died(world: World) -> None:
    world.report()
    world.silent = True
    world.wall += 60


def comparator_died_and_the_clock_was_set_back(world: World) -> None:
    world.look(1)
    world.silent = True
    world.wall -= 3600


def comparator_lags(world: World) -> None:
    world.comparison = {"coverage": 0.4}


def comparator_is_full(world: World) -> None:
    world.comparison = {"suspended": True}


def comparator_decides_nothing(world: World) -> None:
    world.comparison = {"coverage": None}


def comparator_waits(world: World) -> None:
    world.comparison = {"state": "waiting", "live": {"legacy": True, "supabase": True}}


def half_a_summary(world: World) -> None:
    world.silent = True
    world.data.parity.write_text('{"state": "comparing", "upd')


def clients_say_nothing_new(world: World) -> None:
    world.report()
    world.gone = True


def reports_are_garbage(world: World) -> None:
    world.gone = True
    (world.data.client_reports / "2.json").write_bytes(b'{"at": 1e400, "clients": [\xff')
    (world.data.client_reports / "3.json").write_text(json.dumps({"at": world.wall, "clients": ["a"]}))


BAD: Mapping[Callable[[World], None], str] = {
    no_clients: "clients is NO_DATA: 0 have shown something",
    nothing_at_all: "comparison is ERROR: the comparison has not said anything yet",
    comparator_died: "comparison is ERROR: the comparison has said nothing for",
    comparator_died_and_the_clock_was_set_back: "comparison is ERROR: the comparison",
    comparator_lags: "coverage is FAIL: 40.00% of 99%",
    comparator_is_full: "comparison is ERROR: it is suspended: too many events are open",
    comparator_decides_nothing: "coverage is NO_DATA: nothing was decided",
    comparator_waits: "comparison is ERROR: the comparison waits for both sides",
    half_a_summary: "comparison is ERROR: the comparison has not said anything yet",
    clients_say_nothing_new: "clients is NO_DATA: 0 have shown something",
    reports_are_garbage: "clients is NO_DATA: 0 have shown something",
}


@pytest.mark.parametrize("happens", BAD, ids=lambda each: each.__name__)
def test_what_is_missing_or_dead_holds_it_and_is_said(world: World, happens: Callable[[World], None]) -> None:
    happens(world)
    world.look(40)
    assert world.actions() == ["start"]
    assert world.served_by_supabase() == 0
    assert world.held_by().startswith(BAD[happens])


@pytest.mark.parametrize(
    "happens", [each for each in BAD if each is not comparator_died_and_the_clock_was_set_back],
    ids=lambda each: each.__name__,
)  # fmt: skip
def test_the_same_with_clients_on_the_new_path_leaves_them_there(
    world: World, happens: Callable[[World], None]
) -> None:
    world.look_until("advance")
    served = world.served_by_supabase()
    assert 0 < served < len(CLIENTS)
    happens(world)
    world.look(4)
    assert world.actions()[-1] == "advance"
    assert world.actions().count("advance") == 1
    assert world.served_by_supabase() == served


def test_a_step_that_shows_nothing_is_extended_once_and_then_left(world: World) -> None:
    world.look_until("advance")
    world.connected = []
    world.look(70)
    assert world.actions()[-1] == "extend"
    world.look(70)
    assert world.actions()[-1] == "retreat"
    assert world.served_by_supabase() == 0
    assert "NO_DATA" in world.held_by()


@pytest.mark.parametrize("jump", [-7200.0, -1.0, 86_400.0])
def test_a_clock_that_jumps_neither_hastens_nor_stops_it(world: World, jump: float) -> None:
    world.look(3)
    world.wall += jump
    world.report()
    world.controller.look(world.file.refresh())
    assert world.actions() == ["start"], "no dwell passed by it"
    world.look(60)
    assert world.actions()[-2:] == ["advance", "advance"]
    assert world.served_by_supabase() == len(CLIENTS)


def test_a_machine_that_slept_does_not_count_the_night_as_dwell(world: World) -> None:
    world.controller = world.started()
    slow = replace(POLICY, min_dwell_seconds=600.0)
    world.journal.decide("ana", lambda state: (replace(state, policy=slow), [_noted()]))
    world.look(5)
    world.look(1, seconds=8 * 3600)
    world.look(5)
    assert world.actions()[-1] != "rehearse"
    assert "dwelt 7" in world.held_by()


def _noted() -> Decision:
    return Decision("start", "default", "", "shadow 50 %", "with a longer dwell")


def test_a_journal_that_makes_no_sense_stops_it_and_moves_nobody(world: World) -> None:
    world.look_until("advance")
    served = world.served_by_supabase()
    flags = world.flags()
    flags.refresh()
    with world.data.rollout_journal.open("ab") as file:
        file.write(b"nonsense\n")
    route = compiled(flags.refresh())
    assert sum(route(client).value is Backend.SUPABASE for client in CLIENTS) == served
    world.file = world.flags()
    assert world.served_by_supabase() == 0, "a program that has never read it takes the safe side"
    assert world.started().problem is not None
    assert "cannot be understood" in (world.started().problem or "")


@pytest.mark.parametrize("checkpoint", ["", "{}", "[1]", '{"n": 1, "state": {}, "comparison": 3}', "\x00"])
def test_a_checkpoint_of_no_use_costs_evidence_and_nothing_else(world: World, checkpoint: str) -> None:
    world.look_until("advance")
    before = world.actions()
    world.data.rollout_checkpoint.write_text(checkpoint)
    world.controller = world.started()
    world.look(1)
    assert world.actions() == before
    assert world.held_by() != "goes on at the next look"
    world.look(60)
    assert world.served_by_supabase() == len(CLIENTS)


def test_restarts_again_and_again_change_nothing_but_the_time_it_takes(world: World) -> None:
    for number in range(100):
        if number % 4 == 0:
            world.controller = world.started()
        world.look()
    assert world.actions() == ["start", "rehearse", "rehearse", "rehearsed", "advance", "advance"]


class Killed(Controller):
    """Killed (-9) when it has decided, and before anything else has happened."""

    def _keep(self, seen: Any) -> None:
        if self._entry.number > int(os.environ["KILL_AFTER"]):
            os.kill(os.getpid(), signal.SIGKILL)
        super()._keep(seen)


def looked_at_until_killed(root: Path, passed: int) -> None:
    world = World(root, passed)
    world.controller = world.started(Killed)
    world.look(60)


def test_kill_9_between_a_decision_and_what_follows_from_it_changes_nothing(world: World) -> None:
    """The decision is on the disk: the ceiling holds at once, and the next controller takes it up where it is."""
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.rollout.test_controller_files import looked_at_until_killed\n"
        "looked_at_until_killed(Path(sys.argv[1]), int(sys.argv[2]))\n"
    )
    served = []
    for passed in range(100, 600, 100):
        number = world.journal.read().number
        done = subprocess.run(
            [sys.executable, "-c", program, str(world.data.root), str(passed)],
            cwd=ROOT,
            env={**os.environ, "KILL_AFTER": str(number)},
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
        assert world.journal.read().number == number + 1
        served.append(world.served_by_supabase())
    assert world.actions() == ["start", "rehearse", "rehearse", "rehearsed", "advance", "advance"]
    assert [entry["n"] for entry in world.journal.entries()] == list(range(1, 7))
    some = served[0]
    assert 0 < some < len(CLIENTS)
    assert served == [some, 0, 0, some, len(CLIENTS)], "out, back, still back, out for good, everybody"
