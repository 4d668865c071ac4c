"""One part in the foreground, as this very process: somebody else supervises, as systemd or a container engine does."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, TypeVar

from crossfade import logs
from crossfade.addresses import require_free
from crossfade.errors import CrossfadeError
from crossfade.parts import build
from crossfade.paths import unusable
from crossfade.running import ensure_files
from crossfade.supervisor.launch import become
from crossfade.supervisor.supervisor import Step

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import NoReturn

    from crossfade.plan import Plan

_T = TypeVar("_T")


def replace_process(plan: Plan) -> NoReturn:
    """Become the plan's only part; a part that is done once is done, and the process ends.

    Raises DataDirError, PortTaken, UsageError and CrossfadeError before that.
    """
    plan.data.create()
    for listener in plan.addresses.listeners(plan.parts):
        require_free(listener)
    try:
        ensure_files(plan)
    except OSError as error:
        raise unusable(plan.data.root, error) from error
    (spec,) = build(plan)
    if isinstance(spec, Step):
        try:
            sys.stderr.write(f"{spec.name}: {asyncio.run(_awaited(spec.run()))}\n")
        except OSError as error:
            raise CrossfadeError(f"{spec.name}: {error}; is the database running?") from error
        sys.exit(0)
    if spec.prepare is not None:
        asyncio.run(_awaited(spec.prepare()))
    command = spec.command()
    inherited = {**os.environ, "PYTHONUNBUFFERED": "1"} if command.inherit_environment else {}
    if command.user:
        become(command.user)
    if command.directory is not None or command.user:
        os.chdir(command.directory or "/")
    sys.stdout.flush()
    sys.stderr.flush()
    told = {logs.FORMAT: plan.settings.log_format, logs.PART: spec.name}
    os.execvpe(command.argv[0], list(command.argv), {**inherited, **told, **command.environment})  # noqa: S606 - its whole purpose


async def _awaited(doing: Awaitable[_T]) -> _T:
    return await doing
