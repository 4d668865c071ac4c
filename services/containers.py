"""Containers by HTTP: start, stop, restart, logs; of this machine, and of any device whose containers can be reached.

A command is written down before the engine hears of it, and what came of it after. It is answered once the engine's event
has shown it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from monitoring.control import (
    Command,
    CommandRefused,
    ContainerControl,
    ContainerSummary,
    ControlError,
    EngineAway,
    NoSuchContainer,
    Outcome,
    Unconfirmed,
)
from monitoring.logs import LogLine, format_stamp
from services.access import Caller
from services.controlling import NAME, Controlling, Here, Operator, Reader
from services.documents import problems
from services.problems import Kind, Problem

router = APIRouter(tags=["containers"], responses=problems(400, 401, 403, 404, 409, 429, 503, 504))

MOST_LINES = 1000
_KINDS: dict[type[ControlError], Kind] = {
    NoSuchContainer: Kind.NOT_FOUND,
    CommandRefused: Kind.CONFLICT,
    EngineAway: Kind.ENGINE_AWAY,
    Unconfirmed: Kind.UNCONFIRMED,
}
T = TypeVar("T")

ContainerName = Annotated[
    str, Path(min_length=1, max_length=255, pattern=NAME, description="name or id; a prefix may be left out")
]
DeviceQuery = Annotated[
    str | None,
    Query(min_length=1, max_length=128, pattern=NAME, description="whose container; this machine by default"),
]


class ActionDocument(BaseModel):
    """What a command came to."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "success": True,
                    "device": "web-1",
                    "container": "ffmpeg-kick",
                    "id": "abc123ef0123",
                    "action": "restart",
                    "changed": True,
                    "status": "running",
                    "exit_code": None,
                    "at": "2026-11-26T12:00:00.123456+00:00",
                }
            ]
        }
    )

    success: bool = True
    device: str
    container: str
    id: str
    action: Command
    changed: bool = Field(description="false: it was so already")
    status: str
    exit_code: int | None
    at: str | None = Field(description="when the engine's event happened")


class LogsDocument(BaseModel):
    """The end of a container's log, in the words of `log_snapshot`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "device": "web-1",
                    "container": "ffmpeg-kick",
                    "logs": ["2026-11-26T12:00:00.123456789Z Starting FFmpeg..."],
                    "lastLogTimestamp": "2026-11-26T12:00:00.123456789Z",
                }
            ]
        }
    )

    device: str
    container: str
    logs: list[str]
    lastLogTimestamp: str | None  # noqa: N815 - the name on the wire


class ContainerDocument(BaseModel):
    """One container, as its engine lists it."""

    id: str
    name: str
    image: str
    status: str
    health: str | None
    detail: str


class ContainersDocument(BaseModel):
    """The containers of a device, by name."""

    device: str
    containers: list[ContainerDocument]


GraceQuery = Annotated[int, Query(ge=0, le=3600, description="how long it may take before it is killed")]


@router.get("/api/containers")
async def containers(here: Here, _: Reader, device: DeviceQuery = None) -> ContainersDocument:
    """The containers of a device, asked of its engine now."""
    control = await _control(here, device)
    found = await _asked(control.containers())
    return ContainersDocument(device=control.device, containers=[_summary(each) for each in found])


@router.post("/api/container/{name}/start")
async def start(
    here: Here, operator: Operator, name: ContainerName, device: DeviceQuery = None
) -> ActionDocument:
    """Start a container."""
    return await _command(here, operator, Command.START, name, device, 10)


@router.post("/api/container/{name}/stop")
async def stop(
    here: Here,
    operator: Operator,
    name: ContainerName,
    device: DeviceQuery = None,
    grace_seconds: GraceQuery = 10,
) -> ActionDocument:
    """Stop a container."""
    return await _command(here, operator, Command.STOP, name, device, grace_seconds)


@router.post("/api/container/{name}/restart")
async def restart(
    here: Here,
    operator: Operator,
    name: ContainerName,
    device: DeviceQuery = None,
    grace_seconds: GraceQuery = 10,
) -> ActionDocument:
    """Restart a container."""
    return await _command(here, operator, Command.RESTART, name, device, grace_seconds)


@router.get("/api/container/{name}/logs")
async def logs(
    here: Here,
    _: Reader,
    name: ContainerName,
    device: DeviceQuery = None,
    lines: Annotated[int, Query(ge=0, le=MOST_LINES)] = 100,
) -> LogsDocument:
    """The last lines of a container's log. To follow one, subscribe to it: docs/containers.md."""
    control = await _control(here, device)

    async def read(known_as: str) -> tuple[str, list[LogLine]]:
        return known_as, list(await control.logs(known_as, lines))

    known_as, found = await _asked(_named(here, name, read))
    return LogsDocument(
        device=control.device,
        container=known_as,
        logs=[f"{format_stamp(line.stamp)} {line.text}" for line in found],
        lastLogTimestamp=format_stamp(found[-1].stamp) if found else None,
    )


