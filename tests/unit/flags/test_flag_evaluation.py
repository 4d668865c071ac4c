import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext

from monitoring.flags.evaluation import FLAG_KEY, Reason, _cbor_text, bucket_of, evaluate, explain
from monitoring.flags.model import TOTAL_WEIGHT, ClientId, Flags
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
    assert decision.bucket == bucket_of(client)


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
