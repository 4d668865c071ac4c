"""Agents and their commands by HTTP: what people submit and look at, what agents take and report.

Who may do what, what may follow what, and that no command is taken twice, is decided by the database's functions, which a
client of Supabase can call as well.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from monitoring.commands import CommandState, InvalidParameters, Offer
from services.access import Caller
from services.audit import place
from services.controlling import NAME, Controlling, DeviceName, Here, Operator, Reader
from services.documents import problems
from services.problems import Kind, Mistake, Problem, invalid

router = APIRouter(tags=["commands"], responses=problems(400, 401, 403, 404, 409, 429, 503))

MAX_LIMIT = 500
MAX_OUTPUT_BYTES = 65_536
_DAY = 86_400.0

_COMMAND: dict[str, Any] = {
    "id": "0193a1b2-7a00-7000-8000-000000000001",
    "agent": "web-1",
    "command": "restart-shop",
    "parameters": {"instance": "a"},
    "state": "running",
    "idempotency_key": "deploy-42",
    "submitted_by": "ann",
    "submitted_at": "2026-11-26T12:00:00.000000+00:00",
    "expires_at": "2026-11-26T12:05:00.000000+00:00",
    "timeout_seconds": 120.0,
    "taken_at": "2026-11-26T12:00:00.100000+00:00",
    "started_at": "2026-11-26T12:00:00.120000+00:00",
    "finished_at": None,
    "progress": 40.0,
    "message": "waiting for connections to end",
    "exit_code": None,
    "output": "",
    "cancel_asked_by": None,
    "cancel_asked_at": None,
    "changed_at": "2026-11-26T12:00:03.000000+00:00",
    "revision": 4,
}

Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=NAME)]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
"""What JSON can carry unchanged."""
CommandId = Annotated[uuid.UUID, Path(description="the command's id")]

_LIST_SQL = """
select jsonb_build_object(
  'commands', coalesce(jsonb_agg(to_jsonb(c) - 'instance' - 'output' order by c.submitted_at desc, c.id), '[]'),
  'next', case when count(*) = $5 then
    (jsonb_agg(jsonb_build_array(to_jsonb(c.submitted_at), c.id) order by c.submitted_at, c.id desc) -> 0) end)
from (
  select * from public.cf_commands
  where ($1::text is null or agent = $1) and ($2::text is null or state = $2)
    and ($3::timestamptz is null or submitted_at < $3 or (submitted_at = $3 and id > $4))
  order by submitted_at desc, id limit $5) c
"""
_ONE_SQL = "select to_jsonb(c) - 'instance' from public.cf_commands c where id = $1"
_AGENTS_SQL = """
select jsonb_build_object('agents', coalesce(jsonb_agg(
  to_jsonb(a) - 'instance' || jsonb_build_object('heard', a.heard_at > clock_timestamp() - interval '15 seconds',
    'open', (select count(*) from public.cf_commands c where c.agent = a.name and c.state in ('queued', 'taken', 'running')))
  order by a.name), '[]'))
from (select * from public.cf_agents order by name limit 1000) a
"""


class CommandDocument(BaseModel):
    """A command and how far it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [_COMMAND]})

    id: str
    agent: str
    command: str
    parameters: dict[str, Any]
    state: CommandState
    idempotency_key: str | None
    submitted_by: str
    submitted_at: str
    expires_at: str
    timeout_seconds: float
    taken_at: str | None
    started_at: str | None
    finished_at: str | None
    progress: float | None = Field(description="per cent, as the program tells it")
    message: str
    exit_code: int | None
    output: str = Field(default="", description="the end of what it wrote; not in lists")
    cancel_asked_by: str | None
    cancel_asked_at: str | None
    changed_at: str
    revision: int
    repeated: bool = Field(
        default=False, description="its idempotency key had been used: this is that command"
    )


class CommandsDocument(BaseModel):
    """A page of commands, the newest first; ``next`` asks for the page after it."""

    commands: list[CommandDocument]
    next: str | None


