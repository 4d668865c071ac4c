"""The statistics, and their error rates under simulated losses: independent ones and bursts. Seeded, so they are one outcome."""

import json
import math
import random
import statistics
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.errors import InvalidFigures
from validation.statistics import (
    DEFAULT,
    Block,
    BlockCounter,
    Evidence,
    Judgement,
    Standard,
    judge,
    judge_all,
    sentence,
    upper_bound,
)
from validation.verdict import Verdict

CLEAN, DISTURBED = Block(5), Block(5, 1, 1)


def after(blocks) -> Evidence:
    evidence = Evidence()
    for block in blocks:
        evidence = evidence.add(block)
    return evidence


def losses(rng: random.Random, rate: float, burst: float) -> Iterator[bool]:
    """Whether each event is lost: a share of ``rate``, in runs of a geometric length with the mean ``burst``."""
    while True:
        clean_mean = burst * (1 - rate) / rate
        yield from [False] * (int(rng.expovariate(1 / clean_mean)) if burst > 1 else geometric(rng, rate))
        yield from [True] * (geometric(rng, 1 / burst) + 1)


def geometric(rng: random.Random, chance: float) -> int:
    return int(math.log(1 - rng.random()) / math.log(1 - chance)) if chance < 1 else 0


def blocks_of(stream: Iterator[bool], size: int) -> Iterator[Block]:
    """Cut a stream of losses into windows of ``size`` events."""
    counter = BlockCounter(1.0)
    for number, lost in enumerate(stream):
        if (block := counter.add(number / size, finding=lost)) is not None:
            yield block


def test_a_clean_path_passes_after_3743_blocks_and_not_one_before():
    assert DEFAULT.blocks_to_pass == 3743
    assert judge(after([CLEAN] * 3742)).verdict is Verdict.INCONCLUSIVE
    passed = judge(after([CLEAN] * 3743))
    assert (passed.verdict, passed.progress) == (Verdict.PASS, 1.0)
    assert passed.reason.startswith("0 of 3743 blocks disturbed (0 of 18715 events): below 0.100% (95%")


def test_nothing_is_no_data_and_an_empty_block_says_nothing():
    assert judge(Evidence().add(Block(0))).verdict is Verdict.NO_DATA
    assert Evidence().upper_bound() is None
    assert "below 95.960% (95%, valid at any look)" in sentence(after([CLEAN]))


def test_what_is_missing_to_a_pass_is_said():
    assert judge(after([CLEAN] * 3700)).reason.endswith("; 43 clean blocks more rule out 0.100%")


def test_a_pass_stays_one_and_a_trip_beats_it():
    evidence = after([CLEAN] * 3743 + [DISTURBED])
    assert judge(evidence).verdict is Verdict.PASS
    evidence = after([CLEAN] * 3743 + [DISTURBED] * 10)
    assert judge(evidence).verdict is Verdict.FAIL
    assert judge(evidence).reason.startswith("tripped after ")
    assert judge(evidence.acknowledged()).verdict is Verdict.PASS


def test_the_worst_judgement_counts():
    made = [judge(after([CLEAN] * count)) for count in (3743, 100, 0)]
    assert judge_all(made).verdict is Verdict.NO_DATA
    assert judge_all(made[:2]) == made[1]
    assert judge_all(made[:1]).verdict is Verdict.PASS
    assert judge_all([]) == Judgement(Verdict.NO_DATA, "nothing was looked at", 0.0)


def test_evidence_goes_on_from_a_journal():
    evidence = after([CLEAN, DISTURBED, CLEAN] * 10)
    again = Evidence.from_json(json.loads(json.dumps(evidence.to_json())))
    assert again == evidence
    assert again.add(CLEAN) == evidence.add(CLEAN)
    for spoilt in (
        {"blocks": 3, "events": 1},
        {"nonsense": 1},
        {"log_e": math.nan},
        {"blocks": "1", "events": 2},
    ):
        with pytest.raises(InvalidFigures):
            Evidence.from_json(spoilt)


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 2.0},
        {"hope": 0.01},
        {"alpha": 0.0},
        {"trip_level": math.inf},
        {"alarm": 1e-3},
        {"hope": math.nan},
    ],
)
def test_standards_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InvalidFigures):
        Standard(**wrong)


