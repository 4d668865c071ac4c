import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext

from monitoring.flags.evaluation import FLAG_KEY, Reason, _cbor_text, bucket_of, evaluate, explain
from monitoring.flags.flagd import to_flagd
from monitoring.flags.model import DEFAULT_COHORT, Ceiling, ClientId, Cohort, Flags
from monitoring.flags.routing import evaluate_route
from monitoring.flags.stages import TOTAL_WEIGHT, Extent, Stage
from monitoring.service import Backend

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

VECTORS = {
    "web-1": 85160,
    "web-2": 50506,
    "a": 76403,
    "0": 11235,
    " ": 82187,
    "ops@example.com": 81051,
    "550e8400-e29b-41d4-a716-446655440000": 80318,
    "größe": 61764,
    "客户端-7": 50025,
    "x" * 23: 59300,
    "x" * 24: 22041,
    "y" * 256: 1249,
}
"""Client -> bucket, frozen: a release that changes one of these moves clients that nobody asked to move."""

clients = st.text(min_size=1, max_size=400)


def flagd(weight: int) -> FlagdCore:
    core = FlagdCore()
    core.set_flags(
        {
            "flags": {
                FLAG_KEY: {
                    "state": "ENABLED",
                    "variants": {"supabase": "supabase", "legacy": "legacy"},
                    "defaultVariant": "legacy",
                    "targeting": {"fractional": [["supabase", weight], ["legacy", TOTAL_WEIGHT - weight]]},
                }
            }
        }
    )
    return core


def flagd_route(core: FlagdCore, client: str) -> str:
    return core.resolve_string_value(FLAG_KEY, "none", EvaluationContext(targeting_key=client)).value


@pytest.mark.parametrize(("client", "bucket"), VECTORS.items())
def test_buckets_never_change(client, bucket):
    assert bucket_of(client) == bucket


@pytest.mark.parametrize("weight", [1, 12_500, 50_000, 99_999])
def test_routes_are_those_of_flagd(weight):
    core, flags = flagd(weight), Flags(weight=weight)
    for number in range(300):
        client = f"client-{number}" + "x" * (number if number % 7 == 0 else 0)
        assert evaluate(flags, client).variant == flagd_route(core, client)


@UNHURRIED
@given(clients.filter(lambda client: client.isprintable()), st.integers(1, TOTAL_WEIGHT - 1))
def test_routes_of_any_id_are_those_of_flagd(client, weight):
    assert evaluate(Flags(weight=weight), client).variant == flagd_route(flagd(weight), client)


@pytest.mark.parametrize("length", [0, 1, 23, 24, 255, 256, 65_535, 65_536])
def test_cbor_of_every_length_is_canonical(length):
    assert _cbor_text("x" * length) == cbor2.dumps("x" * length, canonical=True)


@UNHURRIED
@given(clients, st.integers(0, TOTAL_WEIGHT), st.integers(0, TOTAL_WEIGHT))
def test_a_higher_percentage_only_adds_clients(client, one, other):
    low, high = sorted((one, other))
    if evaluate(Flags(weight=low), client).value is Backend.SUPABASE:
        assert evaluate(Flags(weight=high), client).value is Backend.SUPABASE


def test_everybody_and_nobody_are_exact():
    for number in range(1000):
        assert evaluate(Flags(weight=TOTAL_WEIGHT), f"c{number}").value is Backend.SUPABASE
        assert evaluate(Flags(), f"c{number}").value is Backend.LEGACY


def test_a_quarter_is_a_quarter():
    served = sum(evaluate(Flags(weight=25_000), f"c{n}").value is Backend.SUPABASE for n in range(10_000))
    assert 2300 < served < 2700


def listed(**flags) -> Flags:
    return Flags(allow=frozenset({ClientId("a"), ClientId("b")}), deny=frozenset({ClientId("b")}), **flags)


