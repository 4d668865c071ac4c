"""What the dashboard asks of the control service: each action with the token of whoever signed in, looked at by the service."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from crossfade.operating import Operating
from crossfade.paths import DataDir
from crossfade.records import LookedUp
from crossfade.settings import Settings
from crossfade.wiring import Wiring
from dashboard.commands import agents, commands
from monitoring.control import ActionFailed
from tests.conftest import EmbeddedSupabase
from tests.control_process import ControlProcess
from tests.integration.control.conftest import OFFERS, HttpAs, TokenOf


@pytest.fixture
def records(wiring: Wiring) -> Iterator[LookedUp]:
    with contextlib.closing(LookedUp(wiring)) as made:
        yield made


@pytest.fixture
def wiring(embedded_supabase: EmbeddedSupabase, control_process: ControlProcess) -> Wiring:
    port = urlsplit(control_process.url).port
    assert port is not None
    return Wiring(DataDir.of(embedded_supabase.postgres.data_dir), Settings(port_control=port))


async def test_an_operator_has_a_command_run_and_ends_it(
    wiring: Wiring, records: LookedUp, http: HttpAs, token_of: TokenOf, agent_name: str
) -> None:
    body = {"instance": str(uuid.uuid4()), "version": "0", "offers": OFFERS}
    registered = await http("agent", agent_name).post(f"/api/agents/{agent_name}/register", json=body)
    assert registered.status_code == 200, registered.text
    operating = Operating(wiring)
    (agent,) = [each for each in agents(records.agents()) if each.name == agent_name]
    assert agent.heard
    assert agent.offers["echo"].parameters["text"].default == "hello"
    key = str(uuid.uuid4())
    asked = (agent_name, "echo", {"text": "good day"}, key)
    with pytest.raises(ActionFailed, match=r"the control service refused: .*operator"):
        operating.submit(token_of("viewer"), *asked)
    assert operating.submit(token_of("operator"), *asked) == "queued"
    assert operating.submit(token_of("operator"), *asked) == "queued"  # pressed twice
    (told,) = [each for each in commands(records.commands(100)) if each.agent == agent_name]
    assert (told.command, told.state, told.submitted_by) == ("echo", "queued", "ann")
    with pytest.raises(ActionFailed, match="operator"):
        operating.cancel(token_of("viewer"), told.id)
    assert operating.cancel(token_of("operator"), told.id) == "cancelled"
    (row,) = commands([records.command(told.id)])
    assert (row.state, row.cancel_asked_by) == ("cancelled", "ann")
    with pytest.raises(ActionFailed, match="text: "):
        operating.submit(token_of("operator"), agent_name, "echo", {"text": "x" * 101}, str(uuid.uuid4()))


def test_a_service_that_is_off_is_said(embedded_supabase: EmbeddedSupabase, token_of: TokenOf) -> None:
    wiring = Wiring(DataDir.of(embedded_supabase.postgres.data_dir), Settings(port_control=1))
    with pytest.raises(ActionFailed, match=r"the control service at .* does not answer"):
        Operating(wiring).submit(token_of("operator"), "a", "b", {}, "k")
    with (
        contextlib.closing(LookedUp(wiring)) as records,
        pytest.raises(ActionFailed, match="does not answer"),
    ):
        records.agents()
