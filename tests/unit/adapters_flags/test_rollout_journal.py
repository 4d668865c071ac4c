"""The journal: whole decisions or none, whatever is killed, cut or full; and the ceiling that others read from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.flag_file import FlagFile
from adapters.rollout_journal import EMPTY, SAFE, CeilingFile, Journal, JournalUnusable
from monitoring.errors import InvalidRollout
from monitoring.flags.model import UNLIMITED
from monitoring.flags.stages import Extent, Stage
from monitoring.rollout.observations import Answer, Decision, Gate
from monitoring.rollout.state import Position, Rollout

SHIPPED = (Path(__file__).parents[3] / "flags.yaml").read_text()
GATE = Gate("coverage", Answer.PASS, "99.9 %")


def at(extent: Extent, number: int = 0) -> Rollout:
    return Rollout(active=True, cohorts={"default": Position(extent, number)})


def deciding(state: Rollout, actions: int = 1) -> Callable[[Rollout], tuple[Rollout, list[Decision]]]:
    decisions = [Decision("advance", "default", "a", "b", f"because {n}", (GATE,)) for n in range(actions)]
    return lambda _: (state, decisions)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rollout" / "journal.jsonl"


def test_what_was_decided_is_there_with_the_state_and_the_evidence(path: Path) -> None:
    journal = Journal(path)
    assert journal.read() == EMPTY
    state = at(Extent(Stage.LIVE, 5_000), 7)
    entry, _ = journal.decide("ana", deciding(state, 2))
    assert entry == Journal(path).read()
    assert (entry.number, entry.state) == (2, state)
    first, second = journal.entries()
    assert (first["n"], first["by"], second["n"], second["reason"]) == (1, "ana", 2, "because 1")
    assert first["gates"] == [{"name": "coverage", "answer": "PASS", "reason": "99.9 %"}]
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_decided_is_nothing_written(path: Path) -> None:
    state = at(Extent(Stage.SHADOW))
    entry, decisions = Journal(path).decide("controller", lambda _: (state, ()))
    assert (entry.number, entry.state, list(decisions)) == (0, state, [])
    assert path.read_bytes() == b""


def test_a_command_that_is_refused_writes_nothing(path: Path) -> None:
    def refuse(_: Rollout) -> tuple[Rollout, list[Decision]]:
        raise InvalidRollout("no")

    with pytest.raises(InvalidRollout):
        Journal(path).decide("ana", refuse)
    assert Journal(path).read() == EMPTY


def test_every_cut_of_the_file_is_the_state_of_the_last_whole_line(path: Path) -> None:
    journal = Journal(path)
    states = [at(Extent(Stage.LIVE, weight), weight) for weight in (1_000, 5_000, 10_000)]
    ends = [0]
    for state in states:
        journal.decide("controller", deciding(state))
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    for length in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:length])
        count = sum(end <= length for end in ends) - 1
        assert journal.read().number == count
        assert journal.read().state == (states[count - 1] if count else EMPTY.state)
    path.write_bytes(whole[: ends[2] + 20])
    entry, _ = journal.decide("controller", deciding(states[2]))
    assert (entry.number, path.read_bytes()[: ends[2]]) == (3, whole[: ends[2]])
    assert [found["n"] for found in journal.entries()] == [1, 2, 3]


def test_a_last_line_that_makes_no_sense_stops_everything_that_writes(path: Path) -> None:
    journal = Journal(path)
    journal.decide("controller", deciding(at(Extent(Stage.SHADOW))))
    with path.open("ab") as file:
        file.write(b'{"n": 2, "state": {}}\n')
    with pytest.raises(JournalUnusable, match="last line cannot be understood"):
        journal.read()
    with pytest.raises(JournalUnusable):
        journal.decide("controller", deciding(at(Extent(Stage.LIVE))))


def test_entries_longer_than_a_look_from_the_end_are_found(path: Path) -> None:
    state = at(Extent(Stage.LIVE, 1_000))
    long = Decision("hold", "", "a", "a", "x" * 200_000)
    Journal(path).decide("ana", lambda _: (state, [long]))
    assert Journal(path).read().state == state
    Journal(path).decide("ana", lambda _: (replace(state, hold="y"), [long]))
    assert (Journal(path).read().number, Journal(path).read().state.hold) == (2, "y")


def test_a_full_disk_loses_no_decision_and_keeps_no_half_of_one(path: Path) -> None:
    journal = Journal(path)
    journal.decide("controller", deciding(at(Extent(Stage.SHADOW))))
    size = path.stat().st_size
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from tests.unit.adapters_flags.test_rollout_journal import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 100},) * 2)\n"
        "try: Journal(Path(sys.argv[1])).decide('x', deciding(at(Extent(Stage.LIVE, 1_000)), 3))\n"
        "except JournalUnusable as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert "cannot be written: File too large" in done.stdout
    assert path.stat().st_size == size
    assert journal.read().number == 1


def test_kill_9_at_any_moment_leaves_a_journal_that_goes_on(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.adapters_flags.test_rollout_journal import *\n"
        "journal, number = Journal(Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    number += 1\n"
        "    entry, _ = journal.decide('x', deciding(at(Extent(Stage.LIVE, 1 + number % 100), number)))\n"
        "    print(entry.number, flush=True)\n"
    )
    told = 0
    for round_ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[3],
        )  # fmt: skip
        assert writer.stdout is not None
        for _ in range(5 + 7 * round_):
            told = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split("\n")
        writer.wait(10)
        writer.stdout.close()
        told = max([told, *(int(line) for line in rest[:-1] if line)])
        found = Journal(path).read()
        assert found.number >= told, "what was told as decided is on the disk"
        assert [entry["n"] for entry in Journal(path).entries()] == list(range(1, found.number + 1))


def test_the_ceiling_is_the_journals_and_stays_when_it_cannot_be_read(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ceiling = CeilingFile(path)
    assert ceiling.look() == UNLIMITED
    Journal(path).decide("ana", deciding(at(Extent(Stage.LIVE, 5_000))))
    assert ceiling.look().default == Extent(Stage.LIVE, 5_000)
    with path.open("ab") as file:
        file.write(b"nonsense\n")
    assert ceiling.look().default == Extent(Stage.LIVE, 5_000)
    ceiling.look()
    assert len(caplog.records) == 1
    assert CeilingFile(path).look() == SAFE
    path.unlink()
    assert ceiling.look().default == Extent(Stage.LIVE, 5_000)
    assert "not there any more" in (ceiling.problem or "")


def test_a_lowered_ceiling_is_a_change_of_the_flags_in_force(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text(SHIPPED.replace("percent: 0", "percent: 50"))
    flags = FlagFile(file, ceiling=CeilingFile(path))
    assert flags.refresh().extents() == {"default": Extent(Stage.LIVE, 50_000)}
    woken: list[int] = []
    flags.listen(lambda: woken.append(flags.revision))
    Journal(path).decide("ana", deciding(at(Extent(Stage.LIVE, 1_000))))
    assert flags.refresh().extents() == {"default": Extent(Stage.LIVE, 1_000)}
    os.utime(path)
    flags.refresh()
    assert woken == [2]