async def _command(
    here: Controlling, caller: Caller, command: Command, name: str, device: str | None, grace_seconds: int
) -> ActionDocument:
    """Write down, carry out, write down what came of it: whether the caller waits for that or not."""
    control = await _control(here, device)
    id_ = uuid.uuid4()
    begin = "select public.cf_audit_begin($1, $2, $3, $4, '{}')"
    await here.database.change(caller, begin, id_, f"container {command}", control.device, name)
    # A client that goes away cannot take back what the engine was told.
    outcome = await asyncio.shield(
        asyncio.ensure_future(_carried_out(here, caller, id_, control, command, name, grace_seconds))
    )
    return ActionDocument(
        device=outcome.device,
        container=outcome.name,
        id=outcome.container,
        action=outcome.command,
        changed=outcome.changed,
        status=outcome.status,
        exit_code=outcome.exit_code,
        at=outcome.at.isoformat() if outcome.at else None,
    )


async def _carried_out(
    here: Controlling,
    caller: Caller,
    id_: uuid.UUID,
    control: ContainerControl,
    command: Command,
    name: str,
    grace_seconds: int,
) -> Outcome:
    async def order(known_as: str) -> Outcome:
        return await control.command(command, known_as, grace_seconds=grace_seconds)

    result, detail = "not known: the control service ended meanwhile", {}
    try:
        outcome = await _asked(_named(here, name, order))
        result = "done" if outcome.changed else "it was so already"
        detail = {"container": outcome.name, "status": outcome.status}
    except Problem as problem:
        result = f"{problem.kind}: {problem.detail}"
        raise
    else:
        return outcome
    finally:
        end = "select public.cf_audit_end($1, $2, $3)::text"
        await here.database.change(caller, end, id_, result, orjson.dumps(detail).decode())


async def _control(here: Controlling, device: str | None) -> ContainerControl:
    wanted = device or here.device
    found = await _asked(here.reach(wanted))
    if found is None:
        raise Problem(
            Kind.NOT_FOUND,
            f"no containers of {wanted} can be reached from here; crossfade devices list shows which devices there are, this "
            f"machine is {here.device}",
        )
    return found


async def _named(here: Controlling, name: str, act: Callable[[str], Awaitable[T]]) -> T:
    """Do something to the container of a name; when there is none, to that whose name has the installation's prefix."""
    try:
        return await act(name)
    except NoSuchContainer as error:
        prefixed = here.container_prefix + name
        if prefixed == name or prefixed not in error.known:
            raise
        return await act(prefixed)


async def _asked(question: Awaitable[T]) -> T:
    """Return what a control answers, its errors as problems."""
    try:
        return await question
    except ControlError as error:
        kind = _KINDS.get(type(error), Kind.CONFLICT)
        headers: dict[str, Any] = {"Retry-After": "5"} if kind is Kind.ENGINE_AWAY else {}
        raise Problem(kind, str(error), headers=headers) from error


def _summary(each: ContainerSummary) -> ContainerDocument:
    return ContainerDocument(
        id=each.id,
        name=each.name,
        image=each.image,
        status=each.status,
        health=each.health,
        detail=each.detail,
    )