@pytest.mark.parametrize(
    ("flags", "client", "value", "reason"),
    [
        (listed(kill=True, weight=100_000), "a", Backend.LEGACY, Reason.KILLED),
        (listed(weight=100_000), "b", Backend.LEGACY, Reason.DENIED),
        (listed(), "a", Backend.SUPABASE, Reason.ALLOWED),
        (listed(), "c", Backend.LEGACY, Reason.DEFAULT),
        (listed(weight=100_000), "c", Backend.SUPABASE, Reason.PERCENTAGE),
        (listed(weight=1), "web-1", Backend.LEGACY, Reason.PERCENTAGE),
        (listed(weight=100_000), "", Backend.LEGACY, Reason.DEFAULT),
        (listed(weight=100_000), "\ud800", Backend.LEGACY, Reason.DEFAULT),
    ],
)
def test_first_rule_that_applies_wins(flags, client, value, reason):
    decision = evaluate(flags, client)
    assert (decision.value, decision.variant, decision.reason) == (value, value.value, reason)


@pytest.mark.parametrize(
    ("flags", "client", "words"),
    [
        (listed(kill=True), "a", "a: legacy (KILLED): kill is true"),
        (listed(), "b", "live.deny"),
        (listed(), "a", "live.allow"),
        (listed(), "c", "live.percent is 0"),
        (listed(), "", "(no id): legacy (DEFAULT): it has no id"),
        (listed(weight=50_000), "web-1", "85.16 %, is not below live.percent 50 %"),
        (listed(weight=90_000), "web-1", "supabase (PERCENTAGE): its place in the split, 85.16 %, is below"),
    ],
)
def test_explains_in_a_sentence(flags, client, words):
    assert words in explain(flags, client)


def cohorts(*pairs: tuple[str, Extent]) -> tuple[Cohort, ...]:
    return tuple(Cohort(name, frozenset({name, f"{name}-*"}), wish) for name, wish in pairs)


LIVE = Extent(Stage.LIVE)


@pytest.mark.parametrize(
    ("stage", "value", "reason", "shadows"),
    [
        (Stage.OFF, Backend.LEGACY, Reason.STAGE, False),
        (Stage.DUALWRITE, Backend.LEGACY, Reason.STAGE, False),
        (Stage.SHADOW, Backend.LEGACY, Reason.STAGE, True),
        (Stage.LIVE, Backend.SUPABASE, Reason.ALLOWED, False),
        (Stage.RAMPDOWN, Backend.SUPABASE, Reason.STAGE, False),
        (Stage.COMPLETE, Backend.SUPABASE, Reason.STAGE, False),
    ],
)
def test_each_stage_has_its_own_answer(stage, value, reason, shadows):
    flags = listed(stage=stage, weight=1)
    decision = evaluate(flags, "a")
    assert (decision.value, decision.reason, decision.shadows) == (value, reason, shadows)
    assert evaluate(flags, "b").reason is Reason.DENIED
    route = evaluate_route(flags, "a")
    assert route.shadow is (Backend.SUPABASE if shadows else None)
    assert (Backend.SUPABASE in route.fallbacks) is False
    assert (Backend.LEGACY in route.fallbacks) is (value is Backend.SUPABASE)


def test_a_file_alone_never_completes():
    assert Flags(stage=Stage.COMPLETE).extents() == {DEFAULT_COHORT: Extent(Stage.RAMPDOWN)}
    completed = Flags(
        stage=Stage.OFF, kill=True, deny=frozenset({ClientId("a")}), ceiling=Ceiling(completed=True)
    )
    for client in ("a", "b", ""):
        assert evaluate(completed, client).reason is Reason.COMPLETED
        assert evaluate_route(completed, client).fallbacks == (Backend.POLLING,)


