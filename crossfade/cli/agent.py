"""``crossfade agent``: run, on this machine, what operators ask for, of a fixed list."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade import logs
from crossfade.agent.agent import Agent, Identity
from crossfade.agent.journal import Journal
from crossfade.agent.offers import read_offers
from crossfade.cli.control_options import ControlOption, access_token, control_client
from crossfade.cli.options import DataDirOption, wiring
from crossfade.client import Client, connect
from crossfade.errors import UsageError, first_of
from crossfade.wiring import Role
from monitoring.errors import InvalidEvent
from monitoring.events import stream_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossfade.wiring import Wiring

_DRAIN_SECONDS = 15.0


def agent(
    file: Annotated[
        Path, typer.Option("--file", metavar="PATH", help="What it may run, and nothing else.")
    ] = Path("agent.yaml"),
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The agent's name. (default: this machine's)", show_default=False),
    ] = None,
    control: ControlOption = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="With --control: the query service, http://HOST:8000, through which commands are pushed; without it they "
            "are polled for.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read the file, say what it offers, and end.")
    ] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Run what operators ask for on this machine, until Ctrl-C.

    Only what the file lists is run, by the user who runs the agent.
    """
    named = name or socket.gethostname()
    try:
        stream_id(named, "commands")
    except InvalidEvent as error:
        raise UsageError(f"--name: {error.reason}") from error
    offers = read_offers(file)
    if check:
        for word, offer in offers.items():
            typer.echo(f"{word}: {' '.join(offer.run)}")
        return
    logs.to_stderr(logging.INFO)
    wired = wiring(data_dir)
    identity = Identity(named, version("crossfade"), offers)
    try:
        asyncio.run(_run(wired, identity, control, query))
    except ExceptionGroup as group:
        raise first_of(group, (Exception,)) or group from None


async def _run(wired: Wiring, identity: Identity, control: str | None, query: str | None) -> None:
    journal = Journal(wired.data.agents / identity.name)
    async with control_client(wired, control, identity.name, Role.AGENT) as client:
        running = Agent(identity, client, journal, _watch(wired, identity.name, control, query))
        task = asyncio.ensure_future(running.run())
        loop = asyncio.get_running_loop()

        def stop() -> None:
            running.stop()
            loop.call_later(_DRAIN_SECONDS, task.cancel)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        try:
            await task
        except asyncio.CancelledError:
            logging.getLogger(__name__).warning("what could not be told is told at the next start")


def _watch(wired: Wiring, name: str, control: str | None, query: str | None) -> Callable[[], Client] | None:
    if control is None:
        return lambda: connect(wired.data.root, client_id=f"agent-{name}")
    if query is None:
        return None
    token = access_token(wired, control, name, Role.AGENT)
    return lambda: connect(query, client_id=f"agent-{name}", token=token)
