"""What the control service is given, and who may use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPBearer

from monitoring.control import ContainerControl
from services.access import Caller, require_operator, require_reader
from services.provided import Shared

_BEARER = Security(HTTPBearer(auto_error=False, description="an access token of the project"))
NAME = r"^[^\x00-\x1f\x7f/]+$"
"""What a device, an agent or a container may be called, as far as an address can say it."""

DeviceName = Annotated[str, Path(min_length=1, max_length=128, pattern=NAME)]


Reach = Callable[[str], Awaitable[ContainerControl | None]]
"""Finds who carries out commands to the containers of a device: None for one that is not known. Raises ControlError."""


@dataclass(frozen=True, slots=True)
class Controlling(Shared):
    """What the control service is given."""

    device: str
    """The device that is meant where a request names none: this machine."""
    reach: Reach
    container_prefix: str = ""
    """What container names may be written without, as old clients of ours do."""


async def controlling(request: Request) -> Controlling:
    """Return what the application of a request was given."""
    found: Controlling = request.app.state.provided
    return found


Here = Annotated[Controlling, Depends(controlling)]


async def caller(request: Request, here: Here, _: Annotated[object, _BEARER]) -> Caller:
    """Return who calls; raises Problem for anybody who may not even read."""
    found = here.tokens.caller(request.headers.get("authorization"))
    require_reader(found)
    return found


Reader = Annotated[Caller, Depends(caller)]


async def operator(found: Reader) -> Caller:
    """Return who calls; raises Problem for anybody who may not have something done."""
    require_operator(found)
    return found


Operator = Annotated[Caller, Depends(operator)]