class AgentDocument(BaseModel):
    """An agent and what it may run."""

    name: str
    version: str
    offers: dict[str, Any]
    registered_at: str
    heard_at: str
    heard: bool = Field(description="it was heard within the last 15 s")
    open: int = Field(description="commands that are not finished")


class AgentsDocument(BaseModel):
    """The agents, by name."""

    agents: list[AgentDocument]


class SubmitDocument(BaseModel):
    """What to run, and where."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"agent": "web-1", "command": "restart-shop", "parameters": {"instance": "a"}}]
        },
    )

    agent: Name
    command: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NAME)]
    parameters: dict[str, str | Whole] = Field(default_factory=dict, max_length=50)
    timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=_DAY,
        allow_inf_nan=False,
        description="no more than the agent allows; its own by default",
    )
    expires_seconds: float = Field(
        default=300.0,
        gt=0,
        le=30 * _DAY,
        allow_inf_nan=False,
        description="it is not run when nobody took it by then",
    )


class RegisterDocument(BaseModel):
    """An agent that begins."""

    model_config = ConfigDict(extra="forbid")

    instance: uuid.UUID
    version: Text = Field(max_length=100)
    offers: dict[Name, dict[str, Any]] = Field(max_length=500)


class RegisteredDocument(BaseModel):
    """What became of what an earlier life of the agent had taken."""

    lost: int


class PollDocument(BaseModel):
    """What an agent has already, and how many more it can take."""

    model_config = ConfigDict(extra="forbid")

    instance: uuid.UUID
    have: list[uuid.UUID] = Field(default_factory=list, max_length=1000)
    most: int = Field(default=1, ge=0, le=100)


class PolledDocument(BaseModel):
    """Commands that are the agent's now, and those it is to end."""

    commands: list[CommandDocument]
    cancel: list[str]


class ReportDocument(BaseModel):
    """How far a command is."""

    model_config = ConfigDict(extra="forbid")

    instance: uuid.UUID
    state: Literal["running", "succeeded", "failed", "timed_out", "cancelled", "refused"]
    progress: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    message: Text | None = Field(default=None, max_length=500)
    exit_code: int | None = Field(default=None, ge=-(2**31), le=2**31 - 1)
    output: Text | None = Field(default=None, max_length=MAX_OUTPUT_BYTES)


@router.get("/api/agents", response_model=AgentsDocument)
async def agents(here: Here, reader: Reader) -> Response:
    """The agents: what each may run, and whether it is heard."""
    return _json(await here.database.answer(reader, _AGENTS_SQL))


@router.post("/api/commands", status_code=202, response_model=CommandDocument, responses=problems(408, 413))
async def submit(
    here: Here,
    operator: Operator,
    body: SubmitDocument,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            pattern=r"^[\x21-\x7e]+$",
            description="of commands with the same key one is run, once; the others are answered with it",
        ),
    ] = None,
) -> Response:
    """Submit a command. It is the agent's within a moment when the agent is there, else until it expires."""
    timeout = await _checked(here, operator, body)
    sql = "select public.cf_submit_command($1, $2, $3, $4, $5, $6, $7)"
    found = await here.database.change(
        operator,
        sql,
        uuid.uuid4(),
        body.agent,
        body.command,
        orjson.dumps(body.parameters).decode(),
        idempotency_key,
        timeout,
        body.expires_seconds,
    )
    return _json(found, 202)


async def _checked(here: Controlling, operator: Caller, body: SubmitDocument) -> float:
    """Return the seconds it may take; raises Problem for parameters that the agent would refuse.

    What the agent is not known for is left to the database to say, which looks at it once more with the submission.
    """
    sql = "select offers -> $2 from public.cf_agents where name = $1"
    told = await here.database.answer(operator, sql, body.agent, body.command)
    if told == "None":
        return body.timeout_seconds or 1.0
    try:
        offer = Offer.from_json(orjson.loads(told))
    except (KeyError, TypeError, ValueError) as error:
        raise Problem(
            Kind.CONFLICT, f"agent {body.agent} says unreadably what it may run: {error!r}"
        ) from None
    try:
        offer.checked(body.parameters)
    except InvalidParameters as error:
        mistakes = [Mistake(f"/parameters/{name}", detail) for name, detail in error.mistakes]
        raise Problem(Kind.INVALID_REQUEST, str(error), mistakes=mistakes) from None
    if body.timeout_seconds is not None and body.timeout_seconds > offer.timeout_seconds:
        raise invalid("/timeout_seconds", f"{body.command} may take {offer.timeout_seconds:g} s at most")
    return body.timeout_seconds or offer.timeout_seconds