@pytest.mark.parametrize("wrong", [(1, 2, 1), (1, 1, 0), (3, 1, 2), (-1, 0, 0)])
def test_blocks_that_cannot_be_are_refused(wrong):
    with pytest.raises(InvalidFigures):
        Block(*wrong)


def test_findings_close_together_are_one_incident():
    counter = BlockCounter()
    for at in range(40):
        assert counter.add(at / 10, finding=at in {3, 4, 6, 11, 30}) is None
    assert counter.add(10.0, finding=False) == Block(40, 5, 2)
    assert counter.add(9.0, finding=True) is None  # of a window that ended: counts in the open one
    assert counter.close() == Block(2, 1, 1)
    assert counter.close() is None


@given(st.integers(0, 50), st.integers(1, 5000))
def test_the_bound_is_where_the_e_process_refutes(disturbed, trials):
    if disturbed > trials:
        return
    bound = upper_bound(disturbed, trials)
    assert bound is not None
    assert disturbed / trials <= bound <= 1
    if bound < 0.9:
        ratio = DEFAULT.hope / DEFAULT.limit
        log_e = disturbed * math.log(ratio) + (trials - disturbed) * math.log(
            (1 - ratio * bound) / (1 - bound)
        )
        assert log_e == pytest.approx(-math.log(DEFAULT.alpha), rel=1e-6)


@given(st.lists(st.sampled_from([CLEAN, DISTURBED, Block(100, 60, 3)]), max_size=60))
def test_evidence_adds_up_in_any_sequence(blocks):
    evidence = after(blocks)
    assert evidence.blocks == len(blocks)
    assert evidence.events == sum(block.events for block in blocks)
    assert evidence.incidents <= evidence.findings <= evidence.events
    assert evidence.log_e_peak >= evidence.log_e
    assert 0 <= judge(evidence).progress <= 1


def ever_passes(rng: random.Random, share: float, blocks: int) -> bool:
    """Play blocks of which a share is disturbed; skips from one disturbed block to the next, for speed."""
    clean = math.log((1 - DEFAULT.hope) / (1 - DEFAULT.limit))
    log_e, seen, goal = 0.0, 0, -math.log(DEFAULT.alpha)
    while seen < blocks:
        run = min(geometric(rng, share), blocks - seen)
        if log_e + run * clean >= goal:
            return True
        log_e += run * clean + math.log(DEFAULT.hope / DEFAULT.limit)
        seen += run + 1
    return False


def test_a_path_at_the_limit_passes_in_at_most_five_per_cent_however_often_one_looks():
    rng = random.Random(7)
    runs = 1000
    assert sum(ever_passes(rng, DEFAULT.limit, 100_000) for _ in range(runs)) / runs <= DEFAULT.alpha + 0.015
    assert sum(ever_passes(rng, 2 * DEFAULT.limit, 100_000) for _ in range(runs)) / runs <= 0.01
    assert sum(ever_passes(rng, DEFAULT.hope, 100_000) for _ in range(runs)) / runs >= 0.99


@pytest.mark.parametrize("size", [1, 5, 15, 100])
def test_one_per_cent_of_loss_trips_within_a_thousand_events(size):
    rng = random.Random(11)
    trips = []
    for _ in range(200):
        evidence = Evidence()
        blocks = blocks_of(losses(rng, 0.01, 1), size)
        while evidence.tripped_at_events is None:
            evidence = evidence.add(next(blocks))
        trips.append(evidence.tripped_at_events)
    assert statistics.median(trips) <= 1000
    assert statistics.quantiles(trips, n=20)[-1] <= 2500


def test_total_loss_trips_within_six_blocks():
    assert after([Block(100, 100, 1)] * 6).tripped_at_events is not None
    assert after([Block(1, 1, 1)] * 6).tripped_at_events is not None


@pytest.mark.parametrize(("burst", "size"), [(1, 20), (300, 1000)])
def test_a_path_at_the_limit_does_not_trip_falsely(burst, size):
    """A quick look: twenty times 100,000 events; bench/comparison.py has the million.

    A burst is a reconnect: three seconds of a client of 100 events/s.
    """
    rng = random.Random(13)
    tripped = 0
    for _ in range(20):
        evidence = after(islice(blocks_of(losses(rng, DEFAULT.limit, burst), size), 100_000 // size))
        tripped += evidence.tripped_at_events is not None
    assert tripped <= 1
