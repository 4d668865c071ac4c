"""In which stages the live comparison runs, and what is made of it while it does not."""

import pytest

from crossfade.cli.display import _parity as status_line
from crossfade.parity import compared, idle
from crossfade.rollout.evidence import Comparison
from monitoring.flags.model import Ceiling, Cohort, Flags
from monitoring.flags.stages import Extent, Stage
from monitoring.rollout.observations import Answer
from monitoring.rollout.state import Policy


@pytest.mark.parametrize("stage", [Stage.OFF, Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN])
def test_it_runs_from_shadow_to_rampdown(stage: Stage) -> None:
    assert compared(Flags(stage=stage)) == (stage in {Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN})


def test_what_is_in_force_counts_and_not_the_wish() -> None:
    assert not compared(Flags(stage=Stage.LIVE, ceiling=Ceiling(Extent(Stage.DUALWRITE))))
    assert not compared(Flags(stage=Stage.RAMPDOWN, ceiling=Ceiling(completed=True)))


def test_one_cohort_is_enough() -> None:
    ops = Cohort("ops", frozenset({"dash-1"}), Extent(Stage.SHADOW))
    assert compared(Flags(stage=Stage.DUALWRITE, cohorts=(ops,)))


def test_while_it_does_not_run_everybody_says_why() -> None:
    said = idle(Flags(stage=Stage.DUALWRITE))
    gates = Comparison().seen(said, 0.0, 1.0, Policy()).gates(Policy())
    assert [(gate.answer, "stage dualwrite" in gate.reason) for gate in gates] == [(Answer.ERROR, True)]
    assert "stage dualwrite" in status_line(said)