@router.get("/api/commands", response_model=CommandsDocument)
async def commands(
    here: Here,
    reader: Reader,
    agent: Annotated[str | None, Query(max_length=128, pattern=NAME)] = None,
    state: Annotated[CommandState | None, Query()] = None,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
) -> Response:
    """Commands, the newest first."""
    at, id_ = place(cursor)
    page = orjson.loads(await here.database.answer(reader, _LIST_SQL, agent, state, at, id_, limit))
    page["next"] = None if page["next"] is None else f"{page['next'][0]},{page['next'][1]}"
    return _json(orjson.dumps(page))


@router.get("/api/commands/{command_id}", response_model=CommandDocument)
async def command(here: Here, reader: Reader, command_id: CommandId) -> Response:
    """One command, with the end of its output."""
    found = await here.database.answer(reader, _ONE_SQL, command_id)
    if found == "None":
        raise Problem(Kind.NOT_FOUND, f"there is no command {command_id}; they are kept for 90 days")
    return _json(found)


@router.post("/api/commands/{command_id}/cancel", status_code=202, response_model=CommandDocument)
async def cancel(here: Here, operator: Operator, command_id: CommandId) -> Response:
    """End a command: at once while nobody has taken it, else its agent ends it and says so."""
    return _json(await here.database.change(operator, "select public.cf_cancel_command($1)", command_id), 202)


@router.post("/api/agents/{name}/register", response_model=RegisteredDocument, responses=problems(408, 413))
async def register(here: Here, agent: Reader, name: DeviceName, body: RegisterDocument) -> Response:
    """Begin one life of an agent. What an earlier one had taken and not told the end of is lost."""
    for command_, offer in body.offers.items():
        try:
            Offer.from_json(offer)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise invalid(f"/offers/{command_}", f"is no offer: {error!r}") from None
    return _json(
        await here.database.change(
            agent,
            "select public.cf_register_agent($1, $2, $3, $4)",
            name,
            body.instance,
            body.version,
            _storable(body.offers),
        )
    )


@router.post("/api/agents/{name}/poll", response_model=PolledDocument, responses=problems(408, 413))
async def poll(here: Here, agent: Reader, name: DeviceName, body: PollDocument) -> Response:
    """Take commands, each given to one life of an agent alone; hear which to end. The agent's heartbeat as well."""
    sql = "select public.cf_poll_commands($1, $2, $3, $4)"
    return _json(await here.database.change(agent, sql, name, body.instance, body.have, body.most))


@router.post(
    "/api/agents/{name}/commands/{command_id}", response_model=CommandDocument, responses=problems(408, 413)
)
async def report(
    here: Here, agent: Reader, name: DeviceName, command_id: CommandId, body: ReportDocument
) -> Response:
    """Tell how far a command is, or how it ended; the same may be told again."""
    if body.output is not None and len(body.output.encode()) > MAX_OUTPUT_BYTES:
        raise invalid("/output", f"has more than {MAX_OUTPUT_BYTES:,} bytes")
    return _json(
        await here.database.change(
            agent,
            "select public.cf_report_command($1, $2, $3, $4, $5, $6, $7, $8)",
            command_id,
            name,
            body.instance,
            body.state,
            body.progress,
            body.message,
            body.exit_code,
            body.output,
        )
    )


def _storable(value: Any) -> str:
    text = orjson.dumps(value).decode()
    if "\\u0000" in text:
        raise Problem(Kind.INVALID_REQUEST, "the character U+0000 cannot be stored; leave it out")
    return text


def _json(text: str | bytes, status: int = 200) -> Response:
    return Response(text, status, {"Cache-Control": "no-store"}, media_type="application/json")
