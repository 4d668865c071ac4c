"""The decision function under every order of observations and commands that Hypothesis can think of."""

from __future__ import annotations

from dataclasses import replace

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from monitoring.errors import InvalidRollout
from monitoring.flags.model import DEFAULT_COHORT
from monitoring.flags.stages import TOTAL_WEIGHT, Extent, Stage
from monitoring.rollout import commands
from monitoring.rollout.controller import decide, judged
from monitoring.rollout.observations import Answer, Decision, Gate, Observations, Sight
from monitoring.rollout.state import NONE, Policy, Rollout

POLICY = Policy(min_dwell_seconds=30, no_data_seconds=120, rehearsal_seconds=40, reverse_window_seconds=90)
COHORTS = (DEFAULT_COHORT, "ops")

extents = st.builds(
    Extent, st.sampled_from(list(Stage)), st.sampled_from([0, 500, 5_000, 30_000, TOTAL_WEIGHT])
)
answers = st.sampled_from(
    [Answer.PASS] * 6 + [Answer.INCONCLUSIVE, Answer.FAIL, Answer.NO_DATA, Answer.ERROR]
)
sights = st.builds(
    lambda answer, trip, clients, share, astray: Sight(
        (Gate("a", Answer.PASS, "fine"), Gate("b", answer, "so so")),
        trip,
        clients,
        min(share, clients),
        astray,
    ),
    answers,
    st.sampled_from([""] * 9 + ["lost 3 of 100"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([0, 0, 0, 1]),
)
rarely = st.sampled_from([""] * 9 + ["down"])


class Machine(RuleBasedStateMachine):
    """A rollout with a person who wishes and commands, and a world that answers anything."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Rollout = NONE
        self.now = 0.0
        self.wishes = dict.fromkeys(COHORTS, Extent(Stage.LIVE))
        self.seen = Observations(0.0, 0.0, self.wishes)
        self.before = self.state
        self.decisions: tuple[Decision, ...] = ()
        self.commanded = False

    def took(self, decided: tuple[Rollout, tuple[Decision, ...]], *, commanded: bool) -> None:
        self.before, (self.state, self.decisions) = self.state, decided
        self.commanded = commanded

    @initialize(stage=st.sampled_from([Stage.OFF, Stage.DUALWRITE, Stage.SHADOW]))
    def start(self, stage: Stage) -> None:
        self.took(commands.start(self.state, POLICY, stage, self.wishes), commanded=True)

    @rule(cohort=st.sampled_from(COHORTS), wish=extents)
    def wish(self, cohort: str, wish: Extent) -> None:
        self.wishes = {**self.wishes, cohort: wish}

    @rule(
        sight=st.fixed_dictionaries(dict.fromkeys(COHORTS, sights)),
        elapsed=st.sampled_from([-5.0, 0.0, 1.0, 31.0, 59.0, 10_000.0]),
        jump=st.sampled_from([0.0, 0.0, -3600.0, 86_400.0]),
        trip=rarely,
        legacy=rarely,
        publishers=st.sampled_from([(), (), ("collect",)]),
        barred=rarely,
    )
    def look(self, sight, elapsed, jump, trip, legacy, publishers, barred) -> None:
        self.now += elapsed + jump
        self.seen = Observations(self.now, elapsed, self.wishes, sight, trip, legacy, publishers, barred)
        self.took(decide(self.state, self.seen), commanded=False)

    @rule(times=st.integers(1, 30))
    def all_is_well(self, times: int) -> None:
        """A quiet time in which clients are where they should be, so that the later stages are reached at all."""
        for _ in range(times):
            well = {}
            for name in COHORTS:
                extent = self.wishes[name].lowered_to(self.state.position(name).ceiling)
                well[name] = Sight((Gate("a", Answer.PASS, "fine"),), "", 3, 3 if extent.served else 0)
            self.now += 31
            self.seen = Observations(self.now, 31, self.wishes, well)
            self.took(decide(self.state, self.seen), commanded=False)
            self.nothing_forbidden()

    @rule()
    def hold(self) -> None:
        self.command(lambda: commands.hold(self.state, "lunch"))

    @rule(acknowledge=st.booleans())
    def resume(self, *, acknowledge: bool) -> None:
        self.command(lambda: commands.resume(self.state, acknowledge=acknowledge))

    @rule()
    def advance(self) -> None:
        self.command(lambda: commands.advance(self.state, self.seen))

    @rule(to=st.sampled_from([Stage.OFF, Stage.DUALWRITE, Stage.SHADOW]))
    def rollback(self, to: Stage) -> None:
        self.command(lambda: commands.rollback(self.state, to, "a person"))

    @rule(confirmed=st.booleans())
    def complete(self, *, confirmed: bool) -> None:
        self.command(lambda: commands.complete(self.state, self.seen, confirmed=confirmed))
        assert confirmed or not self.state.completing or self.before.completing

    @rule()
    def restart(self) -> None:
        """What the journal and the checkpoint have is everything there is."""
        again = Rollout.from_json(orjson.loads(orjson.dumps(self.state.to_json())))
        assert again == self.state
        assert decide(again, self.seen) == decide(self.state, self.seen)
        self.state = again

    @precondition(lambda self: not self.state.completed)
    @rule()
    def off_can_be_reached(self) -> None:
        off, _ = commands.rollback(self.state, Stage.OFF, "enough")
        assert {position.ceiling.stage for position in off.cohorts.values()} == {Stage.OFF}
        assert not off.completing

    def command(self, run) -> None:
        try:
            self.took(run(), commanded=True)
        except InvalidRollout:
            self.before, self.decisions = self.state, ()

    @invariant()
    def nothing_forbidden(self) -> None:
        for name, position in self.state.cohorts.items():
            before = self.before.cohorts.get(name)
            raised = before is not None and position.ceiling.place > before.ceiling.place
            if self.commanded:
                latched = before is not None and bool(before.latch)
                assert not raised or latched, "no command but the end of a latch opens anything"
                continue
            wish = self.seen.wishes[name]
            assert position.extent.lowered_to(wish) == position.extent or self.before.completing
            if not raised or before is None:
                continue
            assert not before.latch
            assert not self.before.hold
            assert not self.seen.sight(name).trip
            assert not self.seen.trip
            steps = [step.lowered_to(wish).place for step in POLICY.steps()]
            between = [step for step in steps if before.extent.place < step < position.extent.place]
            assert not between, "one step at a time"
            if before.extent.stage.rank >= Stage.SHADOW.rank and position.extent.stage is not Stage.SHADOW:
                assert judged(self.seen.sight(name).gates).answer is Answer.PASS
            if position.extent.served and not before.extent.served and position.rehearsal != "out":
                assert before.rehearsal == "done", (
                    "nobody is live for good before the way back was seen to work"
                )
        completed = self.state.completed and not self.before.completed
        assert not completed or (self.before.completing and not self.seen.publishers)
        assert not self.before.completed or self.state.completed, "complete is the one that cannot be undone"


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_the_machine_can_get_to_the_end() -> None:
    """Else the machine above would prove nothing of the later stages."""
    machine = Machine()
    machine.start(Stage.OFF)
    machine.wishes = dict.fromkeys(COHORTS, Extent(Stage.COMPLETE))
    machine.all_is_well(30)
    assert {each.extent.stage for each in machine.state.cohorts.values()} == {Stage.RAMPDOWN}
    machine.complete(confirmed=True)
    assert machine.state.completing
    machine.seen = replace(machine.seen, publishers=("collect",))
    machine.took(decide(machine.state, machine.seen), commanded=False)
    assert not machine.state.completed
    machine.seen = replace(machine.seen, publishers=())
    machine.took(decide(machine.state, machine.seen), commanded=False)
    assert machine.state.completed
    assert machine.state.ceiling().completed