def test_the_first_cohort_that_has_a_client_decides():
    flags = Flags(
        cohorts=(
            *cohorts(("ops", LIVE), ("eu", Extent(Stage.SHADOW, 0))),
            Cohort("late", frozenset({"ops-1", "us"}), LIVE),
        )
    )
    found = {client: evaluate(flags, client).cohort for client in ("ops", "ops-1", "eu-", "us", "opsy", "")}
    assert found == {
        "ops": "ops",
        "ops-1": "ops",
        "eu-": "eu",
        "us": "late",
        "opsy": "default",
        "": "default",
    }


@pytest.mark.parametrize(
    ("ceiling", "client", "value", "reason"),
    [
        (Extent(Stage.LIVE, 5_000), "y" * 256, Backend.SUPABASE, Reason.PERCENTAGE),
        (Extent(Stage.LIVE, 5_000), "0", Backend.LEGACY, Reason.CEILING),
        (Extent(Stage.LIVE, 5_000), "web-1", Backend.LEGACY, Reason.PERCENTAGE),
        (Extent(Stage.SHADOW, 5_000), "0", Backend.LEGACY, Reason.CEILING),
        (Extent(Stage.RAMPDOWN), "0", Backend.SUPABASE, Reason.PERCENTAGE),
    ],
)
def test_the_rollout_limits_the_wish(ceiling, client, value, reason):
    decision = evaluate(Flags(weight=50_000, ceiling=Ceiling(ceiling)), client)
    assert (decision.value, decision.reason) == (value, reason)


def test_the_ceiling_comes_before_the_allow_list_and_after_the_deny_list():
    flags = listed(ceiling=Ceiling(Extent(Stage.LIVE, 50_000), reason="tripped"))
    assert evaluate(flags, "a").reason is Reason.CEILING  # bucket 76,403
    assert "the rollout allows live 50 % (tripped)" in explain(flags, "a")
    assert evaluate(flags, "b").reason is Reason.DENIED


extents = st.builds(Extent, st.sampled_from(list(Stage)[:-1]), st.integers(0, TOTAL_WEIGHT))
names = st.sampled_from(["a", "b", "ops", "ops-1", "eu-7", "us", "", "x" * 40])
anything = st.builds(
    Flags,
    kill=st.booleans(),
    weight=st.integers(0, TOTAL_WEIGHT),
    allow=st.frozensets(names.filter(bool), max_size=2),
    deny=st.frozensets(names.filter(bool), max_size=2),
    stage=st.sampled_from(list(Stage)),
    cohorts=st.builds(lambda one, two: cohorts(("ops", one), ("eu", two)), extents, extents),
    ceiling=st.builds(
        lambda default, ops, completed: Ceiling(default, (("ops", ops),), completed),
        extents,
        extents,
        st.booleans(),
    ),
)


@UNHURRIED
@given(anything, st.one_of(names, clients))
def test_nobody_is_ever_beyond_wish_ceiling_or_list(flags, client):
    decision = evaluate(flags, client)
    bucket = bucket_of(client)
    if flags.ceiling.completed:
        assert decision.value is Backend.SUPABASE
        return
    if flags.kill or client in flags.deny:
        assert decision.value is Backend.LEGACY
    if decision.value is Backend.SUPABASE:
        ceiling = flags.ceiling.of(decision.cohort)
        assert ceiling.stage.rank >= Stage.LIVE.rank
        assert ceiling.stage is not Stage.LIVE or (bucket is not None and bucket < ceiling.weight)
        wish = flags.wishes()[decision.cohort]
        assert wish.stage.rank >= Stage.LIVE.rank
        assert client in flags.allow or wish.stage is not Stage.LIVE or bucket < wish.weight
    assert decision.shadows <= (decision.value is Backend.LEGACY and decision.stage is Stage.SHADOW)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(anything, st.lists(names.filter(bool), min_size=1, max_size=8))
def test_what_is_exported_is_what_flagd_decides(flags, some):
    core = FlagdCore()
    core.set_flags(to_flagd(flags))
    for client in some:
        assert flagd_route(core, client) == evaluate(flags, client).variant
