from monitoring.flags.evaluation import Reason, evaluate
from monitoring.flags.model import Ceiling, ClientId, Cohort, Flags
from monitoring.flags.planning import plan
from monitoring.flags.stages import Extent, Stage, paths_of

CLIENTS = [f"client-{number}" for number in range(500)]


def test_who_moves_is_who_would_be_evaluated_otherwise():
    before = Flags(weight=10_000)
    after = Flags(weight=30_000, deny=frozenset(ClientId(client) for client in CLIENTS[:50]))
    found = plan(before, after, CLIENTS)
    assert {move.client for move in found.forward} == {
        client
        for client in CLIENTS
        if evaluate(before, client).value == "legacy" and evaluate(after, client).value == "supabase"
    }
    assert found.back
    assert all(move.after.reason is Reason.DENIED for move in found.back)
    assert len(found.forward) + len(found.back) + found.unchanged == 500
    assert found.shares["default"] == (Extent(Stage.LIVE, 10_000), Extent(Stage.LIVE, 30_000))


def test_what_waits_for_the_rollout_and_what_is_polled_is_said():
    held = Ceiling(Extent(Stage.SHADOW, 0))
    after = Flags(
        weight=100_000,
        ceiling=held,
        switched_off=frozenset({"websocket_session_events"}),
        cohorts=(Cohort("ops", frozenset({"x"}), Extent(Stage.LIVE)),),
    )
    found = plan(Flags(ceiling=held), after, CLIENTS)
    assert (found.held_by_rollout, found.unchanged) == (500, 500)
    assert (found.polled_before, found.polled_after) == (frozenset(), {"sessions"})
    assert found.shares["ops"] == (None, Extent(Stage.SHADOW, 0))


def test_a_path_is_published_to_while_anybody_needs_it():
    stages = {stage: paths_of([Extent(stage)]) for stage in Stage}
    assert [stage for stage in Stage if stages[stage].feed] == list(Stage)[1:]
    assert [stage for stage in Stage if stages[stage].legacy] == list(Stage)[:-1]
    both = paths_of([Extent(Stage.OFF), Extent(Stage.COMPLETE)])
    assert both.feed
    assert both.legacy
