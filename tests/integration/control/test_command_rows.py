"""Agents, commands and the record in the database: who may do what, and that nothing is run twice."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import asyncpg
import pytest

from tests.conftest import EmbeddedSupabase
from tests.integration.control.conftest import OFFERS, Call, refusing

REGISTER = "select cf_register_agent($1, $2, '1', $3)"
POLL = "select cf_poll_commands($1, $2, $3, $4)"
REPORT = "select cf_report_command($1, $2, $3, $4, $5, $6, $7, $8)"
SUBMIT = "select cf_submit_command($1, $2, 'echo', $3, $4, 30, $5)"
CANCEL = "select cf_cancel_command($1)"


class Agent:
    """One life of an agent, as far as the database is concerned."""

    def __init__(self, call: Call, name: str) -> None:
        self.name = name
        self.instance = uuid.uuid4()
        self._call = call

    async def register(self) -> Any:
        return await self._call(
            "agent", REGISTER, self.name, self.instance, json.dumps(OFFERS), name=self.name
        )

    async def poll(self, *have: str, most: int = 4) -> Any:
        held = [uuid.UUID(each) for each in have]
        return await self._call("agent", POLL, self.name, self.instance, held, most, name=self.name)

    async def report(self, id_: str, state: str, output: str | None = None) -> Any:
        values = (uuid.UUID(id_), self.name, self.instance, state, None, None, 0, output)
        return await self._call("agent", REPORT, *values, name=self.name)


@pytest.fixture
async def agent(call: Call, agent_name: str) -> Agent:
    made = Agent(call, agent_name)
    await made.register()
    return made


async def submitted(
    call: Call, agent: str, key: str | None = None, text: str = "hi", expires: float = 60
) -> Any:
    return await call("operator", SUBMIT, uuid.uuid4(), agent, json.dumps({"text": text}), key, expires)


async def test_a_command_goes_from_submission_to_its_end_and_is_in_the_record(
    call: Call, agent: Agent, owner: asyncpg.Connection
) -> None:
    command = await submitted(call, agent.name)
    assert (command["state"], command["submitted_by"], command["repeated"]) == ("queued", "ann", False)
    (given,) = (await agent.poll())["commands"]
    assert (given["id"], given["state"]) == (command["id"], "taken")
    await agent.report(command["id"], "running")
    ended = await agent.report(command["id"], "succeeded", "hi\n")
    assert (ended["state"], ended["output"], ended["revision"]) == ("succeeded", "hi\n", 4)
    assert await agent.report(command["id"], "succeeded", "hi\n") == ended, "said again, nothing changes"
    row = await owner.fetchrow("select * from cf_audit where id = $1", uuid.UUID(command["id"]))
    assert (row["who"], row["action"], row["device"], row["target"], row["outcome"]) == (
        "ann",
        "command",
        agent.name,
        "echo",
        "succeeded",
    )


async def test_of_commands_with_one_key_one_is_run(
    call: Call, agent: Agent, embedded_supabase: EmbeddedSupabase
) -> None:
    key = uuid.uuid4().hex
    first = await submitted(call, agent.name, key)
    again = await submitted(call, agent.name, key)
    assert (again["id"], again["repeated"]) == (first["id"], True)
    async with refusing("PT409", "stands for another command"):
        await submitted(call, agent.name, key, text="other")
    await agent.poll()
    await agent.report(first["id"], "failed")
    assert (await submitted(call, agent.name, key))["state"] == "failed", "not run again after its end either"

    async def one(dsn: str, key: str) -> str:
        connection = await asyncpg.connect(dsn)
        try:
            claims = json.dumps({"role": "authenticated", "app_metadata": {"crossfade_role": "admin"}})
            await connection.execute("select set_config('request.jwt.claims', $1, false)", claims)
            return json.loads(await connection.fetchval(SUBMIT, uuid.uuid4(), agent.name, "{}", key, 60.0))[
                "id"
            ]
        finally:
            await connection.close()

    many = await asyncio.gather(*(one(embedded_supabase.postgres.dsn(), key + "x") for _ in range(8)))
    assert len(set(many)) == 1


async def test_a_command_is_given_to_one_life_of_an_agent_again_until_it_has_it(
    call: Call, agent: Agent
) -> None:
    command = await submitted(call, agent.name)
    await agent.poll()  # whose answer is lost
    assert [each["id"] for each in (await agent.poll())["commands"]] == [command["id"]]
    assert (await agent.poll(command["id"]))["commands"] == []


async def test_what_a_killed_agent_had_is_lost_and_its_older_life_is_fenced(call: Call, agent: Agent) -> None:
    taken, running, waiting = [await submitted(call, agent.name) for _ in range(3)]
    assert len((await agent.poll(most=2))["commands"]) == 2
    await agent.report(running["id"], "running")
    next_life = Agent(call, agent.name)
    assert await next_life.register() == {"lost": 2}
    found = [
        await call("viewer", "select state from cf_commands where id = $1", uuid.UUID(each["id"]))
        for each in (taken, running, waiting)
    ]
    assert found == ["lost", "lost", "queued"]
    async with refusing("PT409", "another process has registered"):
        await agent.poll()
    async with refusing("PT409", "another life"):
        await next_life.report(running["id"], "succeeded")
    assert [each["id"] for each in (await next_life.poll())["commands"]] == [waiting["id"]]
    # Its journal may know how it ended after all.
    assert (await agent.report(running["id"], "succeeded"))["state"] == "succeeded"
    async with refusing("PT409", "has ended already"):
        await agent.report(running["id"], "failed")


async def test_cancelling_is_at_once_or_by_the_agent(call: Call, agent: Agent) -> None:
    queued, running, ended = [await submitted(call, agent.name) for _ in range(3)]
    assert (await call("operator", CANCEL, uuid.UUID(queued["id"])))["state"] == "cancelled"
    await agent.poll()
    await agent.report(ended["id"], "succeeded")
    assert (await call("operator", CANCEL, uuid.UUID(running["id"])))["state"] == "taken"
    assert (await agent.poll(running["id"]))["cancel"] == [running["id"]]
    assert (await agent.report(running["id"], "cancelled"))["cancel_asked_by"] == "ann"
    assert (await agent.poll())["cancel"] == []
    async with refusing("PT409", "has ended already: succeeded"):
        await call("operator", CANCEL, uuid.UUID(ended["id"]))
    async with refusing("PT404"):
        await call("operator", CANCEL, uuid.uuid4())


async def test_time_ends_what_nobody_takes_and_what_nobody_tells_of(
    call: Call, agent: Agent, owner: asyncpg.Connection
) -> None:
    late = await submitted(call, agent.name, expires=0.001)
    assert (await agent.poll())["commands"] == [], "it is not given after its time, swept or not"
    running = await submitted(call, agent.name)
    await agent.poll()
    await owner.execute(
        "update cf_agents set heard_at = now() - interval '31 seconds' where name = $1", agent.name
    )
    await owner.fetchval("select cf_expire_commands()")
    assert (
        await call("viewer", "select state from cf_commands where id = $1", uuid.UUID(late["id"]))
        == "expired"
    )
    assert (
        await call("viewer", "select state from cf_commands where id = $1", uuid.UUID(running["id"]))
        == "lost"
    )
    # The agent was only away: it tells how it ended.
    assert (await agent.report(running["id"], "succeeded"))["state"] == "succeeded"


@pytest.mark.parametrize("role", [None, "viewer", "agent"])
async def test_only_operators_have_something_done(call: Call, agent: Agent, role: str | None) -> None:
    command = await submitted(call, agent.name)
    async with refusing("PT403", "needs an operator"):
        await call(role, SUBMIT, uuid.uuid4(), agent.name, "{}", None, 60.0)
    async with refusing("PT403", "needs an operator"):
        await call(role, CANCEL, uuid.UUID(command["id"]))
    async with refusing("PT403", "needs an operator"):
        await call(role, "select cf_audit_begin($1, 'x', 'y', 'z', '{}')", uuid.uuid4())


@pytest.mark.parametrize("role", [None, "viewer", "operator", "admin", "agent"])
async def test_only_the_agent_itself_speaks_for_it(call: Call, agent: Agent, role: str | None) -> None:
    command = await submitted(call, agent.name)
    for sql, values in (
        (REGISTER, (agent.name, uuid.uuid4(), "{}")),
        (POLL, (agent.name, agent.instance, [], 1)),
        (REPORT, (uuid.UUID(command["id"]), agent.name, agent.instance, "succeeded", None, None, 0, None)),
    ):
        async with refusing("PT403", "not that of agent"):
            await call(role, sql, *values, name="someone-else")
    if role not in {"agent", None}:  # nor by having its name
        async with refusing("PT403"):
            await call(role, POLL, agent.name, agent.instance, [], 1, name=agent.name)


@pytest.mark.parametrize(
    ("table", "readers"),
    [
        ("cf_agents", {"viewer", "operator", "admin", "agent"}),
        ("cf_commands", {"viewer", "operator", "admin", "agent"}),
        ("cf_audit", {"operator", "admin"}),
        ("cf_outbox", set()),
    ],
)
async def test_who_sees_the_rows_and_that_nobody_writes_them(
    call: Call, agent: Agent, table: str, readers: set[str]
) -> None:
    await submitted(call, agent.name)
    for role in (None, "viewer", "operator", "admin", "agent"):
        if table == "cf_outbox":
            async with refusing("42501"):
                await call(role, f"select count(*) from {table}")  # noqa: S608
        else:
            seen = await call(role, f"select count(*) from {table}")  # noqa: S608
            assert (seen > 0) == (role in readers), role
        for statement in (f"delete from {table}", f"insert into {table} default values"):  # noqa: S608
            async with refusing("42501"):
                await call(role, statement)
    async with refusing("42501"):
        await call("admin", "select cf_expire_commands()")


async def test_what_cannot_be_meant_is_refused_with_what_can(call: Call, agent: Agent) -> None:
    async with refusing("PT404", "no agent nobody has ever registered"):
        await submitted(call, "nobody")
    async with refusing("PT404", "it may run echo"):
        await call(
            "operator",
            "select cf_submit_command($1, $2, 'format', '{}', null, 1, 1)",
            uuid.uuid4(),
            agent.name,
        )
    command = await submitted(call, agent.name)
    async with refusing("PT409", "another life"):  # it was not taken
        await agent.report(command["id"], "succeeded")
    await agent.poll()
    async with refusing("PT400", "cannot report"):
        await agent.report(command["id"], "expired")
    async with refusing("PT404", "has no command"):
        await agent.report(str(uuid.uuid4()), "succeeded")


async def test_the_record_of_an_action_is_ended_once_by_who_began_it(
    call: Call, owner: asyncpg.Connection
) -> None:
    id_ = uuid.uuid4()
    for _ in range(2):  # a repeated request makes no second row
        await call("operator", "select cf_audit_begin($1, 'container stop', 'web-1', 'shop', '{}')", id_)
    assert await owner.fetchval("select outcome from cf_audit where id = $1", id_) is None
    end = "select cf_audit_end($1, $2, '{}')::text"
    await call("operator", end, id_, "not mine", name="bob")
    await call("operator", end, id_, "done")
    await call("operator", end, id_, "something else")
    row = await owner.fetchrow("select who, role, outcome from cf_audit where id = $1", id_)
    assert tuple(row) == ("ann", "operator", "done")
